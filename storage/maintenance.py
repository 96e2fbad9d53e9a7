"""One session on the database, for an operator's commands: no pool, no writer, no migration."""

import collections.abc as cabc
import contextlib
import functools
import typing as t

import trio

from storage.errors import StorageRejectedError
from storage.hosts import Host
from storage.migrate import checksums, migrate
from storage.postgres import open_loop
from storage.queries import queries
from storage.sessions import FAILURES, GRACE, Sessions, translate

CONNECT_TIMEOUT: t.Final = 10.0  # seconds

_T = t.TypeVar("_T")


class Maintenance:
    """Use :func:`open_maintenance`. Its methods fail with ``StorageError``; nothing is tried twice.

    As a session of :class:`storage.database_lock.DatabaseLock` it can hold the database.
    """

    def __init__(self, loop: t.Any, connection: t.Any, host: Host) -> None:
        self.host = host
        """The server that answers, of those that the URL names."""
        self._loop = loop
        self._connection = connection

    async def fetch(self, query: str, *arguments: t.Any) -> list[t.Any]:
        """The rows of a named query."""
        return await self.run(queries()[query], *arguments)

    async def fetch_one(self, query: str, *arguments: t.Any) -> dict[str, t.Any]:
        """The only row of a named query."""
        [row] = await self.fetch(query, *arguments)
        return dict(row)

    async def run(self, statement: str, *arguments: t.Any) -> list[t.Any]:
        """The rows of a statement; it takes as long as it takes."""

        async def fetch() -> list[t.Any]:
            rows: list[t.Any] = await self._connection.fetch(statement, *arguments)
            return rows

        return await _on(self._loop, fetch)

    @contextlib.asynccontextmanager
    async def frozen(self) -> cabc.AsyncIterator[None]:
        """A transaction that sees one moment and changes nothing."""
        await self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + GRACE):
                await self.run("ROLLBACK")

    async def bring_up_to_date(self, *, may_change: bool) -> None:
        """Have the schema and the functions of this code in the database.

        Raises:
            StorageRejectedError: they are others, and may not be changed; or the database is newer
                than this code, or not in UTF-8.
        """
        if await self._is_current():
            return
        if not may_change:
            raise StorageRejectedError(
                "the database belongs to another version of zapvisor; start the daemon of this"
                " version once: it brings the database up to date"
            )
        await _on(self._loop, functools.partial(migrate, self._connection))

    async def _is_current(self) -> bool:
        facts = await self.fetch_one("database_facts")
        if not facts["ours"]:
            return False
        rows = await self.fetch("applied_migrations")
        return {row["number"]: row["checksum"] for row in rows} == checksums()

    async def close(self) -> None:
        """End the session."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + GRACE):
            await _on(self._loop, self._close)

    async def _close(self) -> None:
        try:
            await self._connection.close(timeout=GRACE / 2)
        except FAILURES:
            self._connection.terminate()


@contextlib.asynccontextmanager
async def open_maintenance(
    dsn: str, settings: cabc.Mapping[str, str] | None = None
) -> cabc.AsyncIterator[Maintenance]:
    """A session on the first server that takes writes; ``settings``: more of the session.

    Raises:
        StorageUnavailableError: it cannot be reached.
        StorageRejectedError: it refuses us, or the URL cannot be read.
    """
    async with open_loop() as loop:

        async def no_matter() -> None:
            """Nobody else holds a session that would have to move."""

        sessions = Sessions(dsn, CONNECT_TIMEOUT, moved=no_matter)

        async def connect() -> t.Any:
            return await sessions.open(patient=True, settings=settings)

        session = Maintenance(loop, await _on(loop, connect), sessions.host)
        try:
            yield session
        finally:
            await session.close()


async def _on(loop: t.Any, work: cabc.Callable[[], cabc.Awaitable[_T]]) -> _T:
    import trio_asyncio  # loaded by storage.postgres already, which silences its warning

    try:
        result: _T = await trio_asyncio.aio_as_trio(work, loop=loop)()
    except FAILURES as error:
        raise translate(error) from error
    return result
