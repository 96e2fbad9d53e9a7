"""What is usual for an account, and how likely a silence is."""

import math
import random

import pytest

from actors.traffic import HOUR, MATURE, WEEK, Traffic

MONDAY = 497_208  # an hour since the epoch: a Monday, 00:00 UTC


def weeks_of(per_hour: dict[int, int], weeks: int = 4) -> Traffic:
    """An account with so many active minutes in these hours of every week."""
    traffic = Traffic()
    for hour in range(weeks * WEEK):
        traffic.learn(MONDAY + hour, per_hour.get(hour % WEEK, 0))
    return traffic


OFFICE = {24 * day + hour: 20 for day in range(5) for hour in range(9, 18)}


def at(week: int, day: int, hour: float) -> float:
    return (MONDAY + week * WEEK + day * 24 + hour) * HOUR


def test_a_week_teaches_its_hours() -> None:
    """Much is expected in office hours, nothing at night, less at their edges."""
    traffic = weeks_of(OFFICE)
    noon = traffic.expected(at(4, 0, 11), at(4, 0, 12))
    assert 14 < noon < 20
    assert traffic.expected(at(4, 0, 20), at(4, 1, 7)) == 0
    assert traffic.expected(at(4, 5, 0), at(4, 6, 24)) == 0
    assert 0 < traffic.expected(at(4, 0, 9), at(4, 0, 10)) < noon
    assert traffic.expected(at(4, 0, 8), at(4, 0, 9)) == 0
    whole = traffic.expected(at(4, 0, 0), at(4, 1, 0))
    parts = sum(traffic.expected(at(4, 0, n / 3), at(4, 0, (n + 1) / 3)) for n in range(72))
    assert math.isclose(whole, parts)


def test_nothing_is_expected_of_a_young_account() -> None:
    """Not even of one that was busy for days on end."""
    traffic = Traffic()
    for hour in range(int(MATURE) - 1):
        traffic.learn(MONDAY + hour, 60)
    assert traffic.expected(at(0, 6, 0), at(0, 6, 12)) == 0
    traffic.learn(MONDAY + int(MATURE) - 1, 60)
    assert traffic.mature


def test_the_irregular_are_given_more_time() -> None:
    """Holidays and campaigns make the same silence more likely."""
    rng = random.Random(2)
    regular, irregular = Traffic(), Traffic()
    for hour in range(8 * WEEK):
        usual = OFFICE.get(hour % WEEK, 0)
        regular.learn(MONDAY + hour, usual)
        day_off = random.Random(hour // 24).random() < 0.3
        irregular.learn(MONDAY + hour, 0 if day_off else usual * rng.choice((0, 1, 2)))
    assert regular.spread < 0.1 < 0.5 < irregular.spread
    assert regular.odds_of_silence(30) < 1e-4 < irregular.odds_of_silence(30)
    assert regular.odds_of_silence(0) == 1


def test_live_minutes_count_once_and_only_while_listened_to() -> None:
    """A burst within a minute is one active minute; time that nobody listened is not silence."""
    traffic = weeks_of({}, weeks=1)
    for minute in range(60):
        begins = at(1, 0, 10) + 60 * minute
        traffic.listened(begins, begins + 60)
        for second in (0, 20, 40):
            traffic.heard(begins + second)
    traffic.listened(at(1, 0, 11), at(1, 0, 11.5))
    assert traffic._active[slot(10)] == 60
    away = traffic._minutes[slot(15)]
    traffic.listened(at(1, 1, 0), at(1, 1, 1))  # and not in between
    traffic.listened(at(1, 1, 1), at(1, 1, 2))
    assert traffic._minutes[slot(15)] == away
    assert traffic._minutes[slot(24)] > away


def slot(hour: int) -> int:
    return (MONDAY + hour) % WEEK


@pytest.mark.parametrize("jump", [-3600.0, 40 * 24 * 3600.0])
def test_a_clock_that_is_set_teaches_nothing(jump: float) -> None:
    """Neither backwards nor months ahead."""
    traffic = weeks_of(OFFICE)
    before = list(traffic._minutes)
    traffic.listened(at(4, 0, 12), at(4, 0, 12) + jump)
    assert list(traffic._minutes) == before


def test_what_is_stored_teaches_the_same() -> None:
    """What one daemon finished, the next one knows; what could not be stored is told again."""
    lived = Traffic()
    for minute in range(3 * WEEK * 60):
        now = at(0, 0, 0) + 60 * minute
        lived.listened(now, now + 60)
        if OFFICE.get(minute // 60 % WEEK) and minute % 3 == 0:
            lived.heard(now)
        if minute % (12 * 60) == 0:
            lived.not_stored(lived.to_store())
    stored = lived.to_store()
    assert len(stored) == 14 * 24  # as much as is remembered
    loaded, told = Traffic(), Traffic()
    loaded.load(stored)
    for each in stored:
        told.learn(each.hour, each.active, each.minutes)
    assert list(loaded._active) == list(told._active)
    assert sum(each.active for each in stored) == 2 * 45 * 20
    assert lived.to_store() == []
