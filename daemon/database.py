"""The way to the database for commands that need it themselves: past a daemon, or without one."""

import collections.abc as cabc
import contextlib
import typing as t

import attrs

from config.model import Config
from daemon.errors import StartError
from daemon.lock import HeldError, data_directory
from storage.database_lock import SESSION, DatabaseLock
from storage.embedded import EmbeddedPostgres, cluster_of, running_dsn
from storage.maintenance import Maintenance, open_maintenance

PATIENCE: t.Final = 2.0  # seconds that a daemon which is ending may take to let go


@attrs.frozen(kw_only=True)
class Reached:
    """A database that answers."""

    session: Maintenance
    running: bool
    """Whether a daemon holds the data directory; unknown counts as not."""


@contextlib.asynccontextmanager
async def reach(
    config: Config, *, alone: bool = False, create: bool = False
) -> cabc.AsyncIterator[Reached]:
    """The database of the configuration.

    An embedded one is started for as long as this lasts, unless a daemon runs it already. ``alone``
    keeps daemons out meanwhile; ``create`` makes an embedded one that there is none of yet.

    Raises:
        StartError: a daemon runs, and ``alone`` was asked for; or there is no database yet.
        StorageError: it cannot be reached, or another daemon holds it.
    """
    async with contextlib.AsyncExitStack() as stack:
        needed = config.storage.embedded or alone
        present = config.data_dir.exists() or (create and config.storage.embedded)
        running = needed and present and not _hold(config, stack)
        if running and alone:
            raise StartError(
                f"a daemon runs on {config.data_dir}; stop it for this, for example with:"
                " systemctl stop zapvisor"
            )
        dsn = config.storage.dsn
        if config.storage.embedded:
            dsn = await _embedded(config, stack, running=running, create=create)
        session = await stack.enter_async_context(open_maintenance(dsn))
        if alone and not config.storage.embedded:
            await _hold_database(dsn, stack)
        yield Reached(session=session, running=running)


def _hold(config: Config, stack: contextlib.AsyncExitStack) -> bool:
    """Hold the data directory for as long as the stack does; False: somebody else does."""
    try:
        stack.enter_context(data_directory(config.data_dir))
    except HeldError:
        return False
    return True


async def _embedded(
    config: Config, stack: contextlib.AsyncExitStack, *, running: bool, create: bool
) -> str:
    if running:
        if (dsn := running_dsn(config.data_dir)) is None:
            raise StartError(
                f"the daemon on {config.data_dir} has not started its database; see its log"
            )
        return dsn
    if not create and not (cluster_of(config.data_dir) / "PG_VERSION").exists():
        raise StartError(
            f"there is no database in {config.data_dir} yet; check --config, or run the daemon"
        )
    server = await stack.enter_async_context(EmbeddedPostgres(config.data_dir))
    return server.dsn


async def _hold_database(dsn: str, stack: contextlib.AsyncExitStack) -> None:
    """Keep every daemon out, wherever it runs, by the lock that they hold on the database."""
    session = await stack.enter_async_context(open_maintenance(dsn, SESSION))

    async def connect() -> Maintenance:
        return session

    lock = DatabaseLock(connect, patience=PATIENCE)
    await lock.acquire()
    stack.push_async_callback(_released, lock)


async def _released(lock: t.Any) -> None:
    await lock.release()
