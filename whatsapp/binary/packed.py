"""Packed strings: two characters per byte, for numbers and upper-case hexadecimal.

Source: docs/protocol.md#packed-strings
"""

import typing as t

from whatsapp.binary.tags import Tag
from whatsapp.errors import RemoteProtocolError

MAX_LENGTH: t.Final = 127  # characters
_ODD: t.Final = 0x80
_FILLER: t.Final = 15

_ALPHABETS: t.Final = {Tag.NIBBLE_8: "0123456789-.", Tag.HEX_8: "0123456789ABCDEF"}
_MEMBERS: t.Final = {tag: frozenset(alphabet) for tag, alphabet in _ALPHABETS.items()}


def pack(text: str) -> bytes | None:
    """Tag, header and packed characters; None when the text does not qualify."""
    if not 0 < len(text) <= MAX_LENGTH:
        return None
    for tag, members in _MEMBERS.items():
        if members.issuperset(text):
            return _pack(tag, text)
    return None


def _pack(tag: Tag, text: str) -> bytes:
    alphabet = _ALPHABETS[tag]
    nibbles = [alphabet.index(char) for char in text]
    odd = len(nibbles) % 2
    if odd:
        nibbles.append(_FILLER)
    pairs = zip(nibbles[::2], nibbles[1::2], strict=True)
    body = bytes(high << 4 | low for high, low in pairs)
    return bytes((tag, len(body) | (_ODD if odd else 0))) + body


def unpack(tag: int, header: int, body: bytes) -> str:
    """The text behind a tag and header byte; the filler of an odd count is not looked at.

    Raises:
        RemoteProtocolError: a nibble outside the alphabet.
    """
    alphabet = _ALPHABETS[Tag(tag)]
    nibbles = [nibble for byte in body for nibble in (byte >> 4, byte & 0x0F)]
    if header & _ODD:
        del nibbles[-1:]
    try:
        return "".join([alphabet[nibble] for nibble in nibbles])
    except IndexError:
        raise RemoteProtocolError("a packed string with an invalid nibble") from None
