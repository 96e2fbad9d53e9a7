"""The records of an archive: what is exported and imported, one JSON object a line.

Nothing in them is a number of the database. A contact is named by any of its addresses; a chat by
its kind and address; a conversation by its chat and the moment at which it was opened; a message
by chat, sender and WhatsApp's id. The order of lines is the order of arrival. See docs/archive.md.
"""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs

from storage.archive_codec import (
    BASE64,
    BIGINT,
    BOOLEAN,
    CONNECTION,
    COUNT,
    HEX,
    ID,
    INTEGER,
    JSON,
    KIND,
    TEXT,
    TIME,
    RecordError,
    choice,
    dump_line,
    integer,
    load_line,
    shape_of,
)

FORMAT: t.Final = "zapvisor-archive"
VERSION: t.Final = 1
"""Raised when a reader of the former version could not read it right any more."""

LEFT_OUT: t.Final = (
    "API tokens",
    "credentials, keys and sessions of WhatsApp",
    "events, gaps, transitions and statistics of the daemon",
    "history that is not imported yet",
    "messages that are still to be sent",
    "messages with people who were forgotten, and the tombstones of these",
    "settings of the configuration",
    "the quarantine",
    "the record of merged contacts",
)
"""What an archive never holds: what lets others in, and what only means something to the database
that it came from. ``zapvisor db backup`` keeps all of it, sealed."""

Base64: t.TypeAlias = t.Annotated[bytes, BASE64]
Bigint: t.TypeAlias = t.Annotated[int, BIGINT]
Boolean: t.TypeAlias = t.Annotated[bool, BOOLEAN]
Count: t.TypeAlias = t.Annotated[int, COUNT]
Hex: t.TypeAlias = t.Annotated[bytes, HEX]
Id: t.TypeAlias = t.Annotated[str, ID]
Integer: t.TypeAlias = t.Annotated[int, INTEGER]
Json: t.TypeAlias = t.Annotated[t.Any, JSON]
Kind: t.TypeAlias = t.Annotated[str, KIND]
Ordinal: t.TypeAlias = t.Annotated[int, integer(1, 2**31 - 1)]
Text: t.TypeAlias = t.Annotated[str, TEXT]
Time: t.TypeAlias = t.Annotated[dt.datetime, TIME]
ConnectionName: t.TypeAlias = t.Annotated[str, CONNECTION]
ChatKind: t.TypeAlias = t.Annotated[str, choice("direct", "group")]
Lane: t.TypeAlias = t.Annotated[str, choice("live", "history", "side")]
Erased: t.TypeAlias = t.Annotated[str, choice("retention", "forgotten")]
MediaState: t.TypeAlias = t.Annotated[
    str, choice("pending", "stored", "expired", "failed", "skipped", "removed")
]
MessageState: t.TypeAlias = t.Annotated[str, choice("stored", "undecryptable")]
NameSource: t.TypeAlias = t.Annotated[str, choice("saved", "business", "push", "username")]
ReopenFrom: t.TypeAlias = t.Annotated[str, choice("closed_at", "last_message")]
SettingName: t.TypeAlias = t.Annotated[
    str, choice("archived", "muted_until", "pinned", "unread", "read_until", "expiration")
]
Status: t.TypeAlias = t.Annotated[str, choice("waiting", "open", "closed")]


@attrs.frozen(kw_only=True)
class Header:
    """The first line."""

    record: t.ClassVar[str] = "header"
    format: Kind = FORMAT
    version: Count = VERSION
    left_out: tuple[Text, ...] = LEFT_OUT


@attrs.frozen(kw_only=True)
class Connection:
    """An account; its lines follow, those of the next one after them."""

    record: t.ClassVar[str] = "connection"
    connection: ConnectionName
    created_at: Time
    reopen_window: Count  # microseconds
    reopen_from: ReopenFrom
    team_reopens: Boolean


@attrs.frozen(kw_only=True)
class Address:
    """One address of a contact."""

    address: Id
    created_at: Time


@attrs.frozen(kw_only=True)
class Name:
    """What a contact is called, and by whom."""

    address: Id
    source: NameSource
    name: Text = attrs.field(repr=False)  # empty: taken back
    at: Time  # the epoch: unknown


@attrs.frozen(kw_only=True)
class Contact:
    """A person with all known addresses and names."""

    record: t.ClassVar[str] = "contact"
    connection: ConnectionName
    is_self: Boolean  # the account itself
    created_at: Time
    addresses: tuple[Address, ...]
    names: tuple[Name, ...] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Member:
    """One who is in a group, or left it since the newest list of members."""

    address: Id
    present: Boolean
    role: Kind
    at: Time


@attrs.frozen(kw_only=True)
class Group:
    """A group as last heard, each part by itself."""

    record: t.ClassVar[str] = "group"
    connection: ConnectionName
    address: Id
    subject: Text | None = attrs.field(default=None, repr=False)
    subject_at: Time | None = None
    description: Text | None = attrs.field(default=None, repr=False)
    description_at: Time | None = None
    announce: Boolean | None = None
    announce_at: Time | None = None
    locked: Boolean | None = None
    locked_at: Time | None = None
    expiration: Integer | None = None  # seconds; 0: off
    expiration_at: Time | None = None
    owner: Text | None = None
    created_at: Time | None = None
    members_at: Time | None = None
    members: tuple[Member, ...]


@attrs.frozen(kw_only=True)
class Label:
    """A label of a business account."""

    record: t.ClassVar[str] = "label"
    connection: ConnectionName
    id: Id
    name: Text = attrs.field(repr=False)
    color: Integer
    deleted: Boolean
    at: Time


@attrs.frozen(kw_only=True)
class Chat:
    """A chat: with a person, or of a group."""

    record: t.ClassVar[str] = "chat"
    connection: ConnectionName
    kind: ChatKind
    address: Id  # direct: one of the contact's
    created_at: Time


@attrs.frozen(kw_only=True)
class ConversationKey:
    """Which conversation of a chat."""

    opened_at: Time
    nth: Ordinal = 1
    """Of those of the chat that were opened at that moment, in the order of their making."""


@attrs.frozen(kw_only=True)
class Conversation:
    """A conversation of a chat."""

    record: t.ClassVar[str] = "conversation"
    connection: ConnectionName
    chat_kind: ChatKind
    chat: Id
    key: ConversationKey
    status: Status
    messages: Count  # that it has; an extract may hold fewer
    last_message_at: Time
    closed_at: Time | None = None  # there if and only if it is closed
    reopened: Integer
    reopened_at: Time | None = None


@attrs.frozen(kw_only=True)
class ConversationMerged:
    """A conversation, empty now, whose messages are in another one of the chat."""

    record: t.ClassVar[str] = "conversation_merged"
    connection: ConnectionName
    chat_kind: ChatKind
    chat: Id
    key: ConversationKey
    into: ConversationKey


@attrs.frozen(kw_only=True)
class Media:
    """The file of a message. Its bytes lie in a file named after ``blob_sha256``, or nowhere."""

    kind: Text
    mimetype: Text | None = None  # these four as claimed by the sender
    size: Bigint | None = None  # bytes
    name: Text | None = attrs.field(default=None, repr=False)
    sha256: Hex  # empty: not told
    live: Boolean  # not from the history: fetched first
    state: MediaState
    direct_path: Text | None = attrs.field(default=None, repr=False)
    blob_sha256: Hex | None = None  # these three: stored and removed ones only
    blob_size: Count | None = None  # bytes
    stored_at: Time | None = None
    error: Text | None = None


@attrs.frozen(kw_only=True)
class Message:
    """A message as stored. One that changes another (an edit, a deletion, a reaction, a vote) is a
    message of its own, which names its target; nothing is applied to that."""

    record: t.ClassVar[str] = "message"
    connection: ConnectionName
    chat_kind: ChatKind
    chat: Id
    sender: Id | None = None  # None: the account itself
    external_id: Id
    conversation: ConversationKey | None = None
    """None: on import it finds its place by its time, like a message of the history."""
    kind: Kind
    state: MessageState
    from_me: Boolean
    lane: Lane
    remote_timestamp: Bigint  # unix seconds, as WhatsApp told, however absurd
    sent_at: Time
    received_at: Time
    filled_at: Time | None = None
    retries: Integer
    reason: Text | None = None
    verdict: Text | None = None
    text: Text | None = attrs.field(default=None, repr=False)
    raw: Base64 = attrs.field(repr=False)  # the plaintext as received
    target_id: Id | None = None
    target_author: Id | None = None
    quoted_id: Id | None = None
    quoted_author: Id | None = None
    mentions: tuple[Text, ...] | None = None
    flags: tuple[Text, ...] | None = None
    detail: Json | None = attrs.field(default=None, repr=False)
    media: Media | None = None
    erased: Erased | None = None  # why it has no content any more; it stays so
    erased_at: Time | None = None


@attrs.frozen(kw_only=True)
class Receipt:
    """How far a message of ours got with one recipient."""

    record: t.ClassVar[str] = "receipt"
    connection: ConnectionName
    external_id: Id
    chat: Id
    recipient: Id
    delivered_at: Time | None = None
    read_at: Time | None = None
    played_at: Time | None = None


@attrs.frozen(kw_only=True)
class LabelLink:
    """A label on a chat, or on one message of it."""

    record: t.ClassVar[str] = "label_link"
    connection: ConnectionName
    chat: Id
    label: Id
    message_id: Text | None = None  # None: the chat as a whole
    labelled: Boolean
    at: Time


@attrs.frozen(kw_only=True)
class ChatSetting:
    """A setting of a chat on the phone, the newest known."""

    record: t.ClassVar[str] = "chat_setting"
    connection: ConnectionName
    address: Id
    setting: SettingName
    value: Json
    at: Time


@attrs.frozen(kw_only=True)
class End:
    """The last line: an archive without it was cut off."""

    record: t.ClassVar[str] = "end"
    records: Count  # lines before this one


Record: t.TypeAlias = (
    Header
    | Connection
    | Label
    | Contact
    | Group
    | Chat
    | Conversation
    | ConversationMerged
    | Message
    | Receipt
    | LabelLink
    | ChatSetting
    | End
)

KINDS: t.Final[cabc.Mapping[str, type]] = {
    kind.record: t.cast("type", kind) for kind in t.get_args(Record)
}


def encode_record(record: Record) -> bytes:
    """One line, its end included."""
    encoded = shape_of(t.cast("type", type(record))).encode(record)
    encoded["record"] = record.record
    return dump_line(encoded)


def decode_record(line: bytes) -> Record:
    """The record of one line.

    Raises:
        RecordError: it is none; says what is wrong, without quoting what people wrote.
    """
    value = load_line(line)
    if not isinstance(value, dict):
        raise RecordError("it is not a JSON object")
    name = value.pop("record", None)
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise RecordError('it is no record of this version: "record" is missing or not known')
    found: Record = shape_of(kind).decode(value, "")
    check_record(found)
    return found


def check_record(record: Record) -> None:
    """Refuse what the shapes of single fields do not tell.

    Raises:
        RecordError: the record contradicts itself.
    """
    if not isinstance(record, Header | End):
        CONNECTION.decode(record.connection, "connection")
    match record:
        case Conversation(status=status, closed_at=closed_at):
            if (status == "closed") != (closed_at is not None):
                raise RecordError("closed_at does not go with status")
        case Message(state=state, kind=kind, verdict=verdict, media=media):
            if (state == "undecryptable") != (kind == "undecryptable"):
                raise RecordError("state does not go with kind")
            if verdict is not None and state != "undecryptable":
                raise RecordError("verdict does not go with state")
            _check_erased(record)
            if media is not None:
                _check_media(media)
        case Contact(addresses=addresses, names=names, is_self=is_self):
            known = {each.address for each in addresses}
            if not known and not is_self:
                raise RecordError("addresses is empty")
            if any(each.address not in known for each in names):
                raise RecordError("names has an address that is not in addresses")
        case _:
            pass


def _check_erased(message: Message) -> None:
    if (message.erased is None) != (message.erased_at is None):
        raise RecordError("erased_at does not go with erased")
    if message.erased is not None and (message.text, message.raw, message.media) != (
        None,
        b"",
        None,
    ):
        raise RecordError("it is erased, and has content")


def _check_media(media: Media) -> None:
    parts = (media.blob_sha256, media.blob_size, media.stored_at)
    there = [part is not None for part in parts]
    if there != [media.state in ("stored", "removed")] * 3:
        raise RecordError("media.state does not go with what is told of the stored file")
    if media.blob_sha256 is not None and len(media.blob_sha256) != 32:
        raise RecordError("media.blob_sha256 is not 32 bytes long")


def schema() -> dict[str, t.Any]:
    """The JSON Schema of one line."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"One line of an archive of zapvisor, version {VERSION}",
        "oneOf": [_schema_of(name, kind) for name, kind in KINDS.items()],
    }


def _schema_of(name: str, kind: type) -> dict[str, t.Any]:
    shape = dict(shape_of(kind).schema)
    return {
        "title": name,
        "description": " ".join((kind.__doc__ or "").split()),
        **shape,
        "required": ["record", *shape["required"]],
        "properties": {"record": {"const": name}, **shape["properties"]},
    }
