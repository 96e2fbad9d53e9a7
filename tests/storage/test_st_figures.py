"""Figures: what was taken in by minute, hour and day, and what is counted without counting."""

import datetime as dt
import zoneinfo

import pytest
from st_helpers import CUSTOMER, DAY, HOUR, KEY, NOW, OTHER, Clock, Cluster, take

from storage.api import ConversationRules, Storage, SyncRun
from storage.figures import MINUTES_KEPT, QUARTER, SyncBucket, SyncCounts
from storage.migrate import load_migrations
from storage.postgres import PostgresStorage

START = NOW - NOW % DAY  # a day, in UTC


def utc(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def edges(first: float, step: float, count: int) -> list[dt.datetime]:
    """So many stretches of ``step`` seconds."""
    return [utc(first + step * number) for number in range(count + 1)]


async def record(
    storage: Storage, at: float, processed: int, *, skipped: int = 0, name: str = "sales"
) -> None:
    """One row of sync statistics."""
    run = SyncRun(
        connection=name,
        total=processed + skipped,
        processed=processed,
        skipped=skipped,
        errors=0,
        at=at,
    )
    await storage.record_sync(run)


def numbers(buckets: list[SyncBucket]) -> dict[int | tuple[int, str], int]:
    """Totals by number, or by number and connection."""
    return {
        each.number if each.connection is None else (each.number, each.connection): (
            each.counts.total
        )
        for each in buckets
    }


async def test_minutes_add_up(storage: Storage) -> None:
    """Each in its minute, the first moment included and the last left out; empty ones left out."""
    for at, count in ((0, 1), (59.9, 2), (60, 4), (180, 8), (-0.1, 16), (300, 32)):
        await record(storage, START + at, count)
    await record(storage, START + 61, 64, skipped=1, name="support")
    minutes = edges(START, 60, 5)
    assert numbers(await storage.sync_buckets(minutes)) == {0: 3, 1: 69, 3: 8}
    assert numbers(await storage.sync_buckets(minutes, connection="sales")) == {0: 3, 1: 4, 3: 8}
    assert numbers(await storage.sync_buckets(minutes, by_connection=True)) == {
        (0, "sales"): 3,
        (1, "sales"): 4,
        (1, "support"): 65,
        (3, "sales"): 8,
    }
    [bucket] = await storage.sync_buckets(minutes, connection="support", by_connection=True)
    assert bucket.counts == SyncCounts(total=65, processed=64, skipped=1, errors=0)
    assert await storage.sync_buckets(minutes, connection="nobody") == []


@pytest.mark.parametrize("zone", ["UTC", "America/Sao_Paulo", "Asia/Kathmandu"])
async def test_days_of_a_time_zone(storage: Storage, zone: str) -> None:
    """A day begins at midnight there; Kathmandu's is a quarter off the hour."""
    midnight = dt.datetime(2027, 1, 15, tzinfo=zoneinfo.ZoneInfo(zone)).timestamp()
    for at, count in ((-1, 1), (0, 2), (DAY - 1, 4), (DAY, 8)):
        await record(storage, midnight + at, count)
    days = [utc(midnight + DAY * number) for number in range(3)]
    assert numbers(await storage.sync_buckets(days)) == {0: 6, 1: 8}


async def test_the_last_hour_and_day(storage: Storage, clock: Clock) -> None:
    """To the second, though a day is mostly summed up from quarters."""
    clock.now = START + 10 * HOUR + 123
    for age, count in ((0, 1), (HOUR, 2), (HOUR + 1, 4), (DAY, 8), (DAY + 1, 16)):
        await record(storage, clock.now - age, count)
    await record(storage, clock.now, 32, skipped=5, name="support")
    totals = await storage.sync_totals()
    assert totals.hour == SyncCounts(total=40, processed=35, skipped=5)
    assert totals.day == SyncCounts(total=52, processed=47, skipped=5)


async def test_minutes_go_before_quarters(storage: Storage, clock: Clock) -> None:
    """After five weeks hours and days are still known; after the time configured nothing is."""
    await record(storage, NOW, 7)
    hour = edges(NOW - NOW % HOUR, HOUR, 1)
    minute = edges(NOW - NOW % 60, 60, 1)
    clock.now = NOW + MINUTES_KEPT + 60
    assert await storage.forget_events(NOW - 400 * DAY, 10) == 1
    assert numbers(await storage.sync_buckets(hour)) == {0: 7}
    assert await storage.sync_buckets(minute) == []
    assert await storage.forget_events(NOW + QUARTER, 10) == 1
    assert await storage.sync_buckets(hour) == []


async def test_conversations_are_counted_as_they_change(storage: Storage, clock: Clock) -> None:
    """Opened, taken, closed, reopened by a message, and merged into another one."""

    async def counted() -> tuple[dict[str, int], int]:
        statistics = await storage.statistics()
        return statistics["conversations"], statistics["reopened"]

    first = (await take(storage, "A", chat=CUSTOMER)).conversation_id or 0
    await take(storage, "B", chat=OTHER)
    await take(storage, "C", chat=CUSTOMER, connection="support")
    assert await counted() == ({"waiting": 3, "open": 0, "closed": 0}, 0)
    await storage.open_conversation(first)
    assert await counted() == ({"waiting": 2, "open": 1, "closed": 0}, 0)
    await storage.close_conversation(first)
    assert await counted() == ({"waiting": 2, "open": 0, "closed": 1}, 0)
    clock.now += HOUR
    await take(storage, "D", chat=CUSTOMER, sent_at=int(clock.now))
    assert await counted() == ({"waiting": 3, "open": 0, "closed": 0}, 1)
    await take(storage, "E", chat=CUSTOMER, chat_alt=OTHER, sender_alt=OTHER)
    merged, _reopened = await counted()
    assert sum(merged.values()) == 2
    [merge] = await storage.merges("sales")
    await storage.unmerge(merge.id)
    parted, _reopened = await counted()
    assert sum(parted.values()) == 3


async def test_what_waits_to_be_sent(storage: Storage) -> None:
    """Every state is there, with or without messages."""
    assert await storage.outbox_unsettled() == dict.fromkeys(
        ("queued", "sending", "unknown", "failed"), 0
    )


async def test_the_size_of_a_database(postgres: PostgresStorage) -> None:
    """Of all that is in it."""
    assert await postgres.database_size() > 1_000_000


async def test_counts_of_a_database_that_is_migrated(cluster: Cluster) -> None:
    """What was there before is counted once, by its status and quarter."""
    dsn = await cluster.create("migrated")
    async with PostgresStorage.open(dsn, key=KEY, clock=Clock()) as storage:
        await storage.ensure_connection("sales", ConversationRules())
        for number, chat in enumerate((CUSTOMER, OTHER)):
            outcome = await take(storage, f"M{number}", chat=chat)
        await storage.close_conversation(outcome.conversation_id or 0)
        for at in (NOW, NOW + 1, NOW + QUARTER):
            await record(storage, at, 1)
    number = next(each for each in load_migrations() if each.name == "figures").number
    await cluster.script(
        dsn,
        "DROP TRIGGER conversation_came_or_went ON conversations;"
        "DROP TRIGGER conversation_changed ON conversations;"
        "ALTER TABLE counters DROP COLUMN waiting, DROP COLUMN opened, DROP COLUMN closed,"
        " DROP COLUMN reopened; DROP TABLE sync_quarters; DROP INDEX outbox_unsettled;"
        f"DELETE FROM schema_migrations WHERE number IN (0, {number})",
    )
    [text] = [each.sql for each in load_migrations() if each.number == number]
    await cluster.script(dsn, text)
    [counts] = await cluster.sql(dsn, "SELECT waiting, opened, closed, reopened FROM counters")
    assert tuple(counts) == (1, 0, 1, 0)
    quarters = await cluster.sql(dsn, "SELECT quarter, total FROM sync_quarters ORDER BY 1")
    assert [tuple(row) for row in quarters] == [(NOW // QUARTER, 2), (NOW // QUARTER + 1, 1)]
