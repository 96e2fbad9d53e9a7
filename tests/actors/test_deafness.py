"""A connection that answers pings but hears nothing is found and reset; others are left alone."""

import collections.abc as cabc
import contextlib
import pathlib
import random
import typing as t

import attrs
import pytest
import trio
import trio.testing

from actors.deafness import Hearing
from actors.hearing import Ear
from actors.hearing_words import HearingSettings, Tally
from actors.monitor import Limits
from simulator.faults import Unheard
from storage.api import ConversationRules, Envelope, Outcome, TrafficHour
from storage.errors import StorageUnavailableError
from storage.memory import MemoryStorage
from tests.actors.conftest import NAME
from tests.actors.whole_world import WholeWorld, open_whole
from tests.actors.world import START
from whatsapp.peer import PeerKind

Clock: t.TypeAlias = trio.testing.MockClock
HOUR: t.Final = 3600.0
DAY: t.Final = 86_400.0
CALM: t.Final[dict[str, t.Any]] = {
    "heartbeat_interval": 300.0,  # so that weeks pass quickly
    "heartbeat_timeout": 300.0,
    "monitor_interval": 60.0,
    "limits": Limits(silence=1200.0),
}
RESET: t.Final = ["deaf_suspected", "fence", "dialling", "logged_in", "online"]


class PastStorage(MemoryStorage):
    """A storage that can be told of the past, and whose commits can be slow."""

    def __init__(self) -> None:
        self.commit_takes = 0.0
        super().__init__(clock=lambda: START + trio.current_time())

    async def apply(self, batch: cabc.Sequence[Envelope]) -> list[Outcome]:
        await trio.sleep(self.commit_takes)
        return await super().apply(batch)

    async def was_busy(self, days: int, per_hour: int) -> None:
        """So many active minutes, in each hour of the last days."""
        await self.ensure_connection(NAME, ConversationRules())
        now = int(START // HOUR)
        hours = [TrafficHour(hour, per_hour, 60.0) for hour in range(now - 24 * days, now)]
        await self.save_traffic(NAME, hours)


class FaultyStorage(MemoryStorage):
    """A storage that does not tell of traffic, nor takes it, while it is away."""

    def __init__(self) -> None:
        self.traffic_away = False
        self.loads = 0
        super().__init__(clock=lambda: START)

    async def load_traffic(self, connection: str) -> list[TrafficHour]:
        self.loads += 1
        if self.traffic_away:
            raise StorageUnavailableError("away")
        return await super().load_traffic(connection)

    async def save_traffic(self, connection: str, hours: cabc.Sequence[TrafficHour]) -> None:
        if self.traffic_away:
            raise StorageUnavailableError("away")
        await super().save_traffic(connection, hours)


@contextlib.asynccontextmanager
async def busy_world(directory: pathlib.Path) -> cabc.AsyncIterator[tuple[WholeWorld, PastStorage]]:
    """A world whose account had a message every three minutes for the last fortnight."""
    storage = PastStorage()
    await storage.was_busy(15, 20)
    async with open_whole(directory, storage=storage, **CALM) as world:
        await trio.sleep(120)
        yield world, storage


def tally(world: WholeWorld) -> Tally:
    member = world.fleet._members[NAME]
    return member.connection.hearing.ear.tally


async def reasons(world: WholeWorld, known: int = 0) -> list[str]:
    """Of all transitions but so many of the first, oldest first."""
    await trio.testing.wait_all_tasks_blocked()
    return [row["reason"] for row in reversed(await world.storage.events(NAME, 500))][known:]


def texts(storage: MemoryStorage) -> list[str | None]:
    return [row["text"] for row in storage.messages(NAME)]


@pytest.mark.parametrize("unheard", ["everything", "messages"])
@pytest.mark.parametrize("phone_on", [True, False])
async def test_a_deaf_connection_is_found_and_reset_by_itself(
    autojump_clock: Clock, tmp_path: pathlib.Path, unheard: Unheard, phone_on: bool
) -> None:
    """What was held back is stored once and acknowledged; the operator reads what happened."""
    async with busy_world(tmp_path) as (world, storage):
        customer = world.simulator.create_account("customer")
        await customer.phone.send_text(world.team.pn, "heard")
        await world.settled()
        known, dials = len(await reasons(world)), world.dials
        world.phone.answers = phone_on

        assert world.simulator.deafen(world.team.pn, unheard) == 1
        began = trio.current_time()
        for number in range(3):
            await trio.sleep(60)
            await customer.phone.send_text(world.team.pn, f"held back {number}")
        await world.until(lambda: world.fleet.status(NAME)[0].deaf, "it was found to be deaf")
        assert trio.current_time() - began < 3 * HOUR
        await world.settled()

        assert texts(storage) == ["heard", *(f"held back {number}" for number in range(3))]
        assert world.dials == dials + 1
        assert await reasons(world, known) == [*RESET, "deaf"]
        [status] = world.fleet.status(NAME)
        assert (status.state, status.retries, status.deaf_suspicion) == ("online", 0, None)
        assert "stanzas were held back" in status.sentence
        assert len(await storage.conversations(status=None, connection=NAME, limit=9)) == 1

        await customer.phone.send_text(world.team.pn, "heard again")
        await world.settled()
        assert texts(storage)[-1] == "heard again"


async def test_a_queue_that_was_announced_and_stands_still_is_reset(
    autojump_clock: Clock, tmp_path: pathlib.Path
) -> None:
    """No probe is needed: WhatsApp itself says that there is something."""
    async with open_whole(tmp_path, **CALM) as world:
        customer = world.simulator.create_account("customer")
        await world.settled()
        await world.fleet.stop(NAME)
        await customer.phone.send_text(world.team.pn, "waits")
        world.simulator.faults.mute_queues(world.team.pn)
        await world.fleet.start(NAME)
        await world.until(lambda: texts(t.cast("MemoryStorage", world.storage)), "it was reset")
        assert tally(world).resets == 1
        assert tally(world).probes == 0
        [event] = [
            row for row in await world.storage.events(NAME, 99) if row["reason"] == "deaf_suspected"
        ]
        assert "announced that 1 stanza was waiting, and sent none of them" in event["sentence"]


async def test_a_probe_that_is_answered_ends_the_suspicion(
    autojump_clock: Clock, tmp_path: pathlib.Path
) -> None:
    """A holiday: the phone is asked a few times, and nothing else happens; nobody sees it."""
    async with busy_world(tmp_path) as (world, storage):
        customer = world.simulator.create_account("customer")
        await customer.phone.send_text(world.team.pn, "before")
        await world.settled()
        known, dials, answered = len(await reasons(world)), world.dials, tally(world).answered
        assert answered == 0
        await trio.sleep(DAY)
        asked = world.phone.asked[PeerKind.REQUEST]
        assert 1 <= asked <= 6
        assert tally(world) == Tally(suspicions=asked, probes=asked, answered=asked)
        assert world.dials == dials
        assert await reasons(world, known) == []
        assert texts(storage) == ["before"]
        assert world.phone.inbox == customer.phone.inbox or not customer.phone.inbox
        assert world.fleet.status(NAME)[0].deaf_suspicion is None


async def test_with_the_phone_off_and_nobody_writing_there_is_no_alarm(
    autojump_clock: Clock, tmp_path: pathlib.Path
) -> None:
    """A few new sockets show that nothing was held back, each after a longer silence."""
    async with busy_world(tmp_path) as (world, storage):
        world.phone.answers = False
        known, dials = len(await reasons(world)), world.dials
        await trio.sleep(2 * DAY)
        resets = world.dials - dials
        assert 1 <= resets <= 4
        assert tally(world).false == tally(world).resets == resets
        assert await reasons(world, known) == RESET * resets
        [status] = world.fleet.status(NAME)
        assert (status.state, status.deaf, status.retries) == ("online", 0, 0)
        assert texts(storage) == []


async def test_a_quiet_account_is_left_alone(autojump_clock: Clock, tmp_path: pathlib.Path) -> None:
    """One or two messages a day for a week: not one question, not one reset."""
    rng, sent = random.Random(5), 0
    async with open_whole(tmp_path, **CALM) as world:
        customer = world.simulator.create_account("customer")
        known, dials = len(await reasons(world)), world.dials
        for _day in range(7):
            for _message in range(rng.choice((1, 2))):
                await trio.sleep(rng.uniform(1, 12) * HOUR)
                await customer.phone.send_text(world.team.pn, "now and then")
                sent += 1
            await trio.sleep(8 * HOUR)
        await world.settled()
        await trio.sleep(120)
        hours = await world.storage.load_traffic(NAME)
        assert sent - 1 <= sum(hour.active for hour in hours) <= sent  # the last may go on
        assert tally(world) == Tally()
        assert world.phone.asked[PeerKind.REQUEST] == 0
        assert world.dials == dials
        assert await reasons(world, known) == []


async def test_what_is_usual_is_remembered_across_an_absence_of_the_database(
    autojump_clock: Clock,
) -> None:
    """It is read once, as soon as it can be; what was learned meanwhile is stored later."""
    storage = FaultyStorage()
    await storage.ensure_connection(NAME, ConversationRules())
    await storage.save_traffic(NAME, [TrafficHour(hour, 20, 60.0) for hour in range(1, 200)])
    hearing = Hearing(NAME, Ear(HearingSettings(), trio.current_time, lambda: START))
    traffic = hearing.ear.traffic
    for away in (True, True, False, True, False, False):
        storage.traffic_away = away
        traffic.listened(HOUR * 300, HOUR * 302)
        await hearing.remember(storage)
    assert traffic.mature
    assert storage.loads == 3
    known = await storage.load_traffic(NAME)
    assert [row.hour for row in known] == [*range(1, 200), 300, 301]


async def test_nothing_is_suspected_while_the_database_is_slow(
    autojump_clock: Clock, tmp_path: pathlib.Path
) -> None:
    """The daemon itself may be the cause, so no probe leaves; once it is well, one does."""
    async with busy_world(tmp_path) as (world, storage):
        storage.commit_takes = 20.0
        await trio.sleep(4 * HOUR)
        assert tally(world).suspicions > 0
        assert tally(world).probes == 0
        assert world.phone.asked[PeerKind.REQUEST] == 0
        storage.commit_takes = 0.0
        await world.until(lambda: world.phone.asked[PeerKind.REQUEST], "the phone was asked")
        assert tally(world).resets == 0


async def test_switched_off_it_does_nothing(autojump_clock: Clock, tmp_path: pathlib.Path) -> None:
    """``deaf_detection = false``."""
    storage = PastStorage()
    await storage.was_busy(15, 20)
    settings = {**CALM, "hearing": HearingSettings(enabled=False)}
    async with open_whole(tmp_path, storage=storage, **settings) as world:
        dials = world.dials
        world.simulator.deafen(world.team.pn)
        await trio.sleep(DAY)
        assert world.dials == dials
        assert tally(world) == Tally()
        assert attrs.asdict(tally(world))["probes"] == 0
