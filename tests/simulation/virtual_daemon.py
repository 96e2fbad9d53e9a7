"""A daemon in virtual time that is driven step by step from outside of its event loop."""

import collections.abc as cabc
import contextlib
import math
import queue
import threading
import typing as t
from unittest import mock

import attrs
import structlog
import trio
import trio.testing

from simulator import Account, Group
from simulator.ledger import Record
from storage.api import Envelope, Outcome, RecordKind
from storage.errors import StorageUnavailableError
from storage.memory import MemoryStorage
from tests.actors.world import START, World, open_world
from whatsapp.iq import prekeys

NAMES: t.Final = ("sales", "support", "billing")
CUSTOMERS: t.Final = ("Ana", "Bob", "Eva")
PREKEYS: t.Final = 40  # instead of hundreds, which take long
PATIENCE: t.Final = 4 * 3600.0  # virtual seconds for everything to be well again
LONGEST_REAL: t.Final = 120.0  # seconds that one step may really take
STATES: t.Final = (
    "stopped", "pairing", "connecting", "syncing", "online", "backoff", "parked", "conflict",
    "logged_out", "banned",
)  # fmt: skip

T = t.TypeVar("T")


class FickleStorage(MemoryStorage):
    """A database that is slow, away, or silent about what became of a commit."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: START + trio.current_time())
        self.away = False
        self.slowness = 0.0  # seconds that every call takes
        self.unanswered = 0  # commits whose answers get lost
        self.bugs = 0  # reads that fail like a bug

    async def apply(self, batch: cabc.Sequence[Envelope]) -> list[Outcome]:
        await self._weather()
        outcomes = await super().apply(batch)
        if self.unanswered:
            self.unanswered -= 1
            raise StorageUnavailableError("the answer to the COMMIT was lost")
        return outcomes

    async def quarantine(self, envelope: Envelope, error: str) -> Outcome:
        await self._weather()
        return await super().quarantine(envelope, error)

    async def record_event(self, event: t.Any) -> None:
        await self._weather()
        await super().record_event(event)

    async def record_sync(self, run: t.Any) -> None:
        await self._weather()
        await super().record_sync(run)

    async def load_records(
        self, connection: str, kind: RecordKind, keys: cabc.Sequence[str]
    ) -> dict[str, bytes]:
        await self._weather()
        if self.bugs:
            self.bugs -= 1
            raise RuntimeError("a bug, on purpose")
        return await super().load_records(connection, kind, keys)

    def be_well(self) -> None:
        """Answer at once from now on."""
        self.away, self.slowness, self.unanswered, self.bugs = False, 0.0, 0, 0

    async def _weather(self) -> None:
        if self.slowness:
            await trio.sleep(self.slowness)
        if self.away:
            raise StorageUnavailableError("the database is away")


@attrs.define(kw_only=True)
class Stage:
    """The daemon with its connections, WhatsApp, and the people who write."""

    world: World
    storage: FickleStorage
    customers: tuple[Account, ...]
    group: Group
    running: bool = True
    written: int = 0

    def account(self, name: str) -> Account:
        """Whose phone a connection is linked to."""
        return self.world.accounts[name]

    async def write(self, customer: int, name: str, count: int) -> None:
        """A customer writes to a connection."""
        for _ in range(count):
            self.written += 1
            text = f"{self.written}"
            await self.customers[customer].phone.send_text(self.account(name).pn, text)

    async def write_to_group(self, customer: int) -> None:
        """A customer writes to the group that all connections are in."""
        self.written += 1
        await self.customers[customer].phone.send_group_text(self.group.jid, f"{self.written}")

    async def kill(self) -> None:
        """``kill -9``: what is only in memory is gone."""
        await self.world.kill_daemon()
        self.running = False

    async def start(self) -> None:
        """Start the daemon over the same database."""
        await self.world.start_daemon()
        self.running = True

    async def be_well(self) -> None:
        """End all trouble, and wait until every connection is online and owes nothing.

        Raises:
            AssertionError: that never happened.
        """
        world = self.world
        world.simulator.faults.clear()
        self.storage.be_well()
        if not self.running:
            await self.start()
        for name in NAMES:  # what got no answer comes again over a new socket only
            await world.fleet.restart(name)
        began = trio.current_time()
        while not self._all_well():
            await trio.sleep(5)
            assert trio.current_time() - began < PATIENCE, self.describe()
        await trio.sleep(60)  # whatever would still come comes now

    def _all_well(self) -> bool:
        return not any(
            row.state != "online" or row.in_flight or row.undecryptable
            for row in self.world.fleet.status()
        ) and not any(self.records(name, unacknowledged=True) for name in NAMES)

    def describe(self) -> str:
        """Why it is not well."""
        owed = {name: len(self.records(name, unacknowledged=True)) for name in NAMES}
        return f"never well again: owed {owed}, {self.world.fleet.status()}"

    def records(self, name: str, *, unacknowledged: bool = False) -> list[Record]:
        """What the server owed to a connection: all of it, or what it has no answer for."""
        ledger = self.world.simulator.ledger
        return [
            record
            for device in self.account(name).companions
            for record in (
                ledger.unacknowledged(device.pn) if unacknowledged else ledger.records(device.pn)
            )
        ]


class VirtualDaemon:
    """Runs a :class:`Stage` in a thread; virtual time stands still between two steps."""

    def __init__(self) -> None:
        self._clock = trio.testing.MockClock()
        self._ready: queue.SimpleQueue[Stage | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._end: trio.Event | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        stage = self._ready.get(timeout=LONGEST_REAL)
        if stage is None:
            self.close()
        assert stage is not None
        self.stage = stage

    def do(self, step: cabc.Callable[..., cabc.Awaitable[T]], *arguments: t.Any) -> T:
        """Do one step; time passes as the step waits."""

        async def act() -> T:
            self._clock.autojump_threshold = 0
            try:
                return await step(*arguments)
            finally:
                self._clock.autojump_threshold = math.inf

        assert self._token is not None
        try:
            return trio.from_thread.run(act, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled):
            self.close()
            raise AssertionError("the daemon ended by itself") from None

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self._clock.current_time()

    def close(self) -> None:
        """End it, and tell what went wrong in it."""
        if self._thread.is_alive() and self._token is not None and self._end is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._end.set)
        self._thread.join(LONGEST_REAL)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with structlog.testing.capture_logs():  # which would fill the screen
                trio.run(self._main, clock=self._clock, strict_exception_groups=True)
        except BaseException as error:
            self._error = error
            self._ready.put(None)

    async def _main(self) -> None:
        self._end = trio.Event()
        storage = FickleStorage()
        self._clock.autojump_threshold = 0
        with mock.patch.object(prekeys, "INITIAL_UPLOAD", PREKEYS):
            async with open_world(storage, *NAMES) as world:
                customers = tuple(map(world.simulator.create_account, CUSTOMERS))
                team = [world.accounts[name] for name in NAMES]
                group = world.simulator.create_group("all", [*customers, *team])
                stage = Stage(world=world, storage=storage, customers=customers, group=group)
                await world.settled()
                self._token = trio.lowlevel.current_trio_token()
                self._clock.autojump_threshold = math.inf
                self._ready.put(stage)
                await self._end.wait()
