"""Stretches of time in which nobody is told of alerts: silences, and windows that recur. Pure."""

import collections.abc as cabc
import datetime as dt
import zoneinfo

import attrs

from storage.alerts import Silence

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@attrs.frozen(kw_only=True)
class Window:
    """A window of maintenance, by the clock on the wall of its time zone: across a change to
    summer time it begins and ends when that clock says so."""

    name: str
    days: frozenset[str]  # on which it begins
    start: int  # minutes since midnight
    end: int  # not after ``start``: on the next day
    zone: dt.tzinfo = dt.UTC
    connections: frozenset[str] = frozenset()  # none: all, and what concerns no connection

    def covers(self, connection: str | None, at: dt.datetime) -> bool:
        """Whether an alert of a connection (None: of none) is silenced at a moment."""
        return (not self.connections or connection in self.connections) and self.lasts(at)

    def lasts(self, at: dt.datetime) -> bool:
        """Whether it is on at a moment."""
        local = at.astimezone(self.zone)
        minute = 60 * local.hour + local.minute
        today, yesterday = (DAYS[(local.weekday() - back) % 7] in self.days for back in (0, 1))
        if self.start < self.end:
            return today and self.start <= minute < self.end
        return (today and minute >= self.start) or (yesterday and minute < self.end)


def zone_of(name: str) -> dt.tzinfo:
    """A time zone of the configuration, which has checked it."""
    return zoneinfo.ZoneInfo(name)


class Quiet:
    """Who is not told of what: silences and windows together."""

    def __init__(self, windows: cabc.Sequence[Window] = ()) -> None:
        self.windows = tuple(windows)
        self.silences: tuple[Silence, ...] = ()
        """Those that are not over, as far as is known."""

    def covers(self, rule: str, connection: str | None, at: dt.datetime) -> str | None:
        """By what an alert is silenced at a moment; None: by nothing."""
        for window in self.windows:
            if window.covers(connection, at):
                return f"maintenance {window.name}"
        for silence in self.silences:
            if silence.covers(rule, connection, at):
                return f"silence {silence.id}"
        return None
