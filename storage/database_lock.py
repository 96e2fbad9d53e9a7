"""One daemon per database: an advisory lock on a session of its own.

The server gives the lock up when the session ends, so the death of its holder frees it at once;
that of its holder's machine within half a minute, by the keep-alives of the session. A session
that is lost while its holder lives is made again; if another daemon was faster, this one ends.
"""

import collections.abc as cabc
import os
import socket
import typing as t

import structlog
import trio

from storage.errors import StorageLockedError, StorageUnavailableError

_log = structlog.get_logger()

PATIENCE: t.Final = 10.0  # seconds that a daemon which is ending, or dead, may take to let go
PAUSE: t.Final = 0.25  # seconds between two tries
CHECK: t.Final = 5.0  # seconds between two looks at the session that holds the lock
SESSION: t.Final[cabc.Mapping[str, str]] = {
    "application_name": f"zapvisor {socket.gethostname()} {os.getpid()}"[:63],
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""Settings of the session; its name tells others who holds the lock."""


class LockSession(t.Protocol):
    """A connection to the database. Every method may raise ``StorageUnavailableError``."""

    async def fetch(self, query: str) -> cabc.Sequence[t.Any]:
        """Run a named query."""
        ...

    async def close(self) -> None:
        """End it, whatever state it is in; raises nothing."""
        ...


Connect: t.TypeAlias = cabc.Callable[[], cabc.Awaitable[LockSession]]


class DatabaseLock:
    """Held from :meth:`acquire` to :meth:`release`, while :meth:`keep` runs."""

    def __init__(self, connect: Connect, *, patience: float = PATIENCE) -> None:
        self._connect = connect
        self._patience = patience
        self._session: LockSession | None = None

    async def acquire(self) -> None:
        """Take the lock; wait for a holder that is about to end.

        Raises:
            StorageLockedError: another daemon has it; says which.
            StorageUnavailableError: the database cannot be reached.
        """
        session = await self._connect()
        try:
            deadline = trio.current_time() + self._patience
            waited = False
            while not await _try(session):
                if trio.current_time() + PAUSE > deadline:
                    raise StorageLockedError(
                        f"another zapvisor daemon{await _holder(session)} uses this database;"
                        " stop it, or give this one a database of its own (storage.dsn)"
                    )
                if not waited:
                    _log.warning("storage.waiting_for_other_daemon", patience=self._patience)
                waited = True
                await trio.sleep(PAUSE)
        except BaseException:
            with trio.CancelScope(shield=True):
                await session.close()
            raise
        self._session = session

    async def keep(self) -> t.NoReturn:
        """Look after the session, and make it again when the database comes back without it.

        Raises:
            StorageLockedError: another daemon took the lock meanwhile.
        """
        while True:
            await trio.sleep(CHECK)
            try:
                if self._session is None:
                    await self.acquire()
                    _log.info("storage.lock_taken_again")
                else:
                    await self._session.fetch("ping")
            except StorageUnavailableError as error:
                if self._session is not None:
                    _log.warning("storage.lock_lost", error=str(error))
                await self.release()

    async def release(self) -> None:
        """Give it back; does nothing when it is not held."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


async def _try(session: LockSession) -> bool:
    [[held]] = await session.fetch("hold_database")
    return bool(held)


async def _holder(session: LockSession) -> str:
    """Who has the lock, as far as the server tells."""
    for name, address in await session.fetch("database_holder"):
        words = (name or "").split()
        if len(words) == 3 and words[0] == "zapvisor":
            return f" (process {words[2]} on {words[1]})"
        return f" (at {address})" if address else ""
    return ""
