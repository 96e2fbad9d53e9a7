"""The usual traffic of one account: how likely a silence is, at this time of the week. Pure.

Theory of operation. The unit is the *active minute*, one in which at least one message came: a
burst counts once, however long it is. For each of the 168 hours of a week there is a decayed mean
of active minutes per minute of listening. A silence is judged by the active minutes that would
usually have fallen into it, under a negative binomial: a Poisson process whose rate is itself
uncertain. How uncertain is learned from the account: each finished hour is compared with what was
expected of it *before* it is learned from, so holidays, campaigns and young accounts all make the
model more patient. A prior does so until there is enough to go by.

All times are unix seconds.
"""

import array
import collections
import collections.abc as cabc
import typing as t

from storage.api import TrafficHour

HOUR: t.Final = 3600
WEEK: t.Final = 168  # hours
KEPT: t.Final = 0.8  # of what was known of an hour, when it comes again a week later
MIN_MINUTES: t.Final = 45.0  # of an hour listened to, for the hour to be compared
WITHOUT_TRAFFIC: t.Final = 30.0  # minutes that each hour is assumed to have been silent before
MATURE: t.Final = 126.0  # hours listened to before any silence means anything: 3/4 of a week
PRIOR_SPREAD: t.Final = 0.5
PRIOR_WEIGHT: t.Final = 100.0  # squared active minutes
SPREAD_KEPT: t.Final = 1 - 1 / (4 * WEEK)  # per hour: about four weeks
LEAST_SPREAD: t.Final = 0.05  # not even a machine is as regular as that
MOST_SPREAD: t.Final = 1.0
LONGEST: t.Final = 14 * 24  # hours of a silence that are looked at


class Traffic:
    """What is usual for one account; about 3 KiB."""

    def __init__(self) -> None:
        self._active = array.array("d", bytes(8 * WEEK))
        self._minutes = array.array("d", bytes(8 * WEEK))
        self._excess = 0.0
        self._scale = 0.0
        self._hours = 0.0
        self._hour: int | None = None  # the one under way, counted from the epoch
        self._hour_minutes = 0.0
        self._hour_active = 0
        self._last_minute = -1
        self._finished: collections.deque[TrafficHour] = collections.deque(maxlen=LONGEST)

    @property
    def mature(self) -> bool:
        """Whether enough has been heard for a silence to mean anything."""
        return self._hours >= MATURE

    @property
    def spread(self) -> float:
        """How irregular the account is: 0 would be a Poisson process; the square of the relative
        variation of its rate."""
        raw = (PRIOR_SPREAD * PRIOR_WEIGHT + self._excess) / (PRIOR_WEIGHT + self._scale)
        return min(max(raw, LEAST_SPREAD), MOST_SPREAD)

    def learn(self, hour: int, active: float, minutes: float = 60.0) -> None:
        """Take in one finished hour (unix seconds // 3600), of which ``minutes`` were listened
        to and ``active`` had a message."""
        slot = hour % WEEK
        if minutes >= MIN_MINUTES and self._minutes[slot] >= MIN_MINUTES:
            expected = self._active[slot] / self._minutes[slot] * minutes
            self._excess = SPREAD_KEPT * self._excess + (active - expected) ** 2 - expected
            self._scale = SPREAD_KEPT * self._scale + expected**2
        kept = KEPT ** (minutes / 60)
        self._active[slot] = kept * self._active[slot] + active
        self._minutes[slot] = kept * self._minutes[slot] + minutes
        self._hours += minutes / 60

    def load(self, hours: cabc.Iterable[TrafficHour]) -> None:
        """Start from what is stored, the oldest first."""
        for each in hours:
            self.learn(each.hour, each.active, each.minutes)

    def to_store(self) -> list[TrafficHour]:
        """The hours that were finished since this was last asked."""
        finished = list(self._finished)
        self._finished.clear()
        return finished

    def not_stored(self, hours: cabc.Iterable[TrafficHour]) -> None:
        """Storing them failed; it is tried again."""
        self._finished.extendleft(reversed(list(hours)))

    def listened(self, since: float, until: float) -> None:
        """All that was sent in this time was heard; what came is told by :meth:`heard`."""
        if not 0 < until - since < 31 * 24 * HOUR:
            return  # the clock was set
        while since < until:
            hour = int(since // HOUR)
            end = min(until, (hour + 1) * HOUR)
            self._enter(hour)
            self._hour_minutes += (end - since) / 60
            since = end

    def heard(self, at: float) -> None:
        """A message came."""
        if (minute := int(at // 60)) != self._last_minute:
            self._last_minute = minute
            self._enter(int(at // HOUR))
            self._hour_active += 1

    def _enter(self, hour: int) -> None:
        if hour == self._hour:
            return
        if self._hour is not None and self._hour_minutes > 0:
            active, minutes = min(60, self._hour_active), min(60.0, self._hour_minutes)
            self.learn(self._hour, active, minutes)
            self._finished.append(TrafficHour(self._hour, active, minutes))
        self._hour, self._hour_minutes, self._hour_active = hour, 0.0, 0

    def expected(self, since: float, until: float) -> float:
        """Active minutes that usually fall into this time; 0 while too little is known."""
        if not self.mature:
            return 0.0
        since = max(since, until - LONGEST * HOUR)
        total = 0.0
        while since < until:
            hour = int(since // HOUR)
            end = min(until, (hour + 1) * HOUR)
            total += self._rate(hour % WEEK) * (end - since) / 60
            since = end
        return total

    def _rate(self, slot: int) -> float:
        """Active minutes per minute; careful where a busy hour borders on a quiet one, for people
        come late and summer time ends."""
        own = self._mean(slot)
        around = (self._mean((slot - 1) % WEEK) + own + self._mean((slot + 1) % WEEK)) / 3
        return min(own, around)

    def _mean(self, slot: int) -> float:
        return self._active[slot] / (self._minutes[slot] + WITHOUT_TRAFFIC)

    def odds_of_silence(self, expected: float) -> float:
        """The probability that nothing comes where so many active minutes are expected."""
        spread = self.spread
        return float((1 + spread * expected) ** (-1 / spread))
