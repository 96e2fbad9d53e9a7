"""Uptime per day: what counts as what, days of any length, clocks that are set."""

import datetime as dt
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.uptime import Change, Kind, add_change, day_starts, kind_of, uptime_by_day

UTC = dt.UTC
HOUR = 3_600.0
DAY = 86_400.0
NOON = dt.datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp()
MIDNIGHT = NOON - 12 * HOUR


def changes(*transitions: tuple[float, str, str]) -> list[Change]:
    """What these transitions change."""
    made: list[Change] = []
    for at, state, reason in transitions:
        add_change(made, at, state, reason)
    return made


def test_a_day_of_all_kinds() -> None:
    """Online 6 h, stopped by the operator 3 h, down 1 h, and before all that nothing is known."""
    told = changes(
        (MIDNIGHT + 2 * HOUR, "online", "online"),
        (MIDNIGHT + 8 * HOUR, "stopped", "stopped"),
        (MIDNIGHT + 11 * HOUR, "connecting", "dialling"),
    )
    [day] = uptime_by_day(told, day_starts(NOON, 1, UTC), NOON)
    assert (day.up, day.off, day.down, day.unknown) == (6 * HOUR, 3 * HOUR, HOUR, 2 * HOUR)
    assert day.percent == pytest.approx(600 / 7)
    assert (day.begins_at, day.ends_at) == (MIDNIGHT, MIDNIGHT + DAY)


def test_without_events() -> None:
    """Nothing is known, and no percentage is made up."""
    yesterday, today = uptime_by_day([], day_starts(NOON, 2, UTC), NOON)
    assert (yesterday.unknown, today.unknown) == (DAY, 12 * HOUR)
    assert yesterday.percent is None
    assert today.percent is None


def test_an_old_transition_holds() -> None:
    """Online for a month without an event is online today, too."""
    told = changes((NOON - 30 * DAY, "online", "online"))
    days = uptime_by_day(told, day_starts(NOON, 3, UTC), NOON)
    assert [day.percent for day in days] == [100, 100, 100]
    assert days[-1].up == 12 * HOUR


@pytest.mark.parametrize(
    ("state", "reason", "before", "kind"),
    [
        ("online", "online", Kind.DOWN, Kind.UP),
        ("syncing", "logged_in", Kind.DOWN, Kind.DOWN),
        ("stopped", "stopped", Kind.UP, Kind.OFF),
        ("stopped", "not_paired", Kind.DOWN, Kind.OFF),
        ("stopped", "shutdown", Kind.UP, Kind.DOWN),
        ("stopped", "daemon_died", Kind.UP, Kind.DOWN),
        ("stopped", "shutdown", Kind.OFF, Kind.OFF),
        ("stopped", "keys_unreadable", Kind.DOWN, Kind.DOWN),
        ("logged_out", "logged_out", Kind.UP, Kind.DOWN),
        ("logged_out", "logged_out_by_operator", Kind.UP, Kind.OFF),
        ("connecting", "fence", Kind.OFF, Kind.OFF),
        ("connecting", "fence", Kind.UP, Kind.DOWN),
        ("connecting", "dialling", Kind.OFF, Kind.DOWN),
        ("pairing", "pairing", Kind.OFF, Kind.OFF),
        ("pairing", "pairing", Kind.DOWN, Kind.DOWN),
        ("backoff", "network", Kind.UP, Kind.DOWN),
        ("banned", "banned", Kind.UP, Kind.DOWN),
    ],
)
def test_what_counts_as_what(state: str, reason: str, before: Kind, kind: Kind) -> None:
    """Only the operator's own stops are left out."""
    assert kind_of(state, reason, before) is kind


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Madrid", (2026, 3, 29), 23),
        ("Europe/Madrid", (2026, 10, 25), 25),
        ("Europe/Madrid", (2026, 6, 1), 24),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
        ("Africa/Cairo", (2026, 4, 24), 23),  # there is no midnight on that day
        ("America/Havana", (2026, 11, 1), 25),  # midnight comes, and an hour later once more
    ],
)
def test_days_of_daylight_saving(zone: str, day: tuple[int, int, int], hours: float) -> None:
    """A whole day online is a whole day, whatever its length."""
    place = zoneinfo.ZoneInfo(zone)
    evening = dt.datetime(*day, 23, 59, tzinfo=place).timestamp()
    starts = day_starts(evening, 2, place)
    assert starts[2] - starts[1] == hours * HOUR
    told = changes((starts[0] - 1, "online", "online"))
    [whole] = uptime_by_day(told, starts[1:], starts[2] + 1)
    assert (whole.up, whole.percent) == (hours * HOUR, 100)


def test_a_clock_that_was_set_back() -> None:
    """No hour counts twice: an event from before the one it follows counts from there."""
    told = changes(
        (NOON - 4 * HOUR, "online", "online"),
        (NOON - 2 * HOUR, "backoff", "network"),
        (NOON - 3 * HOUR, "online", "online"),  # by a clock set back by 1 h and more
        (NOON - HOUR, "backoff", "network"),
    )
    [day] = uptime_by_day(told, day_starts(NOON, 1, UTC), NOON)
    assert (day.up, day.down, day.unknown) == (3 * HOUR, HOUR, 8 * HOUR)


def test_a_clock_that_was_ahead() -> None:
    """One event from years ahead does not freeze all that follows it."""
    told = changes(
        (NOON - 4 * HOUR, "online", "online"),
        (NOON + 9999 * DAY, "backoff", "network"),
        (NOON - 2 * HOUR, "online", "online"),
    )
    [day] = uptime_by_day(told, day_starts(NOON, 1, UTC), NOON)
    assert (day.up, day.down) == (4 * HOUR, 0)
    [day] = uptime_by_day(told[:2], day_starts(NOON, 1, UTC), NOON)
    assert (day.up, day.down) == (4 * HOUR, 0)
    told = changes(
        (NOON - 4 * HOUR, "online", "online"),
        (NOON + 9999 * DAY, "backoff", "network"),
        (NOON - 2 * HOUR, "online", "online"),
        (NOON - HOUR, "backoff", "network"),
    )
    [day] = uptime_by_day(told, day_starts(NOON, 1, UTC), NOON)
    assert (day.up, day.down) == (3 * HOUR, HOUR)


def test_a_clock_that_began_in_the_past() -> None:
    """A machine that boots in 1970 does not take the history before with it."""
    told = changes(
        (NOON - 4 * HOUR, "online", "online"),
        (0.0, "stopped", "daemon_died"),
        (NOON - HOUR, "online", "online"),
    )
    [day] = uptime_by_day(told, day_starts(NOON, 1, UTC), NOON)
    assert (day.up, day.down, day.unknown) == (HOUR, 3 * HOUR, 8 * HOUR)


STATES = st.sampled_from(
    [
        ("online", "online"),
        ("backoff", "network"),
        ("stopped", "stopped"),
        ("stopped", "daemon_died"),
        ("pairing", "pairing"),
        ("connecting", "fence"),
    ]
)


@given(
    steps=st.lists(st.tuples(st.integers(0, 200_000), STATES), max_size=12),
    days=st.integers(1, 6),
    passed=st.integers(0, 90_000),
)
def test_every_second_counts_once(
    steps: list[tuple[int, tuple[str, str]]], days: int, passed: int
) -> None:
    """With clocks that only go on, counting second by second (here: minute by minute, on whole
    minutes) gives the same."""
    now = MIDNIGHT + DAY / 2 + passed // 60 * 60
    at = MIDNIGHT - 4 * DAY
    told: list[Change] = []
    told_at: list[tuple[float, Kind]] = []
    for gap, (state, reason) in steps:
        at += gap // 60 * 60
        if at > now:
            break
        before = told_at[-1][1] if told_at else Kind.OFF
        told_at.append((at, kind_of(state, reason, before)))
        add_change(told, at, state, reason)
    starts = day_starts(now, days, UTC)
    for day in uptime_by_day(told, starts, now):
        seconds: dict[Kind | None, float] = dict.fromkeys((*Kind, None), 0.0)
        second = day.begins_at
        while second < min(day.ends_at, now):
            kinds = [kind for since, kind in told_at if since <= second]
            seconds[kinds[-1] if kinds else None] += 60
            second += 60
        assert (day.up, day.down, day.off, day.unknown) == (
            seconds[Kind.UP],
            seconds[Kind.DOWN],
            seconds[Kind.OFF],
            seconds[None],
        )


@given(
    moments=st.lists(st.floats(0, 4e9), max_size=8),
    now=st.floats(1e9, 2e9),
    days=st.integers(1, 5),
    zone=st.sampled_from(["UTC", "Europe/Madrid", "America/Sao_Paulo", "Asia/Kathmandu"]),
    data=st.data(),
)
def test_the_parts_make_the_day(
    moments: list[float], now: float, days: int, zone: str, data: st.DataObject
) -> None:
    """Whatever the clock did, the parts of a day add up to what has passed of it."""
    told: list[Change] = []
    for at in moments:
        add_change(told, at, *data.draw(STATES))
    starts = day_starts(now, days, zoneinfo.ZoneInfo(zone))
    made = uptime_by_day(told, starts, now)
    assert len(made) == days
    assert made[-1].begins_at <= now < made[-1].ends_at
    for day in made:
        parts = (day.up, day.down, day.off, day.unknown)
        assert min(parts) >= 0
        assert sum(parts) == pytest.approx(min(day.ends_at, now) - day.begins_at, abs=1e-3)
        assert day.percent is None or 0 <= day.percent <= 100
