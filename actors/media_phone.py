"""Files that are gone from the servers: the own phone is asked to upload them again.

A phone answers in its own time, or never. So a request is a plan in the file's row: look again
after a while, and an answer moves it up. Source: docs/protocol.md#media-retry
"""

import collections
import collections.abc as cabc
import typing as t

import attrs
import structlog
import trio

from actors.errors import TransportError
from actors.keyed_locks import KeyedLocks
from actors.line import Line, NotOnlineError
from storage.errors import StorageRejectedError
from storage.inbox import StoredMessage
from storage.queues import MediaJob, MediaResult, MediaState
from whatsapp.content import media_source
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.media_retry import (
    IV_LENGTH,
    MediaOf,
    RetryAnswer,
    RetryResult,
    open_answer,
    parse_retry_notification,
    retry_receipt,
)
from whatsapp.media_source import MediaSource
from whatsapp.node import Node

REMEMBERED: t.Final = 10_000  # files that were asked for, since the start
OFFLINE_PAUSE: t.Final = 900.0  # seconds until it is tried again while offline

FileKey: t.TypeAlias = tuple[str, int]  # connection, message id

log: structlog.stdlib.BoundLogger = structlog.get_logger("media")


class PhoneStorage(t.Protocol):
    """What this needs of storage."""

    async def find_message(
        self, connection: str, chat: str | None, external_id: str, *, author: str | None = None
    ) -> StoredMessage | None:
        """The message with that id."""
        ...

    async def finish_media(self, connection: str, message_id: int, result: MediaResult) -> bool:
        """Record what became of a file."""
        ...


@attrs.frozen(kw_only=True)
class PhoneSettings:
    """Times in seconds."""

    ask: bool = True
    requests: int = 2  # per file
    gap: float = 3.0  # between two requests to one phone
    patience: float = 1800.0  # until it is asked again


@attrs.define
class _Asked:
    """What is known of a file that was gone."""

    requests: int = 0
    turn: float = 0.0  # trio clock: before that it is not asked for
    gone: bool = True  # no answer gave another place since


class PhoneRequests:
    """Asks for files, and takes the answers in."""

    def __init__(
        self,
        storage: PhoneStorage,
        locks: KeyedLocks[FileKey],
        *,
        lines: cabc.Callable[[str], Line],
        own_address: cabc.Callable[[str], Jid | None],
        settings: PhoneSettings,
        wall_clock: cabc.Callable[[], float],
        random: cabc.Callable[[int], bytes],
    ) -> None:
        """``locks``: held by whoever works on a file. ``own_address``: the phone-number address
        of a connection's account, once it is known."""
        self._storage = storage
        self._locks = locks
        self._lines = lines
        self._own_address = own_address
        self._settings = settings
        self._wall_clock = wall_clock
        self._random = random
        self._asked: collections.OrderedDict[FileKey, _Asked] = collections.OrderedDict()
        self._next_turn: dict[str, float] = {}

    def knows_gone(self, job: MediaJob) -> bool:
        """Whether the file was not there, and nobody has said since that it is."""
        asked = self._asked.get((job.connection, job.message_id))
        return asked is not None and asked.gone

    def forget(self, key: FileKey) -> None:
        """Begin anew with a file."""
        self._asked.pop(key, None)

    async def ask(self, job: MediaJob, source: MediaSource, reason: str) -> MediaResult:
        """The file is not there for ``reason``: ask for it when its turn comes; what to record."""
        asked = self._remember((job.connection, job.message_id))
        asked.gone = True
        if not self._settings.ask or not source.media_key:
            return MediaResult(state=MediaState.EXPIRED, error=reason)
        if asked.requests >= self._settings.requests:
            error = f"{reason}; the phone did not bring it back"
            return MediaResult(state=MediaState.EXPIRED, error=error)
        if (wait := self._turn(job.connection, asked) - trio.current_time()) > 0:
            return self._later(wait, f"{reason}; the phone will be asked")
        try:
            await self._send(job, source, asked.requests)
        except (NotOnlineError, TransportError):
            asked.turn = 0.0
            return self._later(OFFLINE_PAUSE, f"{reason}; the connection is offline")
        except RemoteProtocolError as error:
            return MediaResult(state=MediaState.FAILED, error=f"{reason}; {error}")
        asked.requests += 1
        asked.turn = 0.0
        log.info("media.asked_phone", connection=job.connection, message=job.message_id)
        return self._later(self._settings.patience, f"{reason}; the phone was asked")

    async def answered(self, connection: str, notification: Node) -> bool:
        """Take in the phone's answer; whether a file can be fetched now.

        Raises:
            StorageUnavailableError: nothing was recorded.
        """
        try:
            answer = parse_retry_notification(notification)
            message = await self._message(connection, answer)
            source = None if message is None else media_source(message.raw)
            if message is None or source is None:
                raise RemoteProtocolError("an answer about no file of ours")
            verdict = open_answer(answer, source.media_key)
        except (RemoteProtocolError, StorageRejectedError) as error:
            log.warning("media.answer_unreadable", connection=connection, error=str(error))
            return False
        key = (connection, message.id)
        log.info(
            "media.answered", connection=connection, message=message.id, result=verdict.result.name
        )
        async with self._locks.hold(key):
            match verdict.result:
                case RetryResult.SUCCESS:
                    self._remember(key).gone = False
                    planned = MediaResult(state=MediaState.PENDING, direct_path=verdict.direct_path)
                    return await self._storage.finish_media(*key, planned)
                case RetryResult.NOT_FOUND:
                    gone = MediaResult(state=MediaState.EXPIRED, error="not on the phone either")
                    await self._storage.finish_media(*key, gone)
                    return False
                case RetryResult.GENERAL_ERROR | RetryResult.DECRYPTION_ERROR:
                    return False  # it is asked again in time, or given up
                case other:
                    t.assert_never(other)

    async def _message(self, connection: str, answer: RetryAnswer) -> StoredMessage | None:
        media, find = answer.media, self._storage.find_message
        author = None if media.participant is None else str(media.participant)
        found = await find(connection, str(media.chat), media.id, author=author)
        return found or await find(connection, None, media.id, author=author)

    async def _send(self, job: MediaJob, source: MediaSource, turn: int) -> None:
        """Every request names chat and author by another of their addresses, if there are any:
        it is not known under which the phone keeps the message."""
        own = self._own_address(job.connection)
        if own is None:
            raise NotOnlineError(f"{job.connection} has no address yet")
        chat = Jid.parse(_each(turn, job.chat, job.chat_addresses))
        person = chat.is_person
        author = None if person else Jid.parse(_each(turn, job.sender, job.senders))
        media = MediaOf(id=job.external_id, chat=chat, from_me=job.from_me, participant=author)
        node = retry_receipt(media, own, source.media_key, self._random(IV_LENGTH))
        await self._lines(job.connection).send(node)

    def _turn(self, connection: str, asked: _Asked) -> float:
        """When the file's turn is (trio clock); turns are given out once."""
        if not asked.turn:
            now = trio.current_time()
            asked.turn = max(now, self._next_turn.get(connection, now))
            self._next_turn[connection] = asked.turn + self._settings.gap
        return asked.turn

    def _later(self, wait: float, error: str) -> MediaResult:
        at = self._wall_clock() + wait
        return MediaResult(state=MediaState.PENDING, error=error, retry_at=at)

    def _remember(self, key: FileKey) -> _Asked:
        asked = self._asked.setdefault(key, _Asked())
        self._asked.move_to_end(key)
        if len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)
        return asked


def _each(turn: int, first: str, all_of_them: tuple[str, ...]) -> str:
    names = list(dict.fromkeys((first, *all_of_them)))
    return names[turn % len(names)]
