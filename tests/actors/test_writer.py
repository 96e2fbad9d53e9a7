"""The writer: batches, answers after the COMMIT, absent databases and poison."""

import collections.abc as cabc
import contextlib
import typing as t

import pytest
import trio
import trio.testing

from actors.messages import Commit, Drain, Fence, Quarantine, Record, Settled
from actors.writer import Writer, WriterSettings
from actors.writer_inbox import writer_inbox
from storage.api import ConnectionEvent, Envelope, Verdict
from tests.actors.conftest import FaultyStorage, make_envelope


class Bench:
    """A writer with one customer of it."""

    def __init__(self, storage: FaultyStorage, settings: WriterSettings) -> None:
        self.inbox = writer_inbox(1000)
        self.writer = Writer(storage, self.inbox, settings, uniform=lambda: 0.5)
        self.reply, self.answers = trio.open_memory_channel[Settled](1000)

    def post(self, *envelopes: Envelope) -> None:
        for envelope in envelopes:
            ticket = int((envelope.message and envelope.message.external_id) or 0)
            self.inbox.post_nowait(Commit(envelope, ticket, self.reply))

    async def take(self, count: int) -> list[Settled]:
        with trio.fail_after(600):
            return [await self.answers.receive() for _ in range(count)]


@contextlib.asynccontextmanager
async def running(
    storage: FaultyStorage, **settings: t.Any
) -> cabc.AsyncIterator[tuple[Bench, trio.Nursery]]:
    bench = Bench(storage, WriterSettings(**settings))
    async with trio.open_nursery() as nursery:
        yield bench, nursery
        nursery.cancel_scope.cancel()


async def test_what_waits_goes_into_one_batch(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """Mail that arrived before the writer looked is committed in one transaction, in order."""
    async with running(storage) as (bench, nursery):
        bench.post(*(make_envelope(str(n)) for n in range(1, 6)))
        await nursery.start(bench.writer.run)
        answers = await bench.take(5)
        assert [answer.ticket for answer in answers] == [1, 2, 3, 4, 5]
        assert storage.batches == [5]


@pytest.mark.parametrize(
    ("settings", "batches"), [({"batch_messages": 2}, [2, 2, 1]), ({"batch_bytes": 1}, [1] * 5)]
)
async def test_batches_are_bounded(
    autojump_clock: trio.testing.MockClock,
    storage: FaultyStorage,
    settings: dict[str, int],
    batches: list[int],
) -> None:
    """A batch ends at its bound of messages or of bytes."""
    async with running(storage, **settings) as (bench, nursery):
        bench.post(*(make_envelope(str(n)) for n in range(1, 6)))
        await nursery.start(bench.writer.run)
        await bench.take(5)
        assert storage.batches == batches


async def test_nothing_is_answered_before_the_commit(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """I1, I11: with the database away nobody is answered, and all are once it is back."""
    storage.away = True
    async with running(storage, retry_max=10.0) as (bench, nursery):
        await nursery.start(bench.writer.run)
        bench.post(make_envelope("1"), make_envelope("2"))
        with trio.move_on_after(3600):
            await bench.answers.receive()
        assert bench.answers.statistics().current_buffer_used == 0
        assert bench.writer.status.retrying_since is not None
        storage.away = False
        answers = await bench.take(2)
        assert [a.outcome and a.outcome.verdict for a in answers] == [Verdict.STORED] * 2
        assert bench.writer.status.retrying_since is None


async def test_a_commit_with_a_lost_answer_is_repeated_harmlessly(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """An unknown outcome is retried; the message is stored once and acknowledged."""
    storage.away_after_commit = 1
    async with running(storage) as (bench, nursery):
        await nursery.start(bench.writer.run)
        bench.post(make_envelope("1"))
        [answer] = await bench.take(1)
        assert answer.outcome is not None
        assert answer.outcome.verdict is Verdict.DUPLICATE
        assert (await storage.conversations(status=None, connection=None, limit=9))[0].messages == 1


async def test_poison_is_quarantined_alone(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """I5: one refused message costs no other one, and keeps its place in the order."""
    envelopes = [make_envelope(str(n)) for n in range(1, 10)]
    envelopes[6] = make_envelope("7", "poison")
    async with running(storage) as (bench, nursery):
        bench.post(*envelopes)
        await nursery.start(bench.writer.run)
        answers = await bench.take(9)
        verdicts = {a.ticket: a.outcome.verdict for a in answers if a.outcome}
        assert verdicts.pop(7) is Verdict.QUARANTINED
        assert set(verdicts.values()) == {Verdict.STORED}
        assert len(verdicts) == 8
        assert storage.committed == ["1", "2", "3", "4", "5", "6", "8", "9"]


async def test_what_cannot_even_be_quarantined_is_not_acknowledged(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """An envelope that is stored nowhere is answered without an outcome."""
    storage.refuse_quarantine = True
    async with running(storage) as (bench, nursery):
        await nursery.start(bench.writer.run)
        bench.post(make_envelope("1", "poison"), make_envelope("2"))
        answers = {answer.ticket: answer.outcome for answer in await bench.take(2)}
        assert answers[1] is None
        assert answers[2] is not None


async def test_a_fence_passes_after_all_before_it(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """A fence opens only once every envelope posted before it is committed."""
    async with running(storage) as (bench, nursery):
        fence = Fence(trio.Event())
        bench.post(make_envelope("1"), make_envelope("2"))
        bench.inbox.post_nowait(fence)
        bench.post(make_envelope("3"))
        storage.away = True
        await nursery.start(bench.writer.run)
        with trio.move_on_after(100):
            await fence.passed.wait()
        assert not fence.passed.is_set()
        storage.away = False
        await fence.passed.wait()
        assert storage.committed[:2] == ["1", "2"]
        await bench.take(3)


async def test_a_vanished_connection_does_not_disturb_the_writer(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """I6: an answer that nobody waits for any more is dropped; the message is stored."""
    async with running(storage) as (bench, nursery):
        reply, gone = trio.open_memory_channel[Settled](1)
        gone.close()
        bench.inbox.post_nowait(Commit(make_envelope("1"), 1, reply))
        bench.post(make_envelope("2"))
        await nursery.start(bench.writer.run)
        await bench.take(1)
        assert storage.committed == ["1", "2"]


async def test_drain_settles_everything_and_ends(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """``Drain`` commits what was posted before it, then the writer returns."""
    bench = Bench(storage, WriterSettings(batch_messages=2))
    bench.post(*(make_envelope(str(n)) for n in range(1, 6)))
    bench.inbox.post_nowait(Drain())
    with trio.fail_after(60):
        await bench.writer.run()
    assert len(storage.committed) == 5


async def test_rows_are_recorded_in_order_with_the_messages(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """Transitions survive an absent database too."""
    storage.away = True
    event = ConnectionEvent(
        connection="sales",
        previous="connecting",
        state="online",
        reason="online",
        sentence="online",
    )
    async with running(storage) as (bench, nursery):
        await nursery.start(bench.writer.run)
        bench.inbox.post_nowait(Record(event))
        await trio.sleep(30)
        assert storage.recorded == []
        storage.away = False
        bench.post(make_envelope("1"))
        await bench.take(1)
        assert storage.recorded == [event]


async def test_a_stanza_that_cannot_be_read_is_quarantined(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """``Quarantine`` mail keeps the raw bytes without a message."""
    async with running(storage) as (bench, nursery):
        await nursery.start(bench.writer.run)
        envelope = Envelope(connection="sales", stanza=b"\x00garbage")
        bench.inbox.post_nowait(Quarantine(envelope, "malformed", 4, bench.reply))
        [answer] = await bench.take(1)
        assert answer.outcome is not None
        assert answer.outcome.verdict is Verdict.QUARANTINED


async def test_the_low_lane_waits_for_the_live_one(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """What can wait is committed in small batches, and only while nothing live is there."""
    async with running(storage, low_batch=2) as (bench, nursery):
        for n in range(11, 15):
            bench.writer.low.post_nowait(Commit(make_envelope(str(n)), n, bench.reply))
        bench.post(make_envelope("1"), make_envelope("2"))
        await nursery.start(bench.writer.run)
        answers = await bench.take(6)
        assert [answer.ticket for answer in answers] == [1, 2, 11, 12, 13, 14]
        assert storage.batches == [2, 2, 2]
        bench.writer.low.post_nowait(Commit(make_envelope("15"), 15, bench.reply))
        assert [answer.ticket for answer in await bench.take(1)] == [15]
