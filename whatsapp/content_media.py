"""Where a message's file lies, and the secret under which answers to a message are encrypted.

Source: docs/protocol.md#media, docs/protocol.md#message-secrets
"""

import collections.abc as cabc
import typing as t

from google.protobuf.message import Message

from whatsapp.content_parts import clean, follow, lenient, parse_message, unwrap
from whatsapp.media_source import MediaSource
from whatsapp.proto import wa_pb2

MAX_PATH: t.Final = 4_096  # characters of a URL or a path
MAX_MIMETYPE: t.Final = 256  # characters
MAX_FILE_NAME: t.Final = 1_024  # characters
KEY_LENGTH: t.Final = 32  # bytes
HASH_LENGTH: t.Final = 32  # bytes

_INT64_MAX: t.Final = 2**63 - 1

_PARSERS: t.Final[cabc.Mapping[str, type[Message]]] = {
    "image": wa_pb2.ImageMessage,
    "video": wa_pb2.VideoMessage,
    "audio": wa_pb2.AudioMessage,
    "document": wa_pb2.DocumentMessage,
    "sticker": wa_pb2.StickerMessage,
    "sticker_pack": wa_pb2.StickerPackMessage,
}

_PLACES: t.Final[cabc.Mapping[str, tuple[tuple[str, tuple[int, ...]], ...]]] = {
    "image_message": (("image", ()),),
    "video_message": (("video", ()),),
    "ptv_message": (("video", ()),),
    "audio_message": (("audio", ()),),
    "document_message": (("document", ()),),
    "sticker_message": (("sticker", ()),),
    "sticker_pack_message": (("sticker_pack", ()),),
    "product_message": (("image", (1, 1)),),
    "buttons_message": (("image", (3,)), ("video", (4,)), ("document", (2,))),
    "interactive_message": (("image", (1, 4)), ("video", (1, 7)), ("document", (1, 3))),
    "template_message": tuple(
        (kind, (template, number))
        for template in (4, 2)
        for kind, number in (("image", 3), ("video", 4), ("document", 1))
    ),
}
"""Per field of ``Message``: the kinds of file that it can carry, and the paths to them."""


def media_source(raw: bytes) -> MediaSource | None:
    """The file that a message carries, from its plaintext; wrappers are peeled off.

    Raises:
        RemoteProtocolError: not a message.
    """
    message = unwrap(parse_message(raw)).message
    if message is None:
        return None
    for field, value in message.ListFields():
        if field.name in _PLACES:
            payload = value if isinstance(value, bytes) else value.SerializeToString()
            return source_in(field.name, payload)
    return None


def message_secret(raw: bytes) -> bytes | None:
    """The 32 bytes from which the keys of votes, reactions and edits derive; None: there are none.

    Raises:
        RemoteProtocolError: not a message.
    """
    return unwrap(parse_message(raw)).secret


def source_in(field: str, payload: bytes) -> MediaSource | None:
    """The file inside one field of a message; None if there is none, or none that opens."""
    for kind, path in _PLACES.get(field, ()):
        data = follow(payload, path)
        if data is not None and (source := _source(kind, data)) is not None:
            return source
    return None


def _source(kind: str, data: bytes) -> MediaSource | None:
    message: t.Any = lenient(_PARSERS[kind], data)
    key: bytes = message.media_key
    direct_path, url = clean(message.direct_path, MAX_PATH), _text(message, "url", MAX_PATH)
    if not (key or direct_path or url) or len(key) not in (0, KEY_LENGTH):
        return None
    length: int = message.file_length
    return MediaSource(
        kind=kind,
        media_key=key,
        direct_path=direct_path,
        url=url,
        sha256=_hash(message.file_sha256),
        enc_sha256=_hash(message.file_enc_sha256),
        length=length if message.HasField("file_length") and length <= _INT64_MAX else None,
        mimetype=_text(message, "mimetype", MAX_MIMETYPE) or None,
        file_name=_text(message, "file_name", MAX_FILE_NAME)
        or (_text(message, "title", MAX_FILE_NAME) if kind == "document" else "")
        or None,
    )


def _text(message: Message, field: str, limit: int) -> str:
    return clean(getattr(message, field, b""), limit)


def _hash(data: bytes) -> bytes:
    return data if len(data) == HASH_LENGTH else b""
