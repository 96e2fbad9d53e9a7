"""The files of MemoryStorage: see :class:`storage.queues.Queues` for what each method promises."""

import abc
import collections
import collections.abc as cabc
import datetime as dt

import attrs
import trio

from storage.api import MediaFile
from storage.memory_events import MemoryEvents
from storage.prepare_queues import prepare_result, shown_address
from storage.queues import CLAIM_LEASE, FARTHEST, MediaJob, MediaResult, MediaRow, MediaState


@attrs.frozen(kw_only=True)
class MediaOrigin:
    """What a file's message tells whoever fetches it."""

    external_id: str
    chat: str
    chat_addresses: tuple[str, ...]
    from_me: bool
    senders: tuple[str, ...]
    raw: bytes


@attrs.define
class _Media:
    file: MediaFile
    live: bool
    state: str = MediaState.PENDING.value
    attempts: int = 0
    claimed: bool = False
    next_attempt_at: float | None = None
    direct_path: str | None = None
    blob_sha256: bytes | None = None
    blob_size: int | None = None
    error: str | None = None
    stored_at: float | None = None


class MemoryMedia(MemoryEvents):
    """The part of MemoryStorage that serves whoever fetches files."""

    def __init__(self) -> None:
        super().__init__()
        self._media: dict[tuple[str, int], _Media] = {}

    @abc.abstractmethod
    def _media_origin(self, connection: str, message_id: int) -> MediaOrigin:
        """The message that carries a file."""

    def _add_media(self, connection: str, message_id: int, file: MediaFile, *, live: bool) -> None:
        """A message with a file was stored; once for each message."""
        self._media.setdefault((connection, message_id), _Media(file, live))

    async def claim_media(self, limit: int, *, lease: float = CLAIM_LEASE) -> list[MediaJob]:
        """See :meth:`storage.queues.Queues.claim_media`."""
        await trio.lowlevel.checkpoint()
        now = self._clock()
        due = [
            (not media.live, media.next_attempt_at or 0.0, key)
            for key, media in self._media.items()
            if media.state == MediaState.PENDING
            and not now < (media.next_attempt_at or 0.0) <= now + max(lease, FARTHEST)
        ]
        due.sort(key=lambda item: (item[0], item[1], item[2][1]))
        jobs = []
        for _live, _at, (connection, message_id) in due[:limit]:
            media = self._media[connection, message_id]
            media.claimed, media.next_attempt_at = True, now + lease
            media.attempts += 1
            origin = self._media_origin(connection, message_id)
            jobs.append(_job(connection, message_id, media, origin))
        return jobs

    async def release_media(self) -> int:
        """See :meth:`storage.queues.Queues.release_media`."""
        await trio.lowlevel.checkpoint()
        claimed = [media for media in self._media.values() if media.claimed]
        for media in claimed:
            media.claimed, media.next_attempt_at = False, None
        return len(claimed)

    async def next_media_at(self) -> float | None:
        """See :meth:`storage.queues.Queues.next_media_at`."""
        await trio.lowlevel.checkpoint()
        waiting = (item for item in self._media.values() if item.state == MediaState.PENDING)
        return min((media.next_attempt_at or 0.0 for media in waiting), default=None)

    async def finish_media(self, connection: str, message_id: int, result: MediaResult) -> bool:
        """See :meth:`storage.queues.Queues.finish_media`."""
        result = prepare_result(result)
        await trio.lowlevel.checkpoint()
        media = self._media.get((connection, message_id))
        if media is None or media.state in (MediaState.STORED, MediaState.REMOVED):
            return False
        if result.state is MediaState.PENDING and media.state != MediaState.PENDING:
            media.attempts = 0
        media.state, media.error, media.claimed = result.state.value, result.error, False
        media.next_attempt_at = result.retry_at
        media.direct_path = result.direct_path or media.direct_path
        media.blob_sha256, media.blob_size = result.blob_sha256, result.blob_size
        media.stored_at = self._clock() if result.state is MediaState.STORED else None
        return True

    async def media_file(self, message_id: int) -> MediaRow | None:
        """See :meth:`storage.queues.Queues.media_file`."""
        await trio.lowlevel.checkpoint()
        for (connection, number), media in self._media.items():
            if number == message_id:
                return _media_row(connection, number, media)
        return None

    async def media_list(
        self,
        connection: str | None = None,
        *,
        state: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[MediaRow]:
        """See :meth:`storage.queues.Queues.media_list`."""
        await trio.lowlevel.checkpoint()
        rows = [
            _media_row(name, number, media)
            for (name, number), media in self._media.items()
            if connection in (None, name)
            and state in (None, media.state)
            and (before is None or number < before)
        ]
        return sorted(rows, key=lambda row: row.message_id, reverse=True)[:limit]

    async def media_counts(self, connection: str | None = None) -> dict[str, int]:
        """See :meth:`storage.queues.Queues.media_counts`."""
        await trio.lowlevel.checkpoint()
        return counted(
            media.state for (name, _id), media in self._media.items() if connection in (None, name)
        )

    async def media_to_expire(self, before: float, limit: int) -> list[MediaRow]:
        """See :meth:`storage.queues.Queues.media_to_expire`."""
        await trio.lowlevel.checkpoint()
        old = [
            (media.stored_at or 0.0, key)
            for key, media in self._media.items()
            if media.state == MediaState.STORED and (media.stored_at or 0.0) < before
        ]
        old.sort(key=lambda item: (item[0], item[1][1]))
        return [_media_row(*key, self._media[key]) for _at, key in old[:limit]]

    async def blob_users(self, blob_sha256: bytes) -> int:
        """See :meth:`storage.queues.Queues.blob_users`."""
        await trio.lowlevel.checkpoint()
        return sum(
            media.blob_sha256 == blob_sha256 and media.state == MediaState.STORED
            for media in self._media.values()
        )

    async def forget_media(self, connection: str, message_id: int) -> bool:
        """See :meth:`storage.queues.Queues.forget_media`."""
        await trio.lowlevel.checkpoint()
        media = self._media.get((connection, message_id))
        if media is None or media.state != MediaState.STORED:
            return False
        media.state = MediaState.REMOVED.value
        return True


def _job(connection: str, message_id: int, media: _Media, origin: MediaOrigin) -> MediaJob:
    return MediaJob(
        connection=connection,
        message_id=message_id,
        external_id=origin.external_id,
        chat=origin.chat,
        chat_addresses=origin.chat_addresses,
        from_me=origin.from_me,
        sender=shown_address(origin.senders),
        senders=origin.senders,
        kind=media.file.kind,
        size=media.file.size,
        raw=origin.raw,
        direct_path=media.direct_path,
        attempts=media.attempts,
    )


def _media_row(connection: str, message_id: int, media: _Media) -> MediaRow:
    return MediaRow(
        connection=connection,
        message_id=message_id,
        kind=media.file.kind,
        mimetype=media.file.mimetype,
        name=media.file.name,
        size=media.file.size,
        sha256=media.file.sha256,
        state=media.state,
        attempts=media.attempts,
        next_attempt_at=_optional_time(media.next_attempt_at),
        blob_sha256=media.blob_sha256,
        blob_size=media.blob_size,
        error=media.error,
        stored_at=_optional_time(media.stored_at),
    )


def counted(states: cabc.Iterable[str]) -> dict[str, int]:
    """How often each state occurs."""
    return dict(collections.Counter(states))


def _optional_time(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)
