"""The service that imports history: one for all connections, one chunk at a time.

Chunks are durable rows from the moment they are offered. What a chunk holds is fetched anew
whenever its import goes on, and nothing is done twice: see ``actors.history_import``.
"""

import collections.abc as cabc
import math
import typing as t

import attrs
import structlog
import trio

from actors.addons import OwnAddresses
from actors.app_state_steps import Fetch
from actors.errors import ActorError
from actors.history_import import ChunkImport, Wanted
from actors.line import Line, NotOnlineError
from actors.low_lane import LaneStalledError, LowLane
from actors.media_http import MediaGoneError, MediaTooLargeError
from actors.messages import WriterMail
from storage.api import ConnectionRow, Envelope, Outcome, Verdict
from storage.crash_points import crash_point
from storage.errors import SealError, StorageUnavailableError
from storage.facts import HistoryStep
from storage.inbox import StoredMessage
from storage.queues import PendingHistory
from supervisor.backoff import Backoff
from supervisor.mailbox import Postbox
from whatsapp.errors import RemoteProtocolError
from whatsapp.history import (
    MAX_INFLATED,
    HistoryChunk,
    HistoryNotification,
    inflate,
    parse_notification,
    read_history,
)
from whatsapp.jid import Jid
from whatsapp.peer import PRIORITY, OnDemand, history_on_demand_request

MAX_PENDING: t.Final = 256  # chunks looked at, at once
MAX_COMPRESSED: t.Final = 128 * 1024 * 1024  # bytes
SMALL: t.Final = 64 * 1024  # compressed bytes that are not worth a thread
INTERVAL: t.Final = 60.0  # seconds between two looks when nobody wakes the service
MAX_OLDER: t.Final = 500  # messages asked for at once
WITHOUT_PAYLOAD: t.Final = frozenset({"no_history", "message_access_status"})
URGENCY: t.Final = {
    "on_demand": 0,
    "initial_bootstrap": 1,
    "push_name": 2,
    "non_blocking_data": 3,
    "recent": 4,
    "full": 5,
}
CURE: t.Final = "retry the failed chunks of this connection, or link the device again"

log: structlog.stdlib.BoundLogger = structlog.get_logger("history")


class HistoryRows(t.Protocol):
    """What the service reads of storage."""

    async def history_pending(self, connection: str | None, limit: int) -> list[PendingHistory]:
        """See :meth:`storage.queues.Queues.history_pending`."""
        ...

    async def connections(self) -> list[ConnectionRow]:
        """See :meth:`storage.api.Storage.connections`."""
        ...


class OldestMessages(t.Protocol):
    """Where the history of a chat begins."""

    async def oldest_message(self, connection: str, chat: str) -> StoredMessage | None:
        """See :meth:`storage.inbox.Inbox.oldest_message`."""
        ...


class NoHistoryError(ActorError):
    """Nothing is known of a chat before which there could be more."""

    def __init__(self, chat: str) -> None:
        self.chat = chat
        super().__init__("this chat has no message yet, so nothing is older than its first one")


@attrs.frozen(kw_only=True)
class HistorySettings:
    """How patient the service is."""

    attempts: int = 12  # to fetch one chunk while the connection is online
    attempts_at_gone: int = 3  # when the servers say that they do not have it
    backoff: Backoff = attrs.field(factory=lambda: Backoff(initial=5.0, maximum=900.0))
    offline_pause: float = 30.0  # seconds until a connection without a socket is tried again
    max_inflated: int = MAX_INFLATED  # bytes


def people_and_groups(_connection: str, chat: Jid) -> bool:
    """The chats that are imported unless told otherwise."""
    return chat.is_person or chat.is_group


@attrs.define
class _Trouble:
    failures: int = 0
    due_at: float = -math.inf  # trio clock


class HistoryImporter:
    """The service. Cancelled anywhere, it goes on where the last commit left it."""

    def __init__(
        self,
        storage: HistoryRows,
        writer: Postbox[WriterMail],
        fetch: Fetch,
        own_addresses: OwnAddresses,
        wall_clock: cabc.Callable[[], float],
        uniform: cabc.Callable[[], float],
        *,
        wanted: Wanted = people_and_groups,
        settings: HistorySettings | None = None,
    ) -> None:
        """``writer`` is its low-priority mailbox; ``fetch`` opens a file of the media servers."""
        self._storage = storage
        self._writer = writer
        self._fetch = fetch
        self._own_addresses = own_addresses
        self._wall_clock = wall_clock
        self._uniform = uniform
        self._wanted = wanted
        self._settings = settings or HistorySettings()
        self._woken = trio.Event()
        self._trouble: dict[tuple[str, str], _Trouble] = {}  # of pending chunks
        self._served = ""  # the connection served last

    def wake(self) -> None:
        """A chunk was offered, or a connection came online. Never waits."""
        for item in self._trouble.values():
            if not item.failures:
                item.due_at = min(item.due_at, trio.current_time())
        self._woken.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Import what is offered, for ever. Outlives a database that is away."""
        task_status.started()
        failures = 0
        while True:
            self._woken = trio.Event()
            try:
                pending = await self._pending()
            except StorageUnavailableError as error:
                failures += 1
                delay = Backoff().bound(failures)
                log.warning("history.storage_unavailable", error=str(error), delay=delay)
                await trio.sleep(delay)
                continue
            failures = 0
            job = self._next(pending)
            if job is not None:
                self._served = job.connection
                try:
                    await self._take(job)
                except LaneStalledError as error:
                    log.warning("history.stalled", connection=job.connection, error=str(error))
                continue
            with trio.move_on_at(self._due_at()):
                await self._woken.wait()

    # ---- which one -----------------------------------------------------------------------

    async def _pending(self) -> list[PendingHistory]:
        try:
            return await self._storage.history_pending(None, MAX_PENDING)
        except SealError:
            return [
                job
                for row in await self._storage.connections()
                for job in await self._pending_of(row.name)
            ]

    async def _pending_of(self, connection: str) -> list[PendingHistory]:
        try:
            return await self._storage.history_pending(connection, MAX_PENDING)
        except SealError as error:
            log.error("history.damaged", connection=connection, error=str(error))
            return []

    def _next(self, pending: cabc.Sequence[PendingHistory]) -> PendingHistory | None:
        """The most urgent one that is due; among equals the connections take turns."""
        names = {_name(job) for job in pending}
        self._trouble = {key: item for key, item in self._trouble.items() if key in names}
        now = trio.current_time()
        due = [job for job in pending if self._trouble_of(job).due_at <= now]
        return min(due, key=self._rank, default=None)

    def _rank(self, job: PendingHistory) -> tuple[int, bool]:
        return URGENCY.get(job.sync_type, len(URGENCY)), job.connection == self._served

    def _trouble_of(self, job: PendingHistory) -> _Trouble:
        return self._trouble.get(_name(job)) or _Trouble()

    def _due_at(self) -> float:
        """When to look again, unless woken."""
        look_again = trio.current_time() + INTERVAL
        return min([look_again, *(item.due_at for item in self._trouble.values())])

    # ---- one chunk -----------------------------------------------------------------------

    async def _take(self, job: PendingHistory) -> None:
        own = tuple(self._own_addresses(job.connection))
        if not own:
            self._postpone(job)
            return
        try:
            notification = parse_notification(job.notification)
            if notification.sync_type in WITHOUT_PAYLOAD:
                await self._close(job, "done")
                return
            compressed = notification.inline or await self._fetched(job, notification)
            if compressed is None:
                return
            chunk = await self._read(compressed)
            crash_point("history.fetched")
            del compressed
        except RemoteProtocolError as error:
            await self._close(job, "failed", f"the chunk cannot be read: {error}; {CURE}")
            return
        importing = ChunkImport(
            job, chunk, self._writer, own=own, wanted=self._wanted, now=self._wall_clock()
        )
        if not await importing.run():
            self._trouble[_name(job)] = _Trouble(1, math.inf)

    async def _fetched(
        self, job: PendingHistory, notification: HistoryNotification
    ) -> bytes | None:
        """The compressed chunk; None when it has to wait, or will never come."""
        if notification.source is None:
            raise RemoteProtocolError("the phone did not tell where it lies")
        try:
            return await self._fetch(job.connection, notification.source, MAX_COMPRESSED)
        except NotOnlineError:
            self._postpone(job)
        except (ActorError, RemoteProtocolError) as error:
            await self._not_fetched(job, error)
        return None

    async def _not_fetched(self, job: PendingHistory, error: Exception) -> None:
        failures = self._trouble_of(job).failures + 1
        hopeless = isinstance(error, MediaGoneError | MediaTooLargeError)
        if failures >= (self._settings.attempts_at_gone if hopeless else self._settings.attempts):
            sentence = f"the chunk could not be fetched in {failures} attempts: {error}; {CURE}"
            await self._close(job, "failed", sentence)
            return
        delay = self._settings.backoff.delay(failures, self._uniform())
        log.warning(
            "history.not_fetched",
            connection=job.connection,
            error=str(error),
            failures=failures,
            delay=delay,
        )
        self._trouble[_name(job)] = _Trouble(failures, trio.current_time() + delay)

    async def _read(self, compressed: bytes) -> HistoryChunk:
        limit = self._settings.max_inflated
        if len(compressed) <= SMALL:
            return _open(compressed, limit)
        return await trio.to_thread.run_sync(_open, compressed, limit)

    def _postpone(self, job: PendingHistory) -> None:
        """Wait for the connection; that is no failure of the chunk."""
        due_at = trio.current_time() + self._settings.offline_pause
        self._trouble[_name(job)] = _Trouble(self._trouble_of(job).failures, due_at)

    async def _close(self, job: PendingHistory, state: str, error: str | None = None) -> None:
        """End a chunk of which nothing more is imported."""
        if error is not None:
            log.error(
                "history.failed",
                connection=job.connection,
                sync_type=job.sync_type,
                chunk=job.chunk_order,
                error=error,
            )
        step = HistoryStep(
            key=job.key, state=state, position=job.position, total=job.position, error=error
        )
        outcomes: list[Outcome | None] = []
        lane = LowLane[None](self._writer, lambda _purpose, outcome: outcomes.append(outcome))
        try:
            await lane.post(Envelope(connection=job.connection, facts=(step,)), None)
            await lane.settle()
        finally:
            lane.close()
        if not any(item is not None and item.verdict is Verdict.RECORDED for item in outcomes):
            self._trouble[_name(job)] = _Trouble(1, math.inf)


async def request_older(
    line: Line,
    storage: OldestMessages,
    connection: str,
    chat: str,
    count: int,
    account_lid: str | None = None,
) -> str:
    """Ask the phone for up to ``count`` messages older than the oldest one of a chat.

    They come as a chunk of history whose ``request_id`` is the id returned.

    Raises:
        NoHistoryError: the chat has no message yet.
        NotOnlineError: the connection is not online.
    """
    if not 1 <= count <= MAX_OLDER:
        raise ValueError(f"between 1 and {MAX_OLDER} messages can be asked for at once")
    oldest = await storage.oldest_message(connection, chat)
    if oldest is None:
        raise NoHistoryError(chat)
    wanted = OnDemand(
        chat=chat,
        oldest_id=oldest.external_id,
        oldest_from_me=oldest.from_me,
        oldest_at=int(oldest.sent_at.timestamp()),
        count=count,
        account_lid=account_lid,
    )
    return await line.send_peer(history_on_demand_request(wanted), priority=PRIORITY)


def _open(compressed: bytes, limit: int) -> HistoryChunk:
    return read_history(inflate(compressed, limit))


def _name(job: PendingHistory) -> tuple[str, str]:
    return job.connection, job.key
