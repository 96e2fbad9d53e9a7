"""Gaps in which the process did not run."""

import pytest
import trio

from supervisor.wakefulness import FORGIVEN, LIMIT, Wakefulness


def test_regular_ticks_are_no_gap() -> None:
    """Neither are ticks that are a little late."""
    wakefulness = Wakefulness()
    for now in (0.0, 1.0, 2.0, 2.0 + LIMIT):
        assert wakefulness.tick(now) == 0
        assert wakefulness.gap(now + LIMIT) == 0
    assert not wakefulness.woke.is_set()


def test_a_gap_is_known_before_its_end_was_noticed_and_a_while_after() -> None:
    """Whoever runs first after it must know: the order of tasks is nobody's choice."""
    wakefulness = Wakefulness()
    wakefulness.tick(0.0)
    assert wakefulness.gap(300.0) == 300.0  # the tick has not run yet
    woke = wakefulness.woke
    assert wakefulness.tick(300.5) == 300.5
    assert woke.is_set()
    assert not wakefulness.woke.is_set()  # that of the next gap
    for passed in range(int(FORGIVEN) + 1):
        assert wakefulness.gap(300.5 + passed) == 300.5
        assert wakefulness.tick(300.5 + passed) == 0
    wakefulness.tick(301.5 + FORGIVEN)
    assert wakefulness.gap(301.5 + FORGIVEN) == 0


def test_sleep_of_the_machine_counts_though_the_clock_stood_still() -> None:
    """CLOCK_MONOTONIC stops with the machine; the caller adds what it missed."""
    wakefulness = Wakefulness()
    wakefulness.tick(0.0)
    assert wakefulness.tick(1.0, asleep=3600.0) == pytest.approx(3601)
    assert wakefulness.gap(2.0) == pytest.approx(3601)


async def test_one_that_is_never_told_knows_of_nothing() -> None:
    """As in tests, or in commands that do not run for long."""
    assert Wakefulness().gap(trio.current_time() + 1e6) == 0
