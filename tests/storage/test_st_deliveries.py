"""Who follows the events: positions, and what waits at webhooks; alike in both storages."""

import pytest
from st_helpers import NOW, Clock

from storage.api import Storage
from storage.errors import CursorGoneError
from storage.events import STUCK, Delivery, DeliveryFailure
from storage.memory import MemoryStorage

HOOK = "webhook:crm"


async def happen(
    storage: Storage, *connections: str | None, type_: str = "gap.opened"
) -> list[int]:
    """One event of each connection."""
    return [await storage.append_event(type_, name, {"of": name}) for name in connections]


async def take(storage: Storage, limit: int = 100, **chosen: list[str] | None) -> int:
    wanted = {"types": None, "connections": None} | chosen
    return await storage.take_deliveries(HOOK, limit=limit, **wanted)


async def due(storage: Storage, *busy: str, lanes: int = 10, per_lane: int = 10) -> list[Delivery]:
    return await storage.due_deliveries(HOOK, busy=busy, lanes=lanes, per_lane=per_lane)


def failure(event_id: int, retry_at: float | None) -> DeliveryFailure:
    return DeliveryFailure(
        event_id=event_id, status=500, error="it answered 500", retry_at=retry_at
    )


async def test_a_consumer_follows_from_now_on(storage: Storage) -> None:
    """What is remembered of it stays; others are not touched."""
    [first] = await happen(storage, "sales")
    made = await storage.follow(HOOK)
    assert (made.name, made.position, made.paused, made.delivered) == (HOOK, first, None, 0)
    [second] = await happen(storage, "sales")
    await storage.advance(HOOK, second, delivered=3, lost=1)
    await storage.advance(HOOK, first)
    await storage.pause_consumer(HOOK, "an operator")
    await take(storage)
    third = (await happen(storage, "sales"))[0]
    await take(storage)
    await storage.settle_deliveries(HOOK, [], failure(third, retry_at=NOW + 60))
    again = await storage.follow(HOOK)
    assert (again.position, again.delivered, again.lost) == (third, 3, 1)
    assert (again.paused, again.error) == ("an operator", "it answered 500")
    assert again.succeeded_at is not None
    assert (again.succeeded_at.timestamp(), again.failed_at) == (NOW, again.succeeded_at)
    await storage.rewind(HOOK, first)
    await storage.rewind(HOOK, second)
    assert (await storage.follow(HOOK)).position == first
    with pytest.raises(CursorGoneError):
        await storage.rewind(HOOK, second + 100)
    assert (await storage.follow("nats")).position == third
    assert [row.name for row in await storage.consumers()] == ["nats", HOOK]


async def test_taking(storage: Storage) -> None:
    """What fits, once, as far as there is room; the position passes the rest."""
    assert await take(storage) == 0  # nobody follows yet
    await storage.follow(HOOK)
    one, other, daemon, closed = [
        *await happen(storage, "sales", "support", None),
        *await happen(storage, "sales", type_="gap.closed"),
    ]
    assert await take(storage, 2, types=["gap.opened"], connections=["sales"]) == 2
    assert (await storage.follow(HOOK)).position == other
    assert await take(storage, 100, types=["gap.opened"], connections=["sales"]) == 2
    assert (await storage.follow(HOOK)).position == closed
    rows = await storage.deliveries(HOOK)
    assert [(row.event_id, row.lane) for row in rows] == [(one, "sales"), (daemon, "")]
    assert [row.event.data for row in rows if row.event] == [{"of": "sales"}, {"of": None}]
    assert await take(storage) == 0
    await happen(storage, "sales", "sales")
    assert await take(storage, 2) == 0  # two wait already
    counts = await storage.delivery_counts(HOOK)
    assert (counts.pending, counts.dead, counts.retrying) == (2, 0, 0)


async def test_lanes(storage: Storage, clock: Clock) -> None:
    """In order within each; a failed one holds up its own, until it is due or dead."""
    await storage.follow(HOOK)
    a1, b1, a2, b2 = await happen(storage, "a", "b", "a", "b")
    await take(storage)
    assert [row.event_id for row in await due(storage)] == [a1, a2, b1, b2]
    assert [row.event_id for row in await due(storage, lanes=1, per_lane=1)] == [a1]
    assert [row.event_id for row in await due(storage, "a")] == [b1, b2]
    await storage.settle_deliveries(HOOK, [b1], failure(a1, NOW + 5))
    assert [row.event_id for row in await due(storage)] == [b2]
    counts = await storage.delivery_counts(HOOK)
    assert (counts.pending, counts.retrying, counts.next_attempt_at) == (3, 1, None)
    clock.now = NOW + 5
    head, after, _other = await due(storage)
    assert (head.event_id, head.attempts, head.status, head.error) == (
        a1,
        1,
        500,
        "it answered 500",
    )
    assert after.event_id == a2
    await storage.settle_deliveries(HOOK, [], failure(a1, None))
    assert [row.event_id for row in await due(storage)] == [a2, b2]
    [dead] = await storage.deliveries(HOOK, state="dead")
    assert (dead.event_id, dead.attempts, dead.state) == (a1, 2, "dead")
    row = await storage.follow(HOOK)
    assert (row.delivered, row.error) == (1, "it answered 500")


async def test_when_the_first_lane_is_due(storage: Storage) -> None:
    """At once if one has not been tried, however late the others; what waits behind the first of
    its lane is not due with it."""
    await storage.follow(HOOK)

    async def first_due() -> float | None:
        at = (await storage.delivery_counts(HOOK)).next_attempt_at
        return None if at is None else at.timestamp()

    assert await first_due() is None
    a1, _a2, b1 = await happen(storage, "a", "a", "b")
    await take(storage)
    await storage.settle_deliveries(HOOK, [], failure(a1, NOW + 60))
    assert await first_due() is None
    await storage.settle_deliveries(HOOK, [], failure(b1, NOW + 90))
    assert await first_due() == NOW + 60
    await storage.settle_deliveries(HOOK, [], failure(b1, None))
    assert await first_due() == NOW + 60
    await storage.settle_deliveries(HOOK, [a1])
    assert await first_due() is None


async def test_redelivering(storage: Storage) -> None:
    """Dead ones together, or any one event; none that there is not."""
    await storage.follow(HOOK)
    one, two = await happen(storage, "a", "a")
    await take(storage)
    await storage.settle_deliveries(HOOK, [two], failure(one, None))
    assert await due(storage) == []
    assert await storage.redeliver(HOOK) == 1
    assert await storage.redeliver(HOOK) == 0
    assert await storage.redeliver(HOOK, two) == 1
    assert [(row.event_id, row.attempts) for row in await due(storage)] == [(one, 0), (two, 0)]
    for nobody in (two + 1, 0, -1, 2**63):
        assert await storage.redeliver(HOOK, nobody) == 0
    await storage.settle_deliveries(HOOK, [one, two])
    await storage.settle_deliveries(HOOK, [one, two])
    assert (await storage.follow(HOOK)).delivered == 3


async def test_a_deleted_event_is_not_delivered_again(storage: Storage) -> None:
    """Whether it waited, was dead or is done: nobody knows any more what it said."""
    await storage.follow(HOOK)
    events = await happen(storage, "a", "b", "c")
    await take(storage)
    await storage.settle_deliveries(HOOK, [events[0]], failure(events[1], None))
    rows = (await storage.events_after(0)).events
    assert await storage.trim_events(rows[-1].at.timestamp() + 1, 3) == 3
    for each in (*events, None):
        assert await storage.redeliver(HOOK, each) == 0
    assert await storage.deliveries(HOOK) == []


async def test_a_delivery_without_its_event_is_lost() -> None:
    """One that the deletion did not find: as in PostgreSQL, the events alone decide."""
    storage = MemoryStorage(lambda: NOW)
    await storage.follow(HOOK)
    [event] = await happen(storage, "a")
    await take(storage)
    del storage._stream[event]
    assert await storage.redeliver(HOOK, event) == 0


async def test_what_was_deleted_meanwhile_is_counted(storage: Storage) -> None:
    """Deliveries go with their events; so does what was never taken."""
    await storage.follow(HOOK)
    events = await happen(storage, "a", "a", "a", "a")
    await take(storage, 2)
    rows = (await storage.events_after(0)).events
    assert await storage.trim_events(rows[-1].at.timestamp() + 1, 3) == 3
    assert await due(storage) == []
    assert (await storage.follow(HOOK)).lost == 2
    assert await take(storage) == 1
    assert [row.event_id for row in await due(storage)] == events[3:]
    assert (await storage.follow(HOOK)).lost == 3


async def test_a_replay_takes_the_dead_along(storage: Storage) -> None:
    """Rewound over it, a delivery that was given up is one like the others."""
    await storage.follow(HOOK)
    start = (await storage.event_range()).newest
    first, second = await happen(storage, "sales", "sales")
    await storage.take_deliveries(HOOK, types=None, connections=None, limit=10)
    await storage.settle_deliveries(HOOK, [], failure(first, retry_at=None))
    await storage.settle_deliveries(HOOK, [second])
    await storage.rewind(HOOK, start)
    await storage.take_deliveries(HOOK, types=None, connections=None, limit=10)
    rows = await storage.deliveries(HOOK)
    assert [(row.event_id, row.state, row.attempts) for row in rows] == [
        (first, "pending", 0),
        (second, "pending", 0),
    ]


async def test_a_failing_lane_takes_no_room_of_others(storage: Storage) -> None:
    """Up to a bound on all that wait."""
    await storage.follow(HOOK)
    [bad] = await happen(storage, "sales")
    await storage.take_deliveries(HOOK, types=None, connections=None, limit=1)
    await storage.settle_deliveries(HOOK, [], failure(bad, retry_at=NOW + 60))
    for _each in range(STUCK + 10):
        await happen(storage, "sales")
    while await storage.take_deliveries(HOOK, types=None, connections=None, limit=1):
        pass
    assert (await storage.delivery_counts(HOOK)).pending == STUCK
