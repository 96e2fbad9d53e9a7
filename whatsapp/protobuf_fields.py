"""Walking over the fields of a protobuf message without decoding it."""

import collections.abc as cabc
import typing as t

from whatsapp.errors import RemoteProtocolError

VARINT: t.Final = 0
FIXED64: t.Final = 1
LENGTH_DELIMITED: t.Final = 2
FIXED32: t.Final = 5

MAX_VARINT: t.Final = 10  # bytes

_WIDTHS: t.Final = {FIXED64: 8, FIXED32: 4}


class Field(t.NamedTuple):  # made by the million, and the cheapest kind of record
    """One field: ``data[start:end]`` is all of it, ``data[begin:end]`` its value alone."""

    number: int
    wire_type: int
    start: int
    begin: int
    end: int


def walk(data: bytes | bytearray, start: int = 0, end: int | None = None) -> cabc.Iterator[Field]:
    """The fields of the message at ``data[start:end]``, in their order; nothing is copied.

    Raises:
        RemoteProtocolError: not a message: cut off, or of an unknown wire type.
    """
    limit = len(data) if end is None else end
    at = start
    while at < limit:
        first = at
        tag, at = _varint(data, at, limit)
        number, wire_type = tag >> 3, tag & 7
        begin = at
        if wire_type == VARINT:
            _value, at = _varint(data, at, limit)
        elif wire_type == LENGTH_DELIMITED:
            length, begin = _varint(data, at, limit)
            at = begin + length
        elif (width := _WIDTHS.get(wire_type)) is not None:
            at += width
        else:
            raise RemoteProtocolError(f"a field of wire type {wire_type}")
        if number == 0 or at > limit:
            raise RemoteProtocolError("a field without number or end")
        yield Field(number, wire_type, first, begin, at)


def length_delimited(number: int, value: bytes) -> bytes:
    """One field that holds bytes or a message."""
    return _encode_varint(number << 3 | LENGTH_DELIMITED) + _encode_varint(len(value)) + value


def _varint(data: bytes | bytearray, at: int, limit: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * MAX_VARINT, 7):
        if at >= limit:
            raise RemoteProtocolError("a number that is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise RemoteProtocolError(f"a number of more than {MAX_VARINT} bytes")


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
