"""A batch made storable: checked, cleaned, its records folded. Shared by every storage.

What differs between PostgreSQL and the fake begins behind this step, so both see the same
identities, times and texts.
"""

import collections.abc as cabc
import hashlib
import json
import math
import typing as t

import attrs
import structlog
from google.protobuf.message import DecodeError

from storage.api import (
    UNDECRYPTABLE,
    ChatKind,
    Envelope,
    Lane,
    MediaFile,
    ReceivedMessage,
    RecordChange,
    RecordKind,
    handled_key,
)
from storage.errors import StorageRejectedError
from storage.facts import AddressPair, Fact
from storage.gaps import DeviceReplaced, QueuedStanza
from storage.identity import (
    MAX_ID_LENGTH,
    MAX_KEY_BYTES,
    MAX_KEY_LENGTH,
    bounded,
    clean_text,
    external_id,
)
from storage.kept import keep_message
from storage.prepare_facts import (
    MAX_NAME_LENGTH,
    MAX_TOKEN_LENGTH,
    PreparedPair,
    plausible_time,
    prepare_fact,
)
from storage.prepare_gaps import PreparedStep, prepare_step
from storage.prepare_queues import OF_DEVICE
from whatsapp.binary import codec
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.proto.records_pb2 import DeviceRecord

_log = structlog.get_logger()

MAX_KIND_LENGTH: t.Final = 64
MAX_REASON_LENGTH: t.Final = 1_000
MAX_FILE_NAME_LENGTH: t.Final = 1_024
MAX_DETAIL_LENGTH: t.Final = 262_144  # characters of JSON
MAX_DETAIL_DEPTH: t.Final = 32
MAX_MENTIONS: t.Final = 1_024  # a group's members at most
MAX_FLAGS: t.Final = 32
SHA256_LENGTH: t.Final = 32

_INT64_MAX: t.Final = 2**63 - 1


@attrs.frozen(kw_only=True)
class PreparedMessage:
    """A message whose every field fits its column."""

    connection: str
    chat: str
    chat_alt: str | None
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
    target_id: str | None
    target_author: str | None
    quoted_id: str | None
    quoted_author: str | None
    mentions: tuple[str, ...]
    flags: tuple[str, ...]
    detail: dict[str, t.Any] | None = attrs.field(repr=False)  # None: none
    media: MediaFile | None
    quiet: bool = False  # the stream of events does not tell of it

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
    """What a storage writes: first pairs, then messages and handled keys by position, then
    records, then facts."""

    messages: tuple[PreparedMessage | None, ...]
    handled: tuple[str | None, ...]
    connections: tuple[str, ...]  # by position
    resets: tuple[str, ...]  # connections whose records go before ``records`` are written
    records: tuple[PreparedRecord, ...]
    pairs: tuple[PreparedPair, ...] = ()
    """Addresses known to be one person's besides those of the messages, which come first."""
    facts: tuple[tuple[str, Fact], ...] = ()  # with their connections, in order
    gaps: tuple[PreparedStep, ...] = ()  # in order


def prepare(batch: cabc.Sequence[Envelope], now: float) -> PreparedBatch:
    """Make a batch storable; ``now`` is its arrival in unix seconds.

    Raises:
        StorageRejectedError: a field that identifies a message, a record's key, or what a fact
            is about is empty or too long.
    """
    resets, records = _fold_records(batch)
    pairs = [pair for record in records if (pair := _own_addresses(record)) is not None]
    facts: list[tuple[str, Fact]] = []
    for item in batch:
        if item.reset_records:  # what the old device knew goes with it
            facts = [
                (connection, fact)
                for connection, fact in facts
                if connection != item.connection or not isinstance(fact, OF_DEVICE)
            ]
        for fact in item.facts:
            clean, shown = prepare_fact(item.connection, fact, now)
            pairs.extend(shown)
            if not isinstance(clean, AddressPair):
                facts.append((item.connection, clean))
    return PreparedBatch(
        messages=tuple(
            None if item.message is None else _prepare(item, item.message, now) for item in batch
        ),
        handled=tuple(None if not item.handled else _handled(item.handled) for item in batch),
        connections=tuple(item.connection for item in batch),
        resets=resets,
        records=records,
        pairs=tuple(dict.fromkeys(pairs)),
        facts=tuple(facts),
        gaps=tuple(_gap_steps(batch, now)),
    )


def _prepare(item: Envelope, message: ReceivedMessage, now: float) -> PreparedMessage:
    prepared = prepare_message(item.connection, message, now)
    return attrs.evolve(prepared, quiet=True) if item.quiet else prepared


def _gap_steps(batch: cabc.Sequence[Envelope], now: float) -> cabc.Iterator[PreparedStep]:
    for position, item in enumerate(batch):
        if item.reset_records:
            yield prepare_step(item.connection, position, DeviceReplaced(), now)
        if item.gap is not None:
            yield prepare_step(item.connection, position, item.gap, now)


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
        target_id=_reference(message.target_id),
        target_author=_alternative(message.target_author, ""),
        quoted_id=_reference(message.quoted_id),
        quoted_author=_alternative(message.quoted_author, ""),
        mentions=tuple(
            clean
            for item in message.mentions[:MAX_MENTIONS]
            if (clean := _alternative(item, "")) is not None
        ),
        flags=tuple(clean_text(item)[:MAX_TOKEN_LENGTH] for item in message.flags[:MAX_FLAGS]),
        detail=_detail(message.detail) if message.detail else None,
        media=None if message.media is None else _media(message.media),
    )


def prepare_rewrite(
    connection: str, message: ReceivedMessage, expected: str, now: float
) -> PreparedMessage:
    """Make what a stored message is read as now storable.

    Raises:
        StorageRejectedError: see :func:`prepare`; or a placeholder is on one of the two sides.
    """
    prepared = prepare_message(connection, message, now)
    if prepared.undecryptable or expected == UNDECRYPTABLE:
        raise StorageRejectedError("a placeholder is filled by its message, not by reading it anew")
    return prepared


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
    kept: bytes | None = attrs.field(repr=False)  # the message as read, without ``raw``
    opened: bool  # its ciphertext cannot be opened again


def prepare_quarantine(
    envelope: Envelope, error: str, now: float
) -> tuple[PreparedQuarantine, PreparedBatch]:
    """The row that keeps a rejected envelope, and what else of it is to be committed.

    Facts or records that are themselves what was rejected are left out: the error then says so.
    """
    message = envelope.message
    fingerprint = _fingerprint(envelope)
    gap = envelope.gap
    if isinstance(gap, QueuedStanza):
        gap = attrs.evolve(gap, quarantined=fingerprint)
    attempts = (
        ("", attrs.evolve(envelope, message=None, gap=gap)),
        ("its facts are not stored", attrs.evolve(envelope, message=None, facts=(), gap=gap)),
        ("its facts and records are not stored", Envelope(connection=envelope.connection, gap=gap)),
    )
    for left_out, attempt in attempts:
        try:
            rest = prepare([attempt], now)
        except StorageRejectedError as rejected:
            cause = str(rejected)
            continue
        if left_out:
            error = f"{error}; {left_out}: {cause}"
        break
    row = PreparedQuarantine(
        fingerprint=fingerprint,
        chat=None if message is None else clean_text(message.chat)[:MAX_ID_LENGTH],
        sender=None if message is None else clean_text(message.sender)[:MAX_ID_LENGTH],
        external_id=None
        if message is None or message.external_id is None
        else clean_text(message.external_id)[:MAX_ID_LENGTH],
        error=clean_text(error)[:MAX_REASON_LENGTH],
        stanza=envelope.stanza,
        raw=b"" if message is None else message.raw,
        kept=None if message is None else keep_message(message),
        opened=bool(rest.records or envelope.handled),
    )
    return row, rest


def _fingerprint(envelope: Envelope) -> str:
    message = envelope.message
    parts: tuple[str, ...] = ("stanza", _as_sent(envelope.stanza).hex())
    if message is not None and message.external_id:
        parts = (message.chat, message.sender, message.external_id)
    elif message is not None and not envelope.stanza:
        parts = (message.chat, message.sender, str(message.sent_at), message.raw.hex())
    framed = b"".join(
        len(part).to_bytes(8, "big") + part.encode("utf-8", "surrogatepass") for part in parts
    )
    return hashlib.sha256(framed).hexdigest()


def _as_sent(stanza: bytes) -> bytes:
    """A stanza without the mark of its delivery, by which its redeliveries differ; what is none,
    as it is."""
    try:
        node = codec.decode(stanza)
    except RemoteProtocolError:
        return stanza
    attributes = {name: value for name, value in node.attrs.items() if name != "offline"}
    return codec.encode(attrs.evolve(node, attrs=attributes))


def _address(name: str, value: str) -> str:
    value = clean_text(value)
    if not 0 < len(value) <= MAX_ID_LENGTH:
        raise StorageRejectedError(f"{name} of {len(value)} characters")
    return value


def _alternative(value: str | None, address: str) -> str | None:
    value = clean_text(value) if value else None
    return value if value and value != address and len(value) <= MAX_ID_LENGTH else None


def _reference(value: str | None) -> str | None:
    """The id of another message, in the form in which that message is stored."""
    return bounded(value, MAX_ID_LENGTH, "hashed-") if value else None


def _media(media: MediaFile) -> MediaFile:
    return MediaFile(
        kind=_kind(media.kind),
        mimetype=clean_text(media.mimetype)[:MAX_NAME_LENGTH] if media.mimetype else None,
        size=media.size if media.size is not None and 0 <= media.size <= _INT64_MAX else None,
        name=clean_text(media.name)[:MAX_FILE_NAME_LENGTH] if media.name else None,
        sha256=media.sha256 if len(media.sha256) == SHA256_LENGTH else b"",
    )


def _detail(detail: cabc.Mapping[str, t.Any]) -> dict[str, t.Any] | None:
    """What of a detail JSON and PostgreSQL can hold; the raw bytes have it whole."""
    clean: dict[str, t.Any] = clean_json(dict(detail))
    length = len(json.dumps(clean, ensure_ascii=False))
    if length > MAX_DETAIL_LENGTH:
        _log.warning("storage.detail_dropped", length=length, limit=MAX_DETAIL_LENGTH)
        return None
    return clean or None


def clean_json(value: t.Any, depth: int = MAX_DETAIL_DEPTH) -> t.Any:
    """``value`` as jsonb can store it: cleaned texts; null for what JSON does not know, for
    numbers that are none or too large, and below ``depth``."""
    match value:
        case str():
            return clean_text(value)
        case bool() | None:
            return value
        case int():
            return value if abs(value) <= _INT64_MAX else None
        case float():
            return value if math.isfinite(value) else None
        case dict() if depth:
            return {
                clean_text(str(key)): clean_json(item, depth - 1) for key, item in value.items()
            }
        case list() | tuple() if depth:
            return [clean_json(item, depth - 1) for item in value]
    return None


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


def _own_addresses(record: PreparedRecord) -> PreparedPair | None:
    """The account's own addresses, as its device record tells them."""
    if record.kind is not RecordKind.DEVICE or record.jid is None or record.value is None:
        return None
    own = []
    for text in (record.jid, DeviceRecord.FromString(record.value).lid):
        try:
            own.append(str(Jid.parse(text).bare) if text else None)
        except RemoteProtocolError:
            own.append(None)
    if own[0] is None:
        return None
    return PreparedPair(
        record.connection, clean_text(own[0]), _alternative(own[1], own[0]), True, "login"
    )


def _jid(device: bytes | None) -> str | None:
    if device is None:
        return None
    try:
        return clean_text(DeviceRecord.FromString(device).jid) or None
    except DecodeError:
        return None  # not for storage to judge; a device that cannot be read is not paired
