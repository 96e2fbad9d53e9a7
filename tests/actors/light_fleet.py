"""A fleet of light connections: all is real but what lies beyond the dial, which takes no work."""

import collections.abc as cabc
import contextlib
import random
import typing as t
from unittest import mock

import attrs
import trio

from actors import member as member_module
from actors.admission import Admission, AdmissionSettings
from actors.endings import ending_of
from actors.errors import ConnectionEndedError, TransportError
from actors.fleet import Fleet, FleetSettings, Member
from actors.gaps import Outages
from actors.line import ConnectionLine
from actors.settings import ConnectionSettings, Counts, Report, Tools
from actors.transport import Transport
from actors.writer import Writer, WriterSettings
from actors.writer_inbox import writer_inbox
from storage.api import ConversationRules
from storage.memory import MemoryStorage
from tests.actors.world import wall_clock
from whatsapp.lifecycle import EndReason, StreamEnded

HANDSHAKE: t.Final = 0.2  # virtual seconds
PATIENCE: t.Final = 4 * 3600.0  # virtual seconds


@attrs.define(eq=False)
class Network:
    """The way to WhatsApp. ``down`` says how it fails: at once, or by swallowing everything."""

    down: t.Literal["refuses", "swallows"] | None = None
    bad: set[str] = attrs.field(factory=set)  # connections that are always sent away
    reason: str = "unavailable"  # with what those are sent away
    reasons: dict[str, str] = attrs.field(factory=dict)  # with what else some of them are
    dials: list[tuple[float, str]] = attrs.field(factory=list)
    dialling: int = 0
    peak: int = 0
    _open: dict[str, trio.Event] = attrs.field(factory=dict)

    @contextlib.asynccontextmanager
    async def connect(self, name: str) -> cabc.AsyncIterator[trio.Event]:
        """Dial, shake hands and log in."""
        self.dials.append((trio.current_time(), name))
        self.dialling += 1
        self.peak = max(self.peak, self.dialling)
        try:
            if self.down == "swallows":
                await trio.sleep_forever()
            await trio.sleep(HANDSHAKE)
            if self.down is not None:
                raise TransportError("refused")
            if name in self.bad:
                reason = EndReason(self.reasons.get(name, self.reason))
                raise ending_of(StreamEnded(reason, None, "sent away"))
        finally:
            self.dialling -= 1
        self._open[name] = trio.Event()
        yield self._open[name]

    def drop(self, *names: str) -> None:
        """Break what is open, or only that of some connections."""
        for name in names or tuple(self._open):
            self._open.pop(name, trio.Event()).set()


class LightConnection:
    """In the place of ``actors.connection.Connection``: the same turns, and nothing to decrypt."""

    network: t.ClassVar[Network]

    def __init__(
        self,
        name: str,
        settings: ConnectionSettings,
        tools: Tools,
        *,
        report: Report,
        counts: Counts,
        **_others: t.Any,
    ) -> None:
        self.counts = counts
        self.name, self.jid, self.device_jid, self.own, self.sender = name, None, None, (), None
        self.line = ConnectionLine(name)
        self.outages = Outages(name, tools.writer, tools.wall_clock)
        self._settings, self._tools, self._report = settings, tools, report

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """One life."""
        admission, limit = self._tools.admission, self._settings.connect_timeout
        async with admission.turn(self.name, self._report) as turn:
            self._report("connecting", "dialling", "dials")
            admission.claim(self.name, self._settings.version)
            try:
                with trio.move_on_after(limit) as connecting:
                    turn.dialling = connecting
                    async with self.network.connect(self.name) as dropped:
                        connecting.deadline = float("inf")
                        admission.let_in(turn)
                        task_status.started()
                        self._report("syncing", "logged_in", "logged in")
                        self._report("online", "online", "online")
                        await dropped.wait()
                        raise TransportError("reset")
            except TransportError as error:
                raise ConnectionEndedError("network", str(error)) from error
        raise ConnectionEndedError("connect_timeout", "too slow")


@attrs.define(kw_only=True)
class LightFleet:
    """A running fleet, and the network below it."""

    fleet: Fleet
    network: Network
    storage: MemoryStorage
    admission: Admission
    restart: cabc.Callable[[], cabc.Awaitable[None]]
    """End the fleet, and run the same one again, as its supervisor would."""
    stop: cabc.Callable[[], None]
    counts: cabc.Mapping[str, Counts]
    writer: Writer

    def states(self) -> dict[str, int]:
        """How many connections are in each state."""
        found: dict[str, int] = {}
        for status in self.fleet.status():
            found[status.state] = found.get(status.state, 0) + 1
        return found

    def online(self) -> int:
        """How many are online."""
        return self.states().get("online", 0)

    async def until(self, condition: cabc.Callable[[], object], what: str) -> None:
        """Wait, in virtual time."""
        with trio.move_on_after(PATIENCE):
            while not condition():
                await trio.sleep(0.25)
            return
        raise AssertionError(f"never happened: {what}; {self.states()}")


@contextlib.asynccontextmanager
async def light_fleet(
    names: cabc.Sequence[str],
    *,
    network: Network | None = None,
    admission: AdmissionSettings = AdmissionSettings(),  # noqa: B008 - frozen
    storage: MemoryStorage | None = None,
    **supervision: t.Any,
) -> cabc.AsyncIterator[LightFleet]:
    """A fleet of these connections, all of them paired and starting."""
    network = network or Network()
    seeded = random.Random(5)
    storage = storage or MemoryStorage(clock=wall_clock)
    inbox = writer_inbox(64)
    writer = Writer(storage, inbox, WriterSettings(), seeded.random)

    @contextlib.asynccontextmanager
    async def nowhere() -> cabc.AsyncIterator[Transport]:
        raise TransportError("nobody dials here")
        yield

    tools = Tools(
        storage=storage,
        writer=inbox,
        dial=nowhere,
        wall_clock=wall_clock,
        random=seeded.randbytes,
        uniform=seeded.random,
        admission=Admission(admission, wall_clock=wall_clock, uniform=seeded.random),
    )
    settings = ConnectionSettings(version=(2, 3000, 1_000_000), root_key=bytes(32))
    for name in names:
        await storage.ensure_connection(name, ConversationRules())
    rows = [attrs.evolve(row, paired=True) for row in await storage.connections()]
    with mock.patch.object(member_module, "Connection", LightConnection):
        LightConnection.network = network
        members = [
            Member(row.name, settings, tools, FleetSettings(**supervision), row) for row in rows
        ]
    fleet = Fleet(members, tools)
    scopes = [trio.CancelScope()]
    over = [trio.Event()]

    async def run(task_status: trio.TaskStatus[None]) -> None:
        with scopes[-1]:
            await fleet.run(task_status)
        over[-1].set()

    async with trio.open_nursery() as nursery:

        async def restart() -> None:
            scopes[-1].cancel()
            await over[-1].wait()
            scopes.append(trio.CancelScope())
            over.append(trio.Event())
            await nursery.start(run)

        await nursery.start(writer.run)
        await nursery.start(run)
        yield LightFleet(
            fleet=fleet,
            network=network,
            storage=storage,
            admission=tools.admission,
            restart=restart,
            stop=lambda: scopes[-1].cancel(),
            counts={member.name: member.counts for member in members},
            writer=writer,
        )
        nursery.cancel_scope.cancel()
