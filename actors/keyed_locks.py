"""One lock per key, there only while somebody holds it or waits for it."""

import collections.abc as cabc
import contextlib
import typing as t

import trio

K = t.TypeVar("K", bound=cabc.Hashable)


class KeyedLocks(t.Generic[K]):
    """Locks by key; whoever works under one key waits for nobody else's."""

    def __init__(self) -> None:
        self._locks: dict[K, trio.Lock] = {}

    @contextlib.asynccontextmanager
    async def hold(self, key: K) -> cabc.AsyncIterator[None]:
        """Hold the lock of ``key``."""
        lock = self._locks.setdefault(key, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            statistics = lock.statistics()
            if not statistics.locked and not statistics.tasks_waiting:
                self._locks.pop(key, None)

    def __len__(self) -> int:
        return len(self._locks)
