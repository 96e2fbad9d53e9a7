"""``GET /connections/{name}/timeline`` and ``zapvisor timeline``."""

from pathlib import Path

import httpx
import pytest
from daemon_fakes import NOON, Control, Run, problem

from daemon.cli_timeline import local_zone
from storage.api import ConnectionEvent

HOUR = 3_600.0


async def record(control: Control, hours: float, state: str, reason: str, sentence: str) -> None:
    """A transition so many hours before noon."""
    event = ConnectionEvent(
        connection="sales",
        previous="connecting",
        state=state,
        reason=reason,
        sentence=sentence,
        at=NOON.timestamp() - hours * HOUR,
    )
    await control.storage.inbox.record_event(event)


async def tell(control: Control) -> None:
    """Online since 30 h ago, dead between 6 h and 5 h ago, stopped for the hour before now."""
    await record(control, 30, "online", "online", "receiving messages as they come")
    await record(
        control, 6, "stopped", "daemon_died", "the daemon was not running (it ended without a word)"
    )
    await record(control, 5, "online", "online", "receiving messages as they come")
    await record(control, 1, "stopped", "stopped", "stopped by an operator")


async def test_uptime_and_transitions(client: httpx.AsyncClient, control: Control) -> None:
    """The days with their parts; transitions of before are counted, but not listed."""
    await tell(control)
    whole = (await client.get("/connections/sales/timeline?days=1&zone=UTC")).json()
    [day] = whole["days"]
    assert day == {
        "begins_at": "2026-03-01T00:00:00Z",
        "ends_at": "2026-03-02T00:00:00Z",
        "percent": pytest.approx(1000 / 11),
        "online": 10 * HOUR,
        "down": HOUR,
        "stopped": HOUR,
        "unknown": 0,
    }
    assert [row["reason"] for row in whole["transitions"]] == ["daemon_died", "online", "stopped"]
    assert whole["percent"] == day["percent"]
    assert whole["next"] is None


async def test_days_of_another_place(client: httpx.AsyncClient, control: Control) -> None:
    """Days begin when they begin for whoever asks."""
    await tell(control)
    answer = await client.get("/connections/sales/timeline?days=2&zone=Asia/Kathmandu")
    days = answer.json()["days"]
    assert [day["begins_at"] for day in days] == [
        "2026-02-28T00:00:00+05:45",
        "2026-03-01T00:00:00+05:45",
    ]
    assert days[1]["online"] + days[1]["down"] + days[1]["stopped"] == 17.75 * HOUR
    refused = await client.get("/connections/sales/timeline?zone=../../etc/passwd")
    assert refused.status_code == 422
    assert "time zone" in problem(refused)["detail"]
    assert (await client.get("/connections/nobody/timeline")).status_code == 404
    assert (await client.get("/connections/sales/timeline?days=93")).status_code == 400


async def test_page_by_page(client: httpx.AsyncClient, control: Control) -> None:
    """Each transition once; the uptime comes with the first page only."""
    await tell(control)
    path = "/connections/sales/timeline?days=3&zone=UTC&limit=3"
    first = (await client.get(path)).json()
    second = (await client.get(f"{path}&after={first['next']}")).json()
    seen = [row["reason"] for page in (first, second) for row in page["transitions"]]
    assert seen == ["online", "daemon_died", "online", "stopped"]
    assert (len(first["days"]), second["days"], second["next"]) == (3, [], None)


async def test_what_the_operator_reads(
    zapvisor: Run, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every transition with its time and sentence, then the days."""
    monkeypatch.setenv("TZ", "UTC")
    await tell(control)
    result = await zapvisor("timeline", "sales", "--days", "2")
    assert (result.code, result.err) == (0, "")
    assert "the daemon was not running (it ended without a word)" in result.out
    shown = " ".join(result.out.split())
    assert "Sun 2026-03-01 90.91 % 10 h 00 min 1 h 00 min 1 h 00 min" in shown
    assert "nothing on record for 6 h" in result.out
    assert result.out.endswith("sales: 96.55 % of the time in which it should have been online\n")
    whole = (await zapvisor("timeline", "sales", "--json")).json
    assert len(whole["transitions"]) == 4
    assert len(whole["days"]) == 7


async def test_all_pages_are_fetched(zapvisor: Run, control: Control) -> None:
    """However many there are; each once."""
    for number in range(450):
        await record(control, 5 - number / 100, "backoff", f"r{number}", "the network")
    whole = (await zapvisor("timeline", "sales", "--days", "1", "--json")).json
    assert [row["reason"] for row in whole["transitions"]] == [f"r{each}" for each in range(450)]


async def test_nothing_on_record(zapvisor: Run, control: Control) -> None:
    """A new connection has no percentage, and says so."""
    result = await zapvisor("timeline", "support")
    assert result.code == 0
    assert "no time on record" in result.out
    assert (await zapvisor("timeline", "nobody")).code == 1
    assert (await zapvisor("timeline", "sales", "--days", "0")).code == 2


def test_the_local_zone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By its variable, or by where the system's link points; else the daemon's is taken."""
    monkeypatch.setenv("TZ", ":America/Sao_Paulo")
    assert local_zone() == "America/Sao_Paulo"
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    assert local_zone() is None
    monkeypatch.delenv("TZ")
    zone = tmp_path / "zoneinfo" / "Asia" / "Tokyo"
    zone.parent.mkdir(parents=True)
    zone.touch()
    link = tmp_path / "localtime"
    link.symlink_to(zone)
    monkeypatch.setattr("daemon.cli_timeline.LOCALTIME", link)
    assert local_zone() == "Asia/Tokyo"
    link.unlink()
    assert local_zone() is None
