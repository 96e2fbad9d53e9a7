"""The alerts of a day, out of all that there were."""

import collections.abc as cabc

import attrs
import pytest

from actors.report_alerts import PAGE, PastAlerts, fired_alerts
from actors.report_days import utc
from storage.alerts import Alert

DAY: float = 86_400.0


def alert(number: int) -> Alert:
    """One that fired so many hours after the epoch; every second one lasted a minute."""
    at = number * 3600.0
    return Alert(
        id=number,
        key=f"down/sales/{number}",
        rule="down",
        severity="warning",
        of_connections=True,
        subjects=("sales",),
        since=at,
        fired_at=at,
        last_seen=at,
        resolved_at=None if number % 2 else at + 60,
        sentence=f"alert {number}",
    )


@attrs.define
class Kept:
    """Alerts, one every hour since the epoch."""

    count: int
    pages: int = 0

    async def past_alerts(
        self, *, before: int | None = None, limit: int = 50
    ) -> cabc.Sequence[Alert]:
        self.pages += 1
        newest = self.count if before is None else before - 1
        return [alert(number) for number in range(newest, 0, -1)][:limit]


@pytest.mark.parametrize("day", [0, 1, 15, 40])
async def test_alerts_of_a_day(day: int) -> None:
    """Those that fired in it, in their order; pages are read as far back as it needs."""
    kept = Kept(1000)
    found = await fired_alerts(kept)(utc(day * DAY), utc((day + 1) * DAY))
    hours = [hour for hour in range(day * 24, day * 24 + 24) if 0 < hour <= 1000]
    assert [each.sentence for each in found] == [f"alert {hour}" for hour in hours]
    assert [each.resolved_at is None for each in found] == [bool(hour % 2) for hour in hours]
    assert kept.pages <= 1 + (1000 - day * 24) // PAGE + 1


async def test_a_storage_without_alerts_keeps_none() -> None:
    """The report then says nothing of them."""
    assert isinstance(Kept(1), PastAlerts)
    assert await fired_alerts(Kept(0))(utc(0.0), utc(DAY)) == []
    without = type("Without", (), {})()
    assert not isinstance(without, PastAlerts)
