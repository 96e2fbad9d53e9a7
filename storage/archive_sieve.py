"""Records without what this database was told to forget. Pure.

An archive may be older than an order to forget a person: then what it holds from, to or about them
must not come back.
"""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs

from storage.archive_records import (
    Chat,
    ChatSetting,
    Contact,
    Conversation,
    ConversationMerged,
    Group,
    LabelLink,
    Message,
    Receipt,
    Record,
)
from whatsapp.redaction import redact, redact_json, redact_text, users_of


class Forgotten(t.Protocol):
    """Who was forgotten, and when."""

    def forgets(self, connection: str, addresses: cabc.Iterable[str | None], at: float) -> bool:
        """Whether something of that time (unix seconds), of a person with any of these addresses,
        is not to be stored."""
        ...


def sieve(record: Record, connection: str, forgotten: Forgotten) -> Record | None:
    """A record as it may be stored under the connection; None: not at all."""

    def gone(at: dt.datetime | None, *addresses: str | None) -> bool:
        moment = 0.0 if at is None else at.timestamp()
        return forgotten.forgets(connection, addresses, moment)

    match record:
        case Message(sent_at=at):
            author = None if record.from_me else record.sender
            room = record.chat if record.chat_kind == "direct" else None
            return None if gone(at, author, room) else _unnamed(record, gone)
        case Contact(is_self=False, addresses=addresses):
            if gone(record.created_at, *(each.address for each in addresses)):
                return None
            names = tuple(each for each in record.names if not gone(each.at, each.address))
            return attrs.evolve(record, names=names)
        case Chat(kind="direct", address=address):
            return None if gone(record.created_at, address) else record
        case Conversation(chat_kind="direct", chat=chat):
            return None if gone(record.last_message_at, chat) else record
        case ConversationMerged(chat_kind="direct", chat=chat):
            return None if gone(record.key.opened_at, chat) else record
        case Group():
            members = tuple(each for each in record.members if not gone(each.at, each.address))
            owner = None if gone(record.created_at, record.owner) else record.owner
            return attrs.evolve(record, members=members, owner=owner)
        case Receipt():
            moments = (record.delivered_at, record.read_at, record.played_at)
            newest = max((each for each in moments if each is not None), default=None)
            return None if gone(newest, record.chat, record.recipient) else record
        case LabelLink(chat=address) | ChatSetting(address=address):
            return None if gone(record.at, address) else record
        case _:
            return record


def _unnamed(message: Message, gone: cabc.Callable[..., bool]) -> Message:
    """Somebody else's message, without whom it names: see ``storage.tombstones``."""
    named = dict.fromkeys((message.quoted_author, message.target_author, *(message.mentions or ())))
    left_out = tuple(each for each in named if each and gone(message.sent_at, each))
    if not left_out:
        return message
    quotes = message.quoted_author in left_out
    users = users_of(left_out)
    return attrs.evolve(
        message,
        quoted_id=None if quotes else message.quoted_id,
        quoted_author=None if quotes else message.quoted_author,
        target_author=None if message.target_author in left_out else message.target_author,
        mentions=tuple(each for each in message.mentions or () if each not in left_out) or None,
        text=redact_text(message.text, users),
        detail=redact_json(message.detail, users),
        raw=redact(message.raw, left_out),
    )
