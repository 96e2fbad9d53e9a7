"""I6: whatever one connection does to the writer, the others wait for a batch or two.

A commit takes one virtual second, whatever is in it.
"""

import collections.abc as cabc
import contextlib
import typing as t

import attrs
import pytest
import trio
import trio.testing

from actors.in_flight import InFlight
from actors.messages import Commit, Drain, Fence, Quarantine, Record, Settled
from actors.records import RecordCache
from actors.writer import STEPS, Writer, WriterSettings
from actors.writer_inbox import writer_inbox
from storage.api import ConnectionEvent, ConversationRules, Envelope, Outcome, Verdict
from storage.errors import StorageUnavailableError
from tests.actors.conftest import FaultyStorage, make_envelope

COMMIT: t.Final = 1.0  # virtual seconds


class SlowStorage(FaultyStorage):
    """Every call takes one virtual second."""

    def __init__(self) -> None:
        super().__init__()
        self.quarantine_away = False

    async def apply(self, batch: cabc.Sequence[Envelope]) -> list[Outcome]:
        await trio.sleep(COMMIT)
        return await super().apply(batch)

    async def quarantine(self, envelope: Envelope, error: str) -> Outcome:
        await trio.sleep(COMMIT)
        if self.quarantine_away:
            raise StorageUnavailableError("somebody has locked the quarantine")
        return await super().quarantine(envelope, error)

    async def record_event(self, event: t.Any) -> None:
        await trio.sleep(COMMIT / 100)
        await super().record_event(event)


def of(name: str, external_id: str, text: str = "hello", size: int = 0) -> Envelope:
    envelope = make_envelope(external_id, text)
    return attrs.evolve(envelope, connection=name, stanza=b"x" * size)


class World:
    """A writer, and connections that post to it as real ones do."""

    def __init__(
        self, storage: SlowStorage, nursery: trio.Nursery, settings: WriterSettings
    ) -> None:
        self.storage = storage
        self.nursery = nursery
        self.inbox = writer_inbox()
        self.writer = Writer(storage, self.inbox, settings, uniform=lambda: 0.5)
        self.stored: dict[str, list[int]] = {}

    async def connection(self, name: str) -> "InFlight[int]":
        await self.storage.ensure_connection(name, ConversationRules())
        in_flight = InFlight[int](self.inbox, RecordCache(self.storage, name), limit=256)
        stored = self.stored[name] = []

        async def settle() -> None:
            while True:
                number, outcome = await in_flight.next_settled()
                assert outcome is not None
                stored.append(number)

        self.nursery.start_soon(settle)
        return in_flight

    async def flood(
        self, name: str, count: int, text: str = "hello", size: int = 0
    ) -> "InFlight[int]":
        in_flight = await self.connection(name)

        async def post() -> None:
            for number in range(count):
                await in_flight.post(of(name, f"{name}-{number}", text, size), number)

        self.nursery.start_soon(post)
        return in_flight


@contextlib.asynccontextmanager
async def open_world(**settings: t.Any) -> cabc.AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World(SlowStorage(), nursery, WriterSettings(**settings))
        await nursery.start(world.writer.run)
        yield world
        nursery.cancel_scope.cancel()


async def delay_of(quiet: "InFlight[int]", name: str, number: int, size: int = 0) -> float:
    began = trio.current_time()
    with trio.fail_after(3600):
        outcome = await quiet.commit(of(name, f"{name}-{number}", size=size), number)
    assert outcome is not None
    assert outcome.verdict is Verdict.STORED
    return trio.current_time() - began


@pytest.mark.parametrize(
    ("floods", "count", "size"),
    [(1, 10_000, 0), (100, 1_000, 0), (100, 20, 1024 * 1024), (100, 8, 4 * 1024 * 1024)],
    ids=["one", "a hundred", "big ones", "huge ones"],
)
async def test_a_quiet_connection_waits_for_two_batches(
    autojump_clock: trio.testing.MockClock, floods: int, count: int, size: int
) -> None:
    """The batch that runs and its own, whatever the flood; and nothing of the flood is lost."""
    async with open_world() as world:
        for number in range(floods):
            await world.flood(f"flood-{number}", count, size=size)
        quiet = await world.connection("quiet")
        await trio.sleep(4 * COMMIT + 0.3)
        for number in range(5):
            assert await delay_of(quiet, "quiet", number) <= 2 * COMMIT
            await trio.sleep(0.7)
        if size == 0 and floods == 1:
            while len(world.stored["flood-0"]) < count:
                await trio.sleep(1)
            assert world.stored["flood-0"] == list(range(count))
        assert world.inbox.statistics().peak <= 4096 + 4 * (floods + 1)


async def test_the_flood_itself_is_not_slowed_down_much(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """One flooding connection alone fills at least every other batch with what it may have
    under way."""
    async with open_world() as world:
        await world.flood("flood", 5_000)
        while len(world.stored["flood"]) < 5_000:
            await trio.sleep(1)
        assert trio.current_time() <= 2 * COMMIT * (5_000 / 256 + 1)


async def test_poison_of_one_connection_delays_the_others_by_a_few_steps(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """256 poisoned messages are found and quarantined between the batches of the others, in
    the order of their connection."""
    async with open_world() as world:
        await world.flood("bad", 256, "poison")
        quiet = await world.connection("quiet")
        await trio.sleep(3.3)
        for number in range(10):
            assert await delay_of(quiet, "quiet", number) <= (STEPS + 3) * COMMIT
        while len(world.stored["bad"]) < 256:
            await trio.sleep(1)
        assert world.stored["bad"] == list(range(256))
        assert len(world.storage.committed) == 10


async def test_stanzas_that_cannot_be_read_delay_the_others_by_a_few_steps(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each is a transaction of its own, but never more of them in a row than a few."""
    async with open_world() as world:
        bad = await world.connection("bad")

        async def post() -> None:
            for number in range(300):
                error = None if number % 3 else "malformed"
                await bad.post(of("bad", f"bad-{number}"), number, quarantine=error)

        world.nursery.start_soon(post)
        quiet = await world.connection("quiet")
        await trio.sleep(3.3)
        for number in range(10):
            assert await delay_of(quiet, "quiet", number) <= (STEPS + 3) * COMMIT
        while len(world.stored["bad"]) < 300:
            await trio.sleep(1)
        assert world.stored["bad"] == list(range(300))


async def test_a_quarantine_that_does_not_work_holds_only_its_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The others go on; the poison is quarantined once that is possible, before what follows it."""
    async with open_world() as world:
        world.storage.quarantine_away = True
        bad, quiet = await world.connection("bad"), await world.connection("quiet")
        await bad.post(of("bad", "b1", "poison"), 1)
        await bad.post(of("bad", "b2"), 2)
        await trio.sleep(60)
        assert world.stored["bad"] == []
        for number in range(20):
            assert await delay_of(quiet, "quiet", number) <= 4 * COMMIT
        fence = Fence(trio.Event(), "bad")
        await world.inbox.post(fence)
        await trio.sleep(60)
        assert not fence.passed.is_set()
        world.storage.quarantine_away = False
        with trio.fail_after(60):
            await fence.passed.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert world.stored["bad"] == [1, 2]


@pytest.mark.parametrize("connection", ["bad", None])
async def test_a_fence_in_the_batch_of_the_poison_waits_for_the_verdict(
    autojump_clock: trio.testing.MockClock, connection: str | None
) -> None:
    """It was taken out of the mailbox before anybody knew; it opens after the quarantine."""
    storage = SlowStorage()
    await storage.ensure_connection("bad", ConversationRules())
    inbox = writer_inbox()
    writer = Writer(storage, inbox, WriterSettings(), uniform=lambda: 0.5)
    reply, answers = trio.open_memory_channel[Settled](9)
    fence = Fence(trio.Event(), connection)
    inbox.post_nowait(Commit(of("bad", "1", "poison"), 1, reply))
    inbox.post_nowait(fence)
    storage.quarantine_away = True
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await trio.sleep(100)
        assert not fence.passed.is_set()
        storage.quarantine_away = False
        with trio.fail_after(100):
            await fence.passed.wait()
        assert answers.statistics().current_buffer_used == 1
        nursery.cancel_scope.cancel()


async def test_a_fence_waits_for_its_own_connection_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A connection that begins anew beside a flood is not held up by it."""
    async with open_world() as world:
        for number in range(20):
            await world.flood(f"flood-{number}", 10_000)
        quiet = await world.connection("quiet")
        await trio.sleep(5.5)
        await quiet.post(of("quiet", "1"), 1)
        began = trio.current_time()
        fence = Fence(trio.Event(), "quiet")
        await world.inbox.post(fence)
        await fence.passed.wait()
        assert "1" in world.storage.committed
        assert trio.current_time() - began <= 2 * COMMIT


async def test_a_storm_of_transitions_does_not_hold_messages_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A thousand connections that change their state are recorded a few at a time."""
    async with open_world() as world:
        quiet = await world.connection("quiet")
        for number in range(1000):
            name = f"c{number}"
            await world.storage.ensure_connection(name, ConversationRules())
            for state in ("connecting", "online"):
                event = ConnectionEvent(
                    connection=name, previous="", state=state, reason="x", sentence="x"
                )
                world.inbox.post_nowait(Record(event))
        await trio.sleep(0.1)
        assert await delay_of(quiet, "quiet", 1) <= 2 * COMMIT
        while len(world.storage.recorded) < 2000:
            await trio.sleep(1)
        seventh = [row.state for row in world.storage.recorded if row.connection == "c7"]
        assert seventh == ["connecting", "online"]


async def test_history_gets_its_small_share_of_a_flood(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """One small batch after so many live ones: it never starves, and costs the others little."""
    async with open_world(low_every=4) as world:
        for number in range(2):
            await world.flood(f"flood-{number}", 100_000)
        quiet = await world.connection("quiet")
        reply, answers = trio.open_memory_channel[Settled](100)
        await world.storage.ensure_connection("old", ConversationRules())
        for number in range(10):
            world.writer.low.post_nowait(Commit(of("old", f"old-{number}"), number, reply))
        with trio.fail_after(2 * 5 * COMMIT):
            for number in range(10):
                assert (await answers.receive()).ticket == number
        for number in range(5):
            world.writer.low.post_nowait(Commit(of("old", f"older-{number}"), number, reply))
            assert await delay_of(quiet, "quiet", number) <= 3 * COMMIT


async def test_draining_settles_suspects_too(autojump_clock: trio.testing.MockClock) -> None:
    """What is in question when the daemon stops is stored or quarantined before it ends."""
    storage = SlowStorage()
    for name in ("good", "bad"):
        await storage.ensure_connection(name, ConversationRules())
    inbox = writer_inbox()
    writer = Writer(storage, inbox, WriterSettings(), uniform=lambda: 0.5)
    reply, answers = trio.open_memory_channel[Settled](100)
    for number in range(20):
        inbox.post_nowait(Commit(of("bad", f"b{number}", "poison"), number, reply))
        inbox.post_nowait(Commit(of("good", f"g{number}"), number, reply))
    inbox.post_nowait(Quarantine(of("bad", "q"), "malformed", 99, reply))
    inbox.post_nowait(Drain())
    with trio.fail_after(3600):
        await writer.run()
    assert answers.statistics().current_buffer_used == 41
    assert len(storage.committed) == 20


async def test_a_crash_of_the_writer_leaves_no_lane_paused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What it had taken is unanswered and comes again; what waits is served by the next run."""
    async with open_world() as world:
        bad = await world.connection("bad")
        world.storage.quarantine_away = True
        await bad.post(of("bad", "1", "poison"), 1)
        await trio.sleep(20)
        await bad.post(of("bad", "2"), 2)
        await trio.sleep(20)
        assert world.stored["bad"] == []
    async with trio.open_nursery() as nursery:
        await nursery.start(world.writer.run)
        await trio.sleep(5)
        assert world.storage.committed == ["2"]
        nursery.cancel_scope.cancel()


async def test_the_writer_tells_that_it_hangs(autojump_clock: trio.testing.MockClock) -> None:
    """A call of storage that does not come back is seen; waiting for mail is no hanging, and
    neither is an absent database."""
    async with open_world() as world:
        quiet = await world.connection("quiet")
        await trio.sleep(1000)
        assert world.writer.stalled_for() == 0
        world.storage.away = True
        await quiet.post(of("quiet", "1"), 1)
        for _ in range(100):
            await trio.sleep(7.7)
            assert world.writer.stalled_for() <= 11
        world.storage.away = False
        await trio.sleep(20)
        assert world.stored["quiet"] == [1]
        assert world.writer.stalled_for() == 0

        async def hang(_batch: object) -> t.NoReturn:
            await trio.sleep_forever()

        world.storage.apply = hang  # type: ignore[method-assign]
        await quiet.post(of("quiet", "2"), 2)
        await trio.sleep(100)
        assert world.writer.stalled_for() == pytest.approx(100)
