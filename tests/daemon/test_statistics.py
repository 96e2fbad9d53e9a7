"""Statistics by minute, hour and day: steps, time zones, bounds."""

import datetime as dt
import zoneinfo

import httpx
import pytest
from daemon_fakes import NOON, Control, connection, problem

from actors.drafts import BadRequestError
from api.routes_statistics import MAX_POINTS, steps
from storage.api import SyncRun
from storage.figures import SyncCounts


async def record(control: Control, at: dt.datetime, total: int, name: str = "sales") -> None:
    """One row of sync statistics."""
    if name not in control.storage.inbox._connections:
        await control.storage.fill()
    run = SyncRun(
        connection=name, total=total, processed=total, skipped=0, errors=0, at=at.timestamp()
    )
    await control.storage.inbox.record_sync(run)


async def test_the_last_hour_by_minute(client: httpx.AsyncClient, control: Control) -> None:
    """Sixty minutes, the one under way included; quiet ones are zero."""
    await record(control, NOON, 3)
    await record(control, NOON - dt.timedelta(minutes=59), 2, "support")
    points = (await client.get("/statistics")).json()
    assert len(points) == 60
    assert points[0] == {
        "at": "2026-03-01T11:01:00Z",
        "connection": None,
        "total": 2,
        "processed": 2,
        "skipped": 0,
        "errors": 0,
    }
    assert (points[-1]["at"], points[-1]["total"]) == ("2026-03-01T12:00:00Z", 3)
    assert sum(point["total"] for point in points) == 5


async def test_of_one_connection_or_of_each(client: httpx.AsyncClient, control: Control) -> None:
    """One has every step, too; of each only what it took in is told."""
    await record(control, NOON, 3)
    await record(control, NOON, 2, "support")
    one = (await client.get("/statistics?connection=sales&step=hour")).json()
    assert len(one) == 24
    assert (one[-1]["connection"], one[-1]["total"]) == ("sales", 3)
    each = (await client.get("/statistics?by=connection&step=day")).json()
    assert [(point["connection"], point["total"]) for point in each] == [
        ("sales", 3),
        ("support", 2),
    ]


async def test_the_minute_under_way(client: httpx.AsyncClient, control: Control) -> None:
    """What no row holds yet counts in the step that holds now, and in the sums of health."""
    await record(control, NOON, 3)
    for name in ("sales", "support"):
        control.fleet.connections[name] = connection(
            name, unrecorded=SyncCounts(total=2, processed=1, skipped=1)
        )
    point = (await client.get("/statistics")).json()[-1]
    assert (point["total"], point["processed"], point["skipped"]) == (7, 5, 2)
    one = (await client.get("/statistics?connection=sales&until=2026-03-01T12:05:00Z")).json()
    assert [each["total"] for each in one[-6:]] == [5, 0, 0, 0, 0, 0]
    each = (await client.get("/statistics?by=connection&step=hour")).json()
    assert [(row["connection"], row["total"]) for row in each] == [("sales", 5), ("support", 2)]
    past = (await client.get("/statistics?until=2026-03-01T11:00:00Z")).json()
    assert sum(row["total"] for row in past) == 0
    assert (await client.get("/health/detailed")).json()["sync"]["hour"]["total"] == 7


async def test_days_of_a_time_zone(client: httpx.AsyncClient, control: Control) -> None:
    """Noon in UTC is the next day in Auckland."""
    await record(control, NOON, 1)
    days = (await client.get("/statistics?step=day&tz=Pacific/Auckland")).json()
    assert (days[-1]["at"], days[-1]["total"]) == ("2026-03-01T11:00:00Z", 1)
    assert len(days) == 30


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("since=2026-03-02T00:00:00Z", "is after until"),
        ("since=2026-03-01T00:00:00", "no offset"),
        ("step=minute&since=2026-01-01T00:00:00Z&until=2026-01-01T01:00:00Z", "step=hour"),
        ("step=minute&since=2026-02-20T00:00:00Z", "more than 1500 steps"),
        ("step=day&since=0001-01-01T00:00:00Z&until=0001-01-02T00:00:00Z", "a century"),
        ("step=day&since=9999-12-31T00:00:00Z&until=9999-12-31T00:00:00Z", "a century"),
        ("since=0001-01-01T00:00:00%2B14:00", "out of range"),
        ("tz=Nowhere/Land", "Nowhere/Land"),
        ("step=second", "step"),
        ("since=yesterday", "since"),
    ],
)
async def test_wrong_questions(client: httpx.AsyncClient, query: str, words: str) -> None:
    """Each is refused with what to change."""
    answer = await client.get(f"/statistics?{query}")
    assert answer.status_code == (400 if words in ("step", "since") else 422)
    assert words in problem(answer)["detail"]


async def test_of_a_connection_that_there_is_not(client: httpx.AsyncClient) -> None:
    """404."""
    assert (await client.get("/statistics?connection=nobody")).status_code == 404


def test_days_over_a_change_of_the_clock() -> None:
    """A day of 23 hours is one step, and the next begins at its own midnight."""
    zone = zoneinfo.ZoneInfo("Europe/Lisbon")
    now = dt.datetime(2026, 3, 30, 12, tzinfo=dt.UTC)
    edges = steps("day", now - dt.timedelta(days=1), now, now, zone)
    assert [edge.isoformat() for edge in edges] == [
        "2026-03-29T00:00:00+00:00",
        "2026-03-29T23:00:00+00:00",
        "2026-03-30T23:00:00+00:00",
    ]


def test_hours_of_a_zone_between_the_hours() -> None:
    """They begin when the clock there strikes."""
    now = dt.datetime(2026, 3, 1, 12, 20, tzinfo=dt.UTC)
    edges = steps("hour", now, now, now, zoneinfo.ZoneInfo("Asia/Kathmandu"))
    assert [edge.minute for edge in edges] == [15, 15]


def test_as_many_steps_as_are_allowed() -> None:
    """And not one more."""
    now = dt.datetime(2026, 3, 1, 12, 20, tzinfo=dt.UTC)
    longest = dt.timedelta(minutes=MAX_POINTS) - dt.timedelta(seconds=1)
    assert len(steps("minute", now - longest, now, now, dt.UTC)) - 1 <= MAX_POINTS + 1
    with pytest.raises(BadRequestError):
        steps("minute", now - dt.timedelta(minutes=MAX_POINTS), now, now, dt.UTC)
