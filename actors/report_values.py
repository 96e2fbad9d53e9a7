"""What a daily report holds: figures of one local day, for programs and to be rendered."""

import collections.abc as cabc
import datetime as dt
import enum
import typing as t

import attrs

LONGEST: t.Final = 20  # outages of a connection that are told one by one


@attrs.frozen(kw_only=True)
class DayOutage:
    """A stretch of time in which a connection should have been online and was not."""

    began_at: dt.datetime  # perhaps before the day
    ended_at: dt.datetime | None  # None: it went on after the day, or goes on
    seconds: float  # of that day
    reason: str  # a stable code; see docs/troubleshooting.md


@attrs.frozen(kw_only=True)
class Responses:
    """How long customers waited for a first answer, in seconds.

    Of the conversations in direct chats whose first message of the customer was sent that day: from
    that message to the first one of the team after it, by the times at which they were sent.
    """

    conversations: int = 0
    answered: int = 0  # by now
    median: float | None = None  # of those answered; None: none was
    ninetieth: float | None = None  # nine of ten waited no longer


@attrs.frozen(kw_only=True)
class DayFigures:
    """What happened on a day, or in as much of it as is over."""

    uptime: float | None = None  # per cent of the time wanted online; None: there was none
    online: float = 0.0  # seconds
    down: float = 0.0  # seconds in which it should have been online
    outages: int = 0
    received: int = 0  # live messages of customers, by when they were sent
    sent: int = 0  # live messages of the team
    duplicates: int = 0  # deliveries that were known already, by when they came
    errors: int = 0  # deliveries that could not be read at first, or were quarantined
    undecryptable: int = 0  # messages that still have no content
    opened: int = 0
    reopened: int = 0
    closed: int = 0
    responses: Responses = Responses()
    gaps: int = 0  # that began that day
    announced: int = 0
    missing: int = 0  # of those announced; nobody has accepted it
    open_gaps: int = 0
    files: int = 0
    bytes: int = 0
    failed_files: int = 0


class Way(enum.Enum):
    """How a connection was for a while."""

    ONLINE = "online"
    DOWN = "down"
    OFF = "off"  # an operator had it stopped, or it was not linked
    UNKNOWN = "unknown"  # before the first transition on record, or not passed yet


@attrs.frozen(kw_only=True)
class Segment:
    """So many quarters of an hour in a row that were alike."""

    way: Way
    quarters: int


@attrs.frozen(kw_only=True)
class ConnectionDay:
    """One connection."""

    name: str
    figures: DayFigures
    track: tuple[Segment, ...]  # the whole day; a quarter with a minute of outage is down
    longest: tuple[DayOutage, ...]  # outages, at most 20 of them, by when they began
    waiting: int  # conversations, now
    waiting_since: dt.datetime | None


@attrs.frozen(kw_only=True)
class HourCount:
    """One hour of the day by the local clock; when that is set, one comes twice or not at all."""

    begins_at: dt.datetime  # in the time zone of the report
    received: int
    sent: int


@attrs.frozen(kw_only=True)
class AlertLine:
    """An alert that fired that day."""

    connection: str | None
    sentence: str  # in English; it names whom it concerns
    since: dt.datetime
    resolved_at: dt.datetime | None
    translations: cabc.Mapping[str, str] = attrs.field(factory=dict)  # of it, by language


@attrs.frozen(kw_only=True)
class Unreported:
    """Days whose report was never sent."""

    first: dt.date
    last: dt.date
    days: int


@attrs.frozen(kw_only=True)
class Report:
    """One day of all connections. What waits is as of ``made_at``, all else of the day."""

    day: dt.date
    zone: str
    begins_at: dt.datetime  # in the time zone
    ends_at: dt.datetime
    complete: bool  # False: the day is not over
    made_at: dt.datetime
    total: DayFigures
    connections: tuple[ConnectionDay, ...]
    idle: tuple[str, ...]  # connections that were not wanted online, and took in nothing
    hours: tuple[HourCount, ...]
    waiting: int
    waiting_since: dt.datetime | None
    day_before: DayFigures | None
    """None: there was no connection yet. Of a day that is not over only as much is compared."""
    week_before: DayFigures | None
    unreported: Unreported | None
    alerts: tuple[AlertLine, ...] | None  # None: alerts are not kept
