"""So many bytes (or whatever is counted) may be held at once; who wants more waits."""

import collections

import trio


class Allowance:
    """First come, first served. What is bigger than the whole is let in when nothing is held."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError("an allowance is at least 1")
        self._limit = limit
        self._held = 0
        self._line: collections.OrderedDict[trio.lowlevel.Task, int] = collections.OrderedDict()

    @property
    def held(self) -> int:
        """What is held now."""
        return self._held

    async def take(self, amount: int) -> None:
        """Hold ``amount`` more, waiting while that is too much; a checkpoint.

        Cancelled, it has taken nothing.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._line and self._fits(amount):
            self._held += amount
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        task = trio.lowlevel.current_task()
        self._line[task] = amount

        def cancelled(_: object) -> trio.lowlevel.Abort:
            del self._line[task]
            self._admit()  # it may have been the one that nobody passes
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(cancelled)

    def give_back(self, amount: int) -> None:
        """Hold ``amount`` less."""
        if amount > self._held:
            raise ValueError("more is given back than was taken")
        self._held -= amount
        self._admit()

    def _fits(self, amount: int) -> bool:
        return self._held == 0 or self._held + amount <= self._limit

    def _admit(self) -> None:
        while self._line:
            task, amount = next(iter(self._line.items()))
            if not self._fits(amount):
                return
            del self._line[task]
            self._held += amount
            trio.lowlevel.reschedule(task)
