"""Reading protobuf messages from a peer: foreign errors become ours, and memory is bounded.

A field of two bytes can become an object of fifty and more, so a message is not decoded before its
fields were counted, unless it is too short to have many.
"""

import typing as t

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from whatsapp.errors import RemoteProtocolError
from whatsapp.protobuf_fields import LENGTH_DELIMITED, walk

MAX_FIELDS: t.Final = 1 << 16  # of a message, at all depths
MAX_DEPTH: t.Final = 100  # messages in messages; the library's own limit

_SHORTEST: t.Final = 2  # bytes of a field

M = t.TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes, limit: int = MAX_FIELDS) -> M:
    """Read ``data`` as a message of this kind; its text fields are text, at every depth.

    Raises:
        RemoteProtocolError: not such a message, one of more than ``limit`` fields, or text in it
            that is not UTF-8.
    """
    message = decode(kind, data, limit)
    try:
        readable = _texts_are_text(message)
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"not a {kind.__name__}") from error
    if not readable:
        raise RemoteProtocolError(f"a {kind.__name__} with text that is not UTF-8")
    return message


def decode(kind: type[M], data: bytes, limit: int = MAX_FIELDS) -> M:
    """The same for messages whose texts are declared as bytes: nothing is looked at.

    Raises:
        RemoteProtocolError: not such a message, or one of more than ``limit`` fields.
    """
    many = len(data) > _SHORTEST * limit
    if many and _left(limit, data, 0, len(data), kind.DESCRIPTOR, 1) < 0:
        raise RemoteProtocolError(f"a {kind.__name__} of more than {limit} fields")
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise RemoteProtocolError(f"not a {kind.__name__}") from error


def _left(limit: int, data: bytes, start: int, end: int, kind: t.Any, depth: int) -> int:
    """What is left of ``limit`` after the fields of one message; below 0 as soon as nothing is."""
    if depth > MAX_DEPTH:
        raise RemoteProtocolError(f"messages nested deeper than {MAX_DEPTH}")
    for field in walk(data, start, end):
        limit -= 1
        known = kind.fields_by_number.get(field.number)
        inner = None if known is None else known.message_type
        if inner is not None and field.wire_type == LENGTH_DELIMITED:
            limit = _left(limit, data, field.begin, field.end, inner, depth + 1)
        if limit < 0:
            break
    return limit


def _texts_are_text(message: Message) -> bool:
    """Protobuf hands text that is not UTF-8 out as bytes (or fails when it is read)."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else (value,)
        if field.type == FieldDescriptor.TYPE_STRING:
            if not all(isinstance(text, str) for text in values):
                return False
        elif field.type == FieldDescriptor.TYPE_MESSAGE and not all(
            _texts_are_text(inner) for inner in values
        ):
            return False
    return True
