"""What a phone makes of a decrypted message: kind and text.

Deliberately not the reader of the product: the ledger must not repeat its mistakes.
"""

import typing as t

import attrs
from google.protobuf.message import DecodeError

from whatsapp.proto import wa_pb2

_WRAPPERS: t.Final = (
    "ephemeral_message",
    "view_once_message",
    "view_once_message_v2",
    "view_once_message_v2_extension",
    "document_with_caption_message",
    "edited_message",
)
_SILENT: t.Final = ("sender_key_distribution_message", "message_context_info")
_MAX_DEPTH: t.Final = 8
UNREADABLE: t.Final = "unreadable"  # kind of what is no message


@attrs.frozen
class Reading:
    """A decrypted message. ``content`` is what its author wrote, still in all wrappers but that
    for own devices; ``message`` the innermost; ``kind`` is "" when it only carries keys."""

    content: bytes
    message: wa_pb2.Message
    kind: str
    text: str | None


def read(plaintext: bytes) -> Reading:
    """Read a decrypted message.

    Raises:
        google.protobuf.message.DecodeError: not a message.
    """
    content, message = plaintext, wa_pb2.Message.FromString(plaintext)
    for _ in range(_MAX_DEPTH):
        if message.HasField("device_sent_message"):
            message = message.device_sent_message.message
            content = message.SerializeToString()
            continue
        wrapper = next((name for name in _WRAPPERS if message.HasField(name)), None)
        if wrapper is None:
            break
        message = getattr(message, wrapper).message
    names = [field.name for field, _ in message.ListFields() if field.name not in _SILENT]
    return Reading(content, message, _kind(names[0]) if names else "", _text(message))


def read_own(plaintext: bytes) -> Reading:
    """Read what this side writes, which may be no message at all on purpose."""
    try:
        return read(plaintext)
    except DecodeError:
        return Reading(plaintext, wa_pb2.Message(), UNREADABLE, None)


def _kind(field: str) -> str:
    if field in ("conversation", "extended_text_message"):
        return "text"
    return field.removesuffix("_message")


def _text(message: wa_pb2.Message) -> str | None:
    if message.HasField("conversation"):
        return message.conversation.decode(errors="replace")
    if message.HasField("extended_text_message"):
        return message.extended_text_message.text.decode(errors="replace")
    for name in ("image_message", "video_message", "document_message"):
        if message.HasField(name):
            caption: bytes = getattr(message, name).caption
            return caption.decode(errors="replace") if caption else None
    return None
