"""The proof: every message the server owed to a device, how often it was offered, and the answer.

A message is counted once per device, chat, author and id, however many copies were written. The
server cannot read what it carries; the phones, which can, tell the ledger the text.
"""

import collections.abc as cabc
import hashlib
import typing as t

import attrs

from whatsapp.jid import Jid


@attrs.frozen
class Letter:
    """What identifies one message for everybody: conversation, author (bare PN) and id."""

    conversation: str
    author: Jid
    id: str


@attrs.define(eq=False)
class Record:
    """One message owed to one device."""

    letter: Letter
    device: Jid  # PN form
    chat: Jid  # as that device sees it: the peer's bare PN, or the group
    from_me: bool
    sent_at: int  # the stanza's timestamp, Unix seconds
    routed_at: float
    copies: int = 1  # times routed: more when its author sent the very same id again
    offered: int = 0  # times written to a socket
    corrupted: int = 0  # of those, with a ciphertext broken on purpose
    resent: int = 0  # copies that answer a retry receipt
    lost: int = 0  # copies announced and never sent, on purpose
    first_offered_at: float | None = None
    acknowledged_at: float | None = None

    @property
    def duplicates(self) -> int:
        """Readable copies offered beyond the first."""
        return max(0, self.offered - self.corrupted - 1)


@attrs.frozen
class Text:
    """What a phone read in a message."""

    kind: str
    text: str | None

    @property
    def sha256(self) -> str | None:
        """The text's fingerprint, for reports that must not hold it."""
        return (
            None
            if self.text is None
            else hashlib.sha256(self.text.encode(errors="surrogatepass")).hexdigest()
        )


class Ledger:
    """Bounded: beyond ``limit`` records the oldest acknowledged ones are forgotten and counted."""

    def __init__(self, limit: int = 1_000_000) -> None:
        self._limit = limit
        self._records: dict[tuple[Jid, Letter], Record] = {}
        self._texts: dict[Letter, Text] = {}
        self.forgotten = 0

    def routed(self, record: Record) -> Record:
        """A message is owed to a device from now on; another copy joins the first."""
        key = (record.device, record.letter)
        if (known := self._records.get(key)) is not None:
            known.copies += 1
            known.resent += record.resent
            return known
        if len(self._records) >= self._limit:
            self._forget()
        self._records[key] = record
        return record

    def read(self, letter: Letter, kind: str, text: str | None) -> None:
        """A phone decrypted (or wrote) this message."""
        self._texts.setdefault(letter, Text(kind, text))

    def find(self, device: Jid, letter: Letter) -> Record | None:
        """The record of one message for one device."""
        return self._records.get((device, letter))

    def text(self, record: Record) -> Text | None:
        """What the message says, where a phone could read it."""
        return self._texts.get(record.letter)

    def records(self, device: Jid | None = None) -> tuple[Record, ...]:
        """Everything owed to one device (or to all), in order of routing."""
        return tuple(r for r in self._records.values() if device is None or r.device == device)

    def offered(self, device: Jid | None = None) -> tuple[Record, ...]:
        """What was written to a socket at least once."""
        return tuple(r for r in self.records(device) if r.offered)

    def unacknowledged(self, device: Jid | None = None) -> tuple[Record, ...]:
        """What still waits for an answer, offered or not."""
        return tuple(
            r for r in self.records(device) if r.acknowledged_at is None and r.lost < r.copies
        )

    def lost(self, device: Jid | None = None) -> tuple[Record, ...]:
        """What the server lost itself: nobody can have it."""
        return tuple(r for r in self.records(device) if r.lost >= r.copies)

    def duplicates_offered(self, device: Jid | None = None) -> int:
        """Readable copies offered beyond the first, over all messages."""
        return sum(record.duplicates for record in self.records(device))

    def export(self, device: Jid | None = None) -> cabc.Iterator[dict[str, t.Any]]:
        """The records as JSON objects."""
        for record in self.records(device):
            known = self.text(record)
            yield {
                "device": str(record.device),
                "chat": str(record.chat),
                "sender": str(record.letter.author),
                "id": record.letter.id,
                "from_me": record.from_me,
                "kind": known.kind if known else None,
                "text_sha256": known.sha256 if known else None,
                "sent_at": record.sent_at,
                "copies": record.copies,
                "offered": record.offered,
                "corrupted": record.corrupted,
                "resent": record.resent,
                "lost": record.lost,
                "duplicates": record.duplicates,
                "first_offered_at": record.first_offered_at,
                "acknowledged_at": record.acknowledged_at,
            }

    def _forget(self) -> None:
        settled = [key for key, r in self._records.items() if r.acknowledged_at is not None]
        for key in settled[: max(1, self._limit // 10)] or list(self._records)[:1]:
            del self._records[key]
            self._texts.pop(key[1], None)
            self.forgotten += 1
