"""Records as canonical JSON and back, checked: the type of each field says its shape.

One place tells how a value is written, how it is read and what the JSON Schema says of it, so the
three cannot differ. Fields that are None are left out; keys are sorted; times are UTC with
microseconds; bytes are base64 or hex. So one record has one form, to the byte.
"""

import base64
import binascii
import collections.abc as cabc
import datetime as dt
import functools
import json
import re
import types
import typing as t

import attrs

from storage.errors import StorageError

MAX_ID: t.Final = 512  # characters, as the database has it
MAX_KIND: t.Final = 64  # characters
MAX_DEPTH: t.Final = 64  # of JSON values

_INTEGER: t.Final = 2**31
_BIGINT: t.Final = 2**63
_TIME: t.Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"
_is_time: t.Final = re.compile(_TIME).match
_CONNECTION: t.Final = "[a-z0-9][a-z0-9_-]{0,62}"
_is_connection: t.Final = re.compile(_CONNECTION).fullmatch
_is_hex: t.Final = re.compile("[0-9a-f]*").fullmatch

Json: t.TypeAlias = t.Any


class RecordError(StorageError):
    """A record cannot be read: what is wrong in it, and in which field."""


@attrs.frozen(eq=False)
class Shape:
    """One kind of value: to JSON, from JSON (a value and where it stands), and its schema."""

    encode: cabc.Callable[[t.Any], Json]
    decode: cabc.Callable[[Json, str], t.Any]
    schema: cabc.Mapping[str, Json]


# ---- shapes


def _same(value: t.Any) -> t.Any:
    return value


def text(shortest: int = 0, longest: int | None = None) -> Shape:
    """Text that PostgreSQL can store, of so many characters."""

    def decode(value: Json, where: str) -> str:
        if not isinstance(value, str):
            raise RecordError(f"{where} is not a string")
        if len(value) < shortest:
            raise RecordError(f"{where} is empty")
        if longest is not None and len(value) > longest:
            raise RecordError(f"{where} has {len(value)} characters; {longest} are allowed")
        return _storable(value, where)

    schema: dict[str, Json] = {"type": "string"}
    if shortest:
        schema["minLength"] = shortest
    if longest is not None:
        schema["maxLength"] = longest
    return Shape(_same, decode, schema)


def _storable(value: str, where: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RecordError(f"{where} holds half a character (a lone surrogate)") from None
    if "\0" in value:
        raise RecordError(f"{where} holds a NUL character")
    return value


def choice(*values: str) -> Shape:
    """One of some words."""

    def decode(value: Json, where: str) -> str:
        if value not in values:
            raise RecordError(f"{where} is none of {', '.join(values)}")
        return t.cast("str", value)

    return Shape(_same, decode, {"enum": list(values)})


def integer(lowest: int, highest: int) -> Shape:
    """A whole number."""

    def decode(value: Json, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise RecordError(f"{where} is not a whole number")
        if not lowest <= value <= highest:
            raise RecordError(f"{where} is not between {lowest} and {highest}")
        return value

    return Shape(_same, decode, {"type": "integer", "minimum": lowest, "maximum": highest})


def _decode_boolean(value: Json, where: str) -> bool:
    if not isinstance(value, bool):
        raise RecordError(f"{where} is neither true nor false")
    return value


def _encode_time(value: dt.datetime) -> str:
    # Twice as fast as isoformat, and four digits for the year whatever it is.
    v = value
    return (
        f"{v.year:04}-{v.month:02}-{v.day:02}T{v.hour:02}:{v.minute:02}:{v.second:02}"
        f".{v.microsecond:06}Z"
    )


def _decode_time(value: Json, where: str) -> dt.datetime:
    if isinstance(value, str) and _is_time(value):
        try:
            return dt.datetime.fromisoformat(value)
        except ValueError:
            pass
    raise RecordError(f"{where} is not a time such as 2026-11-21T09:30:00.000000Z")


def _encode_base64(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def _decode_base64(value: Json, where: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError):
        raise RecordError(f"{where} is not base64") from None


def _decode_hex(value: Json, where: str) -> bytes:
    if not isinstance(value, str) or not _is_hex(value) or len(value) % 2:
        raise RecordError(f"{where} is not in hexadecimal digits, in pairs and small letters")
    return bytes.fromhex(value)


def _decode_connection(value: Json, where: str) -> str:
    if not isinstance(value, str) or not _is_connection(value):
        raise RecordError(
            f"{where} is no name that a connection can have: 1 to 63 of a-z, 0-9, _ and -, the"
            " first a letter or digit"
        )
    return value


def _decode_json(value: Json, where: str) -> Json:
    _check_json(value, where, MAX_DEPTH)
    return value


def _check_json(value: Json, where: str, depth: int) -> None:
    if not depth:
        raise RecordError(f"{where} is nested too deeply")
    match value:
        case str():
            _storable(value, where)
        case list():
            for each in value:
                _check_json(each, where, depth - 1)
        case dict():
            for key, each in value.items():
                _storable(key, where)
                _check_json(each, where, depth - 1)


def list_of(inner: Shape) -> Shape:
    """A tuple of values."""

    def decode(value: Json, where: str) -> tuple[t.Any, ...]:
        if not isinstance(value, list):
            raise RecordError(f"{where} is not a list")
        return tuple(inner.decode(each, f"{where}[{at}]") for at, each in enumerate(value))

    def encode(value: cabc.Iterable[t.Any]) -> list[Json]:
        return [inner.encode(each) for each in value]

    return Shape(encode, decode, {"type": "array", "items": inner.schema})


ID: t.Final = text(1, MAX_ID)
KIND: t.Final = text(1, MAX_KIND)
TEXT: t.Final = text()
CONNECTION: t.Final = Shape(
    _same, _decode_connection, {"type": "string", "pattern": f"^{_CONNECTION}$"}
)
"""As the configuration has it: it is part of the names of files."""
BOOLEAN: t.Final = Shape(_same, _decode_boolean, {"type": "boolean"})
INTEGER: t.Final = integer(-_INTEGER, _INTEGER - 1)
BIGINT: t.Final = integer(-_BIGINT, _BIGINT - 1)
COUNT: t.Final = integer(0, _BIGINT - 1)
TIME: t.Final = Shape(_encode_time, _decode_time, {"type": "string", "pattern": _TIME})
BASE64: t.Final = Shape(
    _encode_base64, _decode_base64, {"type": "string", "contentEncoding": "base64"}
)
HEX: t.Final = Shape(bytes.hex, _decode_hex, {"type": "string", "pattern": "^([0-9a-f]{2})*$"})
JSON: t.Final = Shape(_same, _decode_json, {})


# ---- classes


@functools.cache
def shape_of(kind: type) -> Shape:
    """The shape of a record class: an object with the names of its fields, which are typed as
    ``Annotated[…, Shape]``, tuples of such, other record classes, or any of these or None."""
    fields = attrs.fields(kind)
    hints = t.get_type_hints(kind, include_extras=True)
    shapes = {field.name: _shape_of(hints[field.name]) for field in fields}
    needed = {field.name for field in fields if field.default is attrs.NOTHING}
    encoders = [
        (name, None if shape.encode is _same else shape.encode) for name, shape in shapes.items()
    ]

    def encode(value: t.Any) -> dict[str, Json]:
        found = {}
        for name, encoder in encoders:
            if (item := getattr(value, name)) is not None:
                found[name] = item if encoder is None else encoder(item)
        return found

    def decode(value: Json, where: str) -> t.Any:
        if not isinstance(value, dict):
            raise RecordError(f"{where} is not an object")
        found = {}
        for name, item in value.items():
            if (shape := shapes.get(name)) is None:
                raise RecordError(f"{_inside(where, name)} is not known")
            found[name] = shape.decode(item, _inside(where, name))
        if missing := needed - found.keys():
            raise RecordError(f"{_inside(where, min(missing))} is missing")
        return kind(**found)

    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": sorted(needed),
        "properties": {name: shape.schema for name, shape in shapes.items()},
    }
    return Shape(encode, decode, schema)


def _shape_of(hint: t.Any) -> Shape:
    if t.get_origin(hint) in (t.Union, types.UnionType):
        [hint] = [each for each in t.get_args(hint) if each is not type(None)]
    if t.get_origin(hint) is t.Annotated:
        return next(each for each in hint.__metadata__ if isinstance(each, Shape))
    if t.get_origin(hint) is tuple:
        return list_of(_shape_of(t.get_args(hint)[0]))
    return shape_of(hint)


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


# ---- lines

_write_json: t.Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=False
).encode


def dump_line(value: Json) -> bytes:
    """One line: the canonical JSON of a value, in UTF-8."""
    return _write_json(value).encode() + b"\n"


def _no_number(word: str) -> t.NoReturn:
    raise ValueError(f"{word} is not JSON")


def load_line(line: bytes) -> Json:
    """The value that a line holds.

    Raises:
        RecordError: it is not JSON.
    """
    try:
        return json.loads(line.decode(), parse_constant=_no_number)
    except UnicodeDecodeError:
        raise RecordError("it is not text in UTF-8") from None
    except (ValueError, RecursionError):  # without its text: it quotes what people wrote
        raise RecordError("it is not JSON") from None
