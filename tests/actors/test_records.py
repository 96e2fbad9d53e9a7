"""The record cache and the envelopes under way."""

import pytest
import trio
import trio.testing

from actors.in_flight import InFlight
from actors.messages import Commit, Settled, WriterMail
from actors.records import RecordCache
from storage.api import Envelope, Outcome, RecordChange, RecordKind, Verdict
from supervisor.mailbox import Mailbox
from tests.actors.conftest import NAME, FaultyStorage, make_envelope

SESSION = RecordKind.SESSION


def change(key: str, value: bytes | None) -> RecordChange:
    return RecordChange(SESSION, key, value)


async def store(storage: FaultyStorage, *changes: RecordChange) -> None:
    await storage.apply([Envelope(connection=NAME, records=changes)])


async def test_records_are_read_through(storage: FaultyStorage) -> None:
    """What storage holds is found, what it lacks is known to be absent."""
    await store(storage, change("a.0", b"one"))
    cache = RecordCache(storage, NAME)
    await cache.load(SESSION, ["a.0", "b.0"])
    assert cache.get(SESSION, "a.0") == b"one"
    assert cache.get(SESSION, "b.0") is None


async def test_an_uncommitted_record_is_never_read_from_storage(storage: FaultyStorage) -> None:
    """A changed record outlives any pressure until the envelope that carries it has settled."""
    await store(storage, change("a.0", b"old"))
    cache = RecordCache(storage, NAME, capacity=2)
    cache.put([change("a.0", b"new")], ticket=1)
    for number in range(10):
        await cache.load(SESSION, [f"x{number}.0"])
    await cache.load(SESSION, ["a.0"])
    assert cache.get(SESSION, "a.0") == b"new"
    cache.settled([change("a.0", b"new")], ticket=1)
    for number in range(10, 20):
        await cache.load(SESSION, [f"x{number}.0"])
    assert len(cache) <= 3
    await cache.load(SESSION, ["a.0"])
    assert cache.get(SESSION, "a.0") == b"old"  # nobody committed the new one in this test


async def test_an_older_settlement_does_not_free_a_newer_change(storage: FaultyStorage) -> None:
    """Two envelopes under way carry the same record: only the newer one's settlement counts."""
    cache = RecordCache(storage, NAME, capacity=1)
    cache.put([change("a.0", b"first")], ticket=1)
    cache.put([change("a.0", b"second")], ticket=2)
    cache.settled([change("a.0", b"first")], ticket=1)
    await cache.load(SESSION, ["b.0"])
    await cache.load(SESSION, ["c.0"])
    assert cache.get(SESSION, "a.0") == b"second"


async def test_stored_prekeys_leave_the_cache_at_once(storage: FaultyStorage) -> None:
    """An upload of hundreds of one-time keys costs memory only until it is committed."""
    cache = RecordCache(storage, NAME)
    keys = [RecordChange(RecordKind.PREKEY, str(n), b"key") for n in range(812)]
    cache.put(keys, ticket=1)
    assert len(cache) == 812
    cache.settled(keys, ticket=1)
    assert len(cache) == 0


def answer(mail: Commit) -> None:
    """Answer as the writer does after the COMMIT."""
    mail.reply.send_nowait(Settled(mail.ticket, Outcome(verdict=Verdict.STORED)))


async def test_only_uncommitted_envelopes_age(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """A socket that takes no receipts is not mistaken for a database that does not commit."""
    mailbox: Mailbox[WriterMail] = Mailbox(100)
    in_flight = InFlight[str](mailbox, RecordCache(storage, NAME), limit=9)
    for name in ("one", "two"):
        await in_flight.post(make_envelope(name), name)
        await trio.sleep(30)
    assert in_flight.oldest_age() == pytest.approx(60)
    for expected in (30, 0):
        mail = await mailbox.receive()
        assert isinstance(mail, Commit)
        answer(mail)
        assert in_flight.oldest_age() == pytest.approx(expected)
    assert len(in_flight) == 2


async def test_posting_waits_for_room(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """I11: at most ``limit`` envelopes are under way; the next post waits for an answer."""
    mailbox: Mailbox[WriterMail] = Mailbox(100)
    in_flight = InFlight[str](mailbox, RecordCache(storage, NAME), limit=2)
    await in_flight.post(make_envelope("1"), "one")
    await in_flight.post(make_envelope("2"), "two")
    with trio.move_on_after(10) as scope:
        await in_flight.post(make_envelope("3"), "three")
    assert scope.cancelled_caught
    assert len(in_flight) == 2
    assert in_flight.oldest_age() == pytest.approx(10)

    mail = await mailbox.receive()
    assert isinstance(mail, Commit)
    answer(mail)
    purpose, outcome = await in_flight.next_settled()
    assert purpose == "one"
    assert outcome is not None
    with trio.fail_after(1):
        await in_flight.post(make_envelope("3"), "three")


async def test_posts_of_many_tasks_keep_the_order_in_which_they_came(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """Records written by one envelope are not overtaken by those of a later one."""
    mailbox: Mailbox[WriterMail] = Mailbox(1)
    in_flight = InFlight[int](mailbox, RecordCache(storage, NAME), limit=50)
    received: list[str] = []
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(in_flight.post, make_envelope(str(number)), number)
            await trio.testing.wait_all_tasks_blocked()
        while len(received) < 20:
            mail = await mailbox.receive()
            assert isinstance(mail, Commit)
            assert mail.envelope.message is not None
            received.append(mail.envelope.message.external_id or "")
    assert received == [str(number) for number in range(20)]


async def test_released_records_are_read_anew(storage: FaultyStorage) -> None:
    """What storage has is read again, but what has not settled stays until it has; own records
    are no matter of others."""
    await store(storage, change("a.0", b"one"))
    cache = RecordCache(storage, NAME)
    await cache.load(SESSION, ["a.0"])
    own = RecordChange(RecordKind.APP_STATE_KEY, "aa", b"key")
    under_way = change("b.0", b"new")
    cache.put([own], ticket=1)
    cache.put([under_way], ticket=2)
    cache.settled([own], ticket=1)
    await store(storage, change("a.0", None))
    await cache.release()
    await cache.load(SESSION, ["a.0", "b.0"])
    assert (cache.get(SESSION, "a.0"), cache.get(SESSION, "b.0")) == (None, b"new")
    async with cache.lock:  # somebody works with what is loaded
        cache.settled([under_way], ticket=2)
        assert cache.get(SESSION, "b.0") == b"new"
    cache.settled([], ticket=3)
    await cache.load(SESSION, ["b.0"])
    assert cache.get(SESSION, "b.0") is None  # nobody committed it in this test
    assert cache.get(RecordKind.APP_STATE_KEY, "aa") == b"key"
