"""Pulses and who watches them."""

import pytest
import trio
import trio.testing

from supervisor.errors import PulseOverdueError
from supervisor.monitor import Pulse, watch, watch_all


def test_a_pulse_is_overdue_after_its_timeout() -> None:
    """Exactly at the timeout it is still in time; beats out of order change nothing."""
    pulse = Pulse("sales", timeout=20, now=100)
    assert not pulse.overdue(120)
    assert pulse.overdue(120.5)
    pulse.beat(110)
    pulse.beat(105)
    assert (pulse.age(115), pulse.due_at()) == (5, 130)
    with pytest.raises(ValueError, match="timeout"):
        Pulse("sales", timeout=0, now=0)


async def test_watch_raises_when_the_loop_hangs(autojump_clock: trio.testing.MockClock) -> None:
    """It beats every 5 s for a while, then hangs: noticed at the next look."""
    pulse = Pulse("sales", timeout=20, now=trio.current_time())

    async def work() -> None:
        for _ in range(8):
            await trio.sleep(5)
            pulse.beat(trio.current_time())
        await trio.sleep_forever()

    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            with pytest.raises(PulseOverdueError, match="sales: no heartbeat for 30") as caught:
                await watch(pulse, interval=10)
            nursery.cancel_scope.cancel()
    assert trio.current_time() == 70  # last beat at 40, in time at 60
    assert caught.value.counted


async def test_watch_all_reports_each_silence_once(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Overdue: reported once; after a beat and a new silence: once more."""
    pulses = [Pulse(name, timeout=15, now=0) for name in ("a", "b")]
    reports: list[tuple[float, str, float]] = []

    def report(pulse: Pulse, age: float) -> None:
        reports.append((trio.current_time(), pulse.name, age))

    nursery.start_soon(watch_all, lambda: pulses, 10, report)
    await trio.sleep(45)
    pulses[0].beat(45)
    pulses.pop()
    await trio.sleep(50)
    assert sorted(reports) == [(20, "a", 20), (20, "b", 20), (70, "a", 25)]
    nursery.cancel_scope.cancel()
