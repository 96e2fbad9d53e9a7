"""The transition table: complete enough to live, strict enough to mean something."""

from supervisor.state import TRANSITIONS, ChildEvent, ChildState


def test_every_state_and_event_is_used() -> None:
    """No state without a way out, none that is never reached, no event without meaning."""
    assert {state for state, _ in TRANSITIONS} == set(ChildState)
    assert set(TRANSITIONS.values()) == set(ChildState)
    assert {event for _, event in TRANSITIONS} == set(ChildEvent)


def test_every_state_leads_back_to_stopped() -> None:
    """From anywhere an operator can get a child stopped, and from there started."""
    reached = {ChildState.STOPPED}
    while more := {was for (was, _), now in TRANSITIONS.items() if now in reached} - reached:
        reached |= more
    assert reached == set(ChildState)


def test_no_transition_stays_where_it_is() -> None:
    """Each transition is news for the observer."""
    assert all(was is not now for (was, _), now in TRANSITIONS.items())


def test_only_a_starting_child_becomes_running() -> None:
    """RUNNING always means that this very attempt said it was ready."""
    assert [was for (was, _), now in TRANSITIONS.items() if now is ChildState.RUNNING] == [
        ChildState.STARTING
    ]
