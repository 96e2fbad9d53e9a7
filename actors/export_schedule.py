"""When exports are due, and which ones have had their time: pure."""

import collections.abc as cabc
import datetime as dt
import enum
import typing as t
import zoneinfo

import attrs

from actors.report_days import first_moment
from storage.exports.ledger import ExportRow
from storage.exports.model import Request
from supervisor.backoff import Backoff

CATCH_UP: t.Final = 31  # days that are made up for, after the daemon did not run
RETRY: t.Final = Backoff(initial=300.0, maximum=4 * 3600.0)
GIVE_UP: t.Final = 7 * 86400.0  # seconds after which one that keeps failing is not tried again


class Period(enum.Enum):
    """What an export of the schedule holds."""

    DAY = "day"  # the day before
    ALL = "all"  # everything there is


@attrs.frozen(kw_only=True)
class Schedule:
    """Every day at a time."""

    time: dt.time
    zone: str
    period: Period
    request: Request  # without a period
    place: str
    keep: float = 0.0  # seconds; 0: for ever
    keep_count: int = 0  # 0: all

    def due_at(self, day: dt.date) -> float:
        """When the export of a day begins, in unix seconds: on the day after, if it is of a whole
        day. Of a time that clocks
        skip, the first moment after; of one that they show twice, the first."""
        on = day + dt.timedelta(days=1) if self.period is Period.DAY else day
        return first_moment(on, self.time, zoneinfo.ZoneInfo(self.zone))

    def newest_due(self, now: float) -> dt.date:
        """The day of the newest export that should have begun."""
        local = dt.datetime.fromtimestamp(now, zoneinfo.ZoneInfo(self.zone)).date()
        day = local + dt.timedelta(days=1)
        while self.due_at(day) > now:
            day -= dt.timedelta(days=1)
        return day

    def due(self, now: float, rows: cabc.Iterable[ExportRow]) -> list[dt.date]:
        """The days whose exports should have begun and have not, the oldest first. Days that were
        missed are made up for where each holds its own; ``rows``: those of the schedule."""
        newest = self.newest_due(now)
        days = [day for row in rows if (day := self.day_of(row)) is not None]
        if self.period is Period.ALL or not days:
            return [] if newest in days else [newest]
        first = max(max(days) + dt.timedelta(days=1), newest - dt.timedelta(days=CATCH_UP - 1))
        count = max(0, (newest - first).days + 1)
        return [first + dt.timedelta(days=each) for each in range(count)]

    def key(self, day: dt.date) -> str:
        """What the table knows it by."""
        return f"{self.period.value} {day.isoformat()}"

    def day_of(self, row: ExportRow) -> dt.date | None:
        """The day of a row of this schedule; None: it is of another one."""
        period, _space, day = (row.period or "").partition(" ")
        return dt.date.fromisoformat(day) if period == self.period.value else None

    def name(self, day: dt.date) -> str:
        """The name of the export of a day."""
        return f"zapvisor-{self.period.value}-{day.isoformat()}"

    def request_of(self, day: dt.date) -> Request:
        """What the export of a day asks for."""
        if self.period is Period.ALL:
            return self.request
        zone = zoneinfo.ZoneInfo(self.zone)
        since, until = (
            dt.datetime.combine(each, dt.time(), zone).astimezone(dt.UTC)
            for each in (day, day + dt.timedelta(days=1))
        )
        return attrs.evolve(self.request, since=since, until=until)


@attrs.frozen(kw_only=True)
class Trouble:
    """An export of the schedule that is not there as it should be."""

    export: str  # its name
    since: float  # unix seconds
    error: str  # in our own words


def trouble_of(
    schedule: Schedule, rows: cabc.Iterable[ExportRow], now: float, *, late: float
) -> Trouble | None:
    """Whether the newest one failed, and was not made since, or none was made for so long
    (``late``, seconds) after the next one was due. ``rows``: those of the schedule."""
    own = {day: row for row in rows if (day := schedule.day_of(row)) is not None}
    if not own:
        return None  # it has just been set up
    newest = own[max(own)]
    if newest.state == "failed" or (newest.state == "running" and newest.attempts > 1):
        error = newest.error or f"attempt {newest.attempts} is under way"
        return Trouble(export=newest.name, since=newest.started_at.timestamp(), error=error)
    done = [day for day, row in own.items() if row.state == "done"]
    first = max(done) + dt.timedelta(days=1) if done else min(own)
    due = schedule.due_at(first)
    if now - due <= late:
        return None
    moment = dt.datetime.fromtimestamp(due, dt.UTC)
    error = f"it was due on {moment:%Y-%m-%d %H:%M} UTC, and is not finished"
    return Trouble(export=schedule.name(first), since=due, error=error)


def retry_at(row: ExportRow) -> float | None:
    """When a failed export of the schedule is tried again, unix seconds; None: not again."""
    if row.state != "failed" or row.finished_at is None or row.removed_at is not None:
        return None
    if row.finished_at.timestamp() - row.started_at.timestamp() > GIVE_UP:
        return None
    return row.finished_at.timestamp() + RETRY.bound(row.attempts)


def expired(
    rows: cabc.Sequence[ExportRow], now: float, *, keep: float, keep_count: int
) -> list[ExportRow]:
    """Those of the schedule that have had their time; the newest complete one is never among
    them. The oldest first."""
    there = (row for row in rows if row.state == "done" and row.removed_at is None)
    done = sorted(there, key=lambda row: row.id)
    gone = []
    for position, row in enumerate(done[:-1]):
        finished = row.finished_at.timestamp() if row.finished_at is not None else now
        too_old = bool(keep) and finished < now - keep
        too_many = bool(keep_count) and len(done) - position > keep_count
        if too_old or too_many:
            gone.append(row)
    return gone
