"""The fleet breaker: many equal failures within seconds are one outage.

Theory of operation. Each ending that the network or WhatsApp's servers may be to blame for falls
into a class. When enough connections end alike within the window, the breaker opens: nobody dials
by itself any more, and nothing is counted. Now and then the one who has waited longest may dial as
a probe. The first of them that WhatsApp answers releases all the others. The outage is over once
a window has passed without as many failures again; until then it is the same outage.

Probes are granted by time, not by a token, so one that is stopped halfway holds nobody up.
"""

import collections
import collections.abc as cabc
import enum
import math
import typing as t

import attrs
import structlog
import trio

from actors.incidents import OUTAGE, Incident
from actors.queueing import WaitingLine

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleet")

FIRST_PROBE: t.Final = 1.0  # seconds to the first probe; then the pauses grow
LAST_PROBE: t.Final = 5.0  # seconds, the longest pause
GROWTH: t.Final = 1.25

_NETWORK: t.Final = "network"
_SERVERS: t.Final = "servers"
_STRANGERS: t.Final = "strangers"
_CLASSES: t.Final[cabc.Mapping[str, str]] = {
    "network": _NETWORK,
    "dns_failed": _NETWORK,
    "tls_failed": _NETWORK,
    "proxy_failed": _NETWORK,
    "connect_timeout": _NETWORK,
    "heartbeat_missed": _NETWORK,
    "silent": _NETWORK,
    "unavailable": _SERVERS,
    "server_error": _SERVERS,
    "rate_limited": _SERVERS,
    "stream_ended": _SERVERS,
    "protocol_error": _STRANGERS,
}
_SENTENCES: t.Final[cabc.Mapping[str, str]] = {
    _NETWORK: "WhatsApp cannot be reached; look at the network of this machine",
    _SERVERS: "WhatsApp's servers send connections away; wait until they are well again",
    _STRANGERS: "what answers in WhatsApp's place is not WhatsApp;"
    " look at the proxies and gateways between this machine and the Internet",
}

VERDICTS: t.Final = frozenset(
    {
        "restart_required",
        "logged_out",
        "locked",
        "conflict",
        "banned",
        "temporarily_banned",
        "refused",
        "outdated",
    }
)
"""Endings that only a WhatsApp that works can have caused."""


class Phase(enum.Enum):
    """Where the breaker is."""

    CLOSED = "closed"  # no outage
    OPEN = "open"  # an outage: only probes dial
    RECOVERING = "recovering"  # all were released; it is not sure yet


@attrs.frozen(kw_only=True)
class OutageSettings:
    """When many failures are one; times in seconds."""

    connections: int = 3  # at least so many of them
    share: float = 0.5  # and at least this share of those that run
    window: float = 10.0


class Outage:
    """The breaker. Tell it what happens; ask it whether somebody may dial."""

    def __init__(
        self,
        settings: OutageSettings,
        wall_clock: cabc.Callable[[], float],
        uniform: cabc.Callable[[], float],
    ) -> None:
        self.phase = Phase.CLOSED
        self.line: WaitingLine[t.Hashable] = WaitingLine()
        """Those that are held back."""
        self.wake: cabc.Callable[[], None] = lambda: None
        """Called when whoever waits by itself shall come now, to dial or to be held back; must
        neither wait nor fail."""
        self.released: cabc.Callable[[], None] = lambda: None
        """Called when all may dial again, before they do; must neither wait nor fail."""
        self._settings = settings
        self._wall_clock = wall_clock
        self._uniform = uniform
        self._running: set[str] = set()
        self._failures: dict[str, collections.OrderedDict[str, float]] = {}
        self._hit: set[str] = set()  # by this outage
        self._missing: set[str] = set()  # of those, who has not come back
        self._kind = _NETWORK
        self._since = 0.0  # unix seconds
        self._began_at = self._released_at = 0.0  # trio clock
        self._changed = trio.Event()

    @property
    def holding(self) -> bool:
        """Whether only probes may dial."""
        return self.phase is Phase.OPEN

    @property
    def sentence(self) -> str:
        """What is wrong, for whoever is held back."""
        return (
            f"{len(self._hit)} connections failed alike: {_SENTENCES[self._kind]};"
            " a few connections try for all, the others follow as soon as one gets through"
        )

    def incident(self, when: cabc.Callable[[float], t.Any]) -> Incident | None:
        """The outage, while there is one; ``when`` makes a date of unix seconds."""
        if self.phase is Phase.CLOSED:
            return None
        return Incident(
            code=OUTAGE,
            since=when(self._since),
            sentence=self.sentence,
            connections=len(self._hit),
        )

    # ---- what happens to connections

    def runs(self, name: str, running: bool) -> None:
        """Whether a connection is online or tries to be, as far as it is let."""
        (self._running.add if running else self._running.discard)(name)

    def left(self, name: str) -> None:
        """A connection does not try to come online any more."""
        self._running.discard(name)
        for failures in self._failures.values():
            failures.pop(name, None)
        self._missing.discard(name)
        if self.phase is Phase.OPEN and not self._missing:
            self._release()

    def failed(self, name: str, reason: str, dialled_at: float | None = None) -> bool:
        """A connection ended; whether it ended in an outage, and so by no fault of its own.

        ``dialled_at`` (trio clock) is set unless it was logged in: a dial from before the release
        says nothing of how things are after it.
        """
        if reason in VERDICTS:
            self.reached(name)
        if (kind := _CLASSES.get(reason)) is None:
            return False
        if (
            self.phase is Phase.RECOVERING
            and (math.inf if dialled_at is None else dialled_at) <= self._released_at
        ):
            return True
        if self._is_one_of_many(name, kind) and self.phase is not Phase.OPEN:
            self._open(kind)
        if self.phase is Phase.CLOSED:
            return False
        self._hit.add(name)
        self._missing.add(name)
        return True

    def reached(self, name: str) -> None:
        """A connection was answered by WhatsApp: the others may try, too."""
        self._missing.discard(name)
        if self.phase is Phase.OPEN:
            self._release()

    async def run(self) -> t.NoReturn:
        """Grant probes, and see when an outage is over."""
        while True:
            match self.phase:
                case Phase.CLOSED:
                    await self._changed.wait()
                case Phase.OPEN:
                    await self._probe()
                case Phase.RECOVERING:
                    if not await self._changes_within(self._settings.window):
                        self._end()
                case other:
                    t.assert_never(other)

    # ---- the steps of an outage

    def _is_one_of_many(self, name: str, kind: str) -> bool:
        now = trio.current_time()
        failures = self._failures.setdefault(kind, collections.OrderedDict())
        failures.pop(name, None)
        failures[name] = now
        while now - next(iter(failures.values())) > self._settings.window:
            failures.popitem(last=False)
        running = len(self._running) + sum(each not in self._running for each in failures)
        enough = max(self._settings.connections, self._settings.share * running)
        return len(failures) >= enough

    def _open(self, kind: str) -> None:
        again = self.phase is Phase.RECOVERING
        self._kind = kind
        self._missing |= self._failures[kind].keys()
        self._hit |= self._failures[kind].keys()
        if not again:
            self._since, self._began_at = self._wall_clock(), trio.current_time()
            log.error("fleet.outage", kind=kind, connections=len(self._hit), sentence=self.sentence)
        self._move(Phase.OPEN)
        self.wake()

    async def _probe(self) -> None:
        pause = FIRST_PROBE
        while not await self._changes_within(pause * (0.75 + self._uniform() / 2)):
            self.line.pick()
            pause = min(pause * GROWTH, LAST_PROBE)

    def _release(self) -> None:
        for failures in self._failures.values():
            failures.clear()
        self._move(Phase.RECOVERING)
        self._released_at = trio.current_time()
        self.released()
        self.line.release()
        self.wake()

    def _end(self) -> None:
        log.info(
            "fleet.outage_over",
            kind=self._kind,
            connections=len(self._hit),
            seconds=round(trio.current_time() - self._began_at, 1),
        )
        self._hit.clear()
        self._missing.clear()
        self._move(Phase.CLOSED)

    def _move(self, phase: Phase) -> None:
        self.phase = phase
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def _changes_within(self, seconds: float) -> bool:
        """Wait for the next change of phase, but not for longer."""
        changed = self._changed
        with trio.move_on_after(seconds):
            await changed.wait()
        return changed.is_set()
