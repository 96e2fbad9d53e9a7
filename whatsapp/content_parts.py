"""Reading inside a message without trusting it: texts, paths of fields, wrappers.

Source: docs/protocol.md#message-content
"""

import collections.abc as cabc
import json
import math
import typing as t

import attrs
from google.protobuf.message import DecodeError, Message

from whatsapp import protobuf
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.proto import wa_pb2

MAX_WRAPPERS: t.Final = 8
MAX_DETAIL_TEXT: t.Final = 4_096  # characters
MAX_DETAIL: t.Final = 200_000  # characters of JSON
SECRET_LENGTH: t.Final = 32  # bytes

FLAGS: t.Final = {
    "ephemeral_message": "ephemeral",
    "view_once_message": "view_once",
    "view_once_message_v2": "view_once",
    "view_once_message_v2_extension": "view_once",
    "edited_message": "edited",
    "associated_child_message": "associated",
    "group_status_message": "status",
    "group_status_message_v2": "status",
}

Detail: t.TypeAlias = dict[str, t.Any]
Reader: t.TypeAlias = cabc.Callable[[bytes], Detail]

M = t.TypeVar("M", bound=Message)


def decode(data: bytes) -> str:
    """Text whatever its encoding: what is not UTF-8 is replaced."""
    return data.decode(errors="replace")


def encode(text: str) -> bytes:
    """Our own text, always encodable: lone surrogates are replaced."""
    return text.encode(errors="replace")


def clean(data: bytes, limit: int = MAX_DETAIL_TEXT) -> str:
    """Text for a detail: as :func:`decode`, without NUL, at most ``limit`` characters."""
    return decode(data[: limit * 4]).replace("\x00", "")[:limit]


def pick(message: Message, **names: str) -> Detail:
    """The fields of ``message`` that say something, as JSON values: ``name="field"``."""
    found: Detail = {}
    for name, field in names.items():
        if not message.HasField(field):
            continue
        value: t.Any = getattr(message, field)
        if isinstance(value, bytes):
            value = clean(value)
        if value == "" or (isinstance(value, float) and not math.isfinite(value)):
            continue
        found[name] = value
    return found


def lenient(kind: type[M], data: bytes | None) -> M:
    """``data`` as a message of this kind; what cannot be read counts as empty."""
    try:
        return protobuf.decode(kind, data or b"")
    except RemoteProtocolError:
        return kind()


def fields(kind: type[M], **names: str) -> Reader:
    """A reader of single fields, see :func:`pick`."""
    return lambda payload: pick(lenient(kind, payload), **names)


def reader(kind: type[M], build: cabc.Callable[[M], Detail]) -> Reader:
    """A reader of what ``build`` finds, without what is empty."""
    return lambda payload: {
        name: value
        for name, value in build(lenient(kind, payload)).items()
        if value is not None and value not in ("", [], {})
    }


def fitting(detail: Detail) -> Detail:
    """``detail``; if it is too long, without its longest parts, whose names are in ``cut``."""
    fits, cut = detail, list[str]()
    while len(json.dumps(fits, ensure_ascii=False)) > MAX_DETAIL:
        sizes = {name: len(json.dumps(value)) for name, value in fits.items() if name != "cut"}
        cut.append(max(sizes, key=sizes.__getitem__))
        fits = {name: value for name, value in fits.items() if name not in cut} | {"cut": cut}
    return fits


def named(number: int, names: cabc.Sequence[str]) -> str:
    """The name of an enum's value; a number that has none is kept in the name."""
    return names[number] if 0 <= number < len(names) else f"type_{number}"


def follow(payload: bytes, path: tuple[int, ...]) -> bytes | None:
    """The bytes at a path of field numbers; None if nothing readable is there."""
    for number in path:
        try:
            inside = wa_pb2.Fields.FromString(payload)
        except DecodeError:
            return None
        name = f"field_{number}"
        if not inside.HasField(name):  # type: ignore[arg-type]
            return None
        payload = getattr(inside, name)
    return payload


def parse_message(plaintext: bytes) -> wa_pb2.Message:
    """The outermost message.

    Raises:
        RemoteProtocolError: not a message, or one of absurdly many fields.
    """
    return protobuf.decode(wa_pb2.Message, plaintext)


@attrs.frozen(kw_only=True)
class Unwrapped:
    """A message without its wrappers, and what they said on the way."""

    message: wa_pb2.Message | None
    """None: wrapped too deep, or a wrapper around nothing."""
    flags: frozenset[str] = frozenset()
    device_sent: Jid | None = None
    distribution: tuple[str, bytes] | None = None
    secret: bytes | None = None
    """The innermost message secret."""
    association: bytes | None = None
    """The outermost MessageAssociation."""
    duration: int | None = None
    """Seconds for which an add-on counts, such as a pin."""


def unwrap(message: wa_pb2.Message) -> Unwrapped:
    """Peel off wrappers, and collect what they say.

    Raises:
        RemoteProtocolError: a copy of a message sent to no valid JID.
    """
    inner: wa_pb2.Message | None = message
    flags: set[str] = set()
    state = Unwrapped(message=None)
    for _round in range(MAX_WRAPPERS + 1):
        if inner is None:
            break
        state = _collect(state, inner)
        wrapper = _wrapper(inner)
        if wrapper is None:
            return attrs.evolve(state, message=inner, flags=frozenset(flags))
        name, wrapped = wrapper
        if isinstance(wrapped, wa_pb2.DeviceSentMessage):
            chat = state.device_sent or Jid.parse(decode(wrapped.destination_jid))
            state = attrs.evolve(state, device_sent=chat)
        else:
            flags.add(FLAGS.get(name, name.removesuffix("_message")))
        inner = wrapped.message if wrapped.HasField("message") else None
    return attrs.evolve(state, message=None, flags=frozenset(flags))


def _collect(state: Unwrapped, message: wa_pb2.Message) -> Unwrapped:
    context = message.message_context_info
    secret = context.message_secret
    return attrs.evolve(
        state,
        distribution=state.distribution or _distribution(message),
        secret=secret if len(secret) == SECRET_LENGTH else state.secret,
        association=state.association or context.message_association or None,
        duration=state.duration or context.message_add_on_duration_in_secs or None,
    )


def _wrapper(
    message: wa_pb2.Message,
) -> tuple[str, wa_pb2.FutureProofMessage | wa_pb2.DeviceSentMessage] | None:
    for field, value in message.ListFields():
        if isinstance(value, wa_pb2.FutureProofMessage | wa_pb2.DeviceSentMessage):
            return field.name, value
    return None


def _distribution(message: wa_pb2.Message) -> tuple[str, bytes] | None:
    """The sender key handed out, if it is for a plausible group: the name becomes a record key."""
    fields = message.sender_key_distribution_message
    data = fields.axolotl_sender_key_distribution_message
    if not data:
        return None
    try:
        group = Jid.parse(decode(fields.group_id))
    except RemoteProtocolError:
        return None
    name = group.user.replace("-", "")
    if not (name.isascii() and name.isalnum() and (group.is_group or group.is_broadcast)):
        return None
    return str(group), data
