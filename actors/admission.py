"""Who may dial, and when: the pause for an outdated client, the breaker and the gate in one.

A connection asks for a turn before it dials and keeps it until its life ends. On the way it may be
held back, and its state says by what; nothing of that counts against its deadline for connecting.
"""

import collections.abc as cabc
import contextlib
import datetime as dt
import typing as t

import attrs
import trio

from actors.gate import Gate
from actors.incidents import Incident
from actors.outage import Outage, OutageSettings
from actors.version import ClientVersion, LookUp
from whatsapp.payload import Version

Report: t.TypeAlias = cabc.Callable[[str, str, str], None]

RUNNING: t.Final = frozenset({"connecting", "syncing", "online", "backoff"})
"""States of connections that are online or would like to be."""
QUEUED: t.Final = "queued"
HANGING: t.Final = 2.0  # seconds left to dials of an outage when one has got through


@attrs.frozen(kw_only=True)
class AdmissionSettings:
    """What the operator may set; times in seconds."""

    handshakes: int = 16
    outage: OutageSettings = attrs.field(factory=OutageSettings)
    trial_interval: float | None = 900.0  # None: no trials of a refused client version


@attrs.define(eq=False)
class Turn:
    """One connection on its way from the wish to dial to its end."""

    name: str
    pairing: bool = False
    first: bool = False  # an operator waits for it
    dialled_at: float | None = None  # trio clock; None: not yet, or it is logged in
    dialling: trio.CancelScope | None = None  # around a dial that may hang
    probe: bool = False
    in_gate: bool = False


class Admission:
    """The one door to WhatsApp of all connections of a fleet."""

    def __init__(
        self,
        settings: AdmissionSettings,
        *,
        wall_clock: cabc.Callable[[], float],
        uniform: cabc.Callable[[], float],
        look_up: LookUp | None = None,
    ) -> None:
        self.gate = Gate(settings.handshakes)
        self.outage = Outage(settings.outage, wall_clock, uniform)
        self.version = ClientVersion(
            wall_clock, trial_interval=settings.trial_interval, look_up=look_up
        )
        self.outage.released = self._hurry
        self._turns: dict[str, Turn] = {}
        self._wished: set[str] = set()  # names for whom an operator waits
        self._claimed: dict[str, Version] = {}

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Release whoever is held back, when it is time."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.outage.run)
            nursery.start_soon(self.version.run)
            task_status.started()
            await trio.sleep_forever()
        raise AssertionError("unreachable")

    @property
    def holding(self) -> bool:
        """Whether who would dial now is held back by more than the gate."""
        return self.version.holding or self.outage.holding

    def incidents(self) -> list[Incident]:
        """What concerns the whole fleet now."""
        found = (self.version.incident(_utc), self.outage.incident(_utc))
        return [incident for incident in found if incident is not None]

    # ---- what connections ask for

    @contextlib.asynccontextmanager
    async def turn(
        self, name: str, report: Report, *, pairing: bool = False
    ) -> cabc.AsyncIterator[Turn]:
        """Wait until one may dial, saying in the state by what one is held back.

        A pairing, for which somebody waits with a phone in the hand, passes all but the gate.
        """
        turn = Turn(name, pairing, first=name in self._wished)
        self._wished.discard(name)
        try:
            await self._admit(turn, report)
            turn.dialled_at = trio.current_time()
            self._turns[name] = turn
            yield turn
        finally:
            self._leave_gate(turn)
            self.version.over(turn)

    def let_in(self, turn: Turn) -> None:
        """It is logged in, or has its handshake behind it when it pairs: the next may dial."""
        turn.dialled_at = turn.dialling = None
        self._leave_gate(turn)
        if not turn.pairing:
            self.outage.reached(turn.name)
            self.version.accepted(turn)

    def wish(self, name: str) -> None:
        """An operator waits for this connection: where few may try, let it be one of them."""

        def meant(turn: t.Hashable) -> bool:
            return isinstance(turn, Turn) and turn.name == name

        if self.version.line.prefer(meant):
            self.version.try_now()
        elif not self.outage.line.prefer(meant):
            self._wished.add(name)  # it is on its way

    def claim(self, name: str, configured: Version) -> Version:
        """The client version that a connection is to tell WhatsApp."""
        version = self._claimed[name] = self.version.claimed(configured)
        return version

    # ---- what happens to connections

    def shown(self, name: str, state: str, reason: str) -> None:
        """The state of a connection has changed."""
        if state in RUNNING:
            self.outage.runs(name, reason != QUEUED)
            if state == "online":
                self._wished.discard(name)
        else:
            self.outage.left(name)
            self._wished.discard(name)

    def ended(self, name: str, reason: str) -> bool:
        """A life is over; whether by what concerns the whole fleet, and not by its own fault."""
        turn = self._turns.pop(name, None)
        if reason == "outdated" and name in self._claimed:
            self.version.refused(self._claimed[name])
        return self.outage.failed(name, reason, None if turn is None else turn.dialled_at)

    def _hurry(self) -> None:
        """Somebody got through: dials from before hang for nothing, and block the gate."""
        soon = trio.current_time() + HANGING
        for turn in self._turns.values():
            if turn.dialled_at is not None and turn.dialling is not None:
                turn.dialling.deadline = min(turn.dialling.deadline, soon)

    # ---- the ways in

    async def _admit(self, turn: Turn, report: Report) -> None:
        while True:
            if self._paused(turn):
                report("parked", "outdated", self.version.sentence)
                await self.version.wait(turn, first=turn.first)
            elif self._held(turn):
                report("backoff", "outage", self.outage.sentence)
                await self.outage.line.wait(turn, first=turn.first)
                turn.probe = True  # or all are released: then nobody asks
            elif await self._enter_gate(turn, report):
                return

    def _paused(self, turn: Turn) -> bool:
        return self.version.holding and not (turn.pairing or self.version.is_trial(turn))

    def _held(self, turn: Turn) -> bool:
        return self.outage.holding and not (turn.pairing or turn.probe)

    async def _enter_gate(self, turn: Turn, report: Report) -> bool:
        """Whether it is in, and nothing has come up while it waited."""
        if not self.gate.enter_nowait():
            report(
                "connecting",
                QUEUED,
                f"waits for its turn: {self.gate.width} others are connecting just now",
            )
            await self.gate.enter()
        turn.in_gate = True
        if self._paused(turn) or self._held(turn):
            self._leave_gate(turn)
            return False
        return True

    def _leave_gate(self, turn: Turn) -> None:
        if turn.in_gate:
            turn.in_gate = False
            self.gate.leave()


def _utc(unix: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(unix, dt.UTC)
