"""Sessions on a PostgreSQL server: which server, under which limits, and what went wrong.

A URL may name several servers, of which one takes writes: after a failover another one. Every
statement is bounded twice: by the server, which ends it itself and so gives its locks back, and by
us, for a server that does not answer. A server that loses us finds out, too, and ends what we
began there.
"""

import collections.abc as cabc
import contextlib
import socket
import typing as t

import asyncpg

from storage import sqlstates
from storage.errors import (
    StorageBrokenError,
    StorageError,
    StorageRejectedError,
    StorageUnavailableError,
)
from storage.hosts import Host, says, split_hosts

GRACE: t.Final = 5.0  # seconds more than it should take, before a connection is given up
FAILURES: t.Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # TimeoutError is one
)


_UNREADABLE: t.Final = (
    "the URL of the database cannot be read; in a password write / # ? @ [ as %2F %23 %3F %40 %5B"
)
_CONNECT_TIMEOUT: t.Final = 10.0  # seconds for one server to let us in, at most
_LOCK_SHARE: t.Final = 0.5  # of the command timeout: the longest wait for a lock
_KEEPALIVE: t.Final = {  # seconds, but for the count: of sockets to a server over TCP
    "TCP_KEEPIDLE": 15,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
}
_UNACKNOWLEDGED: t.Final = 20_000  # milliseconds that sent bytes may stay so


def translate(error: BaseException) -> StorageError:
    """The storage error that stands for one of asyncpg's or of the socket."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        # Not str(error): its DETAIL shows the whole row, with what the message says.
        text = str(error.args[0] if error.args else type(error).__name__)
        if sqlstates.quotes_values(state):
            text = sqlstates.hide_values(text)
        text = f"{text} [{state}]"
        if not sqlstates.is_temporary(state):
            return StorageRejectedError(text)
        if (advice := sqlstates.advice(state)) is not None:
            text = f"{text}; {advice}"
        broken = sqlstates.is_operators(state)
        return (StorageBrokenError if broken else StorageUnavailableError)(text, state=state)
    if isinstance(error, asyncpg.DataError):
        return StorageRejectedError(sqlstates.hide_values(str(error)))
    return StorageUnavailableError(_reason(error))


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return f"it takes no writes; {sqlstates.advice('25006')}"
    if isinstance(error, TimeoutError) and not error.args:
        return "it did not answer in time"
    return f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def _readable() -> cabc.Iterator[None]:
    """A URL that cannot be read is refused without a word of it: where its password ends is just
    what is not known."""
    try:
        yield
    except FAILURES:  # some of the driver's own are ValueErrors, too
        raise
    except ValueError:
        raise StorageRejectedError(_UNREADABLE) from None


class Sessions:
    """Opens connections of the driver; call it on the driver's loop."""

    def __init__(
        self,
        dsn: str,
        command_timeout: float,
        *,
        moved: cabc.Callable[[], cabc.Awaitable[None]],
    ) -> None:
        """``moved`` is called when another server than before takes the writes.

        Raises:
            StorageRejectedError: the URL cannot be read.
        """
        with _readable():
            self._hosts = split_hosts(dsn)
            self._any_server = says(dsn, "target_session_attrs")  # the operator has chosen
        self._command_timeout = command_timeout  # seconds
        self._moved = moved
        self._host: Host | None = None
        """The server of the newest session: the first one to try."""

    @property
    def host(self) -> Host:
        """The server of the newest session."""
        return self._host or self._hosts[0]

    async def open(
        self, *, patient: bool = False, settings: cabc.Mapping[str, str] | None = None
    ) -> t.Any:
        """A session on the first server that takes writes, the one of before if it does.

        ``patient``: its statements may take their time; ``settings``: more of the session.

        Raises:
            StorageUnavailableError: none of several does; else what the driver raises.
            StorageRejectedError: the URL cannot be read.
        """
        failures: list[str] = []
        for host in sorted(self._hosts, key=lambda each: each is not self._host):
            try:
                connection = await self._connect(host, patient, settings or {})
            except FAILURES as error:
                if len(self._hosts) == 1:
                    raise
                failures.append(f"{host.name}: {translate(error)}")
                continue
            former, self._host = self._host, host
            if former is not None and former is not host:
                await self._moved()
            return connection
        raise StorageUnavailableError(f"no server takes writes ({'; '.join(failures)})")

    async def _connect(self, host: Host, patient: bool, settings: cabc.Mapping[str, str]) -> t.Any:
        limit = None if patient else self._command_timeout
        with _readable():
            connection = await asyncpg.connect(
                host.dsn,
                timeout=self._connect_timeout,
                command_timeout=None if limit is None else limit + self.grace,
                server_settings={**_settings(limit), **settings},
                target_session_attrs=None if self._any_server else "read-write",
            )
        _watch_peer(connection)
        return connection

    @property
    def _connect_timeout(self) -> float:
        return min(_CONNECT_TIMEOUT, self._command_timeout)

    @property
    def grace(self) -> float:
        """Seconds beyond the command timeout until a server is taken for dead."""
        return min(GRACE, self._command_timeout)

    @property
    def longest(self) -> float:
        """Seconds that connecting and one statement take at most."""
        return self._connect_timeout * len(self._hosts) + self._command_timeout + self.grace


def _settings(command_timeout: float | None) -> dict[str, str]:
    """What the server is to do for a session; times in milliseconds. None: take your time."""
    settings = {
        "application_name": "zapvisor",
        "synchronous_commit": "on",  # whatever the server's default
        "tcp_keepalives_idle": str(_KEEPALIVE["TCP_KEEPIDLE"]),
        "tcp_keepalives_interval": str(_KEEPALIVE["TCP_KEEPINTVL"]),
        "tcp_keepalives_count": str(_KEEPALIVE["TCP_KEEPCNT"]),
        "tcp_user_timeout": str(_UNACKNOWLEDGED),
    }
    if command_timeout is not None:
        settings["statement_timeout"] = str(max(1, int(command_timeout * 1000)))
        settings["lock_timeout"] = str(max(1, int(command_timeout * _LOCK_SHARE * 1000)))
    return settings


def _watch_peer(connection: t.Any) -> None:
    """Have the system find out when the server at the other end of TCP is gone."""
    plain = connection._transport.get_extra_info("socket")  # the driver offers no other way
    if plain is None or plain.family == socket.AF_UNIX:
        return
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (*_KEEPALIVE.items(), ("TCP_USER_TIMEOUT", _UNACKNOWLEDGED)):
        if (option := getattr(socket, name, None)) is not None:  # not every system has all
            plain.setsockopt(socket.IPPROTO_TCP, option, value)
