"""What the storage tests share: messages, a clock, a server with databases to spare."""

import collections.abc as cabc
import contextlib
import itertools
import typing as t

import asyncpg
import attrs
import trio
import trio_asyncio

from storage.api import ChatKind, Envelope, Outcome, ReceivedMessage, RecordChange, Storage
from storage.embedded import EmbeddedPostgres
from storage.errors import sole_error
from storage.memory import MemoryStorage
from storage.postgres import PostgresStorage

KEY = bytes(range(32))
NOW = 1_800_000_000.0
HOUR = 3_600
DAY = 86_400
CUSTOMER = "15550001111@s.whatsapp.net"
CUSTOMER_LID = "900000000001@lid"
OTHER = "15550002222@s.whatsapp.net"
ACCOUNT = "15559990000@s.whatsapp.net"
GROUP = "120363000000000001@g.us"


@attrs.define
class Clock:
    """Wall time that tests move by hand."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


def message(
    external_id: str | None = "A1", *, chat: str = CUSTOMER, **fields: t.Any
) -> ReceivedMessage:
    """A customer's text, sent at NOW, unless told otherwise."""
    defaults: dict[str, t.Any] = {
        "chat": chat,
        "chat_kind": ChatKind.GROUP if chat.endswith("@g.us") else ChatKind.DIRECT,
        "sender": CUSTOMER if chat.endswith("@g.us") else chat,
        "from_me": False,
        "external_id": external_id,
        "kind": "text",
        "text": "olá",
        "sent_at": int(NOW),
        "raw": b"raw",
    }
    if fields.get("from_me"):
        defaults["sender"] = ACCOUNT
    return ReceivedMessage(**{**defaults, **fields})


def envelope(
    external_id: str | None = "A1",
    *,
    connection: str = "sales",
    records: tuple[RecordChange, ...] = (),
    handled: str | None = None,
    **fields: t.Any,
) -> Envelope:
    """An envelope with one message."""
    return Envelope(
        connection=connection,
        message=message(external_id, **fields),
        records=records,
        handled=handled,
        stanza=b"stanza",
    )


async def take(storage: Storage, *args: t.Any, **fields: t.Any) -> Outcome:
    """Apply one message by itself."""
    [outcome] = await storage.apply([envelope(*args, **fields)])
    return outcome


@attrs.frozen
class Cluster:
    """The session's server: makes databases, runs SQL."""

    server: EmbeddedPostgres
    _names: cabc.Iterator[int] = attrs.field(factory=itertools.count)

    def dsn(self, database: str) -> str:
        return self.server.dsn.replace("/postgres?", f"/{database}?")

    async def sql(self, dsn: str, statement: str, *args: t.Any) -> list[t.Any]:
        """Run a statement from outside, on a connection of its own."""
        return await self._outside(dsn, lambda connection: connection.fetch(statement, *args))

    async def script(self, dsn: str, statements: str) -> None:
        """Run several statements."""
        await self._outside(dsn, lambda connection: connection.execute(statements))

    async def _outside(
        self, dsn: str, work: cabc.Callable[[t.Any], cabc.Awaitable[t.Any]]
    ) -> t.Any:
        async def run() -> t.Any:
            connection = await asyncpg.connect(dsn, timeout=20, command_timeout=20)
            try:
                return await work(connection)
            finally:
                await connection.close(timeout=5)

        with sole_error():
            async with trio_asyncio.open_loop() as loop:
                return await trio_asyncio.aio_as_trio(run, loop=loop)()

    async def create(self, template: str = "template0") -> str:
        """A new database; its address."""
        name = f"test_{next(self._names)}"
        await self.sql(
            self.server.dsn, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"
        )
        return self.dsn(name)

    async def drop(self, dsn: str) -> None:
        """Delete a database: thousands of them would fill the disk, and take long at the end."""
        name = dsn.rpartition("/")[2].partition("?")[0]
        await self.sql(self.server.dsn, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextlib.asynccontextmanager
async def opened_storage(kind: str, cluster: Cluster, clock: Clock) -> cabc.AsyncIterator[Storage]:
    """A storage of that kind, empty."""
    if kind == "memory":
        yield MemoryStorage(clock)
        return
    dsn = await cluster.create("migrated")
    try:
        async with PostgresStorage.open(dsn, key=KEY, pool_size=2, clock=clock) as made:
            yield made
    finally:
        with trio.CancelScope(shield=True):
            await cluster.drop(dsn)
