"""Reading protobuf messages from a peer: foreign errors become ours."""

import typing as t

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from whatsapp.errors import RemoteProtocolError

M = t.TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes) -> M:
    """Read ``data`` as a message of this kind; its text fields are text, at every depth.

    Raises:
        RemoteProtocolError: not such a message, or text in it that is not UTF-8.
    """
    message = kind()
    try:
        message.ParseFromString(data)
        readable = _texts_are_text(message)
    except (DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"not a {kind.__name__}") from error
    if not readable:
        raise RemoteProtocolError(f"a {kind.__name__} with text that is not UTF-8")
    return message


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
