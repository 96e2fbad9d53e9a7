"""``zapvisor health``, ``stats`` and ``top``: what they print, and how they end."""

import datetime as dt
import io
import typing as t
from pathlib import Path

import pytest
import trio
from daemon_fakes import NOON, Control, Run, connection
from rich.console import Console

from daemon.errors import NoDaemonError
from daemon.screen_health import size
from daemon.screen_top import Picture, draw, sparkline
from daemon.top import follow
from daemon.top_rates import Rates
from storage.api import SyncRun


async def record(control: Control, minutes: int, total: int, name: str = "sales") -> None:
    """So many messages, so many minutes before noon."""
    at = NOON - dt.timedelta(minutes=minutes)
    run = SyncRun(
        connection=name, total=total, processed=total, skipped=0, errors=0, at=at.timestamp()
    )
    await control.storage.inbox.record_sync(run)


async def test_health_shows_everything_at_a_glance(zapvisor: Run, control: Control) -> None:
    """Troubled connections first, with the reasons above them."""
    control.fleet.connections["support"] = connection(
        "support", state="parked", sentence="failed 30 times", retries=30
    )
    result = await zapvisor("health")
    assert result.code == 1
    lines = result.out.splitlines()
    assert lines[:2] == ["degraded", "- support is parked: failed 30 times"]
    rows = [line.split()[0] for line in lines if line.startswith(("sales ", "support "))]
    assert rows == ["support", "sales"]
    for words in (
        "1 online, 1 parked",
        "0 deliveries: 0 processed, 0 skipped, 0 errors",
        "stored (not every delivery holds one), ",
        "none open",
        "0 unresolved",
        "0 queued, 0 sending, 0 unknown, 0 failed",
        "0 of 1000 places taken, 3 batches, the last in 2.0 ms",
        "answers in 1.0 ms, 0 B",
        "zapvisor 1.2.3, up",
    ):
        assert words in result.out, result.out


async def test_health_without_a_database(zapvisor: Run, control: Control) -> None:
    """What is known is shown; the exit code is 2."""
    control.storage.away = True
    result = await zapvisor("health")
    assert result.code == 2
    assert "does not answer: db.example refused the connection" in result.out
    assert "conversations" not in result.out


async def test_health_of_a_daemon_that_hangs(
    zapvisor: Run, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code 2, and one clear line."""
    monkeypatch.setattr("daemon.cli_health.PATIENCE", 0.05)
    control.storage.silent = True
    result = await zapvisor("health")
    assert (result.code, result.out) == (2, "")
    assert "did not answer within 0.05 s" in result.err


async def test_stats(zapvisor: Run, control: Control) -> None:
    """By hour, by minute, of one connection, and each in a row."""
    await record(control, 0, 3)
    await record(control, 61, 2, "support")
    result = await zapvisor("stats", "--last", "3")
    assert result.code == 0
    rows = [line.split() for line in result.out.splitlines()[2:5]]
    assert [row[-4:] for row in rows][-1] == ["3", "3", "0", "0"]
    together = result.out.splitlines()[-1].split()
    assert together == ["together", "5", "5", "0", "0"]
    points = (await zapvisor("stats", "sales", "--by", "minute", "--json")).json
    assert len(points) == 60
    assert (points[-1]["connection"], points[-1]["total"]) == ("sales", 3)
    sums = (await zapvisor("stats", "--by", "connection", "--json")).json
    assert [(row["connection"], row["total"]) for row in sums] == [("sales", 3), ("support", 2)]
    assert "support" in (await zapvisor("stats", "--by", "connection")).out
    assert (await zapvisor("stats", "nobody")).code == 1
    assert (await zapvisor("stats", "--last", "0")).code == 2


async def test_top_once(zapvisor: Run, control: Control) -> None:
    """One picture and the exit code of the verdict."""
    await record(control, 1, 7)
    result = await zapvisor("top", "--once")
    assert result.code == 0
    assert result.out.startswith("ok  zapvisor 1.2.3, up")
    [sales] = [line for line in result.out.splitlines() if line.startswith("sales")]
    assert " 7 " in sales
    assert "█" in result.out
    control.storage.away = True
    result = await zapvisor("top", "--once")
    assert result.code == 2
    assert "- the database does not answer" in result.out


async def test_top_without_a_daemon(zapvisor: Run) -> None:
    """With ``--once`` that is failing; wrong options are told."""
    result = await zapvisor("top", "--once")
    assert (result.code, result.out) == (2, "")
    assert "no daemon answers" in result.err
    assert (await zapvisor("top", "--interval", "0.1s")).code == 2


def health(**changes: t.Any) -> dict[str, t.Any]:
    """What a daemon with one connection says."""
    row = {
        "name": "sales",
        "state": "online",
        "since": "2026-03-01T11:00:00Z",
        "retries": 0,
        "deaf_suspicion": None,
        "next_attempt_in": None,
        "last_message_at": None,
        "last_heartbeat_at": "2026-03-01T11:59:50Z",
        "lag_seconds": 0.0,
        "in_flight": 0,
        "messages": 12,
        "processed": 0,
        "skipped": 0,
        "errors": 0,
    }
    writer = {
        "depth": 0,
        "capacity": 10,
        "batches": 1,
        "last_commit_seconds": 0.001,
        "retrying_seconds": None,
        "stalled_seconds": 0.0,
    }
    return {
        "verdict": "ok",
        "reasons": [],
        "version": "1.2.3",
        "started_at": "2026-03-01T10:00:00Z",
        "now": "2026-03-01T12:00:00Z",
        "states": {"online": 1},
        "connections": [row],
        "sync": None,
        "writer": writer,
        "database": {"error": None, "ping_seconds": 0.001, "size_bytes": 5_000_000},
        "loop": None,
        "gaps": None,
        "outbox": None,
        "quarantine": None,
        "webhooks": None,
        "nats": None,
    } | changes


def drawn(picture: Picture) -> str:
    """The picture as text."""
    screen = Console(file=io.StringIO(), width=picture.width, highlight=False)
    screen.print(draw(picture))
    return t.cast("io.StringIO", screen.file).getvalue()


def test_top_survives_a_restart_of_the_daemon() -> None:
    """While nobody answers it says so above the last picture, and goes on asking."""
    answers: list[t.Any] = [
        (health(), []),
        NoDaemonError("no daemon answers at /run/z.sock"),
        (health(started_at="2026-03-01T12:00:00Z"), []),
    ]
    waited: list[float] = []
    screen = Console(file=io.StringIO(), width=100, height=40, highlight=False)

    def ask() -> tuple[t.Any, t.Any]:
        answer = answers[len(waited)]
        if isinstance(answer, Exception):
            raise answer
        return t.cast("tuple[t.Any, t.Any]", answer)

    def wait(seconds: float) -> str:
        waited.append(seconds)
        return "" if len(waited) < len(answers) else "q"

    follow(screen, ask, 2.0, wait)
    assert waited == [2.0, 2.0, 2.0]
    rates = Rates()
    rates.learn(0.0, health(), [])
    picture = Picture(
        health=health(),
        rates=rates,
        now=NOON,
        error="no daemon answers at /run/z.sock",
        asked_at=NOON - dt.timedelta(seconds=8),
    )
    text = drawn(picture)
    assert text.startswith("not answering, retrying: no daemon answers at /run/z.sock")
    assert "from 8 s ago" in text
    assert "sales" in text
    nothing = drawn(Picture(health=None, rates=Rates(), now=NOON, error="gone"))
    assert nothing == "not answering, retrying: gone\n"


@pytest.mark.parametrize("width", [30, 64, 80, 100, 200])
def test_top_on_narrow_and_wide_terminals(width: int) -> None:
    """No line is wider than the terminal, and the name and state of a connection are there."""
    rates = Rates()
    rates.learn(0.0, health(), [])
    text = drawn(Picture(health=health(), rates=rates, now=NOON, width=width))
    assert max(len(line) for line in text.splitlines()) <= width
    assert "sales" in text
    assert "online" in text
    assert ("heartbeat" in text) is (width >= 100)


def test_top_with_more_connections_than_lines() -> None:
    """The troubled ones are shown, the others are counted."""
    [row] = health()["connections"]
    rows = [row | {"name": f"c{number}"} for number in range(50)]
    rows[49] |= {"state": "parked"}
    rates = Rates()
    rates.learn(0.0, health(connections=rows), [])
    picture = Picture(health=health(connections=rows), rates=rates, now=NOON, height=24)
    text = drawn(picture)
    assert len(text.splitlines()) <= 24
    assert "c49" in text
    assert "and 42 more" in text


def test_rates() -> None:
    """Out of the stored minutes first, then out of what was counted since; a restart begins
    anew."""
    rates = Rates()
    [row] = health()["connections"]
    points = [{"at": "2026-03-01T11:59:00Z", "connection": "sales", "total": 5}]
    rates.learn(0.0, health(), points)
    assert rates.per_minute("sales") == 5
    assert rates.minutes[-2:] == [5, 0]
    rates.learn(30.0, health(connections=[row | {"processed": 20}]), None)
    assert rates.per_minute("sales") == 40
    assert rates.per_minute("nobody") == 0
    rates.learn(31.0, health(connections=[row], started_at="2026-03-01T12:00:01Z"), points)
    assert rates.per_minute("sales") == 5


def test_the_words_beside_the_bars_are_of_the_same_minutes() -> None:
    """The last bar is the minute under way, whatever the rates of the connections are."""
    rates = Rates()
    points = [
        {"at": "2026-03-01T11:59:00Z", "connection": "sales", "total": 1},
        {"at": "2026-03-01T12:00:00Z", "connection": "sales", "total": 7},
        {"at": "2026-03-01T12:00:00Z", "connection": "support", "total": 1},
    ]
    rates.learn(0.0, health(), points)
    text = drawn(Picture(health=health(), rates=rates, now=NOON, width=100))
    assert "▁▁█ 8 in this one, 1 in the last" in text.replace("▂", "▁")
    unknown = Rates()
    unknown.learn(0.0, health(), None)
    assert "per minute" not in drawn(Picture(health=health(), rates=unknown, now=NOON))


def test_sparklines_and_sizes() -> None:
    """Bars from nothing to the most; bytes in short."""
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([0, 4, 8]) == "▁▄█"
    assert [size(value) for value in (0, 1023, 1536, 5 << 20, 3 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 MiB",
        "3.0 TiB",
    ]


async def test_top_ends_with_a_key(zapvisor: Run, control: Control) -> None:
    """Without a terminal there are no keys, and the wait is the interval."""
    from daemon.top import keys

    with keys() as wait:
        began = trio.current_time()
        assert wait(0.01) == ""
        assert trio.current_time() - began < 5


async def test_only_whether_it_lives(zapvisor: Run, control: Control, short_path: Path) -> None:
    """For a container's check: 0 also without a database, 1 without a daemon, never 2."""
    control.storage.away = True
    alive = await zapvisor("health", "--live")
    assert (alive.code, alive.out) == (0, "alive\n")
    (short_path / "broken.toml").write_text("nonsense")
    broken = await zapvisor("health", "--live", "--config", str(short_path / "broken.toml"))
    assert broken.code == 1


async def test_nobody_lives(zapvisor: Run) -> None:
    """Code 1, and one clear line."""
    gone = await zapvisor("health", "--live")
    assert gone.code == 1
    assert "no daemon answers" in gone.err
