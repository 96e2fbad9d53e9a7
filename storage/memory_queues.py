"""The queues of MemoryStorage: see :class:`storage.queues.Queues` for what each method promises."""

import abc
import collections.abc as cabc
import datetime as dt
import itertools
import json
import typing as t

import attrs
import trio

from storage.errors import StorageRejectedError
from storage.facts import (
    AppStateStep,
    Delivery,
    DeviceList,
    Fact,
    HistoryChatCount,
    HistoryOffered,
    HistoryStep,
    OutboxStep,
)
from storage.identity import clean_text
from storage.memory_media import MemoryMedia, counted
from storage.prepare_queues import (
    added,
    prepare_request,
)
from storage.queues import (
    CHUNK_STATES,
    OUTBOX_RANK,
    HistoryOverview,
    HistoryProgress,
    OutboxRequest,
    OutboxRow,
    OutboxState,
    PendingHistory,
    SentMessage,
)

_PERCENT_TYPES: t.Final = ("initial_bootstrap", "recent", "full")
_FORGOTTEN_AT_ONCE: t.Final = 1_000


@attrs.define
class _Sent:
    row: OutboxRow
    fingerprint: bytes
    payload: bytes | None = None


@attrs.define
class _Chunk:
    offer: HistoryOffered
    number: int
    offered_at: float
    changed: tuple[float, int]
    state: str = "pending"
    position: int = 0
    total: int = 0
    error: str | None = None


@attrs.define
class _Connection:
    outbox: dict[int, _Sent] = attrs.field(factory=dict)
    chunks: dict[str, _Chunk] = attrs.field(factory=dict)
    chats: dict[str, HistoryChatCount] = attrs.field(factory=dict)
    versions: dict[str, tuple[int, bytes]] = attrs.field(factory=dict)
    macs: dict[str, dict[bytes, bytes]] = attrs.field(factory=dict)
    devices: dict[str, DeviceList] = attrs.field(factory=dict)


class MemoryQueues(MemoryMedia):
    """The part of MemoryStorage that serves the workers.

    Its heir calls ``_add_media`` when a message with a file is complete, ``_reset_queues`` before
    the records of a new device, and ``_apply_queue_facts`` with the facts of a batch; and it has
    ``_check_connection`` and ``_media_origin``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._queue_ids = itertools.count(1)
        self._queues: dict[str, _Connection] = {}

    @abc.abstractmethod
    def _check_connection(self, name: str) -> None:
        """Raise StorageRejectedError unless there is such a connection."""

    def _reset_queues(self, connection: str) -> None:
        """A new device takes the place of the old: what belonged to the old one goes."""
        queues = self._queues_of(connection)
        queues.versions, queues.macs, queues.devices = {}, {}, {}

    def _apply_queue_facts(self, facts: cabc.Iterable[tuple[str, Fact]], now: float) -> None:
        """Commit those of prepared facts that concern the queues; the others are not for us."""
        for connection, fact in facts:
            queues = self._queues_of(connection)
            match fact:
                case OutboxStep(id=number, state=state, reason=reason, at=at):
                    if number in queues.outbox:
                        self._move(queues.outbox[number], state, reason, at)
                case Delivery(ids=ids, status=status, at=at):
                    for sent in queues.outbox.values():
                        if sent.row.external_id in ids:
                            self._move(sent, status.value, None, at)
                case HistoryOffered() as offer:
                    number = next(self._queue_ids)
                    chunk = _Chunk(offer, number, now, (now, number))
                    queues.chunks.setdefault(offer.key, chunk)
                case HistoryStep() as step:
                    _step_history(queues, step, now)
                case AppStateStep() as step:
                    _step_app_state(queues, step)
                case DeviceList() as devices:
                    known = queues.devices.get(devices.account)
                    if known is None or known.at <= devices.at:
                        queues.devices[devices.account] = devices
                case _:
                    pass

    async def blob_users(self, blob_sha256: bytes) -> int:
        """See :meth:`storage.queues.Queues.blob_users`."""
        waiting = [
            row
            for row in self._outbox_rows(None)
            if row.state in (OutboxState.QUEUED, OutboxState.SENDING)
            and row.kind == "media"
            and str(row.body.get("file")).lower() == blob_sha256.hex()
        ]
        return len(waiting) + await super().blob_users(blob_sha256)

    async def enqueue(
        self, connection: str, key: str, request: OutboxRequest, *, external_id: str
    ) -> tuple[OutboxRow, bool]:
        """See :meth:`storage.queues.Queues.enqueue`."""
        asked = prepare_request(key, request, external_id)
        await trio.lowlevel.checkpoint()
        self._check_connection(connection)
        outbox = self._queues_of(connection).outbox
        for sent in outbox.values():
            if sent.row.key == asked.key:
                if sent.fingerprint != asked.fingerprint:
                    raise StorageRejectedError("the idempotency key was used for another request")
                return _copy(sent.row), False
            if sent.row.external_id == asked.external_id:
                raise StorageRejectedError(f"the external id {asked.external_id!r} is taken")
        now = _time(self._clock())
        row = OutboxRow(
            id=next(self._queue_ids),
            connection=connection,
            key=asked.key,
            external_id=asked.external_id,
            kind=asked.kind,
            chat=asked.chat,
            body=json.loads(asked.body),
            state=OutboxState.QUEUED.value,
            reason=None,
            created_at=now,
            updated_at=now,
            sent_at=None,
        )
        outbox[row.id] = _Sent(row, asked.fingerprint)
        self._tell_outbox(row, None)
        return _copy(row), True

    async def outbox_pending(self, connection: str, limit: int) -> list[OutboxRow]:
        """See :meth:`storage.queues.Queues.outbox_pending`."""
        rows = await self.outbox_list(connection, state=OutboxState.QUEUED, limit=2**31)
        return rows[::-1][:limit]

    async def outbox_row(self, connection: str | None, outbox_id: int) -> OutboxRow | None:
        """See :meth:`storage.queues.Queues.outbox_row`."""
        await trio.lowlevel.checkpoint()
        sent = self._sent(connection, outbox_id)
        return None if sent is None else _copy(sent.row)

    async def outbox_list(
        self,
        connection: str | None = None,
        *,
        state: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[OutboxRow]:
        """See :meth:`storage.queues.Queues.outbox_list`."""
        await trio.lowlevel.checkpoint()
        rows = [
            _copy(row)
            for row in self._outbox_rows(connection)
            if state in (None, row.state) and (before is None or row.id < before)
        ]
        return sorted(rows, key=lambda row: row.id, reverse=True)[:limit]

    async def outbox_counts(self, connection: str | None = None) -> dict[str, int]:
        """See :meth:`storage.queues.Queues.outbox_counts`."""
        await trio.lowlevel.checkpoint()
        return counted(row.state for row in self._outbox_rows(connection))

    async def outbox_set_payload(self, connection: str, outbox_id: int, payload: bytes) -> bytes:
        """See :meth:`storage.queues.Queues.outbox_set_payload`."""
        await trio.lowlevel.checkpoint()
        sent = self._sent(connection, outbox_id)
        if sent is None:
            raise StorageRejectedError(f"{connection!r} has no outbox row {outbox_id}")
        if sent.payload is None:
            sent.payload = payload
        return sent.payload

    async def settle_interrupted(self, connection: str) -> list[OutboxRow]:
        """See :meth:`storage.queues.Queues.settle_interrupted`."""
        await trio.lowlevel.checkpoint()
        settled = []
        for sent in self._queues_of(connection).outbox.values():
            if sent.row.state == OutboxState.SENDING:
                self._put_back(sent, OutboxState.UNKNOWN, "interrupted")
                settled.append(_copy(sent.row))
        return settled

    async def outbox_retry(self, connection: str | None, outbox_id: int) -> OutboxRow | None:
        """See :meth:`storage.queues.Queues.outbox_retry`."""
        await trio.lowlevel.checkpoint()
        sent = self._sent(connection, outbox_id)
        if sent is None:
            return None
        if sent.row.state != OutboxState.UNKNOWN:
            raise StorageRejectedError(f"message {outbox_id} is {sent.row.state}, not unknown")
        self._put_back(sent, OutboxState.QUEUED, None)
        return _copy(sent.row)

    async def sent_message(self, connection: str, external_id: str) -> SentMessage | None:
        """See :meth:`storage.queues.Queues.sent_message`."""
        await trio.lowlevel.checkpoint()
        for sent in self._queues_of(connection).outbox.values():
            if sent.row.external_id == clean_text(external_id):
                row = sent.row
                return SentMessage(
                    id=row.id,
                    external_id=row.external_id,
                    kind=row.kind,
                    chat=row.chat,
                    state=row.state,
                    payload=sent.payload,
                    created_at=row.created_at,
                )
        return None

    async def forget_payloads(self, before: float) -> int:
        """See :meth:`storage.queues.Queues.forget_payloads`."""
        await trio.lowlevel.checkpoint()
        old = [
            sent
            for queues in self._queues.values()
            for sent in queues.outbox.values()
            if sent.payload is not None
            and sent.row.created_at < _time(before)
            and sent.row.state not in (OutboxState.QUEUED, OutboxState.SENDING)
        ]
        for sent in old[:_FORGOTTEN_AT_ONCE]:
            sent.payload = None
        return len(old[:_FORGOTTEN_AT_ONCE])

    async def history_pending(self, connection: str | None, limit: int) -> list[PendingHistory]:
        """See :meth:`storage.queues.Queues.history_pending`."""
        await trio.lowlevel.checkpoint()
        found = [
            (name, chunk)
            for name, queues in self._queues.items()
            if connection in (None, name)
            for chunk in queues.chunks.values()
            if chunk.state in ("pending", "importing")
        ]
        found.sort(key=lambda item: (item[1].offer.sync_type != "on_demand", item[1].number))
        return [_pending(name, chunk) for name, chunk in found[:limit]]

    async def history_progress(self, connection: str) -> HistoryProgress:
        """See :meth:`storage.queues.Queues.history_progress`."""
        await trio.lowlevel.checkpoint()
        queues = self._queues_of(connection)
        chunks = list(queues.chunks.values())
        failed = sorted(
            (chunk for chunk in chunks if chunk.state == "failed"),
            key=lambda chunk: chunk.changed,
            reverse=True,
        )
        return HistoryProgress(
            connection=connection,
            percent=max(
                (
                    chunk.offer.progress
                    for chunk in chunks
                    if chunk.state == "done" and chunk.offer.sync_type in _PERCENT_TYPES
                ),
                default=None,
            ),
            position=sum(chunk.position for chunk in chunks),
            total=sum(chunk.total for chunk in chunks),
            chunks={state: sum(item.state == state for item in chunks) for state in CHUNK_STATES},
            chats=tuple(count for _chat, count in sorted(queues.chats.items())),
            errors=tuple(chunk.error or "no error told" for chunk in failed[:10]),
        )

    async def history_overview(self) -> list[HistoryOverview]:
        """See :meth:`storage.queues.Queues.history_overview`."""
        names = [name for name in sorted(self._queues) if self._queues[name].chunks]
        progress = [await self.history_progress(name) for name in names]
        return [
            HistoryOverview(
                connection=each.connection,
                percent=each.percent,
                messages=each.position,
                waiting=each.chunks["pending"] + each.chunks["importing"],
                failed=each.chunks["failed"],
            )
            for each in progress
        ]

    async def history_retry(self, connection: str) -> int:
        """See :meth:`storage.queues.Queues.history_retry`."""
        await trio.lowlevel.checkpoint()
        chunks = self._queues_of(connection).chunks.values()
        failed = [chunk for chunk in chunks if chunk.state == "failed"]
        for chunk in failed:
            chunk.state, chunk.error = "pending", None
        return len(failed)

    async def app_state(self, connection: str, collection: str) -> tuple[int, bytes] | None:
        """See :meth:`storage.queues.Queues.app_state`."""
        await trio.lowlevel.checkpoint()
        return self._queues_of(connection).versions.get(clean_text(collection))

    async def app_state_values(
        self, connection: str, collection: str, index_macs: cabc.Sequence[bytes]
    ) -> dict[bytes, bytes]:
        """See :meth:`storage.queues.Queues.app_state_values`."""
        await trio.lowlevel.checkpoint()
        macs = self._queues_of(connection).macs.get(clean_text(collection), {})
        return {index: macs[index] for index in index_macs if index in macs}

    async def device_lists(
        self, connection: str, accounts: cabc.Sequence[str]
    ) -> dict[str, tuple[int, ...]]:
        """See :meth:`storage.queues.Queues.device_lists`."""
        await trio.lowlevel.checkpoint()
        known = self._queues_of(connection).devices
        return {
            account: known[clean_text(account)].devices
            for account in accounts
            if clean_text(account) in known
        }

    def _queues_of(self, connection: str) -> _Connection:
        return self._queues.setdefault(connection, _Connection())

    def _outbox_rows(self, connection: str | None) -> cabc.Iterator[OutboxRow]:
        for name, queues in self._queues.items():
            if connection in (None, name):
                yield from (sent.row for sent in queues.outbox.values())

    def _sent(self, connection: str | None, outbox_id: int) -> _Sent | None:
        for name, queues in self._queues.items():
            if connection in (None, name) and outbox_id in queues.outbox:
                return queues.outbox[outbox_id]
        return None

    def _give_up_sending(self, connection: str, reason: str) -> None:
        for sent in self._queues_of(connection).outbox.values():
            if sent.row.state in (OutboxState.QUEUED, OutboxState.SENDING):
                self._put_back(sent, OutboxState.UNKNOWN, reason)

    def _put_back(self, sent: _Sent, state: OutboxState, reason: str | None) -> None:
        previous = sent.row.state
        sent.row = attrs.evolve(
            sent.row, state=state.value, reason=reason, updated_at=_time(self._clock())
        )
        self._tell_outbox(sent.row, previous)

    def _move(self, sent: _Sent, state: str, reason: str | None, seconds: float) -> None:
        previous = sent.row.state
        _move(sent, state, reason, seconds)
        if sent.row.state != previous:
            self._tell_outbox(sent.row, previous)

    def _tell_outbox(self, row: OutboxRow, previous: str | None) -> None:
        self._tell(
            "outbox.state",
            row.connection,
            outbox_id=row.id,
            external_id=row.external_id,
            chat=row.chat,
            kind=row.kind,
            state=row.state,
            previous=previous,
            reason=row.reason,
        )


def _move(sent: _Sent, state: str, reason: str | None, seconds: float) -> None:
    """Move a message where the state outranks its own: see ``OUTBOX_RANK``."""
    row, at = sent.row, _time(seconds)
    if state == OutboxState.SENT and (row.sent_at is None or at < row.sent_at):
        row = attrs.evolve(row, sent_at=at)
    rank, own = OUTBOX_RANK[state], OUTBOX_RANK[row.state]
    if rank > own or (rank == own and at < row.updated_at):
        row = attrs.evolve(row, state=str(state), reason=reason, updated_at=at)
    sent.row = row


def _step_history(queues: _Connection, step: HistoryStep, now: float) -> None:
    chunk = queues.chunks.get(step.key)
    if chunk is None or chunk.state not in ("pending", "importing"):
        return
    forward = step.position > chunk.position or step.state != "importing"
    if not forward and chunk.state != "pending":
        return
    chunk.state, chunk.error = step.state, step.error
    chunk.position = max(chunk.position, step.position)
    chunk.total = max(chunk.total, step.total)
    chunk.changed = (now, chunk.number)
    for count in step.counts:
        known = queues.chats.get(count.chat, HistoryChatCount(chat=count.chat))
        queues.chats[count.chat] = added(known, count)


def _step_app_state(queues: _Connection, step: AppStateStep) -> None:
    known = queues.versions.get(step.collection)
    if known is not None and not step.reset and step.version <= known[0]:
        return
    queues.versions[step.collection] = (step.version, step.hash)
    macs = {} if step.reset else queues.macs.get(step.collection, {})
    for index in step.removed:
        macs.pop(index, None)
    macs.update(step.values)
    queues.macs[step.collection] = macs


def _pending(connection: str, chunk: _Chunk) -> PendingHistory:
    return PendingHistory(
        connection=connection,
        key=chunk.offer.key,
        notification=chunk.offer.notification,
        sync_type=chunk.offer.sync_type,
        chunk_order=chunk.offer.chunk_order,
        progress=chunk.offer.progress,
        request_id=chunk.offer.request_id,
        state=chunk.state,
        position=chunk.position,
        offered_at=_time(chunk.offered_at),
    )


def _copy(row: OutboxRow) -> OutboxRow:
    """A row whose body is the caller's own."""
    return attrs.evolve(row, body=json.loads(json.dumps(row.body)))


def _time(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
