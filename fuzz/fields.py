"""Changing the fields of a protobuf message, so that what comes out is still one."""

import random
import typing as t

from whatsapp.errors import RemoteProtocolError
from whatsapp.protobuf_fields import LENGTH_DELIMITED, VARINT, Field, walk

_NUMBERS: t.Final = (0, 1, 2, 127, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_VALUES: t.Final = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"1",
    b"1@lid",
    b"5511900000002@s.whatsapp.net",
    b"120363000000000001@g.us",
    b"/path",
    bytes(32),
    bytes(33),
    b"\x05" + bytes(32),
    b"\n\0" * 40,
    b"[1,2]",
)
_DEEP: t.Final = 120  # levels of one inside the other


def mutate(data: bytes, limit: int, seed: int) -> bytes | None:
    """A changed message of at most ``limit`` bytes; None: ``data`` is none."""
    chance = random.Random(seed)
    try:
        for _round in range(chance.choice((1, 1, 2, 4))):
            data = _changed(data, chance)
    except RemoteProtocolError:
        return None
    return data if len(data) <= limit else None


def _changed(data: bytes, chance: random.Random) -> bytes:
    fields = list(walk(data))
    parts = [data[field.start : field.end] for field in fields]
    if not fields or chance.random() < 0.15:
        parts.insert(chance.randint(0, len(parts)), _new(chance))
        return b"".join(parts)
    at = chance.randrange(len(fields))
    field, value = fields[at], data[fields[at].begin : fields[at].end]
    match chance.randrange(7):
        case 0:
            del parts[at]
        case 1:
            parts.append(parts[at])
        case 2:
            parts[at] = _field(chance.randint(1, 60), value, field)
        case 3:
            parts[at] = _new(chance, field.number)
        case _:
            parts[at] = _field(field.number, _inside(value, field, chance), field)
    return b"".join(parts)


def _inside(value: bytes, field: Field, chance: random.Random) -> bytes:
    """A changed value: where it may be a message itself, mostly deeper down."""
    if field.wire_type == VARINT:
        return _varint(chance.choice(_NUMBERS))
    if field.wire_type != LENGTH_DELIMITED:
        return chance.randbytes(len(value))
    if chance.random() < 0.8:
        try:
            return _changed(value, chance)
        except RemoteProtocolError:
            pass
    if value and chance.random() < 0.5:
        at = chance.randrange(len(value))
        return value[:at] + bytes([value[at] ^ 1 << chance.randrange(8)]) + value[at + 1 :]
    return chance.choice(_VALUES)


def _new(chance: random.Random, number: int = 0) -> bytes:
    number = number or chance.randint(1, 60)
    if chance.random() < 0.02:
        nested = b""
        for _level in range(_DEEP):
            nested = _tag(number, LENGTH_DELIMITED) + _varint(len(nested)) + nested
        return nested
    if chance.random() < 0.5:
        return _tag(number, VARINT) + _varint(chance.choice(_NUMBERS))
    value = chance.choice(_VALUES)
    return _tag(number, LENGTH_DELIMITED) + _varint(len(value)) + value


def _field(number: int, value: bytes, like: Field) -> bytes:
    size = _varint(len(value)) if like.wire_type == LENGTH_DELIMITED else b""
    return _tag(number, like.wire_type) + size + value


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
