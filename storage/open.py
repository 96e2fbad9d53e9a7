"""Puts storage together for the daemon: database, migrations, sealing key."""

import collections.abc as cabc
import contextlib
import pathlib
import time
import typing as t

import structlog
import trio

from storage.api import Storage
from storage.embedded import EmbeddedPostgres
from storage.errors import StorageError, sole_error
from storage.lock import locked
from storage.postgres import PostgresStorage

_log = structlog.get_logger()

EMBEDDED: t.Final = "embedded"
LONGEST_PAUSE: t.Final = 30.0  # seconds between attempts to start the server again


@contextlib.asynccontextmanager
async def open_storage(
    *,
    dsn: str,
    data_dir: pathlib.Path,
    key: bytes,
    pool_size: int,
    command_timeout: float,
    temporary: bool = False,
    clock: cabc.Callable[[], float] = time.time,  # noqa: TID251 - the edge
) -> cabc.AsyncIterator[Storage]:
    """Hold the data directory and serve from ``dsn``, or from an embedded server below it.

    An embedded server that dies is started again in place; meanwhile calls fail with
    ``StorageUnavailableError``. ``temporary`` deletes the embedded cluster at the end;
    ``command_timeout`` is in seconds, ``clock`` gives unix seconds.

    Raises:
        StorageLockedError: another daemon has the data directory, or uses the database.
        StorageUnavailableError: the database cannot be reached or does not start.
        StorageRejectedError: it cannot serve as it is: see the message.
    """
    exclusive = False
    async with contextlib.AsyncExitStack() as stack:
        if dsn == EMBEDDED:
            server = await stack.enter_async_context(
                EmbeddedPostgres(data_dir, temporary=temporary)
            )
            dsn = server.dsn
            nursery = await stack.enter_async_context(_background())
            nursery.start_soon(keep_running, server)
        else:
            stack.enter_context(locked(data_dir))
            exclusive = True
        yield await stack.enter_async_context(
            PostgresStorage.open(
                dsn,
                key=key,
                pool_size=pool_size,
                command_timeout=command_timeout,
                clock=clock,
                exclusive=exclusive,
            )
        )


@contextlib.asynccontextmanager
async def _background() -> cabc.AsyncIterator[trio.Nursery]:
    """A nursery that ends with its body; an error that is alone leaves it as it is."""
    with sole_error():
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()


async def keep_running(server: EmbeddedPostgres) -> t.NoReturn:
    """Start the server again whenever it dies, with growing pauses while it does not start."""
    while True:
        status = await server.wait_died()
        _log.error("storage.postgres_died", status=status)
        pause = 0.1
        while True:
            try:
                await server.launch()
                break
            except (StorageError, OSError) as error:  # a full disk is one, too
                _log.error("storage.postgres_restart_failed", error=str(error), pause=pause)
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
