"""The health of the event loop: how late it is, and a thread that notices when it stands still."""

import collections
import contextlib
import sys
import threading
import time
import traceback
import typing as t

import structlog
import trio

from api.views import LoopView

INTERVAL: t.Final = 0.25  # seconds between two turns that are measured
WINDOW: t.Final = 60.0  # seconds that are remembered
STALLED: t.Final = 5.0  # seconds without a turn, from which on the loop is called stalled
LOOK: t.Final = 0.5  # seconds between two looks of the thread

log: structlog.stdlib.BoundLogger = structlog.get_logger("daemon")


class LoopWatch:
    """Measures the loop from within, and watches it from outside."""

    def __init__(self, *, stalled: float = STALLED, look: float = LOOK) -> None:
        self._lags: collections.deque[float] = collections.deque(maxlen=int(WINDOW / INTERVAL))
        self._stalls = 0
        self._stalled = stalled
        self._look = look
        self._turned_at = time.monotonic()  # of the thread's clock
        self._over = threading.Event()

    def view(self) -> LoopView:
        """The last minute."""
        lags = sorted(self._lags)
        return LoopView(
            lag_seconds=self._lags[-1] if lags else 0.0,
            lag_p99_seconds=lags[int(len(lags) * 0.99)] if lags else 0.0,
            lag_max_seconds=lags[-1] if lags else 0.0,
            stalls=self._stalls,
        )

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Measure until cancelled, with the thread beside it."""
        with self._watched_from_outside():
            task_status.started()
            while True:
                due = trio.current_time() + INTERVAL
                await trio.sleep_until(due)
                self._lags.append(max(0.0, trio.current_time() - due))
                self._turned_at = time.monotonic()

    @contextlib.contextmanager
    def _watched_from_outside(self) -> t.Iterator[None]:
        self._over.clear()
        self._turned_at = time.monotonic()
        loop = threading.get_ident()
        thread = threading.Thread(target=self._watch, args=(loop,), name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _watch(self, loop: int) -> None:
        """The thread. When it was late itself, the whole process stood still, not the loop."""
        reported_at: float | None = None
        stood_at = 0.0
        looked_at = time.monotonic()
        excused_until = 0.0
        while not self._over.wait(self._look):
            before, looked_at = looked_at, time.monotonic()
            if looked_at - before > self._look + self._stalled / 2:
                excused_until = looked_at + self._stalled
            standing = looked_at - self._turned_at
            if reported_at is not None and self._turned_at > reported_at:
                log.warning("daemon.loop_resumed", seconds=round(self._turned_at - stood_at, 1))
                reported_at = None
            elif reported_at is None and standing > self._stalled and looked_at > excused_until:
                reported_at, stood_at = looked_at, self._turned_at
                self._stalls += 1
                log.error("daemon.loop_stalled", seconds=round(standing, 1), stack=_stack_of(loop))


def _stack_of(thread: int) -> str:
    """Where a thread is: files, lines and names; no values."""
    frame = sys._current_frames().get(thread)
    return "" if frame is None else "".join(traceback.format_stack(frame)[-25:])
