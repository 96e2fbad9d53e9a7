"""The event loop is measured, and a thread sees when it stands still."""

import time

import pytest
import structlog
import structlog.testing
import trio
import trio.testing

from api.health import judge
from api.views import DatabaseView, LoopView, Verdict, WriterView
from daemon.watchdog import LoopWatch

WRITER = WriterView(
    depth=0,
    capacity=10,
    batches=0,
    envelopes=0,
    last_commit_seconds=0.0,
    retrying_seconds=None,
    last_error=None,
)


def block_the_loop(seconds: float) -> None:
    """What nobody should do in a loop."""
    time.sleep(seconds)


async def test_a_loop_that_stands_still_is_told_of_with_its_stack() -> None:
    """Once while it stands, from outside of it, and once when it is over."""
    watch = LoopWatch(stalled=0.3, look=0.02)
    entries: list[dict[str, object]] = []

    def keep(_logger: object, _name: str, event: dict[str, object]) -> dict[str, object]:
        entries.append(dict(event))
        raise structlog.DropEvent

    before = structlog.get_config()["processors"]
    structlog.configure(processors=[keep])
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch.run)
            await trio.sleep(0.3)
            assert entries == []
            block_the_loop(1.0)
            with trio.fail_after(20):
                while len(entries) < 2:
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
    finally:
        structlog.configure(processors=before)
    stalled, resumed = entries
    assert stalled["event"] == "daemon.loop_stalled"
    assert "block_the_loop" in str(stalled["stack"])
    assert resumed["event"] == "daemon.loop_resumed"
    assert resumed["seconds"] >= 0.9  # type: ignore[operator]
    view = watch.view()
    assert view.stalls == 1
    assert view.lag_max_seconds > 0.5


async def test_lag_is_of_the_last_minute(autojump_clock: trio.testing.MockClock) -> None:
    """What was long ago is forgotten."""
    watch = LoopWatch()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch.run)
        await trio.sleep(10)
        assert watch.view().lag_max_seconds < 0.01
        autojump_clock.jump(3)
        await trio.sleep(1)
        view = watch.view()
        assert 2 < view.lag_max_seconds <= 3
        assert view.lag_p99_seconds > 2
        await trio.sleep(30)
        assert watch.view().lag_max_seconds > 2
        assert watch.view().lag_p99_seconds < 0.01
        await trio.sleep(40)
        assert watch.view().lag_max_seconds < 0.01
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("lag", "stalled", "verdict"),
    [(0.1, 0.0, Verdict.OK), (2.0, 0.0, Verdict.DEGRADED), (0.0, 300.0, Verdict.FAILING)],
)
def test_the_health_shows_it(lag: float, stalled: float, verdict: Verdict) -> None:
    """A late loop degrades the whole; a writer that hangs fails it."""
    import attrs

    loop = LoopView(lag_seconds=lag, lag_p99_seconds=lag, lag_max_seconds=lag, stalls=0)
    writer = attrs.evolve(WRITER, stalled_seconds=stalled)
    health = judge([], writer, DatabaseView(ping_seconds=0.1, error=None), {}, loop)
    assert health.verdict is verdict
    assert health.loop == loop
    assert bool(health.reasons) is (verdict is not Verdict.OK)
