"""The clocks of the daemon, and what becomes of their jumps.

Timers run on trio's clock, which is monotonic. The wall clock dates rows, and decides what has
grown old. It is somebody else's, and may jump: so it is compared with a clock that does not, and
a jump is believed only after it has lasted. A clock that is a year ahead for a minute deletes
nothing, and refuses no certificate.
"""

import collections.abc as cabc
import time
import typing as t

import attrs
import structlog
import trio

from supervisor.wakefulness import Wakefulness

TOLERANCE: t.Final = 2.0  # seconds within which the wall clock is followed at once
HOLD: t.Final = 900.0  # seconds a jump must last before it is believed
DELETING_HOLD: t.Final = 86_400.0  # the same before something is deleted because of it
NEVER_RIGHT: t.Final = 1_735_689_600.0  # 2025: a clock before that was never set
INTERVAL: t.Final = 1.0  # seconds between two looks

log: structlog.stdlib.BoundLogger = structlog.get_logger("daemon")


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@attrs.frozen(kw_only=True)
class Clocks:
    """Where time comes from; all in seconds."""

    wall: cabc.Callable[[], float] = time.time  # noqa: TID251 - the edge
    """Unix seconds; may jump."""
    boottime: cabc.Callable[[], float] = _boottime
    """Never jumps, and goes on while the machine sleeps."""

    def both(self) -> tuple[float, float]:
        """Wall clock and boottime at one moment, though the process may be stopped between."""
        while True:
            before, wall, after = self.boottime(), self.wall(), self.boottime()
            if after - before < TOLERANCE / 10:
                return wall, after


class SteadyClock:
    """The wall clock without its jumps: called, it gives unix seconds."""

    def __init__(
        self, clocks: Clocks | None = None, *, hold: float = HOLD, tell: bool = True
    ) -> None:
        """``tell``: log the jumps; for one of those that see the same."""
        self._clocks = clocks or Clocks()
        self._hold = hold
        self._tell = tell
        self._wall, self._boottime = self._clocks.both()
        self._jump: float | None = None  # seconds that the wall clock is ahead of this one
        self._jumped_at = 0.0  # boottime

    @property
    def jump(self) -> float:
        """Seconds by which the wall clock is ahead of this one, not believed yet; else 0."""
        return self._jump or 0.0

    def __call__(self) -> float:
        """Unix seconds. A jump that has lasted is taken over, whichever way it went."""
        wall, boottime = self._clocks.both()
        steady = self._wall + (boottime - self._boottime)
        ahead = wall - steady
        if abs(ahead) <= TOLERANCE:
            if self._jump is not None:
                self._note("daemon.clock_is_back", difference=round(self._jump, 1))
                self._jump = None
            return self._follow(wall, boottime)
        if self._jump is None or abs(ahead - self._jump) > TOLERANCE:
            self._notice(steady, wall, boottime)
        if boottime - self._jumped_at < self._hold and steady > NEVER_RIGHT:
            return steady
        self._note("daemon.clock_believed", old=round(steady), new=round(wall))
        self._jump = None
        return self._follow(wall, boottime)

    def _notice(self, steady: float, wall: float, boottime: float) -> None:
        self._jump, self._jumped_at = wall - steady, boottime
        self._note(
            "daemon.clock_jumped",
            old=round(steady),
            new=round(wall),
            difference=round(self._jump, 1),
            believed_after=self._hold,
        )

    def _note(self, event: str, **facts: float) -> None:
        if self._tell:
            log.warning(event, **facts)

    def _follow(self, wall: float, boottime: float) -> float:
        self._wall, self._boottime = wall, boottime
        return wall


async def watch_clocks(
    clocks: Clocks,
    steady: SteadyClock,
    wakefulness: Wakefulness,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> t.NoReturn:
    """Notice jumps of the wall clock, and gaps in which the process did not run."""
    now, boottime = trio.current_time(), clocks.boottime()
    wakefulness.tick(now)
    task_status.started()
    while True:
        await trio.sleep(INTERVAL)
        before, now = now, trio.current_time()
        last, boottime = boottime, clocks.boottime()
        asleep = max(0.0, (boottime - last) - (now - before))
        if away := wakefulness.tick(now, asleep):
            log.warning(
                "daemon.slept",
                seconds=round(away, 1),
                machine=round(asleep, 1),
                follows="all connections are checked now; what expired meanwhile is not counted",
            )
        steady()
