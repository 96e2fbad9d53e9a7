"""What was taken in, by minute, hour or day."""

import bisect
import collections.abc as cabc
import datetime as dt
import typing as t

import attrs
from litestar import get
from litestar.params import FromQuery, QueryParameter

from actors.drafts import BadRequestError
from actors.uptime import day_start
from api.backend import Backend
from api.ports_connections import ConnectionFacts
from api.views_health import PointView
from api.zones import zone_of
from storage.figures import MINUTES_KEPT, SyncBucket, SyncCounts

Step: t.TypeAlias = t.Literal["minute", "hour", "day"]
By: t.TypeAlias = t.Literal["total", "connection"]

MAX_POINTS: t.Final = 1500
DEFAULT_POINTS: t.Final = {"minute": 60, "hour": 24, "day": 30}
SECONDS: t.Final = {"minute": 60, "hour": 3600, "day": 86_400}

Moment: t.TypeAlias = t.Annotated[
    dt.datetime | None,
    QueryParameter(description="ISO 8601 with its offset, such as 2026-03-01T12:00:00Z"),
]

Last: t.TypeAlias = t.Annotated[int | None, QueryParameter(ge=1, le=MAX_POINTS)]


def statistics_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""

    @get(
        "/statistics",
        tags=["statistics"],
        summary="Deliveries by minute, hour or day: total, processed, skipped, errors",
        description=(
            "Whole steps from the one that holds `since` up to the one that holds `until`, oldest"
            " first; the last one may still be under way. By default the last 60 minutes, 24 hours"
            " or 30 days, or as many as `last` says; at most 1500 steps. Steps in which nothing was"
            " delivered are there with zeros; with `by=connection` they are left out."
            " Hours and days are those of the time zone `tz` (UTC by default). Minutes are kept"
            " for 35 days, hours and days as long as `storage.keep_events` says. A delivery is"
            " mostly a message; the phone's own notices and exchanges of keys, with which nothing"
            " is stored, are some, too. `processed` was stored or acted upon, `skipped` are"
            " duplicates, `errors` cannot be read yet or are in quarantine; messages of a history"
            " import are not in it."
        ),
    )
    async def statistics(
        step: FromQuery[Step] = "minute",
        since: Moment = None,
        until: Moment = None,
        last: Last = None,
        connection: FromQuery[str | None] = None,
        by: FromQuery[By] = "total",
        tz: FromQuery[str | None] = None,
    ) -> list[PointView]:
        if connection is not None:
            backend.fleet.status(connection)
        now = dt.datetime.fromtimestamp(backend.wall_clock(), dt.UTC)
        if since is not None and last is not None:
            raise BadRequestError("last: goes with until, not with since")
        edges = steps(step, since, until, now, zone_of(tz) or dt.UTC, last)
        by_connection = by == "connection"
        buckets = await backend.storage.sync_buckets(
            edges, connection=connection, by_connection=by_connection
        )
        under_way = bisect.bisect_right(edges, now) - 1
        if 0 <= under_way < len(edges) - 1:
            facts = backend.fleet.status(connection)
            buckets = _with_now(buckets, under_way, facts, by_connection)
        if by_connection:
            return [_point(edges, each.number, each.connection, each.counts) for each in buckets]
        return _filled(edges, connection, buckets)

    return [statistics]


def _with_now(
    buckets: cabc.Sequence[SyncBucket],
    number: int,
    facts: cabc.Sequence[ConnectionFacts],
    by_connection: bool,
) -> list[SyncBucket]:
    """The same with what no row holds yet in the bucket of that number, which is under way."""
    found = {(bucket.number, bucket.connection): bucket.counts for bucket in buckets}
    for each in facts:
        key = (number, each.name if by_connection else None)
        if each.unrecorded.total:
            found[key] = found.get(key, SyncCounts()) + each.unrecorded
    return [
        SyncBucket(number=step, connection=name, counts=found[step, name])
        for step, name in sorted(found, key=lambda key: (key[0], key[1] or ""))
    ]


def steps(
    step: Step,
    since: dt.datetime | None,
    until: dt.datetime | None,
    now: dt.datetime,
    zone: dt.tzinfo,
    last: int | None = None,
) -> list[dt.datetime]:
    """When each step begins, and at last when the last one ends, in UTC.

    Raises:
        BadRequestError: the range is empty, too long, or no longer kept.
    """
    size = dt.timedelta(seconds=SECONDS[step])
    end = _aware(until, "until") or now
    begin = _aware(since, "since") or end - size * ((last or DEFAULT_POINTS[step]) - 1)
    if begin > end:
        raise BadRequestError(f"since: {begin.isoformat()} is after until, {end.isoformat()}")
    if end - begin >= size * MAX_POINTS:
        raise BadRequestError(
            f"since: more than {MAX_POINTS} steps of a {step} lie between it and until;"
            " ask for less, or for longer steps"
        )
    if step == "minute" and (now - begin).total_seconds() > MINUTES_KEPT:
        raise BadRequestError(
            f"since: minutes are kept for {MINUTES_KEPT / 86_400:g} days; ask for step=hour"
        )
    if not dt.timedelta(days=-36_500) < begin - now < dt.timedelta(days=36_500) > end - now:
        raise BadRequestError("since, until: that is more than a century away")
    if step == "day":
        return _days(begin, end, zone)
    first = _floor(begin, size, zone)
    edges = [first]
    while edges[-1] <= end:
        edges.append(edges[-1] + size)
    return edges


def _aware(moment: dt.datetime | None, name: str) -> dt.datetime | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise BadRequestError(f"{name}: {moment.isoformat()} has no offset; add Z or +00:00")
    try:
        return moment.astimezone(dt.UTC)
    except OverflowError as error:
        raise BadRequestError(f"{name}: {moment.isoformat()} is out of range") from error


def _floor(moment: dt.datetime, size: dt.timedelta, zone: dt.tzinfo) -> dt.datetime:
    """The beginning of the minute or hour there; offsets of zones are whole quarters of an hour,
    those of the past are taken for such."""
    offset = (moment.astimezone(zone).utcoffset() or dt.timedelta()).total_seconds()
    quarters = offset // 900 * 900
    unix, step = moment.timestamp() + quarters, size.total_seconds()
    return dt.datetime.fromtimestamp(unix // step * step - quarters, dt.UTC)


def _days(begin: dt.datetime, end: dt.datetime, zone: dt.tzinfo) -> list[dt.datetime]:
    day = begin.astimezone(zone).date()
    edges = [_day(day, zone)]
    while edges[-1] <= end:
        day += dt.timedelta(days=1)
        edges.append(_day(day, zone))
    return edges


def _day(day: dt.date, zone: dt.tzinfo) -> dt.datetime:
    """When a day begins, to a quarter of an hour, in which sums are kept."""
    return dt.datetime.fromtimestamp(day_start(day, zone) // 900 * 900, dt.UTC)


def _filled(
    edges: t.Sequence[dt.datetime], connection: str | None, buckets: t.Sequence[SyncBucket]
) -> list[PointView]:
    counts = {bucket.number: bucket.counts for bucket in buckets}
    nothing = SyncCounts()
    return [
        _point(edges, number, connection, counts.get(number, nothing))
        for number in range(len(edges) - 1)
    ]


def _point(
    edges: t.Sequence[dt.datetime], number: int, connection: str | None, counts: SyncCounts
) -> PointView:
    return PointView(at=edges[number], connection=connection, **attrs.asdict(counts))
