"""What a connection did: its transitions, and its uptime per day."""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs
from litestar import Response, get
from litestar.params import FromPath, FromQuery, QueryParameter

from actors.uptime import MAX_DAYS, Change, DayUptime, add_change, day_starts, uptime_by_day
from api.backend import Backend, Before, Limit
from api.pages import PAGED, AnyRequest, PageCursor, Pages
from api.ports_storage import StoragePort
from api.zones import zone_of
from storage.timeline import Transition

PAGE: t.Final = 1000  # transitions read at once
_PAGES: t.Final = Pages[Transition]("timeline", (int,), lambda row: (row.id,))

Days: t.TypeAlias = t.Annotated[int, QueryParameter(ge=1, le=MAX_DAYS)]


@attrs.frozen(kw_only=True)
class DayView:
    """The uptime of one day; times in seconds."""

    begins_at: dt.datetime  # in the time zone that was asked for
    ends_at: dt.datetime
    percent: float | None  # of the time that it should have been online; None: there was none
    online: float
    down: float
    stopped: float  # by the operator, or never linked: not counted
    unknown: float  # before the first transition on record: not counted


@attrs.frozen(kw_only=True)
class TimelineView:
    """Transitions oldest first; with the first page comes the uptime per day."""

    connection: str
    percent: float | None  # of all days together
    days: tuple[DayView, ...]
    transitions: tuple[Transition, ...]
    next: int | None
    """The ``after`` of the next page; None: this was the last."""


def timeline_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""

    @get(
        "/connections/{name:str}/timeline",
        tags=["connections"],
        summary="Transitions of the last days, oldest first, and the uptime of each day",
        response_headers=PAGED,
    )
    async def timeline(
        request: AnyRequest,
        name: FromPath[str],
        days: Days = 7,
        zone: FromQuery[str | None] = None,
        after: Before = None,
        limit: Limit = 200,
        cursor: PageCursor = None,
    ) -> Response[TimelineView]:
        backend.fleet.status(name)
        after = _PAGES.number(cursor, after)
        now = backend.wall_clock()
        place = zone_of(zone, "zone")
        starts = day_starts(now, days, place)
        first = await backend.storage.timeline_start(name, _utc(starts[0]))
        uptime: list[DayUptime] = []
        if after is None:
            changes = await _changes(backend.storage, name, first)
            uptime = uptime_by_day(changes, starts, now)
        rows = await backend.storage.timeline(name, after=after or first, limit=limit + 1)
        page = rows[:limit]
        end = page[-1].id if len(rows) > limit else None
        view = TimelineView(
            connection=name,
            percent=_together(uptime),
            days=tuple(_day(day, place) for day in uptime),
            transitions=tuple(page),
            next=end,
        )
        return _PAGES.with_next(request, view, None if end is None else (end,))

    return [timeline]


async def _changes(storage: StoragePort, name: str, first: int) -> list[Change]:
    """What the transitions from ``first`` on changed; page by page."""
    changes: list[Change] = []
    after = first - 1
    while rows := await storage.timeline(name, after=after, limit=PAGE):
        for row in rows:
            add_change(changes, row.at.timestamp(), row.state, row.reason, row.previous)
        after = rows[-1].id
    return changes


def _together(days: cabc.Sequence[DayUptime]) -> float | None:
    up, wanted = sum(day.up for day in days), sum(day.up + day.down for day in days)
    return 100.0 * up / wanted if wanted > 0 else None


def _day(day: DayUptime, zone: dt.tzinfo | None) -> DayView:
    return DayView(
        begins_at=_utc(day.begins_at).astimezone(zone),
        ends_at=_utc(day.ends_at).astimezone(zone),
        percent=day.percent,
        online=day.up,
        down=day.down,
        stopped=day.off,
        unknown=day.unknown,
    )


def _utc(unix: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(unix, dt.UTC)
