"""Health over the control socket: live, ready, detailed, and the task that reads the database."""

import datetime as dt
import typing as t

import attrs
import httpx
import pytest
import trio
from daemon_fakes import NOON, Control, connection

from api.bounds import Bounds
from api.figures import FigureReader, look_at_disks
from api.health import judge, unready
from api.ports_daemon import ReloadFacts
from api.views import DatabaseView, Verdict, WriterView
from api.views_health import DiskView
from storage.api import SyncRun
from storage.errors import StorageUnavailableError
from storage.events import EventRange
from storage.figures import SyncTotals


async def test_a_healthy_daemon_lives_and_serves(client: httpx.AsyncClient) -> None:
    """Both say so with 200."""
    for path, answer in (
        ("live", {"alive": True}),
        ("ready", {"ready": True, "reasons": []}),
    ):
        told = await client.get(f"/health/{path}")
        assert (told.status_code, told.json()) == (200, answer)


async def test_without_its_database_it_lives_and_does_not_serve(
    client: httpx.AsyncClient, control: Control
) -> None:
    """Ready is 503 with a reason that anybody may read; live goes on."""
    control.storage.away = True
    assert (await client.get("/health/live")).status_code == 200
    ready = await client.get("/health/ready")
    assert ready.status_code == 503
    assert ready.json() == {
        "ready": False,
        "reasons": ["the database does not answer"],
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"retrying_seconds": 31.0}, "retrying for 31 s"),
        ({"stalled_seconds": 61.0}, "no progress for 61 s"),
    ],
)
async def test_a_writer_that_does_not_get_on(
    client: httpx.AsyncClient, control: Control, changes: dict[str, t.Any], words: str
) -> None:
    """The daemon is not ready, whatever the database says to others."""
    control.writer = attrs.evolve(control.writer, **changes)
    ready = await client.get("/health/ready")
    assert ready.status_code == 503
    assert words in ready.json()["reasons"][0]


async def test_detailed_health(client: httpx.AsyncClient, control: Control) -> None:
    """Everything at once, in the shape that others rely on."""
    beaten = NOON + dt.timedelta(minutes=6)
    control.fleet.connections["sales"] = connection(
        "sales", last_heartbeat_at=beaten, lag_seconds=0.25, ends={"silent": 2}
    )
    await control.storage.inbox.record_sync(
        SyncRun(connection="sales", total=4, processed=2, skipped=1, errors=1)
    )
    health = (await client.get("/health/detailed")).json()
    sales = health["connections"][0]
    assert (sales["name"], sales["lag_seconds"], sales["deaf_suspicion"]) == ("sales", 0.25, None)
    assert sales["last_heartbeat_at"] == "2026-03-01T12:06:00Z"
    assert health["verdict"] == "ok"
    assert health["reasons"] == []
    assert health["states"] == {"online": 1, "stopped": 1}
    counted = {"total": 4, "processed": 2, "skipped": 1, "errors": 1}
    assert health["sync"] == {"hour": counted, "day": counted}
    assert health["conversations"] == {"waiting": 1, "open": 0, "closed": 1}
    assert health["messages"]["stored"] == 12
    assert health["gaps"]["open"] == 0
    assert health["quarantine"] == 0
    assert health["outbox"] == {"queued": 0, "sending": 0, "unknown": 0, "failed": 0}
    assert health["database"] == {"ping_seconds": 0.001, "error": None, "size_bytes": 0}
    assert health["disk"]["path"] == str(control.path.parent)
    assert 0 <= health["disk"]["free_bytes"] <= health["disk"]["total_bytes"]
    assert health["media_disk"]["path"].endswith("media")
    assert (health["version"], health["now"]) == ("1.2.3", "2026-03-01T12:00:00Z")
    assert (health["incidents"], health["reload"]) == ([], None)


async def test_detailed_health_without_a_database(
    client: httpx.AsyncClient, control: Control
) -> None:
    """What is stored is null; what the daemon knows by itself is there."""
    control.storage.away = True
    health = (await client.get("/health/detailed")).json()
    assert health["verdict"] == "failing"
    stored = ("sync", "conversations", "messages", "gaps", "quarantine", "outbox")
    assert [health[name] for name in stored] == [None] * len(stored)
    assert health["database"]["error"] == "db.example refused the connection"
    assert health["states"] == {"online": 1, "stopped": 1}
    assert health["disk"] is not None


async def test_a_refused_reload_is_told(client: httpx.AsyncClient, control: Control) -> None:
    """Until a reload succeeds the daemon runs on something else than its file says."""
    control.reloader.last = (NOON.timestamp(), ReloadFacts(problems=("line 3: no such key",)))
    health = (await client.get("/health/detailed")).json()
    assert health["verdict"] == "degraded"
    assert health["reasons"] == [
        "the changed configuration was refused, the old one is in force: line 3: no such key"
    ]
    assert health["reload"]["ok"] is False


def test_a_disk_that_is_nearly_full_is_told_once() -> None:
    """Two places on one disk are one reason; a small disk may be fuller than a large one."""
    writer = WriterView(
        depth=0,
        capacity=10,
        batches=0,
        envelopes=0,
        last_commit_seconds=0.0,
        retrying_seconds=None,
        last_error=None,
    )
    low = [DiskView(path=path, free_bytes=2**20, total_bytes=2**40) for path in ("/data", "/media")]
    small = DiskView(path="/small", free_bytes=2**29, total_bytes=2**32)
    database = DatabaseView(ping_seconds=0.1, error=None)
    health = judge([], writer, database, {}, disks=[*low, small])
    assert health.verdict is Verdict.DEGRADED
    assert health.reasons == ("the disk of /data is nearly full: 1 MiB are free",)
    assert list(unready(writer, None)) == []


def test_a_place_that_is_not_made_yet(tmp_path: t.Any) -> None:
    """It will be on the disk of what there is of its path."""
    [view] = look_at_disks([tmp_path / "a" / "b"])
    assert view.total_bytes > 0


async def test_health_answers_while_all_other_requests_hang(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The ceiling is reached by requests that wait for the database; health has its own, and
    whether it lives and serves is answered above every ceiling."""
    answered: list[tuple[str, int]] = []

    async def app(scope: t.Any, _receive: t.Any, send: t.Any) -> None:
        if scope["path"] == "/conversations":
            await trio.sleep_forever()
        if scope["path"] == "/health/detailed":
            await trio.sleep(4)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    bounds = Bounds(app, max_requests=3)

    async def ask(path: str) -> None:
        async def send(message: t.Any) -> None:
            if message["type"] == "http.response.start":
                answered.append((path, message["status"]))

        scope: t.Any = {"type": "http", "path": path}
        await bounds(scope, t.cast("t.Any", None), send)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask, "/conversations")
        await trio.testing.wait_all_tasks_blocked()
        await ask("/version")
        await ask("/metrics")
        for _ in range(3):
            nursery.start_soon(ask, "/health/detailed")
        await trio.testing.wait_all_tasks_blocked()
        await ask("/health/detailed")
        await ask("/health/ready")
        await ask("/health/live")
        assert answered == [
            ("/version", 503),
            ("/metrics", 200),
            ("/health/detailed", 503),
            ("/health/ready", 200),
            ("/health/live", 200),
        ]
        await trio.sleep(5)
        assert answered[5:] == [("/health/detailed", 200)] * 3
        nursery.cancel_scope.cancel()


class SlowStorage:
    """Counts its questions; answers at once, after seconds, or never."""

    def __init__(self) -> None:
        self.pings = 0
        self.seconds = 0.0
        self.error: str | None = None

    async def ping(self) -> float:
        self.pings += 1
        if self.error is not None:
            raise StorageUnavailableError(self.error)
        await trio.sleep(self.seconds)
        return self.seconds

    async def statistics(self) -> dict[str, t.Any]:
        return {}

    async def sync_totals(self) -> SyncTotals:
        return SyncTotals()

    async def outbox_unsettled(self) -> dict[str, int]:
        return {}

    async def database_size(self) -> int:
        return 7

    async def event_range(self) -> EventRange:
        return EventRange(oldest=0, newest=0)

    async def search_waiting(self) -> int:
        return 0


async def test_a_storm_costs_one_reading(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """A thousand questions at once, and more within three seconds, are one to the database."""
    storage = SlowStorage()
    storage.seconds = 0.5
    figures = FigureReader(storage)
    await nursery.start(figures.run)
    async with trio.open_nursery() as storm:
        for _ in range(1000):
            storm.start_soon(figures.reading)
    assert storage.pings == 1
    await trio.sleep(2.9)
    assert (await figures.reading()).stored is not None
    assert storage.pings == 1
    await trio.sleep(0.2)
    await figures.reading()
    assert storage.pings == 2
    nursery.cancel_scope.cancel()


async def test_a_database_that_hangs_holds_nobody_up(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Everybody has an answer within five seconds; later ones take the failure as it is."""
    storage = SlowStorage()
    storage.seconds = 3600
    figures = FigureReader(storage)
    await nursery.start(figures.run)
    began = trio.current_time()

    async def ask() -> None:
        reading = await figures.reading()
        assert reading.stored is None
        assert "no answer within" in (reading.error or "")

    async with trio.open_nursery() as storm:
        for _ in range(100):
            storm.start_soon(ask)
    assert trio.current_time() - began <= 4.1
    await ask()
    assert trio.current_time() - began <= 4.1
    assert storage.pings == 1
    storage.seconds = 0.0
    await trio.sleep(3)
    assert (await figures.reading()).error is None
    nursery.cancel_scope.cancel()


async def test_who_leaves_changes_nothing(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """The reading goes on for the others."""
    storage = SlowStorage()
    storage.seconds = 1.0
    figures = FigureReader(storage)
    await nursery.start(figures.run)
    with trio.move_on_after(0.1):
        await figures.reading()
    assert (await figures.reading()).stored is not None
    assert storage.pings == 1
    nursery.cancel_scope.cancel()


async def test_a_scrape_takes_what_there_is(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """It never waits, has the last good reading when the newest failed, and rings for another."""
    storage = SlowStorage()
    figures = FigureReader(storage)
    await nursery.start(figures.run)
    assert figures.newest() is None
    await trio.sleep(1)
    first = figures.newest()
    assert first is not None
    assert figures.newest_good() is first
    storage.error = "gone"
    await trio.sleep(10)
    assert figures.newest() is first
    await trio.sleep(1)
    assert (figures.newest() or first).error == "gone"
    assert figures.newest_good() is first
    nursery.cancel_scope.cancel()
