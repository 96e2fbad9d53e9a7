"""Failures → retry or give up, without a clock."""

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.backoff import Backoff
from supervisor.crash import Crash
from supervisor.history import GiveUp, History, Retry
from supervisor.spec import RestartIntensity, RestartPolicy

FAILURE = Crash(text="failure")
AT_ONCE = Crash(text="at once", counted=False, at_once=True)
HELD = Crash(text="held", counted=False)


def make_history(limit: int = 3, window: float = float("inf"), **changes: object) -> History:
    policy = RestartPolicy(intensity=RestartIntensity(limit, window))
    return History(attrs.evolve(policy, **changes), lambda: 1.0)


def test_the_limit_allows_that_many_failures() -> None:
    """Three are retried, the fourth is one too many."""
    history = make_history(limit=3)
    assert [history.add(FAILURE, 0) for _ in range(4)] == [
        Retry(1),
        Retry(2),
        Retry(4),
        GiveUp(None),
    ]
    assert history.failures == 4


def test_a_limit_of_zero_allows_none() -> None:
    """The first failure is one too many."""
    assert make_history(limit=0).add(FAILURE, 5) == GiveUp(None)


def test_failures_leave_the_window() -> None:
    """Only failures within the window count towards the limit; the backoff still grows."""
    history = make_history(limit=1, window=10)
    delays = [history.add(FAILURE, now) for now in (0, 11, 22)]
    assert delays == [Retry(1), Retry(2), Retry(4)]
    assert history.add(FAILURE, 32) == GiveUp(None)  # 22 is exactly 10 seconds ago: within


def test_on_trial_until_forgotten() -> None:
    """After giving up, each failure gives up again even when the window has passed."""
    history = make_history(limit=1, window=10, trial_interval=900)
    for now in (0, 1):
        decision = history.add(FAILURE, now)
    assert decision == GiveUp(900)
    assert history.add(FAILURE, 1000) == GiveUp(900)
    history.forget()
    assert history.add(FAILURE, 2000) == Retry(1)


def test_at_once_is_not_counted_and_does_not_wait() -> None:
    """515: neither the count nor the backoff changes."""
    history = make_history()
    history.add(FAILURE, 0)
    assert history.add(AT_ONCE, 0) == Retry(0)
    assert history.failures == 1
    assert history.add(FAILURE, 0) == Retry(2)


def test_at_once_is_granted_a_few_times_only() -> None:
    """A child that always asks for it becomes a failing child."""
    history = make_history(limit=2, immediate_limit=2)
    decisions = [history.add(AT_ONCE, 0) for _ in range(5)]
    assert decisions == [Retry(0), Retry(0), Retry(1), Retry(2), GiveUp(None)]
    history.forget()
    assert history.add(AT_ONCE, 0) == Retry(0)


def test_held_is_not_counted_but_waits_longer_each_time() -> None:
    """An outage that is not the child's fault never gives up, and never spins."""
    history = make_history(limit=0)
    assert [history.add(HELD, 0) for _ in range(4)] == [Retry(1), Retry(2), Retry(4), Retry(8)]
    assert history.failures == 0


def test_a_named_time_replaces_the_backoff() -> None:
    """The peer said when to come back; the backoff does not grow from it."""
    history = make_history()
    assert history.add(attrs.evolve(FAILURE, after=77.0), 0) == Retry(77)
    assert history.add(FAILURE, 0) == Retry(1)
    assert history.failures == 2


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 5),
    st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=30),
)
def test_never_more_than_the_limit_within_the_window(
    limit: int, steps: list[tuple[float, bool]]
) -> None:
    """Whatever the times, a retry means that at most ``limit`` failures were in the window."""
    history, now, failures = make_history(limit=limit, window=30), 0.0, list[float]()
    for pause, counted in steps:
        now += pause
        decision = history.add(FAILURE if counted else HELD, now)
        if counted:
            failures.append(now)
        recent = [time for time in failures if now - time <= 30]
        if isinstance(decision, Retry):
            assert len(recent) <= limit or not counted
        else:
            assert counted


@pytest.mark.parametrize(
    "make",
    [
        lambda: RestartIntensity(-1),
        lambda: RestartIntensity(1, 0),
        lambda: RestartPolicy(stable_after=-1),
        lambda: RestartPolicy(trial_interval=0),
        lambda: RestartPolicy(backoff=Backoff(initial=-1)),
    ],
)
def test_senseless_policies_are_refused(make: object) -> None:
    """Neither negative limits nor empty windows."""
    with pytest.raises(ValueError, match="must be"):
        make()  # type: ignore[operator]
