"""When the report of a day is due: once for each local day, whatever the clock there does."""

import datetime as dt
import typing as t
import zoneinfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.report_days import LATE, Day, Schedule, day_of, first_moment

ZONES: t.Final = (
    "UTC",
    "America/Sao_Paulo",  # set forward at midnight, in the years of its summer time
    "America/Havana",  # set back at one: midnight comes twice
    "Europe/Berlin",
    "Australia/Lord_Howe",  # set by half an hour
    "Asia/Kathmandu",  # a quarter off the hour
    "Pacific/Apia",  # skipped 30 December 2011
    "Africa/Casablanca",  # summer time, but for a month
)
zones = st.sampled_from([zoneinfo.ZoneInfo(name) for name in ZONES])
times = st.times().map(lambda each: each.replace(second=0, microsecond=0))
dates = st.dates(dt.date(2011, 1, 1), dt.date(2027, 12, 31))
ONE_DAY: t.Final = dt.timedelta(days=1)
APIA: t.Final = zoneinfo.ZoneInfo("Pacific/Apia")
SAO_PAULO: t.Final = zoneinfo.ZoneInfo("America/Sao_Paulo")


@pytest.mark.parametrize(
    ("zone", "day", "time", "shown"),
    [
        ("Europe/Berlin", "2026-03-29", "02:30", "2026-03-29T03:00:00+02:00"),  # skipped
        ("Europe/Berlin", "2026-10-25", "02:30", "2026-10-25T02:30:00+02:00"),  # the first of two
        ("Europe/Berlin", "2026-10-25", "08:00", "2026-10-25T08:00:00+01:00"),
        ("America/Sao_Paulo", "2018-11-04", "00:15", "2018-11-04T01:00:00-02:00"),
        ("Australia/Lord_Howe", "2026-10-04", "02:10", "2026-10-04T02:30:00+11:00"),
        ("Pacific/Apia", "2011-12-30", "08:00", "2011-12-31T00:00:00+14:00"),
    ],
)
def test_the_moment_of_a_local_time(zone: str, day: str, time: str, shown: str) -> None:
    """One that is skipped: the first moment after. One that comes twice: the first."""
    place = zoneinfo.ZoneInfo(zone)
    moment = first_moment(dt.date.fromisoformat(day), dt.time.fromisoformat(time), place)
    assert dt.datetime.fromtimestamp(moment, place).isoformat() == shown


@given(zones, dates, times)
def test_no_earlier_moment_shows_it(zone: zoneinfo.ZoneInfo, day: dt.date, time: dt.time) -> None:
    """A clock there shows the time or a later one then, and an earlier one just before."""
    moment = first_moment(day, time, zone)
    naive = dt.datetime.combine(day, time)
    assert dt.datetime.fromtimestamp(moment, zone).replace(tzinfo=None) >= naive
    for before in (1, 60, 1800, 3600, 7200):
        assert dt.datetime.fromtimestamp(moment - before, zone).replace(tzinfo=None) < naive


@given(zones, dates)
def test_hours_make_up_the_day(zone: zoneinfo.ZoneInfo, date: dt.date) -> None:
    """They begin with it, ascend, and follow the local clock; days follow without a gap."""
    day = Day(date, zone)
    hours = day.hours()
    assert day.end == Day(date + ONE_DAY, zone).begin
    if day.begin == day.end:
        assert (hours, zone.key, str(date)) == ([], "Pacific/Apia", "2011-12-30")
        return
    assert hours[0] == day.begin
    assert hours == sorted(set(hours))
    assert all(each.astimezone(zone).date() == date for each in hours)
    assert 23 <= len(hours) <= 25
    assert all(hour.timestamp() % 900 == 0 for hour in hours)


@settings(max_examples=200)
@given(
    zones,
    dates,
    times,
    st.lists(st.floats(0.0, 30.0), min_size=1, max_size=40),
)
@example(APIA, dt.date(2011, 12, 27), dt.time(8), [1.0] * 200)
@example(SAO_PAULO, dt.date(2018, 11, 1), dt.time(0, 15), [0.25] * 400)
def test_each_day_is_reported_once(
    zone: zoneinfo.ZoneInfo, first: dt.date, time: dt.time, pauses: list[float]
) -> None:
    """A daemon that looks after each of so many hours, restarted in between or not: no day is
    reported twice or before it is over, and none is missed that it saw within a day of its time."""
    schedule = Schedule(time=time, zone=zone)
    now = Day(first, zone).begin.timestamp()
    began, last = now, None
    reported: dict[dt.date, float] = {}
    looks = []
    for hours in pauses:
        now += hours * 3600
        looks.append(now)
        day = schedule.due(now, last)
        if day is None:
            continue
        assert day not in reported
        assert last is None or day > last
        assert schedule.due_at(day) <= now <= schedule.due_at(day) + LATE
        assert Day(day, zone).end.timestamp() <= now
        reported[day], last = now, day
    for day in reported:
        assert schedule.due(reported[day], day) is None
    date = first
    while schedule.due_at(date) <= now:
        due, following = schedule.due_at(date), schedule.due_at(date + ONE_DAY)
        seen = [each for each in looks if due <= each <= due + LATE and each < following]
        real = Day(date, zone).begin != Day(date, zone).end
        if seen and real and due > began:
            assert date in reported
        date += ONE_DAY


@given(zones, dates, times)
def test_it_wakes_when_the_next_one_is_due(
    zone: zoneinfo.ZoneInfo, date: dt.date, time: dt.time
) -> None:
    """After now, at the time of a following day."""
    schedule = Schedule(time=time, zone=zone)
    now = Day(date, zone).begin.timestamp() + 12_345.0
    following = schedule.next_due(now)
    assert following > now
    assert following - now <= 49 * 3600  # Samoa's day that was not
    assert schedule.newest(following) > schedule.newest(now)


def test_late_is_not_never() -> None:
    """Off at eight, on at seven the next morning: it is sent; an hour of a longer day later not."""
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    schedule = Schedule(time=dt.time(8), zone=zone)
    saturday = dt.date(2026, 10, 24)
    due = schedule.due_at(saturday - ONE_DAY)
    assert schedule.due(due, None) == saturday - ONE_DAY
    assert schedule.due(due + LATE, None) == saturday - ONE_DAY
    assert schedule.due(due + LATE + 1, None) is None  # Sunday has 25 hours
    assert schedule.due(due + LATE + 3600, None) == saturday
    assert day_of(due, zone).date == saturday
