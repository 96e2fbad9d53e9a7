"""Records without what this database was told to forget. Pure.

An archive may be older than an order to forget a person: then what it holds from, to or about them
must not come back. A person is held back with their chat until something younger than the order
needs them; then they are somebody new, as when they write.
"""

import collections
import collections.abc as cabc
import datetime as dt
import json
import re
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
from storage.tombstones import Sieve, Tombstones
from whatsapp.redaction import SHORTEST, redact, redact_json, redact_text, users_of

CARDS: t.Final = frozenset({"contact", "contacts"})
"""Kinds of messages that are about the people whom they name, and nothing else."""

_digits: t.Final = re.compile(f"[0-9]{{{SHORTEST},}}").findall
_Names: t.TypeAlias = dict[str, set[str]]


class ArchiveSieve(Sieve):
    """Goes through the records of an import, in their order."""

    def __init__(self, stones: Tombstones) -> None:
        super().__init__(stones, 0.0)
        self.left_out: collections.Counter[str] = collections.Counter()  # by kind of record
        self._held: dict[tuple[str, str], Contact] = {}  # by connection and each address
        self._chats: dict[tuple[str, str], Chat] = {}
        self._users: dict[str, _Names] = {}  # addresses of held ones by user part, by connection

    def take(self, name: str, record: Record) -> list[Record]:
        """A record as it may be stored under the connection, with those of before that it needs
        now; nothing: it is not to be stored."""
        if not self._stones.knows(name):
            return [record]
        found = self._take(name, record)
        if not found:
            self.left_out[record.record] += 1
        return found

    def take_notes(self) -> dict[str, t.Any] | None:
        """What is to be written down since the last time; None: nothing."""
        notes = self.notes()
        self._counts, self._returned, self._joined = collections.Counter(), {}, {}
        return notes

    def renew(self) -> None:
        """The tombstones were read anew: hold what is joined in this archive against them."""
        for (name, _address), contact in self._held.items():
            self._join(name, contact)

    def _take(self, name: str, record: Record) -> list[Record]:
        match record:
            case Message():
                return self._message(name, record)
            case Contact(is_self=False):
                return self._contact(name, record)
            case Chat(kind="direct", address=address):
                if (name, address) not in self._held and not self._old(
                    name, _seconds(record.created_at), address
                ):
                    return [record]
                self._chats[name, address] = record
                return []
            case Conversation(chat_kind="direct", chat=chat):
                if self._stones.forgets(name, (chat,), _seconds(record.last_message_at)):
                    return []
                return [*self._released(name, record.last_message_at, chat), record]
            case ConversationMerged(chat_kind="direct", chat=chat):
                return [] if (name, chat) in self._chats else [record]
            case Group():
                return [self._group(name, record)]
            case Receipt():
                moments = (record.delivered_at, record.read_at, record.played_at)
                newest = max((each for each in moments if each is not None), default=None)
                people = (record.chat, record.recipient)
                return [] if self._old(name, _seconds(newest), *people) else [record]
            case LabelLink(chat=address) | ChatSetting(address=address):
                return [] if self._old(name, _seconds(record.at), address) else [record]
            case _:
                return [record]

    def _contact(self, name: str, contact: Contact) -> list[Record]:
        addresses = [each.address for each in contact.addresses]
        self._join(name, contact)
        if not self._old(name, _seconds(contact.created_at), *addresses):
            return [self._named(name, contact)]
        for address in addresses:
            self._held[name, address] = contact
            for user in users_of((address,)):
                self._users.setdefault(name, {}).setdefault(user, set()).add(address)
        return []

    def _join(self, name: str, contact: Contact) -> None:
        """All addresses of a person are forgotten with one of them."""
        addresses = [each.address for each in contact.addresses]
        for known in addresses:
            if self._silent(name, known):
                for other in addresses:
                    self._pair(name, known, other)
                return

    def _named(self, name: str, contact: Contact) -> Contact:
        """Without the names of before."""
        names = tuple(
            each
            for each in contact.names
            if not self._stones.forgets(name, (each.address,), _seconds(each.at))
        )
        return attrs.evolve(contact, names=names)

    def _released(
        self, name: str, moment: dt.datetime, chat: str | None, author: str | None = None
    ) -> cabc.Iterator[Record]:
        """Those held back who are needed from that moment on."""
        for address in (chat, author):
            if address is not None and (contact := self._held.get((name, address))) is not None:
                self.left_out[contact.record] -= 1
                for each in contact.addresses:
                    self._held.pop((name, each.address), None)
                addresses = tuple(
                    attrs.evolve(each, created_at=moment) for each in contact.addresses
                )
                yield attrs.evolve(
                    self._named(name, contact), created_at=moment, addresses=addresses
                )
        if chat is not None and (held := self._chats.pop((name, chat), None)) is not None:
            self.left_out[held.record] -= 1
            yield attrs.evolve(held, created_at=moment)

    def _message(self, name: str, message: Message) -> list[Record]:
        author = None if message.from_me else message.sender
        room = message.chat if message.chat_kind == "direct" else None
        if self._buried(name, _seconds(message.sent_at), [author, room]):
            self._counts[name] += 1
            return []
        return [
            *self._released(name, message.sent_at, room, author),
            self._without(name, message),
        ]

    def _without(self, name: str, message: Message) -> Message:
        """Somebody else's message, without what it says of a forgotten person of its time."""
        at = _seconds(message.sent_at)
        named = {message.quoted_author, message.target_author, *(message.mentions or ())}
        named |= self._written(name, message)
        gone = {each for each in named if each and self._stones.forgets(name, (each,), at)}
        if not gone:
            return message
        if message.kind in CARDS:
            return _stripped(message)
        quotes = message.quoted_author in gone
        users = users_of(gone)
        mentions = tuple(each for each in message.mentions or () if each not in gone)
        return attrs.evolve(
            message,
            quoted_id=None if quotes else message.quoted_id,
            quoted_author=None if quotes else message.quoted_author,
            target_author=None if message.target_author in gone else message.target_author,
            mentions=mentions or None,
            text=redact_text(message.text, users),
            detail=redact_json(message.detail, users),
            raw=redact(message.raw, gone),
        )

    def _written(self, name: str, message: Message) -> set[str]:
        """Whose number, of those held back, is somewhere in it."""
        users = self._users.get(name)
        if not users:
            return set()
        text = f"{message.text or ''} {json.dumps(message.detail)} {message.raw.decode('latin-1')}"
        lengths = {len(user) for user in users}
        found: set[str] = set()
        for digits in set(_digits(text)):
            for length in lengths:
                for start in range(len(digits) - length + 1):
                    found |= users.get(digits[start : start + length], set())
        return found

    def _group(self, name: str, group: Group) -> Group:
        members = tuple(
            each for each in group.members if not self._old(name, _seconds(each.at), each.address)
        )
        owner = None if self._old(name, _seconds(group.created_at), group.owner) else group.owner
        return attrs.evolve(group, members=members, owner=owner)


def _seconds(moment: dt.datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()


def _stripped(message: Message) -> Message:
    """A card that names somebody, as forgetting leaves it."""
    return attrs.evolve(
        message,
        text=None,
        raw=b"",
        media=None,
        reason=None,
        quoted_id=None,
        quoted_author=None,
        target_author=None,
        mentions=None,
        flags=None,
        detail=None,
        erased="forgotten",
        erased_at=message.received_at,
    )
