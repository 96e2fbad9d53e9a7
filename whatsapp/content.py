"""What a decrypted message holds: its kind, its text for display, and its side data.

Source: docs/protocol.md#message-content
"""

import collections.abc as cabc
import typing as t

import attrs
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from whatsapp.content_kinds import SHAPES, Shape
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.media_source import MediaSource
from whatsapp.proto import wa_pb2

UNKNOWN: t.Final = "unknown"
NONE: t.Final = "none"

SIDE_KINDS: t.Final = frozenset(
    {
        "comment",
        "edit",
        "encrypted_comment",
        "encrypted_reaction",
        "event_response",
        "keep",
        NONE,
        "pin",
        "poll_vote",
        "reaction",
        "revoke",
        "secret_encrypted",
    }
)
"""The kinds which change or answer another message, and so never start a conversation."""

MAX_WRAPPERS: t.Final = 8
MAX_MENTIONS: t.Final = 1024

_FLAGS: t.Final = {
    "ephemeral_message": "ephemeral",
    "view_once_message": "view_once",
    "view_once_message_v2": "view_once",
    "view_once_message_v2_extension": "view_once",
    "edited_message": "edited",
    "associated_child_message": "associated",
    "group_status_message": "status",
    "group_status_message_v2": "status",
}


@attrs.frozen(kw_only=True)
class TargetKey:
    """A message as another one names it, from the point of view of that one's sender.

    Source: docs/protocol.md#message-content
    """

    remote_jid: str = ""
    from_me: bool = False
    id: str
    participant: str | None = None  # the author, in groups


@attrs.frozen(kw_only=True)
class Content:
    """One message, unwrapped. Texts are readable whatever the peer sent; ``raw`` is exact."""

    kind: str
    """``text``, ``image``, …; ``unknown`` for what is not known (yet); ``none`` for messages that
    only serve the protocol."""
    text: str | None = attrs.field(default=None, repr=False)
    """What to show: text, caption, name, or the choice made in a reply."""
    target_id: str | None = None
    """The message that is revoked, edited, reacted to, voted on, pinned, …"""
    target: TargetKey | None = None
    """The same, with what tells its author."""
    quoted_id: str | None = None
    quoted_author: str | None = None  # a JID as the sender wrote it
    mentions: tuple[str, ...] = ()
    flags: frozenset[str] = frozenset()
    """How it was wrapped: ``ephemeral``, ``view_once``, ``edited``, ``associated``, ``status``."""
    detail: cabc.Mapping[str, t.Any] = attrs.field(factory=dict, repr=False)
    """What the kind has besides text, ready for JSON."""
    media: MediaSource | None = None
    expiration: int | None = None  # seconds until it disappears
    edited: "Content | None" = None
    """An edit's new content."""
    device_sent: Jid | None = None
    """The chat, if this is a copy from another device of the own account."""
    sender_key_distribution: tuple[str, bytes] | None = attrs.field(default=None, repr=False)
    """The group's JID and what `e2ee.sender_key.process_distribution` takes."""
    protocol: str | None = None
    """The type of a protocol message, such as ``app_state_sync_key_share``."""
    raw: bytes = attrs.field(repr=False)


def read_content(plaintext: bytes) -> Content:
    """Read the plaintext of a message, padding removed.

    Raises:
        RemoteProtocolError: not a message, or a copy sent to no valid JID.
    """
    try:
        outer = wa_pb2.Message.FromString(plaintext)
    except DecodeError as error:
        raise RemoteProtocolError("not a message") from error
    unwrapped = _unwrap(outer)
    if unwrapped.message is None:
        content = Content(kind=UNKNOWN, raw=plaintext)
    else:
        content = _read_message(unwrapped.message, plaintext)
    return attrs.evolve(
        content,
        flags=content.flags | unwrapped.flags,
        device_sent=unwrapped.device_sent,
        sender_key_distribution=unwrapped.distribution,
    )


def build_text(text: str) -> bytes:
    """A plain text message, without padding."""
    return wa_pb2.Message(conversation=text.encode(errors="replace")).SerializeToString()


def build_device_sent(chat: Jid, message: bytes) -> bytes:
    """The copy of ``message`` for our account's other devices.

    Raises:
        LocalProtocolError: ``message`` is not a message.
    """
    try:
        inner = wa_pb2.Message.FromString(message)
    except DecodeError as error:
        raise LocalProtocolError("not a message") from error
    wrapped = wa_pb2.DeviceSentMessage(destination_jid=str(chat).encode(), message=inner)
    outer = wa_pb2.Message(device_sent_message=wrapped)
    if inner.HasField("message_context_info"):
        outer.message_context_info.CopyFrom(inner.message_context_info)
    return outer.SerializeToString()


def build_sender_key_distribution(group: Jid | str, distribution: bytes) -> bytes:
    """The message that hands a sender key to one member of a group."""
    fields = wa_pb2.SenderKeyDistributionMessage(
        group_id=str(group).encode(), axolotl_sender_key_distribution_message=distribution
    )
    return wa_pb2.Message(sender_key_distribution_message=fields).SerializeToString()


@attrs.frozen
class _Unwrapped:
    message: wa_pb2.Message | None  # None: wrapped too deep, or a wrapper around nothing
    flags: frozenset[str]
    device_sent: Jid | None
    distribution: tuple[str, bytes] | None


def _unwrap(message: wa_pb2.Message) -> _Unwrapped:
    """Peel off wrappers, and collect what they say on the way."""
    inner: wa_pb2.Message | None = message
    flags: set[str] = set()
    device_sent: Jid | None = None
    distribution: tuple[str, bytes] | None = None
    for _round in range(MAX_WRAPPERS + 1):
        if inner is None:
            break
        distribution = distribution or _distribution(inner)
        wrapper = _wrapper(inner)
        if wrapper is None:
            return _Unwrapped(inner, frozenset(flags), device_sent, distribution)
        name, wrapped = wrapper
        if isinstance(wrapped, wa_pb2.DeviceSentMessage):
            device_sent = device_sent or Jid.parse(_decode(wrapped.destination_jid))
        else:
            flags.add(_FLAGS.get(name, name.removesuffix("_message")))
        inner = wrapped.message if wrapped.HasField("message") else None
    return _Unwrapped(None, frozenset(flags), device_sent, distribution)


def _wrapper(
    message: wa_pb2.Message,
) -> tuple[str, wa_pb2.FutureProofMessage | wa_pb2.DeviceSentMessage] | None:
    for field, value in message.ListFields():
        if isinstance(value, wa_pb2.FutureProofMessage | wa_pb2.DeviceSentMessage):
            return field.name, value
    return None


def _distribution(message: wa_pb2.Message) -> tuple[str, bytes] | None:
    """The sender key handed out, if it is for a plausible group: the name becomes a record key."""
    fields = message.sender_key_distribution_message
    data = fields.axolotl_sender_key_distribution_message
    if not data:
        return None
    try:
        group = Jid.parse(_decode(fields.group_id))
    except RemoteProtocolError:
        return None
    name = group.user.replace("-", "")
    if not (name.isascii() and name.isalnum() and (group.is_group or group.is_broadcast)):
        return None
    return str(group), data


def _read_message(message: wa_pb2.Message, raw: bytes) -> Content:
    for field, value in message.ListFields():
        if (shape := SHAPES.get(field.name)) is not None:
            return _read_shape(shape, value, raw)
    if message.HasField("protocol_message"):
        return _read_protocol(message.protocol_message, raw)
    carries_keys = message.HasField("sender_key_distribution_message") or message.HasField(
        "fast_ratchet_key_sender_key_distribution_message"
    )
    if carries_keys and not len(UnknownFieldSet(message)):
        return Content(kind=NONE, raw=raw)
    return Content(kind=UNKNOWN, raw=raw)


def _read_protocol(protocol: wa_pb2.ProtocolMessage, raw: bytes) -> Content:
    types = wa_pb2.ProtocolMessage.Type
    if not (protocol.HasField("type") or protocol.HasField("key")):
        return Content(kind=NONE, protocol="untyped", raw=raw)
    target = _decode(protocol.key.id) or None
    if protocol.type == types.REVOKE:
        return Content(kind="revoke", protocol="revoke", target_id=target, raw=raw)
    if protocol.type == types.MESSAGE_EDIT:
        edited = _unwrap(protocol.edited_message).message or wa_pb2.Message()
        text = None if edited.HasField("protocol_message") else _read_message(edited, raw).text
        return Content(kind="edit", protocol="message_edit", target_id=target, text=text, raw=raw)
    known = protocol.type in types.values()
    name = types.Name(protocol.type).lower() if known else f"type_{protocol.type}"  # type: ignore[arg-type]
    return Content(kind=NONE, protocol=name, target_id=target, raw=raw)


def _read_shape(shape: Shape, value: Message | bytes, raw: bytes) -> Content:
    if shape.kind == "text" and isinstance(value, bytes):
        return Content(kind="text", text=_decode(value), raw=raw)
    payload = value if isinstance(value, bytes) else value.SerializeToString()
    texts = [_decode(part) for path in shape.text if (part := _follow(payload, path)) is not None]
    texts = [text for text in texts if text] or texts[:1]
    if not shape.all_texts:
        texts = texts[:1]
    target = _follow(payload, (*shape.key, 3)) if shape.key else None
    context = _context(payload, shape)
    flags = {"ephemeral"} if context.expiration else set()
    if getattr(value, "view_once", False):
        flags.add("view_once")
    return Content(
        kind=_refined_kind(shape.kind, value),
        text="\n".join(texts) if texts else None,
        target_id=_decode(target) if target else None,
        quoted_id=_decode(context.stanza_id) or None,
        mentions=tuple(_decode(jid) for jid in context.mentioned_jid[:MAX_MENTIONS]),
        flags=frozenset(flags),
        raw=raw,
    )


def _refined_kind(kind: str, value: Message | bytes) -> str:
    if isinstance(value, wa_pb2.VideoMessage) and value.gif_playback:
        return "gif"
    if isinstance(value, wa_pb2.AudioMessage) and value.ptt:
        return "voice"
    return kind


def _context(payload: bytes, shape: Shape) -> wa_pb2.ContextInfo:
    """The context inside a kind of content; an unreadable one counts as empty."""
    data = _follow(payload, (shape.context,)) if shape.context else None
    try:
        return wa_pb2.ContextInfo.FromString(data or b"")
    except DecodeError:
        return wa_pb2.ContextInfo()


def _follow(payload: bytes, path: tuple[int, ...]) -> bytes | None:
    """The bytes at a path of field numbers; None if nothing readable is there."""
    for number in path:
        try:
            fields = wa_pb2.Fields.FromString(payload)
        except DecodeError:
            return None
        name = f"field_{number}"
        if not fields.HasField(name):  # type: ignore[arg-type]
            return None
        payload = getattr(fields, name)
    return payload


def _decode(data: bytes) -> str:
    return data.decode(errors="replace")
