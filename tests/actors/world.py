"""The actors against the simulator: in memory, in virtual time, on a storage of choice."""

import collections.abc as cabc
import contextlib
import random
import typing as t

import attrs
import trio
import trio.testing

from actors.admission import Admission, AdmissionSettings
from actors.errors import TransportError
from actors.fleet import Fleet, FleetSettings, Member
from actors.settings import ConnectionSettings, Files, Tools
from actors.transport import Transport
from actors.version import LookUp
from actors.writer import Writer, WriterSettings
from actors.writer_inbox import writer_inbox
from simulator import Account, Simulator, open_simulator
from simulator.transport import MemoryTransport
from storage.api import ConversationRules, Storage
from supervisor.wakefulness import Wakefulness

START: t.Final = 1_790_000_000.0
DEADLINE: t.Final = 3600.0  # virtual seconds


class MemoryLink:
    """The client's end of a connection inside this process."""

    def __init__(self, end: MemoryTransport) -> None:
        self._end = end

    async def send(self, data: bytes) -> None:
        try:
            await self._end.send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise TransportError("closed") from error

    async def receive(self) -> bytes:
        try:
            return await self._end.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError) as error:
            raise TransportError("closed") from error


@attrs.define
class World:
    """A simulator, a writer and a fleet, all in one nursery."""

    simulator: Simulator
    storage: Storage
    nursery: trio.Nursery
    settings: dict[str, t.Any]
    names: tuple[str, ...]
    accounts: dict[str, Account] = attrs.field(factory=dict)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    dials: int = 0
    files: Files = attrs.field(factory=Files)
    look_up: LookUp | None = None
    wakefulness: Wakefulness = attrs.field(factory=Wakefulness)
    writer: Writer = attrs.field(init=False)
    fleet: Fleet = attrs.field(init=False)

    async def pair(self, name: str) -> Account:
        """Pair a connection with a phone of its own, up to being online."""
        account = self.simulator.create_account(f"team {name}")
        await self.fleet.pair(name)
        version = 0
        with trio.fail_after(DEADLINE):
            while True:
                view = await self.fleet.wait_pairing(name, version)
                version = view.version
                if view.state == "code" and view.qr is not None:
                    break
        await self.simulator.scan_qr(view.qr, phone=account.pn.user)
        self.accounts[name] = account
        await self.until_state(name, "online")
        return account

    async def until_state(self, name: str, *states: str) -> None:
        """Wait for a state."""
        await self.until(lambda: self.fleet.status(name)[0].state in states, f"{name}: {states}")

    async def until(self, condition: cabc.Callable[[], object], what: str) -> None:
        """Wait, in virtual time, until a condition holds."""
        with trio.move_on_after(DEADLINE):
            while not condition():
                await trio.sleep(0.25)
            return
        raise AssertionError(f"never happened: {what}; {self.fleet.status()}")

    async def settled(self) -> None:
        """Wait until the server has an acknowledgement for everything that it owes."""
        await self.until(self._all_acknowledged, "everything is acknowledged")

    def _all_acknowledged(self) -> bool:
        return all(
            not self.simulator.ledger.unacknowledged(device.pn)
            for account in self.accounts.values()
            for device in account.companions
        )

    async def start_daemon(self) -> None:
        """Run a new writer and a new fleet over the same storage, as a restarted daemon does."""
        inbox = writer_inbox()
        self.writer = Writer(self.storage, inbox, WriterSettings(), random.Random(1).random)
        self.fleet = await make_fleet(self, self.names)
        self.writer.listeners.append(self.fleet.committed)
        self.scope = trio.CancelScope()

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.writer.run)
                    await nursery.start(self.fleet.run)
                    task_status.started()

        await self.nursery.start(run)

    async def kill_daemon(self) -> None:
        """Lose everything that is only in memory, the writer's mailbox included."""
        self.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()


async def make_fleet(world: World, names: tuple[str, ...]) -> Fleet:
    """A fleet that dials into the world's simulator."""
    seeded = random.Random(7)

    @contextlib.asynccontextmanager
    async def dial() -> cabc.AsyncIterator[Transport]:
        world.dials += 1
        try:
            end = await world.simulator.connect()
        except ConnectionRefusedError as error:
            raise TransportError("refused") from error
        try:
            yield MemoryLink(end)
        finally:
            end.abort()

    supervision = FleetSettings(**_chosen(world.settings, FleetSettings))
    settings = ConnectionSettings(
        version=(2, 3000, 1),
        root_key=world.simulator.root_key,
        **_chosen(world.settings, ConnectionSettings),
    )
    tools = Tools(
        storage=world.storage,
        writer=world.writer.inbox,
        dial=dial,
        wall_clock=wall_clock,
        random=seeded.randbytes,
        uniform=seeded.random,
        files=world.files,
        admission=Admission(
            AdmissionSettings(
                trial_interval=supervision.park_interval,
                **_chosen(world.settings, AdmissionSettings),
            ),
            wall_clock=wall_clock,
            uniform=seeded.random,
            look_up=world.look_up,
        ),
        wakefulness=world.wakefulness,
    )
    for name in names:
        await world.storage.ensure_connection(name, ConversationRules())
    rows = {row.name: row for row in await world.storage.connections()}
    members = [Member(name, settings, tools, supervision, rows[name]) for name in names]
    return Fleet(members, tools)


def wall_clock() -> float:
    """The time of the world, in unix seconds."""
    return START + trio.current_time()


def _chosen(settings: dict[str, t.Any], kind: type[t.Any]) -> dict[str, t.Any]:
    fields = attrs.fields_dict(kind)
    return {key: value for key, value in settings.items() if key in fields}


@contextlib.asynccontextmanager
async def open_world(
    storage: Storage,
    *names: str,
    paired: bool = True,
    files: Files | None = None,
    look_up: LookUp | None = None,
    **settings: t.Any,
) -> cabc.AsyncIterator[World]:
    """A running world; ``settings`` are those of connections, of the fleet and of its
    admission."""

    async with (
        open_simulator(seed="world", now=wall_clock) as simulator,
        trio.open_nursery() as nursery,
    ):
        world = World(
            simulator=simulator,
            storage=storage,
            nursery=nursery,
            settings=dict(settings),
            names=names,
            files=files or Files(),
            look_up=look_up,
        )
        await world.start_daemon()
        if paired:
            for name in names:
                await world.pair(name)
        yield world
        nursery.cancel_scope.cancel()
