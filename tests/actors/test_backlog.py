"""Memory of one connection: what is read ahead, under way and cached is bounded by bytes."""

import attrs
import pytest
import trio
import trio.testing

from actors.backlog import Backlog, weight_of
from actors.in_flight import InFlight
from actors.messages import Commit
from actors.records import RecordCache
from actors.writer_inbox import writer_inbox
from storage.api import Envelope, RecordChange, RecordKind
from supervisor.allowance import Allowance
from tests.actors.conftest import NAME, FaultyStorage, make_envelope
from whatsapp.node import Node
from whatsapp.stream import FrameRejected

MIB = 1024 * 1024


async def test_the_reader_waits_while_too_much_is_unhandled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Few big nodes fill the backlog like many small ones; handling one makes room."""
    backlog = Backlog(nodes=256, weight=10 * MIB)
    big = Node("message", {}, b"x" * (4 * MIB))
    read: list[int] = []

    async def reader() -> None:
        for number in range(6):
            await backlog.put(big)
            read.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await trio.sleep(1)
        assert read == [0, 1]
        assert await backlog.take() is big  # still being handled
        await trio.sleep(1)
        assert read == [0, 1]
        for _ in range(5):
            assert await backlog.take() is big
        await trio.sleep(1)
        assert read == [0, 1, 2, 3, 4, 5]


async def test_small_nodes_are_bounded_by_number(autojump_clock: trio.testing.MockClock) -> None:
    """As many as the backlog says, and no more."""
    backlog = Backlog(nodes=3)
    with trio.move_on_after(1):
        while True:
            await backlog.put(Node("a"))
    assert len(backlog) == 3


def test_weight_grows_with_all_that_a_peer_can_send() -> None:
    """Children, attributes, texts and bytes count, and so do frames that do not open."""
    empty = weight_of(Node("a"))
    assert weight_of(Node("a", {"b": "c"})) > empty
    assert weight_of(Node("a", {}, b"x" * 1000)) == empty + 1000
    assert weight_of(Node("a", {}, tuple(Node("b") for _ in range(10)))) == 11 * empty
    assert weight_of(FrameRejected(b"x" * 1000, "broken")) >= 1000
    deep = Node("a")
    for _ in range(60):
        deep = Node("a", {}, (deep,))
    assert weight_of(deep) == 61 * empty


async def test_an_allowance_is_first_come_first_served(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The small one waits behind the big one; a cancelled one has taken nothing."""
    allowance = Allowance(10)
    order: list[str] = []

    async def take(name: str, amount: int) -> None:
        await allowance.take(amount)
        order.append(name)

    async with trio.open_nursery() as nursery:
        await allowance.take(9)
        scope = trio.CancelScope()

        async def cancelled() -> None:
            with scope:
                await take("cancelled", 5)

        nursery.start_soon(cancelled)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(take, "small", 1)
        await trio.testing.wait_all_tasks_blocked()
        assert order == []
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert order == ["small"]
        nursery.start_soon(take, "giant", 99)
        await trio.testing.wait_all_tasks_blocked()
        allowance.give_back(10)
        await trio.testing.wait_all_tasks_blocked()
        assert order == ["small", "giant"]
        allowance.give_back(99)
    assert allowance.held == 0
    with pytest.raises(ValueError, match="more is given back"):
        allowance.give_back(1)


async def test_envelopes_under_way_are_bounded_by_bytes(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """A connection with big messages has few of them under way, and one at least."""
    inbox = writer_inbox()
    in_flight = InFlight[int](inbox, RecordCache(storage, NAME), limit=256, max_bytes=10 * MIB)
    big = attrs.evolve(make_envelope("1"), stanza=b"x" * (4 * MIB))
    with trio.move_on_after(1):
        while True:
            await in_flight.post(big, 1)
    assert len(in_flight) == 2


async def test_a_cancelled_post_has_posted_nothing(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """No entry, no room and no record of it stays behind."""
    inbox = writer_inbox(1, MIB)
    cache = RecordCache(storage, NAME)
    in_flight = InFlight[int](inbox, cache, limit=9)

    def with_record(value: bytes) -> Envelope:
        change = RecordChange(RecordKind.SESSION, "peer", value)
        return make_envelope("x", records=(change,))

    posted = 0
    with trio.move_on_after(1):
        while True:
            await in_flight.post(with_record(b"%d" % posted), posted)
            posted += 1
    assert posted == len(in_flight) == 5  # one shared place, four of its own
    assert cache.get(RecordKind.SESSION, "peer") == b"4"
    with trio.move_on_after(1):
        new = RecordChange(RecordKind.SESSION, "new", b"n")
        await in_flight.post(make_envelope("y", records=(new,)), 9)
    with pytest.raises(KeyError):
        cache.get(RecordKind.SESSION, "new")
    first = inbox.receive_nowait()
    assert isinstance(first, Commit)
    with trio.fail_after(1):
        await in_flight.post(make_envelope("z"), 9)
    assert len(in_flight) == 6


async def test_the_cache_of_records_is_bounded_by_bytes(storage: FaultyStorage) -> None:
    """What has settled leaves; what is under way stays, and is counted right."""
    cache = RecordCache(storage, NAME, capacity=1000, max_bytes=1000)
    for number in range(50):
        change = RecordChange(RecordKind.SESSION, f"peer {number}", b"x" * 100)
        cache.put((change,), number)
    assert len(cache) == 50
    for number in range(50):
        change = RecordChange(RecordKind.SESSION, f"peer {number}", b"x" * 100)
        cache.settled((change,), number)
    assert len(cache) == 10
    assert cache.get(RecordKind.SESSION, "peer 49") == b"x" * 100
