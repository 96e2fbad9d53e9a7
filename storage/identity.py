"""The identity of a message, and its text made fit for PostgreSQL. Pure functions."""

import hashlib
import typing as t

from storage.api import ReceivedMessage

MAX_ID_LENGTH: t.Final = 512  # characters; longer ids are hashed
MAX_KEY_LENGTH: t.Final = 1_600  # characters of a key made of such parts
MAX_KEY_BYTES: t.Final = 2_048  # an index entry must not exceed a third of a page

_NUL_PICTURE: t.Final = "\u2400"


def clean_text(text: str) -> str:
    """``text`` as PostgreSQL can store it, with every readable character kept.

    NUL becomes the picture U+2400, a surrogate without its partner U+FFFD; surrogates in
    pairs are joined into the character they stand for.
    """
    if "\0" in text:
        text = text.replace("\0", _NUL_PICTURE)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def bounded(text: str, limit: int, prefix: str) -> str:
    """``text`` cleaned; past ``limit`` characters, ``prefix`` and its hash instead."""
    text = clean_text(text)
    encoded = text.encode()
    fits = len(text) <= limit and len(encoded) <= MAX_KEY_BYTES
    return text if fits else prefix + _digest(encoded)


def external_id(message: ReceivedMessage) -> str:
    """The id under which a message is unique in its chat and sender.

    It is WhatsApp's own where there is one. A missing id is derived from what a redelivery
    repeats: chat, sender, time, content and ``message.ordinal``. It must not depend on how
    messages fell into batches, or a redelivery would be stored twice; so two messages without
    an id that are alike to the last byte within one second are one, unless whoever saw them
    delivered side by side (an import, a history chunk) told them apart by their ordinal.
    """
    if message.external_id:
        return bounded(message.external_id, MAX_ID_LENGTH, "hashed-")
    content = message.raw or (message.text or "").encode("utf-8", "surrogatepass")
    parts = (
        message.chat.encode("utf-8", "surrogatepass"),
        message.sender.encode("utf-8", "surrogatepass"),
        str(message.sent_at).encode(),
        content,
        str(message.ordinal).encode(),
    )
    return "generated-" + _digest(b"".join(_framed(part) for part in parts))


def _framed(part: bytes) -> bytes:
    return len(part).to_bytes(8, "big") + part


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:40]
