"""The queues in PostgreSQL: see :class:`storage.queues.Queues` for what each method promises.

The facts of a batch reach the same tables through ``apply_queue_facts`` (queues.sql).
"""

import abc
import collections.abc as cabc
import datetime as dt
import json
import typing as t

from storage.errors import StorageRejectedError
from storage.facts import HistoryChatCount
from storage.identity import clean_text
from storage.prepare_queues import prepare_request, prepare_result, shown_address
from storage.queues import (
    CHUNK_STATES,
    CLAIM_LEASE,
    FARTHEST,
    HistoryOverview,
    HistoryProgress,
    MediaJob,
    MediaResult,
    MediaRow,
    OutboxRequest,
    OutboxRow,
    PendingHistory,
    SentMessage,
)
from storage.seal import Sealer

HISTORY: t.Final = "history"  # the kind under which notifications are sealed

_INT64_MAX: t.Final = 2**63 - 1


class PostgresQueues(abc.ABC):
    """The part of PostgresStorage that serves the workers."""

    _sealer: Sealer
    _clock: cabc.Callable[[], float]

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    async def claim_media(self, limit: int, *, lease: float = CLAIM_LEASE) -> list[MediaJob]:
        """See :meth:`storage.queues.Queues.claim_media`."""
        now = self._clock()
        moments = [_moment(at) for at in (now, now + lease, now + max(lease, FARTHEST))]
        rows = await self._fetch("claim_media", limit, *moments)
        return [_job(row) for row in rows]

    async def release_media(self) -> int:
        """See :meth:`storage.queues.Queues.release_media`."""
        return len(await self._fetch("release_media"))

    async def next_media_at(self) -> float | None:
        """See :meth:`storage.queues.Queues.next_media_at`."""
        [[at]] = await self._fetch("next_media_at")
        return None if at is None else float(at.timestamp())

    async def finish_media(self, connection: str, message_id: int, result: MediaResult) -> bool:
        """See :meth:`storage.queues.Queues.finish_media`."""
        result = prepare_result(result)
        rows = await self._fetch(
            "finish_media",
            connection,
            message_id,
            result.state.value,
            result.error,
            None if result.retry_at is None else _moment(result.retry_at),
            result.direct_path,
            result.blob_sha256,
            result.blob_size,
            _moment(self._clock()),
        )
        return bool(rows)

    async def media_file(self, message_id: int) -> MediaRow | None:
        """See :meth:`storage.queues.Queues.media_file`."""
        if not 0 < message_id <= _INT64_MAX:
            return None
        rows = await self._fetch("media_file", message_id)
        return MediaRow(**rows[0]) if rows else None

    async def media_list(
        self,
        connection: str | None = None,
        *,
        state: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[MediaRow]:
        """See :meth:`storage.queues.Queues.media_list`."""
        below = None if before is None else max(0, min(before, _INT64_MAX))
        rows = await self._fetch("media_list", connection, state, below, limit)
        return [MediaRow(**row) for row in rows]

    async def media_counts(self, connection: str | None = None) -> dict[str, int]:
        """See :meth:`storage.queues.Queues.media_counts`."""
        return dict(await self._fetch("media_counts", connection))

    async def media_to_expire(self, before: float, limit: int) -> list[MediaRow]:
        """See :meth:`storage.queues.Queues.media_to_expire`."""
        return [
            MediaRow(**row) for row in await self._fetch("media_to_expire", _moment(before), limit)
        ]

    async def blob_users(self, blob_sha256: bytes) -> int:
        """See :meth:`storage.queues.Queues.blob_users`."""
        [[users]] = await self._fetch("blob_users", blob_sha256)
        return int(users)

    async def forget_media(self, connection: str, message_id: int) -> bool:
        """See :meth:`storage.queues.Queues.forget_media`."""
        return bool(await self._fetch("forget_media", connection, message_id))

    async def enqueue(
        self, connection: str, key: str, request: OutboxRequest, *, external_id: str
    ) -> tuple[OutboxRow, bool]:
        """See :meth:`storage.queues.Queues.enqueue`."""
        asked = prepare_request(key, request, external_id)
        rows = await self._fetch(
            "enqueue",
            connection,
            asked.key,
            asked.external_id,
            asked.kind,
            asked.chat,
            asked.body,
            asked.fingerprint,
            _moment(self._clock()),
        )
        created = bool(rows)
        if not created:
            rows = await self._fetch("outbox_by_key", connection, asked.key)
        if not rows:
            raise StorageRejectedError(f"unknown connection {connection!r}")
        fingerprint, *_rest = rows[0]
        if fingerprint != asked.fingerprint:
            raise StorageRejectedError("the idempotency key was used for another request")
        return _outbox_row(rows[0]), created

    async def outbox_pending(self, connection: str, limit: int) -> list[OutboxRow]:
        """See :meth:`storage.queues.Queues.outbox_pending`."""
        return _outbox_rows(await self._fetch("outbox_pending", connection, limit))

    async def outbox_row(self, connection: str | None, outbox_id: int) -> OutboxRow | None:
        """See :meth:`storage.queues.Queues.outbox_row`."""
        if not 0 < outbox_id <= _INT64_MAX:
            return None
        rows = await self._fetch("outbox_row", connection, outbox_id)
        return _outbox_row(rows[0]) if rows else None

    async def outbox_list(
        self,
        connection: str | None = None,
        *,
        state: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[OutboxRow]:
        """See :meth:`storage.queues.Queues.outbox_list`."""
        return _outbox_rows(await self._fetch("outbox_list", connection, state, before, limit))

    async def outbox_counts(self, connection: str | None = None) -> dict[str, int]:
        """See :meth:`storage.queues.Queues.outbox_counts`."""
        return dict(await self._fetch("outbox_counts", connection))

    async def outbox_set_payload(self, connection: str, outbox_id: int, payload: bytes) -> bytes:
        """See :meth:`storage.queues.Queues.outbox_set_payload`."""
        rows = await self._fetch("outbox_set_payload", connection, outbox_id, payload)
        if not rows:
            raise StorageRejectedError(f"{connection!r} has no outbox row {outbox_id}")
        [[kept]] = rows
        return bytes(kept)

    async def settle_interrupted(self, connection: str) -> list[OutboxRow]:
        """See :meth:`storage.queues.Queues.settle_interrupted`."""
        rows = await self._fetch("settle_interrupted", connection, _moment(self._clock()))
        return sorted(_outbox_rows(rows), key=lambda row: row.id)

    async def outbox_retry(self, connection: str | None, outbox_id: int) -> OutboxRow | None:
        """See :meth:`storage.queues.Queues.outbox_retry`."""
        if not 0 < outbox_id <= _INT64_MAX:
            return None
        rows = await self._fetch("outbox_retry", connection, outbox_id, _moment(self._clock()))
        if rows:
            return _outbox_row(rows[0])
        row = await self.outbox_row(connection, outbox_id)
        if row is None:
            return None
        raise StorageRejectedError(f"message {outbox_id} is {row.state}, not unknown")

    async def sent_message(self, connection: str, external_id: str) -> SentMessage | None:
        """See :meth:`storage.queues.Queues.sent_message`."""
        rows = await self._fetch("sent_message", connection, clean_text(external_id))
        return SentMessage(**rows[0]) if rows else None

    async def forget_payloads(self, before: float) -> int:
        """See :meth:`storage.queues.Queues.forget_payloads`."""
        return len(await self._fetch("forget_payloads", _moment(before)))

    async def history_pending(self, connection: str | None, limit: int) -> list[PendingHistory]:
        """See :meth:`storage.queues.Queues.history_pending`."""
        return [
            self._pending_history(**row)
            for row in await self._fetch("history_pending", connection, limit)
        ]

    async def history_progress(self, connection: str) -> HistoryProgress:
        """See :meth:`storage.queues.Queues.history_progress`."""
        [chunks] = await self._fetch("history_chunks", connection)
        chats = await self._fetch("history_chats", connection)
        errors = await self._fetch("history_errors", connection)
        return HistoryProgress(
            connection=connection,
            percent=chunks["percent"],
            position=chunks["position"],
            total=chunks["total"],
            chunks={state: chunks[state] for state in CHUNK_STATES},
            chats=tuple(HistoryChatCount(**row) for row in chats),
            errors=tuple(error for [error] in errors),
        )

    async def history_overview(self) -> list[HistoryOverview]:
        """See :meth:`storage.queues.Queues.history_overview`."""
        return [HistoryOverview(**row) for row in await self._fetch("history_overview")]

    async def history_retry(self, connection: str) -> int:
        """See :meth:`storage.queues.Queues.history_retry`."""
        return len(await self._fetch("history_retry", connection, _moment(self._clock())))

    async def app_state(self, connection: str, collection: str) -> tuple[int, bytes] | None:
        """See :meth:`storage.queues.Queues.app_state`."""
        rows = await self._fetch("app_state", connection, clean_text(collection))
        return (rows[0]["version"], rows[0]["hash"]) if rows else None

    async def app_state_values(
        self, connection: str, collection: str, index_macs: cabc.Sequence[bytes]
    ) -> dict[bytes, bytes]:
        """See :meth:`storage.queues.Queues.app_state_values`."""
        rows = await self._fetch(
            "app_state_values", connection, clean_text(collection), list(index_macs)
        )
        return dict(rows)

    async def device_lists(
        self, connection: str, accounts: cabc.Sequence[str]
    ) -> dict[str, tuple[int, ...]]:
        """See :meth:`storage.queues.Queues.device_lists`."""
        asked = {account: clean_text(account) for account in accounts}
        rows = await self._fetch("device_lists", connection, list(set(asked.values())))
        known = {account: tuple(devices) for account, devices in rows}
        return {account: known[key] for account, key in asked.items() if key in known}

    def _pending_history(
        self, *, connection: str, key: str, sealed: bytes, **rest: t.Any
    ) -> PendingHistory:
        return PendingHistory(
            connection=connection,
            key=key,
            notification=self._sealer.open(connection, HISTORY, key, sealed),
            **rest,
        )


def _job(row: t.Any) -> MediaJob:
    senders = tuple(row["senders"])
    return MediaJob(
        **{
            **row,
            "chat_addresses": tuple(row["chat_addresses"]),
            "sender": shown_address(senders),
            "senders": senders,
        }
    )


def _outbox_row(row: cabc.Mapping[str, t.Any]) -> OutboxRow:
    facts = {**row, "body": json.loads(row["body"])}
    facts.pop("fingerprint", None)
    return OutboxRow(**facts)


def _outbox_rows(rows: cabc.Iterable[cabc.Mapping[str, t.Any]]) -> list[OutboxRow]:
    return [_outbox_row(row) for row in rows]


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
