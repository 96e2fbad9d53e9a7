"""Makes the report of a day out of what is stored."""

import collections
import collections.abc as cabc
import datetime as dt
import heapq
import typing as t
import zoneinfo

import attrs

from actors.errors import NoReportError
from actors.report_days import QUARTER, Day, day_of, utc
from actors.report_uptime import changes_of, outages_of, track_of
from actors.report_values import (
    LONGEST,
    AlertLine,
    ConnectionDay,
    DayFigures,
    DayOutage,
    HourCount,
    Report,
    Responses,
    Unreported,
)
from actors.uptime import DayUptime, Span, spans, uptime_by_day
from storage.api import Storage
from storage.reports import DayCounts, WaitingCount

Alerts: t.TypeAlias = cabc.Callable[
    [dt.datetime, dt.datetime], cabc.Awaitable[cabc.Sequence[AlertLine]]
]
"""The alerts that fired from one moment on and before another."""


@attrs.frozen(kw_only=True)
class _Stretch:
    """What happened in a day, or in a part of it, by connection."""

    figures: dict[str, DayFigures]
    spans: dict[str, list[Span]]
    outages: dict[str, list[DayOutage]]
    total: DayFigures
    counts: DayCounts


class ReportMaker:
    """Makes reports in a time zone."""

    def __init__(
        self,
        storage: Storage,
        zone: zoneinfo.ZoneInfo,
        wall_clock: cabc.Callable[[], float],
        alerts: Alerts | None = None,
    ) -> None:
        """``alerts``: None while there is nothing that keeps any."""
        self.zone = zone
        self._storage = storage
        self._wall_clock = wall_clock
        self._alerts = alerts

    async def make(self, date: dt.date | None = None, last: dt.date | None = None) -> Report:
        """The report of a day, by default the one before today. ``last``: the newest day that was
        reported, if days in between are to be told.

        Raises:
            NoReportError: that day is not there yet, or nothing was there yet.
            StorageUnavailableError: what is stored cannot be read now.
        """
        now = self._wall_clock()
        day = day_of(now, self.zone).earlier(1) if date is None else Day(date, self.zone)
        since = await self._storage.report_connections()
        _check(day, now, min(since.values(), default=None))
        until = min(day.end, utc(now))
        stretch = await self._stretch(day.begin, until, day.hours())
        waiting = await self._storage.report_waiting()
        alerts = None if self._alerts is None else tuple(await self._alerts(day.begin, until))
        waits = {each.connection: each for each in waiting}
        there = {name for name, at in since.items() if at < until}
        shown = sorted(stretch.figures.keys() | (waits.keys() & there))
        return Report(
            day=day.date,
            zone=self.zone.key,
            begins_at=day.begin.astimezone(self.zone),
            ends_at=day.end.astimezone(self.zone),
            complete=utc(now) >= day.end,
            made_at=utc(now).astimezone(self.zone),
            total=stretch.total,
            connections=tuple(_connection(name, day, stretch, waits.get(name)) for name in shown),
            idle=tuple(sorted(there - set(shown))),
            hours=self._hours(day, stretch.counts),
            waiting=sum(each.waiting for each in waiting),
            waiting_since=min((each.since for each in waiting if each.since), default=None),
            day_before=await self._compared(day.earlier(1), until - day.begin, since),
            week_before=await self._compared(day.earlier(7), until - day.begin, since),
            unreported=_unreported(last, day.date),
            alerts=alerts,
        )

    async def _compared(
        self, day: Day, passed: dt.timedelta, since: cabc.Mapping[str, dt.datetime]
    ) -> DayFigures | None:
        """As much of another day; None: there was nothing yet."""
        if min(since.values()) >= day.end or day.begin == day.end:
            return None
        whole = passed >= dt.timedelta(hours=22)  # a whole day may have an hour less, or more
        until = day.end if whole else min(day.end, day.begin + passed)
        return (await self._stretch(day.begin, until, [day.begin])).total

    async def _stretch(
        self, begin: dt.datetime, until: dt.datetime, hours: cabc.Sequence[dt.datetime]
    ) -> _Stretch:
        counts = await self._storage.report_counts(begin, until, hours)
        edge = utc(-(-until.timestamp() // QUARTER) * QUARTER)
        taken = await self._storage.sync_buckets([begin, edge], by_connection=True)
        changes = changes_of(await self._storage.report_transitions(begin, until))
        window = (begin.timestamp(), until.timestamp())
        uptimes = {
            name: uptime_by_day(each, window, window[1])[0] for name, each in changes.items()
        }
        stretches = {name: spans(each, window[1]) for name, each in changes.items()}
        outages = {name: outages_of(each, *window) for name, each in stretches.items()}
        found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        for bucket in taken:
            found[bucket.connection or ""].update(
                duplicates=bucket.counts.skipped, errors=bucket.counts.errors
            )
        _count(found, counts)
        responses = {each.connection: _responses(each) for each in counts.responses}
        names = {name for name, each in uptimes.items() if each.up + each.down > 0} | {
            name for name, each in found.items() if any(each.values())
        }
        figures = {
            name: DayFigures(
                **_uptime([uptimes[name]] if name in uptimes else []),
                outages=len(outages.get(name, ())),
                responses=responses.get(name, Responses()),
                **found[name],
            )
            for name in names
        }
        total: collections.Counter[str] = sum(found.values(), collections.Counter())
        return _Stretch(
            figures=figures,
            spans=stretches,
            outages=outages,
            total=DayFigures(
                **_uptime(list(uptimes.values())),
                outages=sum(map(len, outages.values())),
                responses=responses.get(None, Responses()),
                **total,
            ),
            counts=counts,
        )

    def _hours(self, day: Day, counts: DayCounts) -> tuple[HourCount, ...]:
        received: collections.Counter[int] = collections.Counter()
        sent: collections.Counter[int] = collections.Counter()
        for each in counts.messages:
            received[each.hour] += each.received
            sent[each.hour] += each.sent
        return tuple(
            HourCount(
                begins_at=begin.astimezone(self.zone), received=received[hour], sent=sent[hour]
            )
            for hour, begin in enumerate(day.hours())
        )


def _check(day: Day, now: float, first: dt.datetime | None) -> None:
    """Raises NoReportError when there can be no report of that day. Dates are compared: of far
    ones there are no moments."""
    today = day_of(now, day.zone).date
    if day.date > today:
        raise NoReportError(
            f"{day.date} is not there yet: in {day.zone.key} it is {today}; choose that or before"
        )
    if first is None:
        raise NoReportError("there is no connection yet, so there is nothing to report")
    begun = first.astimezone(day.zone).date()
    if day.date < begun:
        raise NoReportError(
            f"there is nothing from {day.date}: the first connection was made on {begun}"
        )
    if day.begin == day.end:
        raise NoReportError(f"there was no {day.date} in {day.zone.key}: the clock skipped it")


def _connection(
    name: str, day: Day, stretch: _Stretch, waits: WaitingCount | None
) -> ConnectionDay:
    longest = heapq.nlargest(LONGEST, stretch.outages.get(name, ()), key=lambda each: each.seconds)
    return ConnectionDay(
        name=name,
        figures=stretch.figures.get(name, DayFigures()),
        track=track_of(stretch.spans.get(name, ()), day.begin.timestamp(), day.end.timestamp()),
        longest=tuple(sorted(longest, key=lambda each: each.began_at)),
        waiting=0 if waits is None else waits.waiting,
        waiting_since=None if waits is None else waits.since,
    )


def _uptime(days: cabc.Sequence[DayUptime]) -> dict[str, t.Any]:
    online, down = sum(day.up for day in days), sum(day.down for day in days)
    wanted = online + down
    percent = 100.0 * online / wanted if wanted > 0 else None
    return {"uptime": percent, "online": online, "down": down}


def _count(found: cabc.Mapping[str, "collections.Counter[str]"], counts: DayCounts) -> None:
    for hour in counts.messages:
        found[hour.connection].update(
            received=hour.received,
            sent=hour.sent,
            undecryptable=hour.undecryptable,
            files=hour.files,
            bytes=hour.bytes,
            failed_files=hour.failed,
        )
    for ways in counts.conversations:
        found[ways.connection].update(
            opened=ways.opened, reopened=ways.reopened, closed=ways.closed
        )
    for gaps in counts.gaps:
        found[gaps.connection].update(
            gaps=gaps.gaps, announced=gaps.announced, missing=gaps.missing, open_gaps=gaps.open
        )


def _responses(counts: t.Any) -> Responses:
    return Responses(
        conversations=counts.conversations,
        answered=counts.answered,
        median=counts.median,
        ninetieth=counts.ninetieth,
    )


def _unreported(last: dt.date | None, day: dt.date) -> Unreported | None:
    """The days between the last report and this one."""
    days = 0 if last is None else (day - last).days - 1
    if last is None or days < 1:
        return None
    one = dt.timedelta(days=1)
    return Unreported(first=last + one, last=day - one, days=days)
