"""Who is held back, in the order of their arrival, until released or picked out."""

import collections
import typing as t

import trio

T = t.TypeVar("T", bound=t.Hashable)


class WaitingLine(t.Generic[T]):
    """Waiters that are all released at once, or picked one by one from the front.

    A waiter that is cancelled leaves the line; picking it just before does no harm.
    """

    def __init__(self) -> None:
        self._waiters: collections.OrderedDict[T, trio.Event] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(self, waiter: T, *, first: bool = False) -> None:
        """Wait to be released or picked; ``first``: before all others."""
        called = self._waiters[waiter] = trio.Event()
        if first:
            self._waiters.move_to_end(waiter, last=False)
        try:
            await called.wait()
        finally:
            self._waiters.pop(waiter, None)

    def prefer(self, wanted: t.Callable[[T], bool]) -> bool:
        """Move the first such waiter to the front; whether there is one."""
        for waiter in self._waiters:
            if wanted(waiter):
                self._waiters.move_to_end(waiter, last=False)
                return True
        return False

    def pick(self) -> T | None:
        """Let the one in front go; None: nobody waits."""
        if not self._waiters:
            return None
        waiter, called = self._waiters.popitem(last=False)
        called.set()
        return waiter

    def release(self) -> None:
        """Let all of them go, in their order."""
        while self.pick() is not None:
            pass
