"""One daemon per database, whichever host it runs on."""

import collections.abc as cabc
import typing as t
from functools import partial

import pytest
import trio
import trio.testing
from st_helpers import KEY, Cluster

from storage.database_lock import CHECK, DatabaseLock
from storage.errors import StorageLockedError, StorageUnavailableError
from storage.postgres import PostgresStorage

Clock = trio.testing.MockClock


class Server:
    """A database that knows one lock; it can be away, and forget its sessions."""

    def __init__(self) -> None:
        self.holder: object | None = None
        self.away = False
        self.sessions: list[Session] = []

    async def connect(self) -> "Session":
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StorageUnavailableError("refused")
        self.sessions.append(Session(self))
        return self.sessions[-1]

    def crash(self) -> None:
        """All sessions are gone, and what they held."""
        for session in self.sessions:
            session.dead = True
        self.holder = None


class Session:
    """One session of the server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.dead = False

    async def fetch(self, query: str) -> cabc.Sequence[t.Any]:
        await trio.lowlevel.checkpoint()
        if self.dead or self.server.away:
            raise StorageUnavailableError("the session is gone")
        match query:
            case "hold_database":
                if self.server.holder is None:
                    self.server.holder = self
                return [[self.server.holder is self]]
            case "database_holder":
                return [["zapvisor other-host 42", "192.0.2.1"]]
        return [[1]]

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self.dead = True
        if self.server.holder is self:
            self.server.holder = None


async def test_the_second_one_is_refused(autojump_clock: Clock) -> None:
    """After some seconds; it says who has it and what to do, and leaves no session behind."""
    server = Server()
    first, second = DatabaseLock(server.connect), DatabaseLock(server.connect)
    await first.acquire()
    with pytest.raises(StorageLockedError, match=r"process 42 on other-host.*storage\.dsn"):
        await second.acquire()
    assert 9 < trio.current_time() < 11
    assert server.sessions[1].dead
    assert server.holder is server.sessions[0]


async def test_a_fast_restart_waits(autojump_clock: Clock, nursery: trio.Nursery) -> None:
    """A holder that ends within the patience is waited for."""
    server = Server()
    first, second = DatabaseLock(server.connect), DatabaseLock(server.connect)
    await first.acquire()

    async def end() -> None:
        await trio.sleep(3)
        await first.release()

    nursery.start_soon(end)
    await second.acquire()
    assert server.holder is server.sessions[1]


async def test_a_lost_session_is_made_again(autojump_clock: Clock, nursery: trio.Nursery) -> None:
    """After a restart of the database, and after it was away for a while."""
    server = Server()
    lock = DatabaseLock(server.connect)
    await lock.acquire()
    nursery.start_soon(lock.keep)
    server.crash()
    server.away = True
    await trio.sleep(60)
    assert server.holder is None
    server.away = False
    await trio.sleep(2 * CHECK)
    assert server.holder is server.sessions[-1]
    nursery.cancel_scope.cancel()


async def test_another_daemon_was_faster(autojump_clock: Clock) -> None:
    """Then this one ends: two would fight for the same devices."""
    server = Server()
    lock, other = DatabaseLock(server.connect), DatabaseLock(server.connect)
    await lock.acquire()
    server.crash()
    await other.acquire()
    with pytest.raises(StorageLockedError):
        await lock.keep()


async def test_on_a_real_server(
    cluster: Cluster, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is refused before it migrates anything; the end of the first lets it in."""
    monkeypatch.setattr("storage.postgres.DatabaseLock", partial(DatabaseLock, patience=0.6))
    async with PostgresStorage.open(dsn, key=KEY, exclusive=True):
        with pytest.raises(StorageLockedError, match=r"\(process \d+ on "):
            async with PostgresStorage.open(dsn, key=KEY, exclusive=True):
                raise AssertionError("two at once")
        other = await cluster.create("migrated")  # another database is another matter
        async with PostgresStorage.open(other, key=KEY, exclusive=True):
            pass
    async with PostgresStorage.open(dsn, key=KEY, exclusive=True) as storage:
        await storage.ping()


async def test_a_session_that_is_terminated(
    cluster: Cluster, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is taken again on a new session, and the storage goes on meanwhile."""
    monkeypatch.setattr("storage.database_lock.CHECK", 0.1)
    with trio.fail_after(60):
        async with PostgresStorage.open(dsn, key=KEY, exclusive=True) as storage:
            before = await _holders(cluster, dsn)
            assert len(before) == 1
            await cluster.sql(dsn, f"SELECT pg_terminate_backend({before[0]})")
            while (now := await _holders(cluster, dsn)) in ([], before):
                await storage.ping()
            assert len(now) == 1


async def _holders(cluster: Cluster, dsn: str) -> list[int]:
    rows = await cluster.sql(
        dsn,
        "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        " WHERE l.locktype = 'advisory' AND d.datname = current_database()",
    )
    return [row["pid"] for row in rows]
