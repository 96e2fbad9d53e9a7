"""The records of one connection in memory: read through from storage, written with envelopes.

Between two commits the newest value of a record is here and nowhere else, so a changed record
may leave the cache only when the envelope that carries it has settled. A new life of the
connection starts with an empty cache, behind a fence.
"""

import collections
import collections.abc as cabc
import typing as t

import structlog
import trio

from storage.api import RecordChange, RecordKind, Storage
from storage.errors import SealError

log: structlog.stdlib.BoundLogger = structlog.get_logger("records")

Key: t.TypeAlias = tuple[RecordKind, str]
Before: t.TypeAlias = tuple[tuple[Key, bytes | None, bool, int | None], ...]
"""What stood there: key, value, whether it was loaded, and the ticket that carried it."""

BYTES: t.Final = 4 * 1024 * 1024
"""Of records in one cache."""

_WITH_OTHERS: t.Final = frozenset({RecordKind.SESSION, RecordKind.IDENTITY, RecordKind.SENDER_KEY})
"""What belongs to somebody's device."""
_USED_ONCE: t.Final = frozenset({RecordKind.PREKEY, RecordKind.PEER})  # not worth keeping in memory


class RecordCache:
    """Least-recently-used cache of at most about ``capacity`` records, absences included, and
    about ``max_bytes`` of them. What has not settled stays, whatever the bounds say."""

    def __init__(
        self,
        storage: Storage,
        connection: str,
        capacity: int = 1024,
        max_bytes: int = BYTES,
    ) -> None:
        self.lock = trio.Lock()
        """Held from loading records to posting the envelope that changes them, so that no two
        tasks step the same session at once; never held while waiting for the network."""
        self._storage = storage
        self._connection = connection
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._bytes = 0  # of the values
        self._values: collections.OrderedDict[Key, bytes | None] = collections.OrderedDict()
        self._carried: dict[Key, int] = {}  # the newest ticket that carries a changed record
        self._leaving: set[Key] = set()  # to be let go of once they have settled

    async def load(self, kind: RecordKind, keys: cabc.Iterable[str]) -> None:
        """Make sure that :meth:`get` answers for ``keys``."""
        wanted = [(kind, key) for key in dict.fromkeys(keys)]
        for known in wanted:
            if known in self._values:
                self._values.move_to_end(known)  # so that making room spares it
        missing = [key for _, key in wanted if (kind, key) not in self._values]
        if not missing:
            return
        found = await self._read(kind, missing)
        for key in missing:
            if (kind, key) not in self._values:
                self._store((kind, key), found.get(key))
        self._evict(keep=len(wanted))

    async def _read(self, kind: RecordKind, keys: list[str]) -> dict[str, bytes]:
        """What storage holds; a damaged record counts as absent, so its peer starts anew."""
        try:
            return await self._storage.load_records(self._connection, kind, keys)
        except SealError as error:
            if len(keys) > 1:
                return {k: v for key in keys for k, v in (await self._read(kind, [key])).items()}
            log.error("records.damaged", connection=self._connection, error=str(error))
            return {}

    def get(self, kind: RecordKind, key: str) -> bytes | None:
        """The newest value, committed or not. The key must have been loaded or put."""
        self._values.move_to_end((kind, key))
        return self._values[kind, key]

    def put(self, changes: cabc.Iterable[RecordChange], ticket: int) -> Before:
        """Take over changes that travel with the envelope ``ticket``; what stood there before."""
        before: list[tuple[Key, bytes | None, bool, int | None]] = []
        for change in changes:
            key = (change.kind, change.key)
            known = key in self._values
            before.append((key, self._values.get(key), known, self._carried.get(key)))
            self._store(key, change.value)
            self._carried[key] = ticket
        return tuple(before)

    def take_back(self, before: Before, under_way: cabc.Container[int]) -> None:
        """The envelope was not posted after all, and nothing was put meanwhile; ``under_way``
        are the tickets that have not settled."""
        for key, value, known, ticket in reversed(before):
            if known:
                self._store(key, value)
            else:
                self._drop(key)
            if ticket is None or ticket not in under_way:
                self._carried.pop(key, None)
            else:
                self._carried[key] = ticket

    async def release(self) -> None:
        """Let go of all that belongs to other people's devices, for some of it was erased: what is
        needed is read again. What has not settled goes once it has."""
        async with self.lock:
            self._leaving.update(key for key in self._values if key[0] in _WITH_OTHERS)
        self._let_go()

    def _let_go(self) -> None:
        """Drop what is leaving and has settled; not while somebody works with loaded records."""
        if not self._leaving or self.lock.locked():
            return
        for key in self._leaving - self._carried.keys():
            self._leaving.discard(key)
            if key in self._values:
                self._drop(key)

    def _store(self, key: Key, value: bytes | None) -> None:
        self._bytes += len(value or b"") - len(self._values.get(key) or b"")
        self._values[key] = value
        self._values.move_to_end(key)

    def _drop(self, key: Key) -> None:
        self._bytes -= len(self._values.pop(key) or b"")

    def settled(self, changes: cabc.Iterable[RecordChange], ticket: int) -> None:
        """The envelope ``ticket`` is committed: its records may leave the cache."""
        for change in changes:
            key = (change.kind, change.key)
            if self._carried.get(key) == ticket:
                del self._carried[key]
                if change.kind in _USED_ONCE:
                    self._drop(key)
        self._let_go()
        self._evict(keep=0)

    def __len__(self) -> int:
        return len(self._values)

    def _evict(self, keep: int) -> None:
        """Drop the oldest settled records; the newest ``keep`` stay whatever the bounds say."""
        if not self._too_much(keep):
            return
        for key in list(self._values)[: len(self._values) - keep]:
            if key not in self._carried:
                self._drop(key)
                if not self._too_much(keep):
                    return

    def _too_much(self, keep: int) -> bool:
        return len(self._values) > max(self._capacity, keep) or self._bytes > self._max_bytes
