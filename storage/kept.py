"""What the quarantine keeps of a message that was read but could not be stored."""

import json
import typing as t

import attrs

from storage.api import ChatKind, Lane, MediaFile, ReceivedMessage


def keep_message(message: ReceivedMessage) -> bytes | None:
    """A message without its raw bytes as JSON in ASCII, which any database stores; None: not
    even that is possible."""
    fields: dict[str, t.Any] = {
        field.name: getattr(message, field.name)
        for field in attrs.fields(ReceivedMessage)
        if field.name != "raw"
    }
    fields |= {"chat_kind": message.chat_kind.value, "lane": message.lane.value}
    if (media := message.media) is not None:
        fields["media"] = {**attrs.asdict(media), "sha256": media.sha256.hex()}
    for detail in (message.detail, {}):
        try:
            return json.dumps({**fields, "detail": detail}, default=dict).encode()
        except (TypeError, ValueError, RecursionError):
            continue  # a detail that JSON cannot hold can be read in the raw bytes again
    return None


def kept_message(kept: bytes, raw: bytes) -> ReceivedMessage:
    """The message of :func:`keep_message`."""
    fields: dict[str, t.Any] = json.loads(kept)
    media = fields["media"]
    if media is not None:
        media = MediaFile(**{**media, "sha256": bytes.fromhex(media["sha256"])})
    fields |= {
        "chat_kind": ChatKind(fields["chat_kind"]),
        "lane": Lane(fields["lane"]),
        "media": media,
        "mentions": tuple(fields["mentions"]),
        "flags": tuple(fields["flags"]),
    }
    return ReceivedMessage(**fields, raw=raw)
