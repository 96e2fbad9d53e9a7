"""What a decrypted message holds: its kind, its text for display, and its side data.

Source: docs/protocol.md#message-content
"""

import collections.abc as cabc
import typing as t

import attrs
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from whatsapp.content_detail import association_detail, context_detail, read_detail
from whatsapp.content_kinds import SHAPES, SILENT, Shape
from whatsapp.content_media import media_source as media_source
from whatsapp.content_media import message_secret as message_secret
from whatsapp.content_media import source_in
from whatsapp.content_parts import (
    Unwrapped,
    decode,
    encode,
    follow,
    lenient,
    parse_message,
    pick,
    unwrap,
)
from whatsapp.errors import LocalProtocolError
from whatsapp.jid import Jid
from whatsapp.media_source import MediaSource
from whatsapp.proto import wa_pb2

UNKNOWN: t.Final = "unknown"
NONE: t.Final = "none"

SIDE_KINDS: t.Final = frozenset(
    {
        "comment",
        "disappearing",
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

MAX_MENTIONS: t.Final = 1024
VIEW_ONCE: t.Final = "view_once"

_PROTOCOL_KINDS: t.Final[cabc.Mapping[int, str]] = {
    wa_pb2.ProtocolMessage.REVOKE: "revoke",
    wa_pb2.ProtocolMessage.MESSAGE_EDIT: "edit",
    wa_pb2.ProtocolMessage.EPHEMERAL_SETTING: "disappearing",
}


@attrs.frozen(kw_only=True)
class TargetKey:
    """A message as another one names it, from the point of view of that one's sender.

    Source: docs/protocol.md#message-keys
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
    """What it says of itself and how it was wrapped: ``forwarded``, ``ephemeral``, ``view_once``,
    ``edited``, ``associated``, ``status``, …"""
    detail: cabc.Mapping[str, t.Any] = attrs.field(factory=dict, repr=False)
    """What the kind has besides text, ready for JSON and bounded."""
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
    unwrapped = unwrap(parse_message(plaintext))
    if unwrapped.message is None:
        content = Content(kind=UNKNOWN, raw=plaintext)
    else:
        content = _read_message(unwrapped.message, plaintext)
    return attrs.evolve(
        _with_wrappers(content, unwrapped),
        device_sent=unwrapped.device_sent,
        sender_key_distribution=unwrapped.distribution,
    )


def build_text(text: str) -> bytes:
    """A plain text message, without padding."""
    return wa_pb2.Message(conversation=encode(text)).SerializeToString()


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


def _read_message(message: wa_pb2.Message, raw: bytes) -> Content:
    for field, value in message.ListFields():
        if (shape := SHAPES.get(field.name)) is not None:
            return _read_shape(field.name, shape, value, raw)
    if message.HasField("protocol_message"):
        return _read_protocol(message.protocol_message, raw)
    silent = any(message.HasField(name) for name in SILENT)
    if silent and not len(UnknownFieldSet(message)):
        return Content(kind=NONE, raw=raw)
    return Content(kind=UNKNOWN, raw=raw)


def _read_protocol(protocol: wa_pb2.ProtocolMessage, raw: bytes) -> Content:
    types = wa_pb2.ProtocolMessage.Type
    if not (protocol.HasField("type") or protocol.HasField("key")):
        return Content(kind=NONE, protocol="untyped", raw=raw)
    target = _target(protocol.key)
    known = protocol.type in types.values()
    name = types.Name(protocol.type).lower() if known else f"type_{protocol.type}"  # type: ignore[arg-type]
    content = Content(
        kind=_PROTOCOL_KINDS.get(protocol.type, NONE),
        protocol=name,
        target_id=None if target is None else target.id,
        target=target,
        detail=pick(protocol, sent_at_ms="timestamp_ms"),
        raw=raw,
    )
    if protocol.type == types.MESSAGE_EDIT:
        return with_edit(content, _read_edited(protocol.edited_message))
    if protocol.type == types.EPHEMERAL_SETTING:
        seconds = protocol.ephemeral_expiration
        return attrs.evolve(content, detail={**content.detail, "expiration": seconds})
    return content


def with_edit(content: Content, edited: Content) -> Content:
    """An edit, now that its new content is known."""
    detail = {**content.detail, "kind": edited.kind}
    if edited.detail:
        detail["detail"] = edited.detail
    return attrs.evolve(
        content,
        kind="edit",
        text=edited.text,
        mentions=edited.mentions,
        detail=detail,
        edited=edited,
    )


def _read_edited(message: wa_pb2.Message) -> Content:
    """The new content of an edit; an edit inside an edit says nothing."""
    raw = message.SerializeToString()
    unwrapped = unwrap(message)
    inner = unwrapped.message
    if inner is None or inner.HasField("protocol_message"):
        return Content(kind=UNKNOWN, raw=raw)
    return _with_wrappers(_read_message(inner, raw), unwrapped)


def _with_wrappers(content: Content, unwrapped: Unwrapped) -> Content:
    flags = content.flags | unwrapped.flags
    kind = content.kind
    if kind == UNKNOWN and VIEW_ONCE in flags and _is_bare(unwrapped.message):
        kind = VIEW_ONCE
    detail = {**content.detail, **association_detail(unwrapped.association)}
    if kind == "pin" and unwrapped.duration:
        detail["duration"] = unwrapped.duration
    return attrs.evolve(content, kind=kind, flags=flags, detail=detail)


def _is_bare(message: wa_pb2.Message | None) -> bool:
    """Whether nothing is left in a message but what goes along with content."""
    return message is None or (
        {field.name for field, _value in message.ListFields()} <= {"message_context_info"}
        and not len(UnknownFieldSet(message))
    )


def _read_shape(field: str, shape: Shape, value: Message | bytes, raw: bytes) -> Content:
    if shape.kind == "text" and isinstance(value, bytes):
        return Content(kind="text", text=decode(value), raw=raw)
    payload = value if isinstance(value, bytes) else value.SerializeToString()
    target = _target(lenient(wa_pb2.MessageKey, follow(payload, shape.key))) if shape.key else None
    context = lenient(
        wa_pb2.ContextInfo, follow(payload, (shape.context,)) if shape.context else None
    )
    return Content(
        kind=_refined_kind(shape.kind, value),
        text=_text(payload, shape),
        target_id=None if target is None else target.id,
        target=target,
        quoted_id=decode(context.stanza_id) or None,
        quoted_author=decode(context.participant) or None if context.stanza_id else None,
        mentions=tuple(decode(jid) for jid in context.mentioned_jid[:MAX_MENTIONS]),
        flags=_own_flags(value, context),
        detail={**context_detail(context), **read_detail(field, payload)},
        media=source_in(field, payload),
        expiration=context.expiration or None,
        raw=raw,
    )


def _text(payload: bytes, shape: Shape) -> str | None:
    texts = [decode(part) for path in shape.text if (part := follow(payload, path)) is not None]
    texts = [text for text in texts if text] or texts[:1]
    if not shape.all_texts:
        texts = texts[:1]
    return "\n".join(texts) if texts else None


def _target(key: wa_pb2.MessageKey) -> TargetKey | None:
    """The key of another message; None if it names none."""
    if not key.id:
        return None
    return TargetKey(
        remote_jid=decode(key.remote_jid),
        from_me=key.from_me,
        id=decode(key.id),
        participant=decode(key.participant) or None,
    )


def _refined_kind(kind: str, value: Message | bytes) -> str:
    if isinstance(value, wa_pb2.VideoMessage) and value.gif_playback:
        return "gif"
    if isinstance(value, wa_pb2.AudioMessage) and value.ptt:
        return "voice"
    return kind


def _own_flags(value: Message | bytes, context: wa_pb2.ContextInfo) -> frozenset[str]:
    """What the content says of itself, whatever it is wrapped in."""
    told = {
        "ephemeral": context.expiration,
        "forwarded": context.is_forwarded or context.forwarding_score,
        VIEW_ONCE: getattr(value, "view_once", False),
    }
    return frozenset(flag for flag, is_told in told.items() if is_told)
