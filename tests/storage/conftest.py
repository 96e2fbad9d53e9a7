"""One embedded server for the session, a fresh database per test, and two storages alike."""

import collections.abc as cabc
import pathlib
import shutil
import tempfile

import pytest
import trio
from st_helpers import KEY, Clock, Cluster, opened_storage

from storage.api import ConversationRules, Storage
from storage.embedded import EmbeddedPostgres
from storage.memory import MemoryStorage
from storage.postgres import PostgresStorage


@pytest.fixture(scope="session")
def public_dir() -> cabc.Iterator[pathlib.Path]:
    """A directory with a short path that the database's user can reach, even if root runs us."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="zv-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(public_dir: pathlib.Path) -> cabc.Iterator[Cluster]:
    """A running server with the database ``migrated`` to copy."""
    (public_dir / "session").mkdir(mode=0o755)
    server = EmbeddedPostgres(
        public_dir / "session",
        temporary=True,
        durable=False,  # DROP DATABASE waits until all files of all tests before it are on the disk
        state_root=public_dir / "state",
    )
    trio.run(server.start)
    made = Cluster(server)

    async def prepare() -> None:
        await made.sql(server.dsn, "CREATE DATABASE migrated")
        async with PostgresStorage.open(made.dsn("migrated"), key=KEY):
            pass

    try:
        trio.run(prepare)
        yield made
    finally:
        trio.run(server.stop)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def dsn(cluster: Cluster) -> cabc.AsyncIterator[str]:
    """A database of the test's own, migrated and empty."""
    made = await cluster.create("migrated")
    yield made
    await cluster.drop(made)


@pytest.fixture
async def postgres(dsn: str, clock: Clock) -> cabc.AsyncIterator[PostgresStorage]:
    """PostgresStorage with the connections ``sales`` and ``support``."""
    async with PostgresStorage.open(dsn, key=KEY, pool_size=2, clock=clock) as opened:
        for name in ("sales", "support"):
            await opened.ensure_connection(name, ConversationRules())
        yield opened


@pytest.fixture
async def memory(clock: Clock) -> MemoryStorage:
    """MemoryStorage with the same connections."""
    made = MemoryStorage(clock)
    for name in ("sales", "support"):
        await made.ensure_connection(name, ConversationRules())
    return made


@pytest.fixture(params=["memory", "postgres"])
async def storage(
    request: pytest.FixtureRequest, cluster: Cluster, clock: Clock
) -> cabc.AsyncIterator[Storage]:
    """Each storage in turn: what a test says holds for both."""
    async with opened_storage(request.param, cluster, clock) as made:
        for name in ("sales", "support"):
            await made.ensure_connection(name, ConversationRules())
        yield made
