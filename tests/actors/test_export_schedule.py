"""Exports of the schedule happen once for each day, whatever clocks, restarts and disks do."""

import collections.abc as cabc
import datetime as dt
import typing as t
import zoneinfo

import attrs
import pytest
import structlog.testing
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.export_schedule import Period, Schedule, expired, retry_at, trouble_of
from actors.exporter import Exporter, ExportRunsError, Pauses
from storage.changes import Viewer
from storage.errors import NoRoomError, StorageRejectedError, StorageUnavailableError
from storage.exports.ledger import ExportRow
from storage.exports.model import Form, Manifest, Request, Start
from storage.memory import MemoryStorage

BEGIN = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC).timestamp()
HOUR = 3600.0
BY = Viewer(who="auditor", uid=1000)
DAY = 86400.0


def schedule(**changes: t.Any) -> Schedule:
    """Every night at 03:30 in São Paulo, unless told otherwise."""
    made = Schedule(
        time=dt.time(3, 30),
        zone="America/Sao_Paulo",
        period=Period.DAY,
        request=Request(form=Form.CSV, zone="America/Sao_Paulo"),
        place="/exports",
    )
    return attrs.evolve(made, **changes)


@attrs.define
class FakeWorker:
    """Writes exports into a dictionary."""

    there: dict[str, Request] = attrs.field(factory=dict)
    previous: list[str | None] = attrs.field(factory=list)
    errors: list[Exception] = attrs.field(factory=list)
    takes: float = 10.0  # seconds

    def s3_place(self) -> str:
        raise StorageRejectedError("no S3 store is configured for exports; see [export]")

    async def write(
        self,
        row: ExportRow,
        *,
        previous: str | None = None,
        told: cabc.Callable[[cabc.Mapping[str, int]], None] = lambda _counts: None,
    ) -> Manifest:
        told({"messages": 1})
        await trio.sleep(self.takes)
        if self.errors:
            raise self.errors.pop(0)
        assert row.name not in self.there
        self.there[row.name] = row.request
        self.previous.append(previous)
        start = Start(
            name=row.name, request=row.request, bounds=(0, 0, 0, 0), created_at="", program=""
        )
        return Manifest(
            start=start,
            finished_at="",
            counts={"messages": 2},
            files=1,
            size=100,
            sums_sha256="",
            parts=(),
        )

    async def remove(self, row: ExportRow) -> None:
        await trio.lowlevel.checkpoint()
        del self.there[row.name]


class World:
    """A daemon's exports in virtual time; it may be killed and started again."""

    def __init__(self, clock: trio.testing.MockClock, plan: Schedule | None) -> None:
        self.now = lambda: BEGIN + clock.current_time()
        self.storage = MemoryStorage(self.now)
        self.worker = FakeWorker()
        self.plan = plan
        self.exporter = self._exporter()

    def _exporter(self) -> Exporter:
        return Exporter(
            self.storage,
            self.worker,
            wall_clock=self.now,
            deleting_clock=self.now,
            directory="/exports",
            schedule=self.plan,
        )

    async def run_for(self, seconds: float) -> None:
        """Run, and be killed at the end."""
        self.exporter = self._exporter()
        with trio.move_on_after(seconds):
            await self.exporter.run()

    async def events(self) -> list[str]:
        """Their types."""
        page = await self.storage.events_after(0, limit=500)
        return [event.type for event in page.events]


@pytest.fixture
async def world(autojump_clock: trio.testing.MockClock) -> World:
    return World(autojump_clock, schedule())


async def test_once_for_each_day(autojump_clock: trio.testing.MockClock, world: World) -> None:
    """Of the day before, from midnight to midnight there; the one before it is named."""
    await world.run_for(3 * DAY)
    assert (
        list(world.worker.there)
        == [
            "zapvisor-day-2026-11-20",
            "zapvisor-day-2026-11-21",
            "zapvisor-day-2026-11-22",
            "zapvisor-day-2026-11-23",
        ][: len(world.worker.there)]
    )
    assert len(world.worker.there) == 4
    assert world.worker.previous == [None, *list(world.worker.there)[:-1]]
    request = world.worker.there["zapvisor-day-2026-11-21"]
    assert request.since == dt.datetime(2026, 11, 21, 3, tzinfo=dt.UTC)
    assert request.until == dt.datetime(2026, 11, 22, 3, tzinfo=dt.UTC)
    assert set(await world.events()) == {"export.finished"}
    rows = await world.storage.scheduled_exports()
    begun = [row.started_at.astimezone(zoneinfo.ZoneInfo("America/Sao_Paulo")) for row in rows]
    assert all(dt.time(3, 30) <= at.time() < dt.time(3, 32) for at in begun[:-1])


async def test_killed_all_the_time(autojump_clock: trio.testing.MockClock, world: World) -> None:
    """What a dead daemon began is finished by the next, and nothing is written twice."""
    world.worker.takes = 30.0
    for number in range(600):
        await world.run_for(7.0 + number % 50)
    rows = await world.storage.scheduled_exports()
    assert {row.state for row in rows} <= {"done", "running"}
    assert len({row.period for row in rows}) == len(rows) == len(world.worker.there)
    assert (await world.events()).count("export.finished") == len(world.worker.there)


async def test_days_that_were_missed(autojump_clock: trio.testing.MockClock, world: World) -> None:
    """Are made up for, a month of them; of everything, only the newest."""
    await world.run_for(HOUR)
    await trio.sleep(5 * DAY)
    await world.run_for(HOUR)
    assert len(world.worker.there) == 1 + 5
    await trio.sleep(100 * DAY)
    await world.run_for(HOUR)
    assert len(world.worker.there) == 1 + 5 + 31
    world.plan = schedule(period=Period.ALL)
    await world.run_for(HOUR)
    await trio.sleep(5 * DAY)
    await world.run_for(HOUR)
    assert len(world.worker.there) == 1 + 5 + 31 + 2


async def test_what_fails_is_tried_again(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    """At growing intervals; each failure is told, and so is the end."""
    world.worker.errors = [NoRoomError("there is no room")] * 3
    with structlog.testing.capture_logs() as logs:
        await world.run_for(3 * HOUR)
    assert len(world.worker.there) == 1
    assert await world.events() == [*["export.failed"] * 3, "export.finished"]
    assert [entry["event"] for entry in logs].count("export.failed") == 3
    [row] = await world.storage.scheduled_exports()
    assert (row.state, row.attempts, row.error) == ("done", 4, None)


async def test_a_defect_fails_the_export_alone(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    """It is told with its traceback, and others go on."""
    world.worker.errors = [ZeroDivisionError("what")]
    with structlog.testing.capture_logs() as logs:
        await world.run_for(60)
        [row] = await world.storage.scheduled_exports()
        assert row.error == "ZeroDivisionError; the daemon's log tells more"
        await world.run_for(HOUR)
    assert "export.crashed" in [entry["event"] for entry in logs]
    assert len(world.worker.there) == 1


async def test_old_ones_go(autojump_clock: trio.testing.MockClock, world: World) -> None:
    """By count or by age, never the newest complete one, and only those of the schedule."""
    world.plan = schedule(keep_count=3)
    mine = await world.exporter.begin(Request(), "mine", BY)
    await world.run_for(6 * DAY)
    assert list(world.worker.there) == [
        "mine",
        *(f"zapvisor-day-2026-11-{day}" for day in (24, 25, 26)),
    ]
    world.plan = schedule(keep=HOUR)
    await world.run_for(2 * HOUR)
    assert list(world.worker.there) == ["mine", "zapvisor-day-2026-11-26"]
    assert (await world.storage.export(mine.id)) is not None
    await trio.sleep(30 * DAY)
    world.worker.errors = [NoRoomError("full")] * 1000
    await world.run_for(HOUR)
    assert "zapvisor-day-2026-11-26" in world.worker.there


async def test_on_order(autojump_clock: trio.testing.MockClock, world: World) -> None:
    """One after another; names are taken once; what runs is not deleted."""
    world.plan = None
    first = await world.exporter.begin(Request(), "first", BY)
    await world.exporter.begin(Request(), "second", BY, directory="/elsewhere")
    with pytest.raises(StorageRejectedError, match="already"):
        await world.exporter.begin(Request(), "first", BY)
    with pytest.raises(StorageRejectedError, match="no recipient"):
        await world.exporter.begin(Request(recipients=("age1nothing",)), "third", BY)
    with pytest.raises(StorageRejectedError, match="no S3"):
        await world.exporter.begin(Request(), "third", BY, s3=True)
    with pytest.raises(ExportRunsError):
        await world.exporter.remove(first.id)
    await world.run_for(60)
    assert list(world.worker.there) == ["first", "second"]
    assert world.exporter.view().finished == 2
    assert await world.exporter.again(first.id, BY) is None
    removed = await world.exporter.remove(first.id)
    assert removed is not None
    assert removed.removed_at is not None
    assert list(world.worker.there) == ["second"]
    assert await world.exporter.remove(10**6) is None


async def test_it_is_on_record(autojump_clock: trio.testing.MockClock, world: World) -> None:
    """Before anything is written: each attempt once, also across restarts, never one that is not
    made."""
    on_record: list[list[str]] = []

    class Looking(FakeWorker):
        async def write(self, row: ExportRow, **more: t.Any) -> Manifest:
            rows = await world.storage.history_accesses()
            on_record.append([f"{each.who} {each.query}" for each in rows])
            return await super().write(row, **more)

    world.worker = Looking()
    day = "schedule zapvisor-day-2026-11-20"
    world.worker.errors = [NoRoomError("full")]
    await world.run_for(5)  # killed while it writes
    await world.run_for(2 * HOUR)  # goes on, fails, is tried again
    assert on_record == [[day], [day], [day, day]]
    await world.storage.begin_export("zapvisor-day-2026-11-21", "/exports", Request(), BY)
    await world.run_for(DAY)  # the name is taken: looked at each minute
    rows = await world.storage.history_accesses()
    assert [each.who for each in rows] == ["auditor", "schedule", "schedule"]


async def test_an_order_does_not_wait(autojump_clock: trio.testing.MockClock) -> None:
    """It wakes the service."""
    world = World(autojump_clock, None)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.exporter.run)
        await trio.sleep(30)
        await world.exporter.begin(Request(), "first", BY)
        await trio.sleep(world.worker.takes + 1)
        assert list(world.worker.there) == ["first"]
        nursery.cancel_scope.cancel()


async def test_a_name_that_is_taken(autojump_clock: trio.testing.MockClock, world: World) -> None:
    """Is told once, and breaks nothing else."""
    await world.storage.begin_export("zapvisor-day-2026-11-20", "/exports", Request(), BY)
    with structlog.testing.capture_logs() as logs:
        await world.run_for(HOUR)
    assert [entry["event"] for entry in logs].count("export.name_taken") == 1


async def test_pauses_are_as_long_as_the_work(autojump_clock: trio.testing.MockClock) -> None:
    """And not longer than half a second."""
    pauses = Pauses()
    await pauses()
    for work, pause in ((0.1, 0.1), (5.0, 0.5)):
        await trio.sleep(work)
        begun = trio.current_time()
        await pauses()
        assert trio.current_time() - begun == pytest.approx(pause)


ZONES = ["UTC", "America/Sao_Paulo", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"]


@settings(deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    minute=st.integers(0, 24 * 60 - 1),
    period=st.sampled_from(Period),
    begun=st.datetimes(dt.datetime(2026, 1, 1), dt.datetime(2027, 12, 31)),  # noqa: DTZ001
)
def test_each_day_is_due_once(zone: str, minute: int, period: Period, begun: dt.datetime) -> None:
    """Looking every half an hour for three days, clocks changed or not, each day comes once, at
    its time, in order."""
    plan = schedule(zone=zone, time=dt.time(minute // 60, minute % 60), period=period)
    now = begun.replace(tzinfo=dt.UTC).timestamp()
    rows: list[ExportRow] = []
    seen: list[dt.date] = []
    for _look in range(6 * 24):
        for day in plan.due(now, rows):
            assert plan.due_at(day) <= now
            seen.append(day)
            rows.insert(0, row(len(seen), plan.key(day)))
            if len(seen) > 1:
                assert now - plan.due_at(day) < 1800
        now += 1800.0
    assert seen == [seen[0] + dt.timedelta(days=each) for each in range(len(seen))]
    assert len(seen) in (3, 4)
    assert plan.newest_due(now) in (seen[-1], seen[-1] + dt.timedelta(days=1))
    for day in seen:
        request = plan.request_of(day)
        if period is Period.DAY:
            assert request.since is not None
            assert request.until == plan.request_of(day + dt.timedelta(days=1)).since


def row(number: int, period: str | None, **changes: t.Any) -> ExportRow:
    """A complete export, unless told otherwise."""
    at = dt.datetime.fromtimestamp(BEGIN, dt.UTC)
    made = ExportRow(
        id=number,
        name=f"n{number}",
        period=period,
        place="/exports",
        request=Request(),
        state="done",
        attempts=1,
        counts={},
        bytes=0,
        error=None,
        started_at=at,
        updated_at=at,
        finished_at=at,
        removed_at=None,
    )
    return attrs.evolve(made, **changes)


@given(
    states=st.lists(st.sampled_from(["done", "failed", "running"]), max_size=8),
    ages=st.lists(st.integers(0, 20), min_size=8, max_size=8),
    keep=st.integers(0, 20),
    keep_count=st.integers(0, 5),
)
def test_what_expires(states: list[str], ages: list[int], keep: int, keep_count: int) -> None:
    """Complete ones alone, and not the newest of them."""
    rows = [
        row(
            number,
            f"day {number}",
            state=state,
            finished_at=dt.datetime.fromtimestamp(BEGIN - age * DAY, dt.UTC),
        )
        for number, (state, age) in enumerate(zip(states, ages, strict=False), start=1)
    ]
    gone = expired(rows, BEGIN, keep=keep * DAY, keep_count=keep_count)
    done = [each for each in rows if each.state == "done"]
    assert all(each in done[:-1] for each in gone)
    if keep_count:
        assert len(done) - len(gone) <= max(1, keep_count)
    if not keep and not keep_count:
        assert gone == []


def test_when_a_failure_is_tried_again() -> None:
    """Not at once, not for ever."""
    failed = row(1, "day 1", state="failed", error="x", attempts=2)
    assert retry_at(failed) == BEGIN + 600
    late = dt.datetime.fromtimestamp(BEGIN + 8 * DAY, dt.UTC)
    assert retry_at(attrs.evolve(failed, finished_at=late)) is None
    assert retry_at(row(1, "day 1")) is None


async def test_what_failed_is_trouble_until_it_is_made(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    """Also while it is tried again; nothing is known before the first look at the table."""
    assert world.exporter.troubles(DAY) is None
    world.worker.errors = [NoRoomError("no room")] * 2
    world.worker.takes = 30.0
    await world.run_for(60)
    [failed] = world.exporter.troubles(DAY) or []
    assert (failed.export, failed.error) == ("zapvisor-day-2026-11-20", "no room")
    assert failed.since == pytest.approx(world.now() - 60)
    async with trio.open_nursery() as nursery:
        world.exporter = world._exporter()
        nursery.start_soon(world.exporter.run)
        for _ in range(20):
            await trio.sleep(20)
            assert world.exporter.troubles(DAY) != []
        await trio.sleep(2 * HOUR)
        assert list(world.worker.there) == ["zapvisor-day-2026-11-20"]
        assert world.exporter.troubles(DAY) == []
        nursery.cancel_scope.cancel()


async def test_no_schedule_is_no_trouble(autojump_clock: trio.testing.MockClock) -> None:
    """Nothing is late that nobody wants."""
    assert World(autojump_clock, None).exporter.troubles(DAY) == []


async def test_what_is_late_is_trouble(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    """A day after it was due, and not before, however it hangs: begun or not."""
    await world.run_for(HOUR)
    rows = await world.storage.scheduled_exports()
    plan = schedule()
    due = plan.due_at(dt.date(2026, 11, 21))
    assert trouble_of(plan, rows, due + DAY, late=DAY) is None
    late = trouble_of(plan, rows, due + DAY + 1, late=DAY)
    assert late is not None
    assert (late.export, late.since) == ("zapvisor-day-2026-11-21", due)
    assert late.error == "it was due on 2026-11-22 06:30 UTC, and is not finished"
    begun = attrs.evolve(
        rows[0], id=9, period="day 2026-11-21", state="running", finished_at=None, attempts=1
    )
    assert trouble_of(plan, [begun, *rows], due + DAY + 1, late=DAY) == late
    done = attrs.evolve(begun, state="done")
    assert trouble_of(plan, [done, *rows], due + DAY + 1, late=DAY) is None
    everything = schedule(period=Period.ALL)  # rows of another schedule say nothing of this one
    assert trouble_of(everything, rows, due + 9 * DAY, late=DAY) is None


async def test_the_database_goes_away_while_an_export_is_written(
    autojump_clock: trio.testing.MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the page nor the failure reaches it: the export waits, nothing crashes, and it is
    written when the database is back."""
    away = StorageUnavailableError("the database is away")
    world.worker.errors = [away]

    async def fail(*_arguments: object) -> t.NoReturn:
        await trio.lowlevel.checkpoint()
        raise away

    with monkeypatch.context() as patched:
        patched.setattr(world.storage, "fail_export", fail)
        with structlog.testing.capture_logs() as logs:
            await world.run_for(70.0)
    assert "export.waits" in [each["event"] for each in logs]
    await world.run_for(HOUR)
    [row] = await world.storage.scheduled_exports()
    assert (row.state, row.attempts) == ("done", 1)
