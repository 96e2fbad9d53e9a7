"""Messages that carry a file.

Source: docs/protocol.md#message-content, docs/protocol.md#media
"""

import collections.abc as cabc
import typing as t

import attrs
from google.protobuf.message import Message

from whatsapp.compose_parts import PLAIN, Context, put_context
from whatsapp.content_parts import encode, lenient, unwrap
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.media_source import MediaSource
from whatsapp.proto import wa_pb2

_KINDS: t.Final[cabc.Mapping[str, tuple[str, type[Message]]]] = {
    "image": ("image_message", wa_pb2.ImageMessage),
    "video": ("video_message", wa_pb2.VideoMessage),
    "audio": ("audio_message", wa_pb2.AudioMessage),
    "document": ("document_message", wa_pb2.DocumentMessage),
    "sticker": ("sticker_message", wa_pb2.StickerMessage),
}
"""Per kind of file: the field of ``Message``, and what is in it."""

_CAPTIONED: t.Final = ("image_message", "video_message", "document_message")


@attrs.frozen(kw_only=True)
class Traits:
    """What a file looks or sounds like; only what its kind has may be told."""

    width: int | None = None  # pixels
    height: int | None = None  # pixels
    seconds: int | None = None
    pages: int | None = None
    voice: bool = False  # audio recorded as a voice note
    gif: bool = False  # a video that loops without sound
    video_note: bool = False  # a round video
    animated: bool = False  # of stickers
    thumbnail: bytes = attrs.field(default=b"", repr=False)  # a small JPEG
    waveform: bytes = attrs.field(default=b"", repr=False)  # of voice notes: 64 bytes, 0 to 100
    key_at: int | None = None  # unix seconds: when the media key was made


NO_TRAITS: t.Final = Traits()


def media(
    source: MediaSource,
    caption: str | None = None,
    *,
    traits: Traits = NO_TRAITS,
    context: Context = PLAIN,
) -> bytes:
    """An uploaded file.

    Raises:
        LocalProtocolError: no such kind of file, or a caption or trait that its kind has not.
    """
    if source.kind not in _KINDS:
        raise LocalProtocolError(f"no message carries a file of kind {source.kind!r}")
    field, kind = _KINDS[source.kind]
    if traits.video_note:
        field = "ptv_message"
    content: t.Any = kind()
    for name, value in {**_location(source), **_told(traits, caption)}.items():
        if value in (None, False, b""):
            continue
        if name not in kind.DESCRIPTOR.fields_by_name:
            raise LocalProtocolError(f"a file of kind {source.kind!r} has no {name}")
        setattr(content, name, value)
    put_context(content, context)
    message = wa_pb2.Message()
    if field == "sticker_message":
        message.sticker_message = content.SerializeToString()
    else:
        getattr(message, field).CopyFrom(content)
    if caption is not None and field == "document_message":
        outer = wa_pb2.Message()
        outer.document_with_caption_message.message.CopyFrom(message)
        message = outer
    return message.SerializeToString()


def with_caption(plaintext: bytes, caption: str) -> wa_pb2.Message | None:
    """A message's content with another caption; None if it is of no kind that has one."""
    try:
        message = unwrap(lenient(wa_pb2.Message, plaintext)).message
    except RemoteProtocolError:
        return None
    for name in _CAPTIONED:
        if message is not None and message.HasField(name):
            changed = wa_pb2.Message()
            content = getattr(changed, name)
            content.CopyFrom(getattr(message, name))
            content.caption = encode(caption)
            return changed
    return None


def _location(source: MediaSource) -> dict[str, t.Any]:
    return {
        "url": encode(source.url),
        "direct_path": encode(source.direct_path),
        "media_key": source.media_key,
        "file_sha256": source.sha256,
        "file_enc_sha256": source.enc_sha256,
        "file_length": source.length,
        "mimetype": None if source.mimetype is None else encode(source.mimetype),
        "file_name": None if source.file_name is None else encode(source.file_name),
    }


def _told(traits: Traits, caption: str | None) -> dict[str, t.Any]:
    return {
        "caption": None if caption is None else encode(caption),
        "width": traits.width,
        "height": traits.height,
        "seconds": traits.seconds,
        "page_count": traits.pages,
        "ptt": traits.voice,
        "gif_playback": traits.gif,
        "is_animated": traits.animated,
        "jpeg_thumbnail": traits.thumbnail,
        "waveform": traits.waveform,
        "media_key_timestamp": traits.key_at,
    }
