"""Whether the process ran all the time: it may be blocked, stopped, or asleep with its machine.

After such a gap all deadlines that passed in it strike at once, and say nothing about what they
were set for: nobody was there to see the answer. Whoever judges by a deadline asks here first.
"""

import typing as t

import trio

LIMIT: t.Final = 5.0  # seconds between two ticks from which on it is a gap
FORGIVEN: t.Final = 15.0  # seconds after a gap in which deadlines are not believed


class Wakefulness:
    """Told by a regular tick; one that is never told knows of no gaps. All in seconds."""

    def __init__(self, limit: float = LIMIT, forgiven: float = FORGIVEN) -> None:
        self.woke = trio.Event()
        """Set after the next gap; take it anew after that."""
        self._limit = limit
        self._forgiven = forgiven
        self._ticked_at: float | None = None
        self._gap = 0.0
        self._gap_ended_at = 0.0

    def tick(self, now: float, asleep: float = 0.0) -> float:
        """It runs at ``now``; ``asleep`` is what a clock that stops with the machine has missed
        since the last tick. The length of the gap that just ended, or 0."""
        before, self._ticked_at = self._ticked_at, now
        away = asleep + (0.0 if before is None else now - before)
        if away <= self._limit:
            return 0.0
        self._gap, self._gap_ended_at = away, now
        woke, self.woke = self.woke, trio.Event()
        woke.set()
        return away

    def gap(self, now: float) -> float:
        """How long the process was away, if it has come back only now; else 0."""
        if self._ticked_at is None:
            return 0.0
        if now - self._ticked_at > self._limit:
            return now - self._ticked_at  # its end was not noticed yet
        if self._gap and now - self._gap_ended_at <= self._forgiven:
            return self._gap
        return 0.0
