"""Taking one person out of what other people wrote: quotes of theirs, mentions, their numbers.

What cannot be taken apart and still names the person is given up whole.
"""

import collections.abc as cabc
import typing as t

from google.protobuf.message import DecodeError, Message

from whatsapp.proto import wa_pb2

REMOVED: t.Final = "removed"
SHORTEST: t.Final = 6  # characters of a user part that is looked for inside texts
MAX_DEPTH: t.Final = 32


def users_of(addresses: cabc.Iterable[str]) -> tuple[str, ...]:
    """The user parts of addresses that are long enough to be looked for, the longest first."""
    users = {address.partition("@")[0] for address in addresses}
    return tuple(sorted((each for each in users if len(each) >= SHORTEST), key=_longest_first))


def _longest_first(user: str) -> tuple[int, str]:
    return -len(user), user


def redact_text(text: str | None, users: cabc.Iterable[str]) -> str | None:
    """A text with another word in the place of numbers."""
    if text is not None:
        for user in users:
            text = text.replace(user, REMOVED)
    return text


def redact_json(value: t.Any, users: cabc.Sequence[str]) -> t.Any:
    """The same in every text of a JSON value, keys included; numbers that hold one are null."""
    match value:
        case str():
            return redact_text(value, users)
        case bool() | None:
            return value
        case int() | float():
            return None if any(user in str(value) for user in users) else value
        case dict():
            return {
                str(redact_text(str(key), users)): redact_json(item, users)
                for key, item in value.items()
            }
        case list() | tuple():
            return [redact_json(item, users) for item in value]
    return value


def redact(plaintext: bytes, addresses: cabc.Collection[str]) -> bytes:
    """A message without quotes and mentions of these addresses; empty if it still names one."""
    users = [user.encode() for user in users_of(addresses)]
    if not any(user in plaintext for user in users):
        return plaintext
    try:
        message = wa_pb2.Message.FromString(plaintext)
        _walk(message, [address.encode() for address in addresses], users, MAX_DEPTH)
        redacted = message.SerializeToString()
    except (DecodeError, RecursionError):
        return b""
    return b"" if any(user in redacted for user in users) else redacted


def _walk(
    message: Message, addresses: cabc.Sequence[bytes], users: cabc.Sequence[bytes], depth: int
) -> None:
    if isinstance(message, wa_pb2.ContextInfo):
        _redact_context(message, addresses)
    for field, value in message.ListFields():
        if field.message_type is not None:
            if depth == 0:
                message.ClearField(field.name)
                continue
            for part in value if field.is_repeated else (value,):
                _walk(part, addresses, users, depth - 1)
        elif field.is_repeated:
            if field.type == field.TYPE_BYTES:
                value[:] = [_replace(part, users) for part in value]
        elif isinstance(value, bytes) and any(user in value for user in users):
            setattr(message, field.name, _replace(value, users))


def _redact_context(context: wa_pb2.ContextInfo, addresses: cabc.Sequence[bytes]) -> None:
    gone = {_user(each) for each in addresses}
    if _user(context.participant) in gone:
        for name in ("stanza_id", "participant", "quoted_message", "remote_jid"):
            context.ClearField(name)
    mentioned = [each for each in context.mentioned_jid if _user(each) not in gone]
    context.mentioned_jid[:] = mentioned


def _user(address: bytes) -> bytes:
    return address.partition(b"@")[0].partition(b":")[0]


def _replace(value: bytes, users: cabc.Sequence[bytes]) -> bytes:
    for user in users:
        value = value.replace(user, REMOVED.encode())
    return value
