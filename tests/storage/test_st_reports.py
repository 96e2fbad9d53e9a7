"""Reports: exact figures of a day in PostgreSQL, and each day reported once."""

import collections.abc as cabc
import datetime as dt
import typing as t
import zoneinfo

import pytest
from st_helpers import DAY, GROUP, HOUR, KEY, OTHER, Clock, Cluster, take

from actors.errors import NoReportError
from actors.report_figures import ReportMaker
from actors.report_values import DayFigures, Report, Responses, Unreported, Way
from storage.api import (
    ConnectionEvent,
    ConversationRules,
    Lane,
    Storage,
    SyncRun,
)
from storage.memory import MemoryStorage
from storage.notifications import Notification, NotificationKind
from storage.postgres import PostgresStorage

BERLIN: t.Final = zoneinfo.ZoneInfo("Europe/Berlin")
LONG: t.Final = dt.date(2026, 10, 25)  # 25 hours: 02:00 to 03:00 comes twice
MINUTE: t.Final = 60
THIRD, FOURTH, FIFTH = (f"1555000{number}@s.whatsapp.net" for number in (3333, 4444, 5555))
SALES_CREATED: t.Final = dt.datetime(2026, 10, 15, 12, tzinfo=BERLIN)


def at(hour: int, minute: int = 0, *, day: int = 25, fold: int = 0) -> float:
    """A local time of October, in unix seconds."""
    return dt.datetime(2026, 10, day, hour, minute, tzinfo=BERLIN, fold=fold).timestamp()


class Stage:
    """Fills a storage at given times."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self.storage = storage
        self._clock = clock

    async def connect(self, name: str, when: float) -> None:
        """A connection is made."""
        self._clock.now = when
        await self.storage.ensure_connection(name, ConversationRules())

    async def state(self, name: str, when: float, state: str, reason: str) -> None:
        """A transition."""
        self._clock.now = when
        await self.storage.record_event(
            ConnectionEvent(
                connection=name,
                previous="x",
                state=state,
                reason=reason,
                sentence=reason,
                retry=0,
                at=when,
            )
        )

    async def message(
        self, number: str, when: float, *, arrives: float | None = None, **fields: t.Any
    ) -> None:
        """A message of a customer, unless told otherwise."""
        self._clock.now = when + 1 if arrives is None else arrives
        await take(self.storage, number, sent_at=int(when), **fields)

    async def close(self, chat: str, when: float) -> None:
        """Somebody closes the conversation of a chat."""
        self._clock.now = when
        rows = await self.storage.conversations(status=None, connection="sales", limit=50)
        [row] = [row for row in rows if row.chat == chat]
        await self.storage.close_conversation(row.id)


@pytest.fixture
async def known(dsn: str, clock: Clock) -> cabc.AsyncIterator[PostgresStorage]:
    """A storage with the day of 25 hours, whose every figure is known."""
    clock.now = SALES_CREATED.timestamp()
    async with PostgresStorage.open(dsn, key=KEY, pool_size=2, clock=clock) as storage:
        await fill(Stage(storage, clock))
        yield storage


async def fill(stage: Stage) -> None:
    """See ``known``."""
    await stage.connect("sales", SALES_CREATED.timestamp())
    # An outage over midnight, whose tries go on; the daemon dies for an hour of the clock's second
    # round; an outage that lasts until the next day.
    await stage.state("sales", at(10, day=24), "online", "logged_in")
    await stage.state("sales", at(23, 50, day=24), "backoff", "network")
    await stage.state("sales", at(23, 55, day=24), "connecting", "dialling")
    await stage.message("A1", at(23, 58, day=24))
    await stage.state("sales", at(0, 5), "backoff", "network")
    await stage.state("sales", at(0, 10), "online", "logged_in")
    await stage.state("sales", at(2, 30), "stopped", "daemon_died")
    await stage.state("sales", at(2, 30, fold=1), "online", "logged_in")
    await stage.state("sales", at(20), "conflict", "conflict")
    await stage.state("sales", at(0, 30, day=26), "online", "logged_in")

    # Made in the middle of the day, linked a little later, stopped in the evening.
    await stage.connect("support", at(12))
    await stage.state("support", at(12), "stopped", "not_paired")
    await stage.state("support", at(12, 1), "pairing", "pairing")
    await stage.state("support", at(12, 4), "connecting", "dialling")
    await stage.state("support", at(12, 5), "online", "logged_in")
    await stage.state("support", at(18), "stopped", "stopped")
    await stage.connect("training", at(13))

    await stage.message("A2", at(0, 20), from_me=True)
    await stage.message("B1", at(9), chat=OTHER)
    await stage.message("B2", at(9, 4), chat=OTHER, from_me=True)
    await stage.message("B3", at(9, 10), chat=OTHER)
    await stage.message(
        "B4", at(9, 30), chat=OTHER, kind="reaction", target_id="B2", lane=Lane.SIDE
    )
    await stage.message("B0", at(8), arrives=at(9, 40), chat=OTHER, lane=Lane.HISTORY)
    await stage.message("D1", at(10), chat=FOURTH)
    await stage.message("G1", at(11), chat=GROUP)
    await stage.message(
        "E1", at(13), chat=FIFTH, kind="undecryptable", text=None, reason="no session"
    )
    await stage.close(OTHER, at(15))
    await stage.message("B5", at(16), chat=OTHER)
    await stage.close(OTHER, at(17))
    await stage.message("C1", at(23, 50), chat=THIRD)
    await stage.message("C2", at(0, 10, day=26), chat=THIRD, from_me=True)
    await stage.message("D2", at(22, 30), arrives=at(1, day=26), chat=FOURTH)

    for when, skipped, errors in ((at(0), 3, 1), (at(23, 59), 1, 1), (at(0, day=26), 9, 9)):
        await stage.storage.record_sync(
            SyncRun(
                connection="sales",
                total=skipped + errors,
                processed=0,
                skipped=skipped,
                errors=errors,
                at=when,
            )
        )


GAPS_AND_FILES: t.Final = """
    INSERT INTO gaps (connection_id, kind, reason, from_at, to_at, announced, stored, closed_at,
        resolution, accepted_by)
    VALUES (1, 'ended', 'network', '2026-10-24 21:50Z', '2026-10-24 22:10Z', 9, 9, now(),
            'complete', NULL),
        (1, 'died', 'daemon_died', '2026-10-25 00:30Z', '2026-10-25 01:30Z', 5, 3, NULL, NULL,
            NULL),
        (1, 'ended', 'x', '2026-10-25 10:00Z', '2026-10-25 10:01Z', 7, 6, now(), 'accepted',
            'someone'),
        (1, 'ended', 'conflict', '2026-10-25 19:00Z', NULL, NULL, 0, NULL, NULL, NULL);
    INSERT INTO media (connection_id, message_id, kind, state, blob_sha256, blob_size, stored_at)
    SELECT 1, id, 'image', 'stored', decode(repeat('00', 32), 'hex'), 1000, now()
    FROM messages WHERE external_id IN ('A1', 'B1', 'D2');
    INSERT INTO media (connection_id, message_id, kind, state)
    SELECT 1, id, 'image', 'expired' FROM messages WHERE external_id = 'B3';
"""


async def made(storage: Storage, clock: Clock, day: dt.date = LONG, **told: t.Any) -> Report:
    """The report as it is made the next morning."""
    clock.now = dt.datetime(2026, 10, 26, 8, tzinfo=BERLIN).timestamp()
    return await ReportMaker(storage, BERLIN, clock).make(day, **told)


async def test_every_figure_of_a_known_day(
    known: PostgresStorage, cluster: Cluster, dsn: str, clock: Clock
) -> None:
    """What is in the day is counted, once, and nothing besides."""
    await cluster.script(dsn, GAPS_AND_FILES)
    report = await made(known, clock)
    down = 10 * MINUTE + HOUR + 4 * HOUR
    sales, support = report.connections
    assert sales.figures == DayFigures(
        uptime=pytest.approx(100 * (25 * HOUR - down) / (25 * HOUR)),
        online=25 * HOUR - down,
        down=down,
        outages=3,
        received=8,
        sent=2,
        duplicates=4,
        errors=2,
        undecryptable=1,
        opened=5,
        reopened=1,
        closed=2,
        responses=Responses(
            conversations=4, answered=2, median=720.0, ninetieth=pytest.approx(1104.0)
        ),
        gaps=3,
        announced=12,
        missing=2,
        open_gaps=2,
        files=2,
        bytes=2000,
        failed_files=1,
    )
    assert support.figures == DayFigures(
        uptime=pytest.approx(100 * 355 / 356),
        online=355 * MINUTE,
        down=MINUTE,
        outages=1,
    )
    assert report.total.online == sales.figures.online + support.figures.online
    assert (report.total.received, report.total.outages) == (8, 4)
    assert report.total.responses == sales.figures.responses
    assert (report.waiting, sales.waiting) == (5, 5)
    assert report.waiting_since is not None
    assert report.waiting_since.timestamp() == at(23, 58, day=24)
    assert (report.idle, report.complete) == (("training",), True)


async def test_outages_with_their_beginnings(known: PostgresStorage, clock: Clock) -> None:
    """That over midnight began the day before; the last one is not over."""
    sales, _support = (await made(known, clock)).connections
    told = [
        (each.began_at.timestamp(), each.ended_at and each.ended_at.timestamp(), each.reason)
        for each in sales.longest
    ]
    assert told == [
        (at(23, 50, day=24), at(0, 10), "network"),
        (at(2, 30), at(2, 30, fold=1), "daemon_died"),
        (at(20), None, "conflict"),
    ]
    assert [each.seconds for each in sales.longest] == [10 * MINUTE, HOUR, 4 * HOUR]
    assert [(each.way, each.quarters) for each in sales.track] == [
        (Way.DOWN, 1),
        (Way.ONLINE, 9),
        (Way.DOWN, 4),
        (Way.ONLINE, 70),
        (Way.DOWN, 16),
    ]


async def test_hours_of_the_local_clock(known: PostgresStorage, clock: Clock) -> None:
    """Twenty-five, with the one that comes twice."""
    report = await made(known, clock)
    assert len(report.hours) == 25
    assert [each.begins_at.hour for each in report.hours[:5]] == [0, 1, 2, 2, 3]
    by_hour = {
        each.begins_at.hour: (each.received, each.sent)
        for each in report.hours
        if each.received or each.sent
    }
    assert by_hour == {
        0: (0, 1),
        9: (2, 1),
        10: (1, 0),
        11: (1, 0),
        13: (1, 0),
        16: (1, 0),
        22: (1, 0),
        23: (1, 0),
    }


async def test_other_days_are_compared(known: PostgresStorage, clock: Clock) -> None:
    """The day before had one message; a week ago there was nothing, but a connection."""
    report = await made(known, clock)
    assert report.day_before is not None
    assert (report.day_before.received, report.day_before.opened) == (1, 1)
    assert report.day_before.down == 10 * MINUTE
    assert report.week_before == DayFigures()
    assert (await made(known, clock, dt.date(2026, 10, 16))).week_before is None


async def test_the_day_after_goes_on_where_it_ended(known: PostgresStorage, clock: Clock) -> None:
    """The outage of the evening is down from midnight on; the day is not over."""
    report = await made(known, clock, dt.date(2026, 10, 26))
    sales = report.connections[0]
    assert not report.complete
    assert (sales.figures.down, sales.figures.online) == (30 * MINUTE, 7.5 * HOUR)
    assert sales.longest[0].began_at.timestamp() == at(20)
    assert report.total.sent == 1
    assert sales.track[-1].way is Way.UNKNOWN
    assert report.day_before is not None
    assert report.day_before.received == 0  # from midnight to eight


async def test_a_day_that_begins_without_the_daemon(
    postgres: PostgresStorage, clock: Clock
) -> None:
    """Stopped with the daemon is down, not off; stopped by an operator is off, dead daemon or
    not."""
    stage, start = Stage(postgres, clock), clock.now - clock.now % DAY + DAY
    await stage.state("sales", start - HOUR, "online", "logged_in")
    await stage.state("sales", start - 600, "stopped", "shutdown")
    await stage.state("sales", start + 300, "connecting", "dialling")
    await stage.state("sales", start + 600, "online", "logged_in")
    await stage.state("support", start - HOUR, "online", "logged_in")
    await stage.state("support", start - 700, "stopped", "stopped")
    clock.now = start + HOUR
    maker = ReportMaker(postgres, zoneinfo.ZoneInfo("UTC"), clock)
    report = await maker.make(dt.datetime.fromtimestamp(start, dt.UTC).date())
    [sales] = report.connections
    assert (sales.figures.down, sales.figures.online) == (600, 3000)
    assert sales.longest[0].reason == "shutdown"
    assert report.idle == ("support",)


async def test_a_spring_day(dsn: str, clock: Clock) -> None:
    """A day of 23 hours that was good all through."""
    start = dt.datetime(2026, 3, 28, 12, tzinfo=BERLIN).timestamp()
    async with PostgresStorage.open(dsn, key=KEY, pool_size=2, clock=clock) as storage:
        stage = Stage(storage, clock)
        await stage.connect("sales", start)
        await stage.state("sales", start, "online", "logged_in")
        clock.now = dt.datetime(2026, 3, 30, 8, tzinfo=BERLIN).timestamp()
        report = await ReportMaker(storage, BERLIN, clock).make()
    assert report.day == dt.date(2026, 3, 29)
    assert (report.total.online, report.total.uptime) == (23 * HOUR, 100.0)
    assert len(report.hours) == 23
    assert [(each.way, each.quarters) for each in report.connections[0].track] == [(Way.ONLINE, 92)]


async def test_months_of_tries_are_few_rows(
    postgres: PostgresStorage, clock: Clock, cluster: Cluster, dsn: str
) -> None:
    """Of a connection that never comes back only the first try is read, and tells since when."""
    await cluster.script(
        dsn,
        """
        INSERT INTO connection_events (connection_id, at, previous, state, reason, sentence, retry)
        SELECT id, '2026-01-01 00:00Z', 'x', 'online', 'logged_in', 'x', 0
        FROM connections WHERE name = 'sales';
        INSERT INTO connection_events (connection_id, at, previous, state, reason, sentence, retry)
        SELECT c.id, timestamptz '2026-01-02 00:00Z' + n * interval '10 min', 'x',
            CASE n % 2 WHEN 0 THEN 'parked' ELSE 'connecting' END, 'network', 'x', n
        FROM connections c, generate_series(0, 20000) n WHERE c.name = 'sales'
        """,
    )
    begin = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
    rows = await postgres.report_transitions(begin, begin + dt.timedelta(days=1))
    assert [(row.state, row.at.date()) for row in rows] == [
        ("online", dt.date(2026, 1, 1)),
        ("parked", dt.date(2026, 1, 2)),
    ]


async def test_transitions_come_page_by_page(
    postgres: PostgresStorage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, whatever the page."""
    stage = Stage(postgres, clock)
    start = clock.now
    for number in range(7):
        for name in ("sales", "support"):
            state = "online" if number % 2 else "backoff"
            await stage.state(name, start + number, state, f"r{number}")
    begin = dt.datetime.fromtimestamp(start, dt.UTC)
    whole = await postgres.report_transitions(begin, begin + dt.timedelta(hours=1))
    monkeypatch.setattr("storage.postgres_reports.PAGE", 3)
    assert await postgres.report_transitions(begin, begin + dt.timedelta(hours=1)) == whole
    assert len(whole) == 14


async def test_merged_conversations_are_not_closed(
    postgres: PostgresStorage, clock: Clock, cluster: Cluster, dsn: str
) -> None:
    """Two that turn out to be one person's were opened twice, and closed by nobody."""
    lid = "900000000009@lid"
    await take(postgres, "A1", sent_at=int(clock.now))
    await take(postgres, "A2", chat=lid, sent_at=int(clock.now))
    await take(postgres, "A3", chat_alt=lid, sent_at=int(clock.now))
    rows = await cluster.sql(
        dsn,
        "SELECT sum(opened) AS opened, sum(reopened) AS reopened, sum(closed) AS closed"
        " FROM conversation_quarters",
    )
    assert dict(rows[0]) == {"opened": 2, "reopened": 0, "closed": 0}


def told(key: str) -> Notification:
    return Notification(key=key, kind=NotificationKind.REPORT, subject="s", text="t")


async def test_a_day_is_reported_once(storage: Storage) -> None:
    """The second time nothing is queued, whatever it says; the newest day is known."""
    assert await storage.last_report() is None
    assert await storage.save_report(LONG, "Europe/Berlin", [told("report:1")])
    assert not await storage.save_report(LONG, "UTC", [told("report:2")])
    assert await storage.enqueue_notifications([told("report:1")]) == 0
    assert await storage.enqueue_notifications([told("report:2")]) == 1
    assert await storage.save_report(LONG - dt.timedelta(days=3), "UTC", [told("report:3")])
    assert await storage.last_report() == LONG


async def test_days_that_were_not_reported_are_told(known: PostgresStorage, clock: Clock) -> None:
    """Those between the last report and this one; none when there are none."""
    day = dt.timedelta(days=1)
    assert (await made(known, clock, last=LONG - day)).unreported is None
    gone = (await made(known, clock, last=LONG - 4 * day)).unreported
    assert gone == Unreported(first=LONG - 3 * day, last=LONG - day, days=3)


async def test_days_without_a_report(storage: Storage, clock: Clock) -> None:
    """Of the future, and of before there was anything; each is said."""
    maker = ReportMaker(storage, BERLIN, clock)
    today = dt.datetime.fromtimestamp(clock.now, BERLIN).date()
    with pytest.raises(NoReportError, match="not there yet"):
        await maker.make(today + dt.timedelta(days=1))
    with pytest.raises(NoReportError, match="first connection was made"):
        await maker.make()
    assert not (await maker.make(today)).complete
    for zone in ("Asia/Tokyo", "America/Sao_Paulo"):
        for day in (dt.date.min, dt.date.max):
            with pytest.raises(NoReportError):
                await ReportMaker(storage, zoneinfo.ZoneInfo(zone), clock).make(day)


async def test_no_connection_yet() -> None:
    """A daemon without any has nothing to report."""
    with pytest.raises(NoReportError, match="no connection yet"):
        await ReportMaker(MemoryStorage(), BERLIN, lambda: at(8)).make()


async def test_what_is_old_is_forgotten(
    known: PostgresStorage, cluster: Cluster, dsn: str, clock: Clock
) -> None:
    """Sums and reported days go with the other statistics; the newest day stays."""
    clock.now = at(8, day=26)
    for day in (23, 24, 25):
        await known.save_report(dt.date(2026, 10, day), "Europe/Berlin", [])
    while await known.forget_events(clock.now + 10 * DAY, 3):
        pass
    counts = await cluster.sql(
        dsn,
        "SELECT (SELECT count(*) FROM conversation_quarters) AS quarters,"
        " (SELECT array_agg(day) FROM reports) AS days",
    )
    assert dict(counts[0]) == {"quarters": 0, "days": [dt.date(2026, 10, 25)]}
