"""Reading protobuf messages from a peer: foreign errors become ours."""

import typing as t

from google.protobuf.message import DecodeError, Message

from whatsapp.errors import RemoteProtocolError

M = t.TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes) -> M:
    """Read ``data`` as a message of this kind; all its text fields are readable afterwards.

    Raises:
        RemoteProtocolError: not such a message, or text in it that is not UTF-8.
    """
    message = kind()
    try:
        message.ParseFromString(data)
        _read_texts(message)
    except (DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"not a {kind.__name__}") from error
    return message


def _read_texts(message: Message) -> None:
    """Touch every field that is set: text is decoded when it is read, not when it is parsed."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for inner in value if field.is_repeated else (value,):
            _read_texts(inner)
