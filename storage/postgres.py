"""PostgresStorage: storage in PostgreSQL. With ``sessions`` the only module that speaks asyncpg.

asyncpg runs on a trio-asyncio loop inside the task that opened the storage; any trio task may
call its methods. A batch crosses to the loop once and is one statement, hence one transaction,
on a connection of its own; readers share a pool. Connections that were lost are made again by
the next call, to the first server of the URL that takes writes.

Every wait is bounded twice: by the server, which ends a statement itself and so gives its locks
back, and by us, for a server that does not answer. A server that we lost finds out by itself,
too, and ends what we began there.
"""

import asyncio
import collections.abc as cabc
import contextlib
import datetime as dt
import functools
import json
import time
import typing as t
import warnings

import asyncpg
import attrs
import structlog
import trio

from storage import crash_points, sqlstates
from storage.api import (
    TRAFFIC_KEPT,
    ConnectionEvent,
    ConnectionRow,
    ConversationRow,
    ConversationRules,
    Envelope,
    MessageRow,
    Outcome,
    RecordKind,
    SyncRun,
    TrafficHour,
    Verdict,
)
from storage.database_lock import SESSION, DatabaseLock, LockSession
from storage.encode import decode_outcomes, encode_batch
from storage.errors import (
    StorageRejectedError,
    StorageUnavailableError,
    sole_error,
)
from storage.identity import clean_text
from storage.migrate import Migration, migrate
from storage.postgres_alerts import PostgresAlerts
from storage.postgres_changes import PostgresChanges
from storage.postgres_epochs import PostgresEpochs
from storage.postgres_erasure import PostgresErasure
from storage.postgres_events import PostgresEvents
from storage.postgres_exports import PostgresExports
from storage.postgres_figures import PostgresFigures
from storage.postgres_gaps import PostgresGaps
from storage.postgres_inbox import PostgresInbox
from storage.postgres_made import PostgresMade
from storage.postgres_notifications import PostgresNotifications
from storage.postgres_quarantine import PostgresQuarantine
from storage.postgres_queues import PostgresQueues
from storage.postgres_reports import PostgresReports
from storage.postgres_search import PostgresSearch
from storage.postgres_timeline import PostgresTimeline
from storage.postgres_tokens import PostgresTokens
from storage.prepare import (
    MAX_REASON_LENGTH,
    PreparedBatch,
    PreparedQuarantine,
    prepare,
    prepare_quarantine,
)
from storage.queries import queries
from storage.seal import Sealer
from storage.sessions import FAILURES, GRACE, Sessions, translate
from storage.tombstones import Tombstones

with warnings.catch_warnings():
    # It still sets asyncio's loop policy, which newer Pythons deprecate.
    warnings.simplefilter("ignore", DeprecationWarning)
    import trio_asyncio

_log = structlog.get_logger()

_T = t.TypeVar("_T")

MAX_WINDOW: t.Final = 3_153_600_000.0  # seconds, a century: longer windows are as good as none
_CANCEL_TIMEOUT: t.Final = 1.0  # seconds for a statement that nobody waits for to end


@contextlib.contextmanager
def _translated() -> cabc.Iterator[None]:
    try:
        yield
    except FAILURES as error:
        raise translate(error) from error


class PostgresStorage(
    PostgresErasure,
    PostgresInbox,
    PostgresQueues,
    PostgresGaps,
    PostgresTimeline,
    PostgresQuarantine,
    PostgresTokens,
    PostgresFigures,
    PostgresEvents,
    PostgresSearch,
    PostgresMade,
    PostgresReports,
    PostgresNotifications,
    PostgresChanges,
    PostgresEpochs,
    PostgresAlerts,
    PostgresExports,
):
    """Use :meth:`open`; the storage serves until its context ends."""

    def __init__(
        self,
        dsn: str,
        *,
        sealer: Sealer,
        pool_size: int,
        command_timeout: float,
        clock: cabc.Callable[[], float],
    ) -> None:
        self._sessions = Sessions(dsn, command_timeout, moved=self._moved)
        self._sealer = sealer
        self._pool_size = pool_size
        self._clock = clock
        self._loop: t.Any = None
        self._pool: t.Any = None
        self._writer: t.Any = None
        self._writer_lock = trio.Lock()
        self._tombstones = Tombstones(sealer.key)
        self._tombstones_known = False
        self._batches = trio.Lock()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        dsn: str,
        *,
        key: bytes,
        pool_size: int = 4,
        command_timeout: float = 30.0,
        clock: cabc.Callable[[], float] = time.time,
        exclusive: bool = False,
    ) -> cabc.AsyncIterator["PostgresStorage"]:
        """Connect, migrate, serve; ``clock`` gives unix seconds. ``exclusive``: no other daemon
        that asks for this may use the database meanwhile.

        Raises:
            StorageLockedError: another one does, or took it over while this one had lost it.
            StorageUnavailableError: the database cannot be reached.
            StorageRejectedError: it is newer than this code, or not in UTF-8; or the URL cannot
                be read.
        """
        storage = cls(
            dsn,
            sealer=Sealer(key),
            pool_size=pool_size,
            command_timeout=command_timeout,
            clock=clock,
        )
        async with open_loop() as loop:
            storage._loop = loop
            try:
                async with storage._alone() if exclusive else contextlib.nullcontext():
                    await storage._start()
                    yield storage
            finally:
                await storage._stop()

    @contextlib.asynccontextmanager
    async def _alone(self) -> cabc.AsyncIterator[None]:
        """Hold the database for this daemon."""
        lock = DatabaseLock(self._lock_session)
        await lock.acquire()
        try:
            with sole_error():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(lock.keep)
                    yield
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + GRACE):
                await lock.release()

    async def _lock_session(self) -> LockSession:
        async def connect() -> t.Any:
            return await self._sessions.open(settings=SESSION)

        return _Session(self, await self._on_loop(connect))

    async def ensure_connection(self, name: str, rules: ConversationRules) -> None:
        """See :meth:`storage.api.Storage.ensure_connection`."""
        await self._fetch(
            "ensure_connection",
            name,
            min(rules.reopen_window, MAX_WINDOW),
            rules.reopen_from.value,
            rules.team_reopens,
            self._now(),
        )

    async def set_wanted(self, name: str, wanted: bool) -> None:
        """See :meth:`storage.api.Storage.set_wanted`."""
        _known(await self._fetch("set_wanted", name, wanted), name)

    async def apply(self, batch: cabc.Sequence[Envelope]) -> list[Outcome]:
        """See :meth:`storage.api.Storage.apply`."""
        now = self._clock()
        async with self._sifted(batch, now) as sifted:
            prepared = prepare(sifted.batch, now)
            arguments = attrs.astuple(encode_batch(prepared, self._sealer, now), recurse=False)
            if sifted.notes is None:
                rows = await self._write("apply_batch", *arguments)
            else:
                notes = json.dumps(sifted.notes)
                rows = await self._write("apply_batch_sifted", *arguments, notes, self._now())
                rows = [row for row in rows if row["ord"] is not None]
        return sifted.outcomes(decode_outcomes(prepared, rows))

    async def quarantine(self, envelope: Envelope, error: str) -> Outcome:
        """See :meth:`storage.api.Storage.quarantine`."""
        now = self._clock()
        async with self._sifted([envelope], now) as sifted:
            if not sifted.dropped and not self._is_buried(envelope):
                if sifted.notes is not None:
                    await self._write("note_forgotten", json.dumps(sifted.notes), self._now())
                return await self._keep_quarantined(sifted.batch[0], error, now)
            # Of what is sifted here nothing is written down.
            self._tombstones_known = self._tombstones_known and sifted.notes is None
        return await self._apply_buried(envelope)

    async def _keep_quarantined(self, envelope: Envelope, error: str, now: float) -> Outcome:
        row, rest = prepare_quarantine(envelope, error, now)
        try:
            await self._write_quarantine(envelope, row, rest, now)
        except StorageRejectedError as refused:
            # The database refuses what goes with it: as much of the envelope as it takes is kept.
            row = await self._write_less(envelope, row, rest, now, refused)
        return Outcome(verdict=Verdict.QUARANTINED, error=row.error)

    def _is_buried(self, envelope: Envelope) -> bool:
        """Whether it is a stanza of a forgotten person's, which could not be read."""
        return envelope.message is None and self._tombstones.buries_stanza(
            envelope.connection, envelope.stanza
        )

    async def _apply_buried(self, envelope: Envelope) -> Outcome:
        """Commit the rest of it, or what the database takes of that."""
        bare = attrs.evolve(envelope, resolves=None)
        for attempt in (bare, attrs.evolve(bare, facts=()), Envelope(connection=bare.connection)):
            try:
                await self.apply([attempt])
            except StorageRejectedError as refused:
                _log.warning(
                    "storage.forgotten_refused", connection=bare.connection, error=str(refused)
                )
            else:
                break
        return Outcome(verdict=Verdict.FORGOTTEN)

    async def _write_less(
        self,
        envelope: Envelope,
        row: PreparedQuarantine,
        rest: PreparedBatch,
        now: float,
        refused: StorageRejectedError,
    ) -> PreparedQuarantine:
        """The row, with what else of its envelope the database takes; it says what is left out."""
        said = row.error
        steps: tuple[tuple[str, dict[str, t.Any]], ...] = (
            ("its facts are not stored", {"facts": (), "pairs": ()}),
            ("its facts and records are not stored", {"records": (), "resets": ()}),
        )
        for left_out, dropped in steps:
            rest = attrs.evolve(rest, **dropped)
            row = attrs.evolve(row, error=f"{said}; {left_out}: {refused}"[:MAX_REASON_LENGTH])
            try:
                await self._write_quarantine(envelope, row, rest, now)
            except StorageRejectedError as error:
                refused = error
            else:
                return row
        raise refused

    async def _write_quarantine(
        self, envelope: Envelope, row: PreparedQuarantine, rest: PreparedBatch, now: float
    ) -> None:
        await self._write(
            "quarantine",
            *attrs.astuple(encode_batch(rest, self._sealer, now), recurse=False),
            envelope.connection,
            envelope.resolves,
            row.fingerprint,
            row.chat,
            row.sender,
            row.external_id,
            row.error,
            row.stanza,
            row.raw,
            row.kept,
            row.opened,
            dt.datetime.fromtimestamp(now, dt.UTC),
        )

    async def record_event(self, event: ConnectionEvent) -> None:
        """See :meth:`storage.api.Storage.record_event`."""
        rows = await self._write(  # the writer asks: it must not wait for readers
            "record_event",
            event.connection,
            _moment(event.at) or self._now(),
            clean_text(event.previous),
            clean_text(event.state),
            clean_text(event.reason),
            clean_text(event.sentence),
            event.retry,
            _moment(event.until),
        )
        _known(rows, event.connection)

    async def record_sync(self, run: SyncRun) -> None:
        """See :meth:`storage.api.Storage.record_sync`."""
        at = _moment(run.at) or self._now()
        counts = (run.total, run.processed, run.skipped, run.errors)
        _known(await self._write("record_sync", run.connection, at, *counts), run.connection)

    async def save_traffic(self, connection: str, hours: cabc.Sequence[TrafficHour]) -> None:
        """See :meth:`storage.api.Storage.save_traffic`."""
        told = [attrs.astuple(each) for each in hours]
        columns = [list(column) for column in zip(*told, strict=True)] or [[], [], []]
        await self._fetch("save_traffic", connection, *columns, TRAFFIC_KEPT)

    async def load_traffic(self, connection: str) -> list[TrafficHour]:
        """See :meth:`storage.api.Storage.load_traffic`."""
        return [TrafficHour(*row) for row in await self._fetch("load_traffic", connection)]

    async def load_records(
        self, connection: str, kind: RecordKind, keys: cabc.Sequence[str]
    ) -> dict[str, bytes]:
        """See :meth:`storage.api.Storage.load_records`."""
        asked = {clean_text(key): key for key in keys}
        rows = await self._fetch(f"load_{kind.value}", connection, list(asked))
        return {
            asked[key]: self._sealer.open(connection, kind.value, key, sealed)
            for key, sealed in rows
        }

    async def has_app_state_keys(self, connection: str) -> bool:
        """See :meth:`storage.api.Storage.has_app_state_keys`."""
        return bool(await self._fetch("has_app_state_keys", connection))

    async def connections(self) -> list[ConnectionRow]:
        """See :meth:`storage.api.Storage.connections`."""
        return [ConnectionRow(**row) for row in await self._fetch("connections")]

    async def events(self, connection: str, limit: int) -> list[dict[str, t.Any]]:
        """See :meth:`storage.api.Storage.events`."""
        return [dict(row) for row in await self._fetch("events", connection, limit)]

    async def conversations(
        self, *, status: str | None, connection: str | None, limit: int
    ) -> list[ConversationRow]:
        """See :meth:`storage.api.Storage.conversations`."""
        rows = await self._fetch("conversations", status, connection, limit)
        return [ConversationRow(**row) for row in rows]

    async def open_conversation(self, conversation_id: int) -> ConversationRow | None:
        """See :meth:`storage.api.Storage.open_conversation`."""
        await self._fetch("open_conversation", conversation_id)
        return await self.conversation(conversation_id)

    async def close_conversation(self, conversation_id: int) -> ConversationRow | None:
        """See :meth:`storage.api.Storage.close_conversation`."""
        await self._fetch("close_conversation", conversation_id, self._now())
        return await self.conversation(conversation_id)

    async def list_messages(self, connection: str, *, after: int, limit: int) -> list[MessageRow]:
        """See :meth:`storage.api.Storage.list_messages`."""
        rows = await self._fetch("list_messages", connection, after, limit)
        return [MessageRow(**{**row, "senders": tuple(row["senders"])}) for row in rows]

    async def statistics(self) -> dict[str, t.Any]:
        """See :meth:`storage.api.Storage.statistics`."""
        [messages] = await self._fetch("count_messages")
        [conversations] = await self._fetch("count_conversations")
        runs = await self._fetch("newest_sync")
        by_status = dict(conversations)
        reopened = by_status.pop("reopened")
        return {
            **dict(messages),
            "conversations": by_status,
            "reopened": reopened,
            "gaps": await self.gap_statistics(),
            "sync": dict(runs[0]) if runs else None,
        }

    async def ping(self) -> float:
        """See :meth:`storage.api.Storage.ping`."""
        begun = trio.current_time()
        await self._fetch("ping")
        return trio.current_time() - begun

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock(), dt.UTC)

    async def _start(self) -> None:
        for migration in await self._on_loop(self._migrate):
            _log.info("storage.migrated", number=migration.number, name=migration.name)
        await self._on_loop(self._connect)

    async def _migrate(self) -> list[Migration]:
        connection = await self._sessions.open(patient=True)
        try:
            return await migrate(connection)
        finally:
            await _close(connection)

    async def _connect(self) -> None:
        self._pool = await asyncpg.create_pool(
            min_size=0, max_size=self._pool_size, connect=self._pooled, reset=_no_reset
        )
        self._writer = await self._sessions.open()

    async def _pooled(self, *_args: t.Any, **_options: t.Any) -> t.Any:
        """A connection for the pool."""
        return await self._sessions.open()

    async def _moved(self) -> None:
        """Another server takes the writes now: connections of the pool lead to the former one."""
        if self._pool is not None:
            await self._pool.expire_connections()

    async def _stop(self) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + GRACE):
            await self._on_loop(self._disconnect)
        self._loop = None

    async def _disconnect(self) -> None:
        writer, self._writer = self._writer, None
        pool, self._pool = self._pool, None
        if writer is not None:
            await _close(writer)
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), GRACE / 2)
            except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pool.terminate()

    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query on a connection of the pool."""
        statement = queries()[name]

        async def fetch() -> list[t.Any]:
            try:
                return await self._read(statement, *arguments)
            except asyncpg.ReadOnlySQLTransactionError:
                await self._pool.expire_connections()  # the server became a replica
                raise

        return await self._on_loop(fetch)

    async def _read(self, statement: str, *arguments: t.Any) -> list[t.Any]:
        connection = await self._pool.acquire(timeout=self._sessions.longest)
        try:
            rows: list[t.Any] = await connection.fetch(statement, *arguments)
        except BaseException:
            # If it still runs, its end is not worth a long wait: the connection goes instead.
            with contextlib.suppress(*FAILURES):
                await self._pool.release(connection, timeout=_CANCEL_TIMEOUT)
            raise
        await self._pool.release(connection, timeout=_CANCEL_TIMEOUT)
        return rows

    async def _write(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named statement on the writer's connection: it commits or not, as a whole.

        Once sent it is not cancelled: whoever waits learns the outcome, or after the command
        timeout that it is unknown.
        """
        statement = queries()[name]

        async def write() -> list[t.Any]:
            if self._writer is None or self._writer.is_closed():
                self._writer = await self._sessions.open()
            if crash_points.armed:
                return await _watched(self._writer, statement, arguments)
            rows: list[t.Any] = await self._writer.fetch(statement, *arguments)
            return rows

        async with self._writer_lock:
            with trio.move_on_after(self._sessions.longest + GRACE, shield=True):
                try:
                    return await self._on_loop(write)
                except StorageUnavailableError as error:
                    if not sqlstates.keeps_session(error.state):
                        await self._on_loop(self._drop_writer)
                    raise
            with trio.move_on_after(GRACE, shield=True):
                await self._on_loop(self._drop_writer)
            raise StorageUnavailableError("the database did not answer; the outcome is unknown")

    async def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.terminate()

    async def _on_loop(self, work: cabc.Callable[[], cabc.Awaitable[_T]]) -> _T:
        """Cross to asyncio, and back with an error of storage if there is one."""
        if self._loop is None:
            raise StorageUnavailableError("the storage is closed")
        with _translated():
            result: _T = await trio_asyncio.aio_as_trio(work, loop=self._loop)()
            return result


class _Session:
    """A connection beside the others: see ``storage.database_lock.LockSession``."""

    def __init__(self, storage: PostgresStorage, connection: t.Any) -> None:
        self._storage = storage
        self._connection = connection

    async def fetch(self, query: str) -> list[t.Any]:
        """Run a named query."""
        statement = queries()[query]

        async def fetch() -> list[t.Any]:
            rows: list[t.Any] = await self._connection.fetch(statement)
            return rows

        return await self._storage._on_loop(fetch)

    async def close(self) -> None:
        """End it, whatever state it is in."""
        await self._storage._on_loop(functools.partial(_close, self._connection))


@contextlib.asynccontextmanager
async def open_loop() -> cabc.AsyncIterator[t.Any]:
    """A trio-asyncio loop on which a failing callback is logged and breaks nothing."""
    with sole_error():
        async with trio_asyncio.open_loop() as loop:
            loop.set_exception_handler(_log_loop_error)
            # The loop's own look-up of names cannot be cancelled, and may hang.
            loop.getaddrinfo = _getaddrinfo
            yield loop


async def _getaddrinfo(*arguments: t.Any, **options: t.Any) -> t.Any:
    return await trio_asyncio.trio_as_aio(trio.socket.getaddrinfo)(*arguments, **options)


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, t.Any]) -> None:
    _log.error(
        "storage.callback_failed", message=context.get("message"), error=context.get("exception")
    )


async def _no_reset(_connection: t.Any) -> None:
    """Pooled connections run single statements: there is no state to reset."""


async def _close(connection: t.Any) -> None:
    try:
        await connection.close(timeout=GRACE / 2)
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


async def _watched(writer: t.Any, statement: str, arguments: tuple[t.Any, ...]) -> list[t.Any]:
    """Run a statement; the crash point lies between its departure and its answer."""
    prepared = await writer.prepare(statement)  # so that what waits below is the write itself
    under_way = asyncio.ensure_future(prepared.fetch(*arguments))
    await asyncio.sleep(0)
    crash_points.crash_point("commit.under_way")
    return t.cast("list[t.Any]", await under_way)


def _known(rows: cabc.Sequence[t.Any], name: str) -> None:
    if not rows:
        raise StorageRejectedError(f"unknown connection {name!r}")


def _moment(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)
