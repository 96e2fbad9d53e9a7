"""What systemd is told while the daemon starts, runs and stops: see ``daemon.notify``.

``WATCHDOG=1`` is sent from the event loop, so a loop that stands still sends none; and only
while the writer makes progress, for a daemon whose writer hangs keeps its sockets and stores
nothing. systemd then kills it and starts it anew; nothing acknowledged is lost by that.
"""

import collections.abc as cabc
import typing as t

import structlog
import trio

from api.views import LoopView
from daemon.notify import extend_timeout, notify, notify_status, watchdog_interval

EXTENSION: t.Final = 60.0  # seconds asked for at a time while starting
EXTENDED_EVERY: t.Final = 15.0  # seconds
START_LIMIT: t.Final = 3600.0  # seconds after which no more are asked for
STATUS_EVERY: t.Final = 3.0  # seconds between two sentences, at least

log: structlog.stdlib.BoundLogger = structlog.get_logger("daemon")


class Vital(t.Protocol):
    """A part that the daemon is useless without."""

    def stalled_for(self) -> float:
        """Seconds for which it has had work and made no progress."""
        ...


async def extend_start() -> None:
    """Ask for more time while the start takes long, as the recovery of a database may; it is to
    be cancelled at its end."""
    with trio.move_on_after(START_LIMIT):
        while True:
            await trio.sleep(EXTENDED_EVERY)
            extend_timeout(EXTENSION)


def announce_stop(shutdown_timeout: float) -> None:
    """The daemon stops, and takes this long at most."""
    notify("STOPPING=1")
    extend_timeout(shutdown_timeout + 5.0)


class Informer:
    """Keeps systemd informed while the daemon runs."""

    def __init__(self, vital: Vital, stall_limit: float, sentence: cabc.Callable[[], str]) -> None:
        """``stall_limit``: seconds that the vital part may take for one step."""
        self._vital = vital
        self._stall_limit = stall_limit
        self._sentence = sentence
        self._shown = ""
        self._wedged = False

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Send the status when it changes, and a sign of life as often as systemd wants it."""
        wanted = watchdog_interval()
        interval = STATUS_EVERY if wanted is None else min(STATUS_EVERY, wanted / 2)
        task_status.started()
        said_at = -STATUS_EVERY
        while True:
            if self.alive() and wanted is not None:
                notify("WATCHDOG=1")
            now, sentence = trio.current_time(), self._sentence()
            if sentence != self._shown and now - said_at >= STATUS_EVERY:
                said_at = now
                if notify_status(sentence):
                    self._shown = sentence
            await trio.sleep(interval)

    def alive(self) -> bool:
        """Whether the daemon does what it is there for; the change is logged."""
        stalled = self._vital.stalled_for()
        wedged = stalled > self._stall_limit
        if wedged and not self._wedged:
            log.error(
                "daemon.wedged",
                seconds=round(stalled, 1),
                follows="systemd is told nothing, so that it ends and restarts the daemon",
            )
        elif self._wedged and not wedged:
            log.info("daemon.unwedged")
        self._wedged = wedged
        return not wedged


def status_sentence(
    states: cabc.Mapping[str, int], commit: float, waiting: int, loop: LoopView
) -> str:
    """The daemon in a line; ``states`` counts connections, ``commit`` is in seconds."""
    wanted = sum(states.values()) - states.get("stopped", 0)
    text = f"{states.get('online', 0)} of {wanted} online"
    if stopped := states.get("stopped"):
        text += f", {stopped} stopped"
    text += f"; last commit {_rounded(commit)}, {waiting} waiting"
    return f"{text}; loop lag {_rounded(loop.lag_p99_seconds)}"


def _rounded(seconds: float) -> str:
    """Roughly, so that the sentence changes when something has changed."""
    milliseconds = seconds * 1000
    for step in (5, 20, 100, 500):
        if milliseconds < step:
            return f"under {step} ms"
    return f"{seconds:.1f} s"
