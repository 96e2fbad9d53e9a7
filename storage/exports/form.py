"""What the readable forms share: how they are driven, and how they say what is no text."""

import collections.abc as cabc
import json
import typing as t

from storage.exports.container import Block
from storage.exports.rows import REMOVED, Attachment, Conversation, Message, Place, Stretch

_SAFE_TYPES: t.Final[cabc.Mapping[str, str]] = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "video/mp4": ".mp4",
    "video/3gpp": ".3gp",
    "audio/ogg": ".ogg",
    "audio/mpeg": ".mp3",
    "audio/mp4": ".m4a",
    "audio/aac": ".aac",
    "application/pdf": ".pdf",
}
"""What a browser shows without running anything in it. All else ends in ``.bin``."""


class ReadableForm(t.Protocol):
    """Makes blocks of messages. Its methods compute only."""

    header: bytes
    """Begins each part of a stream."""

    def take(self, stretch: Stretch) -> cabc.Iterator[Block]:
        """What can be written now; the rest is kept back, within bounds."""
        ...

    def end(self) -> cabc.Iterator[Block]:
        """The rest."""
        ...

    def index(
        self, rows: cabc.Sequence[Conversation], number: int, more: bool
    ) -> cabc.Iterator[Block]:
        """A page of the index of all conversations; nothing, if the form has none."""
        ...


def cursor_of(place: Place, **state: t.Any) -> str:
    """Where to go on, and what the form has to know there."""
    return json.dumps({"at": place.as_json(), **state})


def read_cursor(cursor: str | None) -> tuple[Place, dict[str, t.Any]]:
    """The reverse; None is the beginning."""
    if cursor is None:
        return Place(), {}
    state = json.loads(cursor)
    return Place.from_json(state.pop("at")), state


def file_name(file: Attachment) -> str | None:
    """The name of a stored file in an export; None: it is not stored."""
    if file.blob is None:
        return None
    kind = (file.type or "").partition(";")[0].strip().lower()
    return blob_name(file.blob) + _SAFE_TYPES.get(kind, ".bin")


def blob_name(sha256: bytes) -> str:
    """The name of a file by its content alone, as archives have it."""
    name = sha256.hex()
    return f"media/{name[:2]}/{name}"


def files_of(messages: cabc.Iterable[Message]) -> tuple[tuple[bytes, str], ...]:
    """The files that messages refer to, each once."""
    found: dict[bytes, str] = {}
    for message in messages:
        if message.file is not None and message.file.blob is not None:
            name = file_name(message.file)
            if name is not None:
                found.setdefault(message.file.blob, name)
    return tuple(found.items())


def in_words(message: Message) -> str:
    """What a message without a file says, as plain text: its text, or what stands for it."""
    if message.empty:
        return f"({REMOVED})"
    detail = message.detail if isinstance(message.detail, dict) else {}
    match message.kind:
        case "undecryptable":
            return "Waiting for this message."
        case "location" | "live_location":
            return _lines(message.text, _coordinates(detail))
        case "poll":
            options = [f"- {each}" for each in detail.get("options", ()) if isinstance(each, str)]
            return _lines(message.text, *options)
        case "contact" | "contacts":
            return _lines(f"Contact: {message.text}" if message.text else "Contact")
    return message.text or f"({message.kind.replace('_', ' ')})"


def is_notice(message: Message) -> bool:
    """Whether nobody wrote it: a change of a group, a call."""
    return message.kind.startswith(("group_", "call", "e2e_", "community_", "biz_")) and (
        message.kind != "group_invite"
    )


def _coordinates(detail: cabc.Mapping[str, t.Any]) -> str | None:
    latitude, longitude = detail.get("latitude"), detail.get("longitude")
    if not isinstance(latitude, int | float) or not isinstance(longitude, int | float):
        return None
    return f"https://maps.google.com/?q={latitude},{longitude}"


def _lines(*lines: str | None) -> str:
    return "\n".join(line for line in lines if line)
