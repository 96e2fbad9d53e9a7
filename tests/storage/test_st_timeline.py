"""What is remembered of connections and of the daemon's own runs."""

import datetime as dt

import pytest
from st_helpers import DAY, NOW, Clock, take

from storage.api import ConnectionEvent, Storage, SyncRun


async def transition(
    storage: Storage, state: str, previous: str = "?", *, connection: str = "sales", **more: float
) -> None:
    """One transition, now unless told otherwise."""
    event = ConnectionEvent(
        connection=connection,
        previous=previous,
        state=state,
        reason=f"to_{state}",
        sentence=f"is {state}",
        **more,  # type: ignore[arg-type]
    )
    await storage.record_event(event)


async def alive_at(storage: Storage, name: str = "sales") -> float | None:
    """When a connection was last surely online, as seconds since NOW."""
    [row] = [each for each in await storage.connections() if each.name == name]
    return None if row.alive_at is None else row.alive_at.timestamp() - NOW


async def told(storage: Storage, name: str = "sales") -> list[tuple[float, str, str]]:
    """The timeline: when, state and reason."""
    rows = await storage.timeline(name, limit=100)
    return [(row.at.timestamp() - NOW, row.state, row.reason) for row in rows]


async def test_a_death_without_a_word_is_told_by_the_next_run(
    storage: Storage, clock: Clock
) -> None:
    """At the last mark of the run that died; of connections that did not run, nothing is said."""
    life = await storage.begin_life()
    await transition(storage, "online", "syncing")
    await transition(storage, "stopped", connection="support")
    clock.now = NOW + 60
    await storage.mark_alive(life)
    clock.now = NOW + 3600
    await storage.begin_life()
    assert await told(storage) == [(0, "online", "to_online"), (60, "stopped", "daemon_died")]
    [_online, died] = await storage.timeline("sales")
    assert (died.previous, died.sentence) == (
        "online",
        "the daemon was not running (it ended without a word)",
    )
    assert [row[1] for row in await told(storage, "support")] == ["stopped"]
    clock.now = NOW + 7200
    await storage.begin_life()
    assert len(await told(storage)) == 2  # nothing ran meanwhile


async def test_what_an_orderly_end_could_not_record(storage: Storage, clock: Clock) -> None:
    """A transition that was lost at the end of a run is made up for, at its end."""
    life = await storage.begin_life()
    await transition(storage, "online")
    clock.now = NOW + 45
    await storage.end_life(life)
    clock.now = NOW + 100
    await storage.begin_life()
    assert await told(storage) == [(0, "online", "to_online"), (45, "stopped", "shutdown")]


async def test_before_there_were_marks(storage: Storage, clock: Clock) -> None:
    """The last that is known of a connection is its newest transition, or message."""
    await transition(storage, "online")
    await take(storage, sent_at=int(NOW + 30))
    clock.now = NOW + 500
    await storage.begin_life()
    assert (await told(storage))[-1] == (30, "stopped", "daemon_died")


async def test_the_clock_may_be_set_back(storage: Storage, clock: Clock) -> None:
    """Marks never go back, and a made-up transition never precedes the one before it."""
    life = await storage.begin_life()
    clock.now = NOW + 100
    await transition(storage, "online")
    await storage.mark_alive(life)
    clock.now = NOW - 1000
    await storage.mark_alive(life)
    await storage.begin_life()
    assert [row[0] for row in await told(storage)] == [100, 100]


async def test_alive_until(storage: Storage, clock: Clock) -> None:
    """Online, it follows the marks of the daemon; else it is when it stopped to be online."""
    life = await storage.begin_life()
    assert await alive_at(storage) is None
    await transition(storage, "connecting")
    assert await alive_at(storage) is None
    clock.now = NOW + 10
    await transition(storage, "online")
    assert await alive_at(storage) == 10
    clock.now = NOW + 40
    await storage.mark_alive(life)
    assert await alive_at(storage) == 40
    clock.now = NOW + 50
    await transition(storage, "backoff")
    clock.now = NOW + 70
    await storage.mark_alive(life)
    await transition(storage, "connecting")
    assert await alive_at(storage) == 50
    assert await alive_at(storage, "support") is None


async def test_alive_until_the_daemon_died(storage: Storage, clock: Clock) -> None:
    """Not until the next run began, nor until it was online again."""
    life = await storage.begin_life()
    await transition(storage, "online")
    clock.now = NOW + 30
    await storage.mark_alive(life)
    clock.now = NOW + 900
    assert await alive_at(storage) == 30
    second = await storage.begin_life()
    await storage.mark_alive(second)
    await transition(storage, "connecting")
    assert await alive_at(storage) == 30


async def test_a_transition_is_dated_by_its_moment(storage: Storage, clock: Clock) -> None:
    """Not by when the database was there to record it."""
    clock.now = NOW + 600
    await transition(storage, "backoff", at=NOW + 5)
    assert await told(storage) == [(5, "backoff", "to_backoff")]
    [row] = await storage.events("sales", 1)
    assert row["at"].timestamp() == NOW + 5


async def test_page_by_page(storage: Storage, clock: Clock) -> None:
    """Oldest first, each once; and where a moment falls into it."""
    for number in range(7):
        clock.now = NOW + number * 10
        await transition(storage, f"s{number}")
    seen: list[str] = []
    after = 0
    while page := await storage.timeline("sales", after=after, limit=3):
        assert len(page) <= 3
        seen += [row.state for row in page]
        after = page[-1].id
    assert seen == [f"s{number}" for number in range(7)]
    rows = {row.state: row.id for row in await storage.timeline("sales")}

    async def start(seconds: float) -> int:
        return await storage.timeline_start(
            "sales", dt.datetime.fromtimestamp(NOW + seconds, dt.UTC)
        )

    assert await start(-5) == 0
    assert await start(0) == 0
    assert await start(25) == rows["s2"]
    assert await start(30) == rows["s2"]
    assert await start(1000) == rows["s6"]
    assert await storage.timeline_start("nobody", dt.datetime.now(dt.UTC)) == 0
    assert await storage.timeline("nobody") == []


@pytest.mark.parametrize("limit", [2, 100])
async def test_old_events_are_forgotten_some_at_a_time(
    storage: Storage, clock: Clock, limit: int
) -> None:
    """But never the newest of a connection: it says in which state it is."""
    await storage.begin_life()
    await storage.begin_life()
    for number in range(5):
        clock.now = NOW + number
        await transition(storage, f"s{number}")
        await transition(storage, f"s{number}", connection="support")
        await storage.record_sync(
            SyncRun(connection="sales", total=1, processed=1, skipped=0, errors=0)
        )
    clock.now = NOW + DAY
    await transition(storage, "new", connection="support")
    first = await storage.forget_events(NOW + 100, limit)
    assert first <= 3 * limit
    while await storage.forget_events(NOW + 100, limit):
        pass
    assert [row[1] for row in await told(storage)] == ["s4"]
    assert [row[1] for row in await told(storage, "support")] == ["new"]
    assert (await storage.statistics())["sync"] is None
