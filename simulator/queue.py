"""What the server keeps for one device until that device acknowledges it."""

import collections
import collections.abc as cabc
import typing as t

import attrs
import trio

from simulator.errors import QueueFullError
from simulator.ledger import Record
from whatsapp.jid import Jid
from whatsapp.node import Node

RETENTION: t.Final = 14 * 86400.0  # seconds


@attrs.define(eq=False)
class Entry:
    """One stanza owed to a device."""

    node: Node
    queued_at: float  # seconds
    record: Record | None = None  # the ledger's, for messages
    broken: bool = False  # its ciphertext, on purpose
    offered: int = 0  # times written to a socket
    acknowledged: bool = False
    transient: bool = False  # only worth something now: gone once written

    @property
    def kind(self) -> str:
        """``message``, ``receipt`` or ``notification``."""
        return self.node.tag

    @property
    def id(self) -> str:
        """The stanza's id; tests may leave it out."""
        return self.node.text("id") or ""

    @property
    def sender(self) -> Jid:
        """The stanza's ``from``: a device, a chat or the server."""
        return self.node.required_jid("from")

    @property
    def participant(self) -> Jid | None:
        """The author inside a group."""
        return self.node.jid("participant")


class DeviceQueue:
    """Stanzas in order, kept until acknowledged; bounded.

    One session at a time consumes it: `begin` makes everything still owed due again, `next`
    hands out what is due, and acknowledging removes entries whether due, written or not.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._owed: dict[int, Entry] = {}
        self._by_id: dict[tuple[str, str], dict[int, Entry]] = {}
        self._due: collections.deque[Entry] = collections.deque()
        self._consumed = False
        self._bell = trio.Event()

    def __len__(self) -> int:
        return len(self._owed)

    def __iter__(self) -> cabc.Iterator[Entry]:
        return iter(tuple(self._owed.values()))

    def append(self, entry: Entry) -> None:
        """Owe one more stanza.

        Raises:
            QueueFullError: the device left too much unacknowledged.
        """
        if len(self._owed) >= self._limit:
            raise QueueFullError(f"{self._limit} stanzas are waiting already")
        self._owed[id(entry)] = entry
        self._by_id.setdefault((entry.kind, entry.id), {})[id(entry)] = entry
        if self._consumed:
            self._due.append(entry)
            self._bell.set()

    def begin(self, now: float) -> tuple[Entry, ...]:
        """Start consuming: what is owed from before (too old entries are dropped) is due first."""
        for entry in self:
            if entry.transient or now - entry.queued_at > RETENTION:
                self.remove(entry)
        self._consumed = True
        self._due = collections.deque(self._owed.values())
        return tuple(self._due)

    def end(self) -> None:
        """Stop consuming; nothing is forgotten."""
        self._consumed = False
        self._due.clear()

    async def next(self) -> Entry:
        """The next entry that is due and still owed; waits for one."""
        while True:
            while self._due:
                entry = self._due.popleft()
                if not entry.acknowledged:
                    return entry
            self._bell = trio.Event()
            await self._bell.wait()

    def find(self, kind: str, stanza_id: str) -> tuple[Entry, ...]:
        """Everything owed of that class and id, oldest first."""
        return tuple(self._by_id.get((kind, stanza_id), {}).values())

    def remove(self, entry: Entry) -> None:
        """Owe this one no more."""
        if self._owed.pop(id(entry), None) is None:
            return
        entry.acknowledged = True
        same = self._by_id[(entry.kind, entry.id)]
        del same[id(entry)]
        if not same:
            del self._by_id[(entry.kind, entry.id)]
