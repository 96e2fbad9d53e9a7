"""Chunks of history: the phone's offer of one, and what is inside.

A chunk is one buffer. Its conversations are listed at once, without their messages; a message is
decoded when it is asked for, so that a large chunk costs little more than its bytes.

Source: docs/protocol.md#history-sync
"""

import collections.abc as cabc
import typing as t
import zlib

import attrs

from whatsapp import protobuf
from whatsapp.errors import RemoteProtocolError
from whatsapp.history_build import build_history as build_history
from whatsapp.history_model import ROLES, SYNC_TYPES, Slices
from whatsapp.history_model import HistoryChunk as HistoryChunk
from whatsapp.history_model import HistoryConversation as HistoryConversation
from whatsapp.history_model import InlineContact as InlineContact
from whatsapp.history_model import Member as Member
from whatsapp.media_source import MediaSource
from whatsapp.peer import build_protocol, protocol_of
from whatsapp.proto import history_pb2
from whatsapp.protobuf_fields import LENGTH_DELIMITED, Field, walk
from whatsapp.web_message import HistoryMessage, message_from, read_web_message, text

MAX_INFLATED: t.Final = 256 * 1024 * 1024  # bytes of a chunk
HISTORY_KIND: t.Final = "history"  # of a MediaSource
MAX_FIELDS: t.Final = 1 << 20  # of a chunk, those inside of messages not counted
FOREVER: t.Final = -1  # of muted_until

_CONVERSATION_COST: t.Final = 16  # fields that a conversation counts for, with none of its own
_STEP: t.Final = 256 * 1024  # bytes inflated at a time
_NOTIFICATION: t.Final = 5  # ProtocolMessage.Type
_CONVERSATIONS: t.Final = 2  # fields of a HistorySync
_STATUS_MESSAGES: t.Final = 3
_MESSAGES: t.Final = 2  # field of a Conversation
_MILLISECONDS: t.Final = 100_000_000_000  # no time in seconds is as large


# ---- the offer


@attrs.frozen(kw_only=True)
class HistoryNotification:
    """The phone offers a chunk: inline, at a place on the media servers, or (some types) not
    at all."""

    sync_type: str  # one of SYNC_TYPES, or ``type_99``
    chunk_order: int = 0
    progress: int = 0  # percent of the whole transfer, as the phone counts
    source: MediaSource | None = None
    inline: bytes | None = attrs.field(default=None, repr=False)  # compressed
    request_id: str | None = None  # of the on-demand request that this answers
    oldest_at: int = 0  # unix seconds of the chunk's oldest message; 0: not told
    fields: bytes = attrs.field(default=b"", repr=False)
    """The ``HistorySyncNotification`` itself: what :func:`parse_notification` takes."""


def read_notification(raw: bytes) -> HistoryNotification:
    """The offer in the plaintext of a protocol message.

    Raises:
        RemoteProtocolError: it holds none.
    """
    protocol = protocol_of(raw)
    if not protocol.HasField("history_notification"):
        raise RemoteProtocolError("no history notification")
    return parse_notification(protocol.history_notification)


def parse_notification(fields: bytes) -> HistoryNotification:
    """Read a bare ``HistorySyncNotification``.

    Raises:
        RemoteProtocolError: not one.
    """
    notice = protobuf.parse(history_pb2.HistoryNotice, fields)
    return HistoryNotification(
        sync_type=_sync_type(notice.sync_type),
        chunk_order=notice.chunk_order,
        progress=min(notice.progress, 100),
        source=_source(notice),
        inline=notice.inline_payload or None,
        request_id=text(notice.request_id) or None,
        oldest_at=max(notice.oldest_timestamp, 0),
        fields=fields,
    )


def build_notification(
    *,
    sync_type: str,
    chunk_order: int = 0,
    progress: int = 0,
    source: MediaSource | None = None,
    inline: bytes | None = None,
    request_id: str | None = None,
) -> bytes:
    """The plaintext that offers a chunk: the phone's side of :func:`read_notification`."""
    notice = history_pb2.HistoryNotice(
        sync_type=SYNC_TYPES.index(sync_type),
        chunk_order=chunk_order,
        progress=progress,
        inline_payload=inline,
        request_id=None if request_id is None else request_id.encode(),
    )
    if source is not None:
        notice.media_key = source.media_key
        notice.direct_path = source.direct_path.encode()
        notice.file_sha256 = source.sha256
        notice.file_enc_sha256 = source.enc_sha256
        notice.file_length = source.length or 0
    return build_protocol(_NOTIFICATION, history_notification=notice.SerializeToString())


def _source(notice: history_pb2.HistoryNotice) -> MediaSource | None:
    if not notice.direct_path:
        return None
    return MediaSource(
        kind=HISTORY_KIND,
        media_key=notice.media_key,
        direct_path=text(notice.direct_path),
        sha256=notice.file_sha256,
        enc_sha256=notice.file_enc_sha256,
        length=notice.file_length if notice.HasField("file_length") else None,
    )


def _sync_type(number: int) -> str:
    return SYNC_TYPES[number] if 0 <= number < len(SYNC_TYPES) else f"type_{number}"


# ---- compression


def inflate(
    compressed: bytes | cabc.Iterable[bytes], limit: int = MAX_INFLATED
) -> bytes | bytearray:
    """The payload, inflated piece by piece; never more than ``limit`` bytes come to be.

    Raises:
        RemoteProtocolError: not zlib data, cut off, or larger than the limit.
    """
    parts = (compressed,) if isinstance(compressed, bytes) else compressed
    inflater = zlib.decompressobj()
    data = bytearray()
    try:
        for part in parts:
            while part and not inflater.eof:
                data += inflater.decompress(part, _STEP)
                part = inflater.unconsumed_tail
                if len(data) > limit:
                    raise RemoteProtocolError(f"history of more than {limit} bytes")
        while not inflater.eof and (more := inflater.decompress(b"", _STEP)):
            data += more
            if len(data) > limit:
                raise RemoteProtocolError(f"history of more than {limit} bytes")
    except zlib.error as error:
        raise RemoteProtocolError("history that is not compressed as it should be") from error
    if not inflater.eof:
        raise RemoteProtocolError("history that is cut off")
    return data


def deflate(payload: bytes) -> bytes:
    """The phone's side of :func:`inflate`."""
    return zlib.compress(payload)


# ---- the chunk


def read_history(data: bytes | bytearray) -> HistoryChunk:
    """Read an inflated chunk; ``data`` is kept for its messages, and must not be changed.

    Raises:
        RemoteProtocolError: not a chunk. A single message that is none raises when it is read.
    """
    rest = bytearray()
    conversations: list[HistoryConversation] = []
    statuses = Slices(data, read_web_message)
    budget = _Budget()
    for field in walk(data):
        budget.spend()
        if _is_message(field, _CONVERSATIONS):
            budget.spend(_CONVERSATION_COST)
            conversations.append(_read_conversation(data, field.begin, field.end, budget))
        elif _is_message(field, _STATUS_MESSAGES):
            statuses.note(field.begin, field.end)
        else:
            rest += data[field.start : field.end]
    payload = protobuf.parse(history_pb2.HistoryPayload, bytes(rest), MAX_FIELDS)
    return HistoryChunk(
        sync_type=_sync_type(payload.sync_type),
        chunk_order=payload.chunk_order,
        progress=min(payload.progress, 100),
        conversations=tuple(conversations),
        status_messages=statuses,
        push_names=tuple((text(item.id), text(item.push_name)) for item in payload.push_names),
        address_pairs=tuple(
            (text(item.pn_jid), text(item.lid_jid)) for item in payload.address_pairs
        ),
        contacts=tuple(_contact(item) for item in payload.contacts),
        calls=len(payload.call_log_records),
    )


class _Budget:
    """What the items of a chunk may cost together, in fields."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def spend(self, fields: int = 1) -> None:
        self._left -= fields
        if self._left < 0:
            raise RemoteProtocolError("a chunk of history of absurdly many parts")


def _read_conversation(
    data: bytes | bytearray, start: int, end: int, budget: _Budget
) -> HistoryConversation:
    rest = bytearray()
    messages = Slices(data, _read_item)
    for field in walk(data, start, end):
        budget.spend()
        if _is_message(field, _MESSAGES):
            messages.note(field.begin, field.end)
        else:
            rest += data[field.start : field.end]
    chat = protobuf.parse(history_pb2.HistoryChat, bytes(rest))

    def given(name: t.Any) -> t.Any:
        """The value of a field; None: not told."""
        return getattr(chat, name) if chat.HasField(name) else None

    return HistoryConversation(
        chat=text(chat.id),
        number=text(chat.pn_jid) or None,
        lid=text(chat.lid_jid) or None,
        name=text(chat.name) or None,
        username=text(chat.username) or None,
        description=text(chat.description) or None,
        last_message_at=chat.last_message_timestamp,
        conversation_at=chat.conversation_timestamp,
        created_at=chat.created_at,
        created_by=text(chat.created_by) or None,
        members=tuple(_member(item) for item in chat.members),
        archived=given("archived"),
        pinned_at=given("pinned"),
        muted_until=_mute_end(given("mute_end_time")),
        marked_unread=given("marked_as_unread"),
        unread=given("unread_count"),
        expiration=given("ephemeral_expiration"),
        expiration_at=max(chat.ephemeral_setting_timestamp, 0),
        end=given("end_of_history_type"),
        messages=messages,
    )


def _read_item(data: bytes) -> HistoryMessage:
    item = protobuf.parse(history_pb2.HistoryItem, data)
    return message_from(item.message, item.order if item.HasField("order") else None)


def _member(item: history_pb2.HistoryMember) -> Member:
    rank = item.rank if 0 <= item.rank < len(ROLES) else 0
    return Member(address=text(item.user_jid), role=ROLES[rank])


def _contact(item: history_pb2.HistoryInlineContact) -> InlineContact:
    return InlineContact(
        number=text(item.pn_jid) or None,
        lid=text(item.lid_jid) or None,
        full_name=text(item.full_name) or None,
        first_name=text(item.first_name) or None,
        username=text(item.username) or None,
    )


def _mute_end(value: int | None) -> int | None:
    """Unix seconds; phones write seconds or milliseconds, and -1 for ever."""
    if value is None:
        return None
    if value >= 2**63:
        return FOREVER
    return value // 1000 if value > _MILLISECONDS else value


def _is_message(field: Field, number: int) -> bool:
    return field.number == number and field.wire_type == LENGTH_DELIMITED
