"""Local days and hours, and when the report of a day is due. Pure.

A day is a calendar day of a time zone: 24 hours, or 23 or 25 when the clock is set, or none at all
where a zone skipped one. Days and hours begin at quarters of an hour, in which sums are kept.
"""

import datetime as dt
import typing as t
import zoneinfo

import attrs

from actors.uptime import day_start

QUARTER: t.Final = 900  # seconds
LATE: t.Final = 86_400.0  # seconds after which a report is not sent any more
ONE_DAY: t.Final = dt.timedelta(days=1)


@attrs.frozen
class Day:
    """A calendar day of a time zone."""

    date: dt.date
    zone: zoneinfo.ZoneInfo

    @property
    def begin(self) -> dt.datetime:
        """Its first moment, in UTC."""
        return utc(day_start(self.date, self.zone) // QUARTER * QUARTER)

    @property
    def end(self) -> dt.datetime:
        """The first moment of the next one, in UTC."""
        return Day(self.date + ONE_DAY, self.zone).begin

    def earlier(self, days: int) -> "Day":
        """So many days before."""
        return Day(self.date - dt.timedelta(days=days), self.zone)

    def hours(self) -> list[dt.datetime]:
        """When each of its hours begins, by the local clock, in UTC; an hour that comes twice is
        two."""
        found: list[dt.datetime] = []
        moment, shown = self.begin, None
        while moment < self.end:
            local = moment.astimezone(self.zone)
            now = (local.hour, local.utcoffset())
            if now != shown:
                found.append(moment)
            shown = now
            moment += dt.timedelta(seconds=QUARTER)
        return found


def utc(unix: float) -> dt.datetime:
    """Unix seconds as a moment in UTC."""
    return dt.datetime.fromtimestamp(unix, dt.UTC)


def day_of(moment: float, zone: zoneinfo.ZoneInfo) -> Day:
    """The day on which a moment is (unix seconds)."""
    return Day(dt.datetime.fromtimestamp(moment, zone).date(), zone)


def first_moment(date: dt.date, time: dt.time, zone: zoneinfo.ZoneInfo) -> float:
    """When a clock there shows a time on a day, in unix seconds: the first time if it does so
    twice; the first moment after if the clock skips it."""
    naive = dt.datetime.combine(date, time)
    first = naive.replace(tzinfo=zone).timestamp()
    if _shown(first, zone) == naive:
        return first
    # The clock skips it: it is set forward somewhere between what the time would be by the offset
    # of afterwards, and by that of before.
    low, high = round(naive.replace(tzinfo=zone, fold=1).timestamp()), round(first)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _shown(middle, zone) > naive else (middle, high)
    return float(high)


def _shown(unix: float, zone: zoneinfo.ZoneInfo) -> dt.datetime:
    return dt.datetime.fromtimestamp(unix, zone).replace(tzinfo=None)


@attrs.frozen(kw_only=True)
class Schedule:
    """Reports of each day, on the day after it at a local time."""

    time: dt.time
    zone: zoneinfo.ZoneInfo

    def due_at(self, date: dt.date) -> float:
        """When the report of a day is due (unix seconds)."""
        return first_moment(date + ONE_DAY, self.time, self.zone)

    def newest(self, now: float) -> dt.date:
        """The last day whose report is due by now (unix seconds)."""
        date = day_of(now, self.zone).date
        while self.due_at(date) > now:
            date -= ONE_DAY
        return date

    def due(self, now: float, last: dt.date | None) -> dt.date | None:
        """The day to report now; None: there is none. ``last``: the newest that was reported.

        A day whose report is more than a day late is not reported any more, nor one that the zone
        skipped.
        """
        date = self.newest(now)
        while (day := Day(date, self.zone)).begin == day.end:
            date -= ONE_DAY
        if (last is not None and date <= last) or now - self.due_at(date) > LATE:
            return None
        return date

    def next_due(self, now: float) -> float:
        """When the next report is due, after now (unix seconds)."""
        return self.due_at(self.newest(now) + ONE_DAY)
