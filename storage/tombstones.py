"""Whom the program was told to forget, and what it therefore does not take in again. Pure.

A tombstone is a keyed hash of an address and a moment. What is older than the moment, from, to or
about that address, is dropped before it is prepared: redelivered messages, history, imports,
names. A younger message shows that the person has come back; from then on only what is dated
before the moment is dropped. Until then sessions and keys with the person's devices, which a
running connection may hold in memory, are deleted where they would be written: never an older
one is left, for what a session has encrypted it must not encrypt again. All of it costs nothing
while nobody was forgotten.
"""

import collections
import collections.abc as cabc
import functools
import hmac
import typing as t

import attrs

from storage.api import (
    ChatKind,
    Envelope,
    Lane,
    Outcome,
    ReceivedMessage,
    RecordChange,
    RecordKind,
    Verdict,
)
from storage.facts import (
    AddressPair,
    ChatSettings,
    ContactName,
    Delivery,
    DeviceList,
    Fact,
    GroupChange,
    GroupMember,
    GroupSnapshot,
    HistoryStep,
    LabelLink,
)
from storage.identity import clean_text
from storage.prepare_facts import EARLIEST, plausible_time
from whatsapp.binary import codec
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid, account_of
from whatsapp.redaction import redact, redact_json, redact_text, users_of

HASHES: t.Final = 16_384  # kept in memory: the same people write again and again

_PURPOSE: t.Final = b"zapvisor tombstones 1"
_WITH_OTHERS: t.Final = frozenset({RecordKind.SESSION, RecordKind.IDENTITY, RecordKind.SENDER_KEY})
"""Records that belong to somebody's device."""


def owner_of(kind: RecordKind, key: str) -> str | None:
    """The address of whoever has the device that a record belongs to; None: it is our own."""
    return str(account_of(key.rpartition("::")[2])) if kind in _WITH_OTHERS else None


@attrs.define
class Stone:
    """One forgotten address."""

    at: float  # unix seconds: what is not younger is dropped
    returned: bool = False

    def buries(self, at: float) -> bool:
        """Whether a thing of that time is dropped."""
        return at <= self.at


@attrs.frozen
class StoneRow:
    """A tombstone as stored."""

    connection: str
    hash: bytes
    at: float
    returned: bool


@attrs.define
class Sifted:
    """What is left of a batch, and what is to be written down with it."""

    batch: cabc.Sequence[Envelope]
    dropped: frozenset[int] = frozenset()
    """Positions of envelopes whose message was dropped."""
    notes: dict[str, t.Any] | None = None
    """For ``note_forgotten``; None: there is nothing to note."""

    def outcomes(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Those of what is left, as those of the whole batch."""
        for position in self.dropped:
            outcomes[position] = Outcome(verdict=Verdict.FORGOTTEN)
        return outcomes


class Tombstones:
    """All of them, by connection."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, _PURPOSE, "sha256")
        self._hash = functools.lru_cache(maxsize=HASHES)(self._hashed)
        self._stones: dict[str, dict[bytes, Stone]] = {}

    def __bool__(self) -> bool:
        return bool(self._stones)

    def hash(self, address: str) -> bytes:
        """What a tombstone keeps of an address; 32 bytes."""
        return self._hash(address)

    def _hashed(self, address: str) -> bytes:
        return hmac.digest(self._key, clean_text(address).encode(), "sha256")

    def load(self, rows: cabc.Iterable[StoneRow]) -> None:
        """Take the place of what was known."""
        self._stones = {}
        for row in rows:
            self._stones.setdefault(row.connection, {})[row.hash] = Stone(row.at, row.returned)

    def bury(self, connection: str, addresses: cabc.Iterable[str], at: float) -> None:
        """A person is forgotten from now on."""
        stones = self._stones.setdefault(connection, {})
        for address in addresses:
            stones[self.hash(address)] = Stone(at)

    def inherit(self, connection: str) -> None:
        """A connection that is new forgets whom any other one has forgotten."""
        found: dict[bytes, Stone] = {}
        for stones in self._stones.values():
            for hashed, stone in stones.items():
                if hashed not in found or found[hashed].at < stone.at:
                    found[hashed] = Stone(stone.at)
        if found:
            self._stones[connection] = found

    def knows(self, connection: str) -> bool:
        """Whether anybody is forgotten there."""
        return connection in self._stones

    def forgets(self, connection: str, addresses: cabc.Iterable[str | None], at: float) -> bool:
        """Whether something of that time, of a person with these addresses, is not to be stored."""
        stone = self._stone(connection, addresses)
        return stone is not None and stone.buries(at)

    def sift(self, batch: cabc.Sequence[Envelope], now: float) -> Sifted:
        """A batch without what is forgotten."""
        if not self._stones or not any(item.connection in self._stones for item in batch):
            return Sifted(batch)
        sieve = Sieve(self, now)
        kept = [
            sieve.envelope(position, item) if item.connection in self._stones else item
            for position, item in enumerate(batch)
        ]
        return Sifted(kept, frozenset(sieve.dropped), sieve.notes())

    def buries_stanza(self, connection: str, stanza: bytes) -> bool:
        """Whether an encoded stanza that could not be read is a forgotten person's, of before."""
        if connection not in self._stones:
            return False
        try:
            node = codec.decode(stanza)
            at = float(node.text("t") or "nan")
        except (RemoteProtocolError, ValueError):
            return False
        senders = (node.attrs.get(name) for name in ("from", "participant"))
        people = [str(each.bare) for each in senders if isinstance(each, Jid)]
        return self.forgets(connection, people, at)

    def find(self, connection: str, address: str | None) -> Stone | None:
        """The tombstone of an address."""
        stones = self._stones.get(connection)
        return None if not stones or not address else stones.get(self.hash(address))

    def _stone(self, connection: str, addresses: cabc.Iterable[str | None]) -> Stone | None:
        """The newest of several addresses of one person."""
        found = [stone for each in addresses if (stone := self.find(connection, each)) is not None]
        return max(found, key=lambda stone: stone.at, default=None)


class Sieve:
    """Goes through one batch."""

    def __init__(self, stones: Tombstones, now: float) -> None:
        self.dropped: set[int] = set()
        self._stones = stones
        self._now = now
        self._counts: collections.Counter[str] = collections.Counter()
        self._returned: dict[tuple[str, bytes], None] = {}
        self._joined: dict[tuple[str, bytes], bytes] = {}

    def notes(self) -> dict[str, t.Any] | None:
        """What is to be written down; hashes in hexadecimal."""
        if not (self._counts or self._returned or self._joined):
            return None
        return {
            "dropped": dict(self._counts),
            "returned": [
                {"connection": name, "hash": hashed.hex()} for name, hashed in self._returned
            ],
            "joined": [
                {"connection": name, "hash": hashed.hex(), "known": known.hex()}
                for (name, hashed), known in self._joined.items()
            ],
        }

    def envelope(self, position: int, item: Envelope) -> Envelope:
        """What is left of an envelope: always its own records and its step of the gap ledger."""
        name, message = item.connection, item.message
        if message is not None:
            self._pair(name, message.chat, message.chat_alt)
            self._pair(name, message.sender, message.sender_alt)
            if self._drops(name, message):
                self.dropped.add(position)
                self._counts[name] += 1
                message = None
            else:
                message = self._redacted(name, message)
        facts = item.facts and tuple(
            kept for fact in item.facts if (kept := self._fact(name, fact)) is not None
        )
        handled = item.handled
        if handled is not None and any(self._silent(name, part) for part in handled.split(" ")[:2]):
            handled = None
        # After the message: with one that shows that the person is back, their session counts.
        records = item.records and tuple(self._record(name, each) for each in item.records)
        if (message, handled) == (item.message, item.handled) and (facts, records) == (
            item.facts,
            item.records,
        ):
            return item
        return attrs.evolve(item, message=message, facts=facts, handled=handled, records=records)

    def _record(self, name: str, change: RecordChange) -> RecordChange:
        """A change of a record; with the devices of somebody who is forgotten nothing is kept."""
        gone = change.value is not None and self._silent(name, owner_of(change.kind, change.key))
        return attrs.evolve(change, value=None) if gone else change

    def _drops(self, name: str, message: ReceivedMessage) -> bool:
        addresses: list[str | None] = []
        if not message.from_me:
            addresses += [message.sender, message.sender_alt]
        if message.chat_kind is ChatKind.DIRECT:
            addresses += [message.chat, message.chat_alt]
        return self._buried(name, self._time(message), addresses)

    def _buried(self, name: str, at: float, addresses: cabc.Sequence[str | None]) -> bool:
        """Whether a message of that time is dropped; a younger one shows who has come back."""
        stone = self._stones._stone(name, addresses)
        if stone is None:
            return False
        if stone.buries(at):
            return True
        for address in addresses:
            found = self._stones.find(name, address)
            if found is not None and not found.returned and address is not None:
                found.returned = True
                self._returned[name, self._stones.hash(address)] = None
        return False

    def _time(self, message: ReceivedMessage) -> float:
        """When it was sent; history of no believable time is old."""
        if message.lane is Lane.HISTORY and message.sent_at < EARLIEST:
            return 0.0
        return plausible_time(message.sent_at, self._now)

    def _redacted(self, name: str, message: ReceivedMessage) -> ReceivedMessage:
        """Somebody else's message, without what it says of a forgotten person of its time."""
        at = self._time(message)
        named = dict.fromkeys((message.quoted_author, message.target_author, *message.mentions))
        gone = tuple(
            address for address in named if address and self._stones.forgets(name, (address,), at)
        )
        if not gone:
            return message
        quotes = message.quoted_author in gone
        users = users_of(gone)
        return attrs.evolve(
            message,
            quoted_id=None if quotes else message.quoted_id,
            quoted_author=None if quotes else message.quoted_author,
            target_author=None if message.target_author in gone else message.target_author,
            mentions=tuple(each for each in message.mentions if each not in gone),
            text=redact_text(message.text, users),
            detail=redact_json(dict(message.detail), users),
            raw=redact(message.raw, gone),
        )

    def _pair(self, name: str, one: str | None, other: str | None) -> None:
        """Another address of somebody who is forgotten is forgotten, too."""
        if not one or not other or one == other:
            return
        for known, new in ((one, other), (other, one)):
            stone = self._stones.find(name, known)
            if stone is not None and not stone.returned and self._stones.find(name, new) is None:
                self._stones._stones[name][self._stones.hash(new)] = Stone(stone.at)
                self._joined[name, self._stones.hash(new)] = self._stones.hash(known)

    def _silent(self, name: str, *addresses: str | None) -> bool:
        """Whether a person is forgotten and has not come back."""
        stone = self._stones._stone(name, addresses)
        return stone is not None and not stone.returned

    def _old(self, name: str, at: float, *addresses: str | None) -> bool:
        """Whether a thing of that time, said of a person, is not taken in."""
        return self._silent(name, *addresses) or self._stones.forgets(name, addresses, at)

    def _fact(self, name: str, fact: Fact) -> Fact | None:
        """A fact without what is forgotten; None: nothing is left."""
        match fact:
            case AddressPair():
                self._pair(name, fact.number, fact.lid)
                return None if self._silent(name, fact.number, fact.lid) else fact
            case ContactName():
                # A younger name is news of somebody, whoever gives it.
                gone = self._stones.forgets(name, (fact.address,), fact.at)
                return None if gone else fact
            case Delivery():
                self._pair(name, fact.recipient, fact.recipient_alt)
                chat = (fact.chat, fact.chat_alt) if fact.direct else ()
                gone = self._silent(name, *chat) or self._silent(
                    name, fact.recipient, fact.recipient_alt
                )
                return None if gone else fact
            case GroupSnapshot():
                owner = None if self._silent(name, fact.owner) else fact.owner
                return attrs.evolve(fact, owner=owner, members=self._members(name, fact.members))
            case GroupChange():
                left = tuple(each for each in fact.left if not self._silent(name, each))
                return attrs.evolve(fact, joined=self._members(name, fact.joined), left=left)
            case ChatSettings() | LabelLink():
                return None if self._old(name, fact.at, fact.chat) else fact
            case DeviceList():
                return None if self._silent(name, fact.account) else fact
            case HistoryStep():
                counts = tuple(each for each in fact.counts if not self._silent(name, each.chat))
                return attrs.evolve(fact, counts=counts)
            case _:
                return fact

    def _members(self, name: str, members: cabc.Sequence[GroupMember]) -> tuple[GroupMember, ...]:
        for member in members:
            self._pair(name, member.address, member.alt)
        return tuple(each for each in members if not self._silent(name, each.address, each.alt))
