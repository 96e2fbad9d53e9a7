"""A batch made storable: checked, cleaned, its records folded. Shared by every storage.

What differs between PostgreSQL and the fake begins behind this step, so both see the same
identities, times and texts.
"""

import collections.abc as cabc
import hashlib
import typing as t

import attrs
from google.protobuf.message import DecodeError

from storage.api import (
    UNDECRYPTABLE,
    ChatKind,
    Envelope,
    Lane,
    ReceivedMessage,
    RecordChange,
    RecordKind,
    handled_key,
)
from storage.errors import StorageRejectedError
from storage.identity import (
    MAX_ID_LENGTH,
    MAX_KEY_BYTES,
    MAX_KEY_LENGTH,
    bounded,
    clean_text,
    external_id,
)
from whatsapp.jid import SERVER
from whatsapp.proto.records_pb2 import DeviceRecord

MAX_NAME_LENGTH: t.Final = 256  # characters of a push name
MAX_KIND_LENGTH: t.Final = 64
MAX_REASON_LENGTH: t.Final = 1_000
EARLIEST: t.Final = 1_230_768_000  # 2009-01-01: there was no WhatsApp before
FUTURE_TOLERANCE: t.Final = 86_400  # seconds a sender's clock may run ahead of ours

_INT64_MAX: t.Final = 2**63 - 1


@attrs.frozen(kw_only=True)
class PreparedMessage:
    """A message whose every field fits its column."""

    connection: str
    chat: str
    chat_alt: str | None
    chat_address: str  # the one to show: the phone number's where both are known
    chat_kind: ChatKind
    sender: str
    sender_alt: str | None
    sender_name: str | None
    from_me: bool
    external_id: str
    handled_keys: tuple[str, ...]  # under which its stanza may be known as handled
    kind: str
    text: str | None = attrs.field(repr=False)
    raw: bytes = attrs.field(repr=False)
    remote_timestamp: int  # as received, cut to 64 bits
    sent_at: float  # unix seconds; the arrival when WhatsApp's time is absurd
    lane: Lane
    undecryptable: bool
    reason: str | None

    @property
    def live(self) -> bool:
        """Whether it may open or reopen a conversation."""
        return self.lane is Lane.LIVE


@attrs.frozen
class PreparedRecord:
    """The last state of one record in a batch."""

    connection: str
    kind: RecordKind
    key: str
    value: bytes | None = attrs.field(repr=False)
    jid: str | None = None  # of a device record: the own address, once paired


@attrs.frozen
class PreparedBatch:
    """What a storage writes: messages and handled keys by position, then records."""

    messages: tuple[PreparedMessage | None, ...]
    handled: tuple[str | None, ...]
    connections: tuple[str, ...]  # by position
    resets: tuple[str, ...]  # connections whose records go before ``records`` are written
    records: tuple[PreparedRecord, ...]


def prepare(batch: cabc.Sequence[Envelope], now: float) -> PreparedBatch:
    """Make a batch storable; ``now`` is its arrival in unix seconds.

    Raises:
        StorageRejectedError: a field that identifies a message, or a record's key, is empty
            or too long.
    """
    resets, records = _fold_records(batch)
    return PreparedBatch(
        messages=tuple(
            None if item.message is None else prepare_message(item.connection, item.message, now)
            for item in batch
        ),
        handled=tuple(None if not item.handled else _handled(item.handled) for item in batch),
        connections=tuple(item.connection for item in batch),
        resets=resets,
        records=records,
    )


def prepare_message(connection: str, message: ReceivedMessage, now: float) -> PreparedMessage:
    """Make one message storable.

    Raises:
        StorageRejectedError: see :func:`prepare`.
    """
    chat, sender = _address("chat", message.chat), _address("sender", message.sender)
    direct = message.chat_kind is ChatKind.DIRECT
    chat_alt = _alternative(message.chat_alt, chat) if direct else None
    sender_alt = _alternative(message.sender_alt, sender)
    identity = external_id(message)
    undecryptable = message.kind == UNDECRYPTABLE
    return PreparedMessage(
        connection=connection,
        chat=chat,
        chat_alt=chat_alt,
        chat_address=chat_alt if chat_alt is not None and _is_number(chat_alt) else chat,
        chat_kind=message.chat_kind,
        sender=sender,
        sender_alt=sender_alt,
        sender_name=clean_text(message.sender_name)[:MAX_NAME_LENGTH].strip() or None
        if message.sender_name
        else None,
        from_me=message.from_me,
        external_id=identity,
        handled_keys=_handled_keys(message, identity) if undecryptable else (),
        kind=_kind(message.kind),
        text=None if message.text is None else clean_text(message.text),
        raw=message.raw,
        remote_timestamp=max(-_INT64_MAX, min(message.sent_at, _INT64_MAX)),
        sent_at=plausible_time(message.sent_at, now),
        lane=message.lane,
        undecryptable=undecryptable,
        reason=None if message.reason is None else clean_text(message.reason)[:MAX_REASON_LENGTH],
    )


@attrs.frozen(kw_only=True)
class PreparedQuarantine:
    """The columns of a quarantine row; nothing a peer sends makes it fail."""

    fingerprint: str  # the same for a redelivery
    chat: str | None
    sender: str | None
    external_id: str | None
    error: str
    stanza: bytes = attrs.field(repr=False)
    raw: bytes = attrs.field(repr=False)


def prepare_quarantine(
    envelope: Envelope, error: str, now: float
) -> tuple[PreparedQuarantine, PreparedBatch]:
    """The row that keeps a rejected envelope, and what else of it is to be committed.

    Records that are themselves what was rejected are left out: the error then says so.
    """
    message = envelope.message
    try:
        rest = prepare([attrs.evolve(envelope, message=None)], now)
    except StorageRejectedError as rejected:
        error = f"{error}; its records are not stored: {rejected}"
        rest = prepare([Envelope(connection=envelope.connection)], now)
    row = PreparedQuarantine(
        fingerprint=_fingerprint(envelope),
        chat=None if message is None else clean_text(message.chat)[:MAX_ID_LENGTH],
        sender=None if message is None else clean_text(message.sender)[:MAX_ID_LENGTH],
        external_id=None
        if message is None or message.external_id is None
        else clean_text(message.external_id)[:MAX_ID_LENGTH],
        error=clean_text(error)[:MAX_REASON_LENGTH],
        stanza=envelope.stanza,
        raw=b"" if message is None else message.raw,
    )
    return row, rest


def _fingerprint(envelope: Envelope) -> str:
    message = envelope.message
    parts: tuple[str, ...] = ("stanza", envelope.stanza.hex())
    if message is not None and message.external_id:
        parts = (message.chat, message.sender, message.external_id)
    elif message is not None and not envelope.stanza:
        parts = (message.chat, message.sender, str(message.sent_at), message.raw.hex())
    framed = b"".join(
        len(part).to_bytes(8, "big") + part.encode("utf-8", "surrogatepass") for part in parts
    )
    return hashlib.sha256(framed).hexdigest()


def plausible_time(sent_at: int, now: float) -> float:
    """WhatsApp's time, or the arrival ``now`` when no message can have been sent then."""
    return float(sent_at) if EARLIEST <= sent_at <= now + FUTURE_TOLERANCE else now


def _address(name: str, value: str) -> str:
    value = clean_text(value)
    if not 0 < len(value) <= MAX_ID_LENGTH:
        raise StorageRejectedError(f"{name} of {len(value)} characters")
    return value


def _alternative(value: str | None, address: str) -> str | None:
    value = clean_text(value) if value else None
    return value if value and value != address and len(value) <= MAX_ID_LENGTH else None


def _is_number(address: str) -> bool:
    return address.endswith("@" + SERVER)


def _kind(value: str) -> str:
    value = clean_text(value)
    if not 0 < len(value) <= MAX_KIND_LENGTH:
        raise StorageRejectedError(f"kind of {len(value)} characters")
    return value


def _handled(key: str) -> str:
    return bounded(key, MAX_KEY_LENGTH, "hashed-")


def _record_key(change: RecordChange) -> str:
    key = clean_text(change.key)
    if len(key) > MAX_KEY_LENGTH or len(key.encode()) > MAX_KEY_BYTES:
        raise StorageRejectedError(f"{change.kind.value} key of {len(key)} characters")
    return key


def _handled_keys(message: ReceivedMessage, identity: str) -> tuple[str, ...]:
    chats = [chat for chat in (message.chat, message.chat_alt) if chat]
    senders = [sender for sender in (message.sender, message.sender_alt) if sender]
    name = message.external_id or identity
    return tuple(_handled(handled_key(chat, sender, name)) for chat in chats for sender in senders)


def _fold_records(
    batch: cabc.Sequence[Envelope],
) -> tuple[tuple[str, ...], tuple[PreparedRecord, ...]]:
    """What remains of the records after all changes in order: later ones win."""
    resets: dict[str, None] = {}
    final: dict[str, dict[tuple[RecordKind, str], bytes | None]] = {}
    for item in batch:
        changes = final.setdefault(item.connection, {})
        if item.reset_records:
            resets[item.connection] = None
            changes.clear()
        for change in item.records:
            changes[change.kind, _record_key(change)] = change.value
    records = tuple(
        PreparedRecord(
            connection, kind, key, value, _jid(value) if kind is RecordKind.DEVICE else None
        )
        for connection, changes in final.items()
        for (kind, key), value in changes.items()
    )
    return tuple(resets), records


def _jid(device: bytes | None) -> str | None:
    if device is None:
        return None
    try:
        return clean_text(DeviceRecord.FromString(device).jid) or None
    except DecodeError:
        return None  # not for storage to judge; a device that cannot be read is not paired
