"""A PostgreSQL of the test's own, to be broken, and clients that are in the way."""

import collections.abc as cabc
import contextlib
import pathlib
import tempfile
import typing as t

import asyncpg
import attrs
import trio
import trio_asyncio
from st_helpers import KEY, take

from simulator.tcp_proxy import TcpProxy, open_tcp_proxy
from storage.api import ConversationRules, Outcome
from storage.embedded import EmbeddedPostgres
from storage.errors import StorageUnavailableError
from storage.postgres import PostgresStorage
from tests.support.psql import Psql


def socket_of(server: EmbeddedPostgres) -> str:
    """The path of a server's socket."""
    return str(server.home / "run" / ".s.PGSQL.5432")


@attrs.frozen
class Broken:
    """A database behind a proxy that breaks."""

    proxy: TcpProxy
    dsn: str  # through the proxy


@contextlib.asynccontextmanager
async def behind_proxy(server: EmbeddedPostgres, dsn: str) -> cabc.AsyncIterator[Broken]:
    """A database of the server, reached over TCP through a proxy."""
    database = dsn.partition("@/")[2].partition("?")[0]
    async with open_tcp_proxy(socket_of(server)) as proxy:
        yield Broken(proxy, f"postgresql://zapvisor@127.0.0.1:{proxy.port}/{database}")


@contextlib.asynccontextmanager
async def opened(
    dsn: str, *, command_timeout: float = 0.5, pool_size: int = 2
) -> cabc.AsyncIterator[PostgresStorage]:
    """A storage with the connection ``sales``, that soon gives up."""
    async with PostgresStorage.open(
        dsn, key=KEY, command_timeout=command_timeout, pool_size=pool_size
    ) as storage:
        await storage.ensure_connection("sales", ConversationRules())
        yield storage


async def until_taken(storage: PostgresStorage, external_id: str, seconds: float = 20) -> Outcome:
    """Like the writer: try again for as long as the database is unavailable."""
    with trio.fail_after(seconds):
        while True:
            try:
                return await take(storage, external_id)
            except StorageUnavailableError:
                await trio.sleep(0.02)


async def counts(storage: PostgresStorage) -> tuple[int, int, int]:
    """Messages, duplicates and quarantined ones."""
    row = await storage.statistics()
    return row["messages"], row["duplicates"], row["quarantined"]


@contextlib.asynccontextmanager
async def session(dsn: str, begin: str, end: str = "COMMIT") -> cabc.AsyncIterator[None]:
    """Another client in a transaction that has done ``begin``."""
    psql = Psql(dsn)
    try:
        await psql.run(f"BEGIN; {begin}")
        yield
        await psql.run(end)
    finally:
        await psql.aclose()


@contextlib.asynccontextmanager
async def crowd(dsn: str) -> cabc.AsyncIterator[cabc.Callable[[str], cabc.Awaitable[None]]]:
    """Other clients: the function runs a statement in one of them, then takes every connection
    that the server has left."""
    clients: list[t.Any] = []

    async def fill(statement: str) -> None:
        if clients:
            await clients[0].fetch(statement)
        refusals = 0
        while refusals < 3:  # the server lets go of what ended a moment later
            try:
                clients.append(await asyncpg.connect(dsn, timeout=10))
            except asyncpg.TooManyConnectionsError:
                refusals += 1
                await trio_asyncio.trio_as_aio(trio.sleep)(0.05)

    async def leave() -> None:
        for client in clients:
            client.terminate()

    async with trio_asyncio.open_loop() as loop:
        yield lambda statement: trio_asyncio.aio_as_trio(fill, loop=loop)(statement)
        await trio_asyncio.aio_as_trio(leave, loop=loop)()


def public_directory(public_dir: pathlib.Path) -> pathlib.Path:
    """A new directory that the database's user can reach."""
    directory = pathlib.Path(tempfile.mkdtemp(dir=public_dir))
    directory.chmod(0o755)
    return directory
