"""Jumps of the wall clock are noticed, and believed only when they last."""

import attrs
import pytest
import structlog.testing
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from daemon.clocks import (
    DELETING_HOLD,
    HOLD,
    NEVER_RIGHT,
    TOLERANCE,
    Clocks,
    SteadyClock,
    watch_clocks,
)
from supervisor.wakefulness import Wakefulness

START = 1_790_000_000.0
DAY = 86_400.0
YEAR = 365 * DAY


@attrs.define
class World:
    """Clocks that a test turns."""

    boottime: float = 1000.0
    ahead: float = START - 1000.0  # of the wall clock

    def clocks(self) -> Clocks:
        return Clocks(wall=lambda: self.boottime + self.ahead, boottime=lambda: self.boottime)

    @property
    def wall(self) -> float:
        return self.boottime + self.ahead


@pytest.mark.parametrize("jump", [YEAR, 3 * 3600.0, -3600.0, -30 * DAY])
def test_a_jump_that_is_undone_was_never_there(jump: float) -> None:
    """A clock that is wrong for a minute moves nothing, and is told of once."""
    world = World()
    clock = SteadyClock(world.clocks())
    with structlog.testing.capture_logs() as logs:
        world.ahead += jump
        for _ in range(60):
            world.boottime += 1
            assert clock() == pytest.approx(world.wall - jump)
        assert clock.jump == pytest.approx(jump)
        world.ahead -= jump
        world.boottime += 1
        assert clock() == world.wall
        assert clock.jump == 0
    assert [entry["event"] for entry in logs] == ["daemon.clock_jumped", "daemon.clock_is_back"]
    assert logs[0]["difference"] == pytest.approx(jump, abs=0.1)
    assert logs[0]["new"] - logs[0]["old"] == pytest.approx(jump, abs=2)


@pytest.mark.parametrize("jump", [YEAR, -3600.0])
def test_a_jump_that_lasts_is_believed(jump: float) -> None:
    """It may be a correction: in the end somebody else's clock is right."""
    world = World()
    clock = SteadyClock(world.clocks())
    world.ahead += jump
    assert clock() == pytest.approx(world.wall - jump)
    world.boottime += HOLD - 1
    assert clock() == pytest.approx(world.wall - jump)
    world.boottime += 2
    assert clock() == world.wall
    assert clock.jump == 0


def test_a_second_jump_begins_its_own_time() -> None:
    """A clock that is turned again and again is not believed for the sum of it."""
    world = World()
    clock = SteadyClock(world.clocks())
    for _ in range(10):
        world.ahead += 3600
        for _ in range(10):
            world.boottime += HOLD / 20
            assert clock() == pytest.approx(START - 1000 + world.boottime)


def test_a_clock_that_was_never_set_may_be_set_at_once() -> None:
    """A machine without a clock of its own starts in 1970, until the network tells the time."""
    world = World(ahead=0.0)
    clock = SteadyClock(world.clocks())
    assert clock() == 1000.0 < NEVER_RIGHT
    world.ahead = START
    assert clock() == world.wall


def test_a_clock_that_is_corrected_bit_by_bit_is_followed() -> None:
    """What adjusts clocks without a jump is believed at once."""
    world = World()
    clock = SteadyClock(world.clocks())
    for _ in range(1000):
        world.boottime += 1
        world.ahead -= TOLERANCE / 4
        assert clock() == world.wall


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-1e7, 1e7)), max_size=30))
def test_time_never_runs_back_by_more_than_the_tolerance_before_a_jump_is_believed(
    turns: list[tuple[float, float]],
) -> None:
    """Whatever the wall clock does within the time that a jump must last."""
    world = World()
    clock = SteadyClock(world.clocks(), hold=1e9)
    last = clock()
    for passes, jump in turns:
        world.boottime += passes
        world.ahead += jump
        now = clock()
        assert now >= last - TOLERANCE
        last = now


async def test_jump_and_sleep_are_told_apart(autojump_clock: trio.testing.MockClock) -> None:
    """A suspended machine: the wall clock did not jump, for boottime went on with it."""
    asleep, turned = 0.0, 0.0
    clocks = Clocks(
        wall=lambda: START + trio.current_time() + asleep + turned,
        boottime=lambda: trio.current_time() + asleep,
    )
    steady, wakefulness = SteadyClock(clocks), Wakefulness()
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:

            async def watch(task_status: trio.TaskStatus[None]) -> None:
                await watch_clocks(clocks, steady, wakefulness, task_status=task_status)

            await nursery.start(watch)
            await trio.sleep(30)
            assert logs == []
            asleep += 7200  # suspended: the monotonic clock stands still
            await trio.sleep(2)
            assert [entry["event"] for entry in logs] == ["daemon.slept"]
            assert logs[0]["machine"] == pytest.approx(7200)
            assert wakefulness.gap(trio.current_time()) == pytest.approx(7201)
            await trio.sleep(30)
            autojump_clock.jump(300)  # SIGSTOP: it goes on
            await trio.sleep(2)
            assert [entry["event"] for entry in logs] == ["daemon.slept"] * 2
            assert logs[1]["seconds"] == pytest.approx(301, abs=1)
            assert logs[1]["machine"] == pytest.approx(0)
            turned += DAY
            await trio.sleep(2)
            assert [entry["event"] for entry in logs][2:] == ["daemon.clock_jumped"]
            nursery.cancel_scope.cancel()


def test_what_deletes_believes_a_jump_only_after_a_day() -> None:
    """A clock that is a year ahead for an hour dates rows wrongly, and deletes nothing."""
    world = World()
    clock = SteadyClock(world.clocks())
    with structlog.testing.capture_logs() as logs:
        deleting = SteadyClock(world.clocks(), hold=DELETING_HOLD, tell=False)
        world.ahead += YEAR
        for _ in range(60):
            world.boottime += 60
            clock()
            assert deleting() == pytest.approx(world.wall - YEAR)
    assert clock() == world.wall
    assert [entry["event"] for entry in logs] == ["daemon.clock_jumped", "daemon.clock_believed"]
