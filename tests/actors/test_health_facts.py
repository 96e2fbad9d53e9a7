"""What health tells of a connection is what happened: heartbeats, lag, logins, ends, minutes."""

import typing as t

import trio
import trio.testing

from actors.messages import Record
from actors.settings import Counts
from actors.statistics import SyncStatistics
from storage.api import Outcome, SyncRun, Verdict
from tests.actors.conftest import FaultyStorage
from tests.actors.world import START, World, open_world

Clock: t.TypeAlias = trio.testing.MockClock


def beaten(world: World) -> float:
    """When the last heartbeat was, in seconds since the world began."""
    at = world.fleet.status("sales")[0].last_heartbeat_at
    assert at is not None
    return at.timestamp() - START


async def test_a_heartbeat_is_an_answered_ping(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """It moves every 15 s while WhatsApp answers, and stands still while it does not."""
    async with open_world(storage, "sales") as world:
        await trio.sleep(60)
        first = beaten(world)
        assert trio.current_time() - first < 20
        await trio.sleep(60)
        second = beaten(world)
        assert 40 < second - first < 80
        world.simulator.faults.stall(world.accounts["sales"].companions[0].pn)
        await trio.sleep(15)
        third = beaten(world)
        await world.until_state("sales", "backoff")
        assert beaten(world) == third
        assert dict(world.fleet.status("sales")[0].ends)["heartbeat_missed"] == 1


async def test_lag_is_the_wait_for_the_commit(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """It grows while nothing commits, and is nothing once all is stored, or the life is over."""
    async with open_world(storage, "sales") as world:

        def lag() -> float:
            return world.fleet.status("sales")[0].lag_seconds

        customer = world.simulator.create_account("customer")
        assert lag() == 0.0
        storage.away = True
        await customer.phone.send_text(world.accounts["sales"].pn, "bom dia")
        await trio.sleep(30)
        assert 25 < lag() <= 31
        storage.away = False
        await world.settled()
        assert lag() == 0.0
        storage.away = True
        await customer.phone.send_text(world.accounts["sales"].pn, "boa tarde")
        await trio.sleep(5)
        assert lag() > 1
        await world.fleet.stop("sales")
        assert lag() == 0.0


async def test_logins_and_ends_are_counted(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """Each life, by the reason for which it ended."""
    async with open_world(storage, "sales") as world:
        [before] = world.fleet.status("sales")

        def logins() -> int:
            return world.fleet.status("sales")[0].logins - before.logins

        for number in (1, 2):
            world.simulator.drop(world.accounts["sales"].pn)
            await world.until(lambda number=number: logins() == number, "it is back")
        [after] = world.fleet.status("sales")
        assert after.logins == before.logins + 2
        assert sum(after.ends.values()) == sum(before.ends.values()) + 2


class Collected:
    """A postbox that keeps what is posted."""

    def __init__(self) -> None:
        self.runs: list[SyncRun] = []

    def post_nowait(self, mail: t.Any) -> None:
        assert isinstance(mail, Record)
        assert isinstance(mail.row, SyncRun)
        self.runs.append(mail.row)


async def test_a_run_is_of_one_minute() -> None:
    """What is counted in a minute of the wall clock is dated within it, whenever it is posted."""
    now = START - START % 60
    posted, counts = Collected(), Counts()
    statistics = SyncStatistics("sales", counts, t.cast("t.Any", posted), lambda: now)
    begun = now
    for seconds, verdict in (
        (0, Verdict.STORED),
        (59.9, Verdict.DUPLICATE),
        (60, Verdict.PLACEHOLDER),
        (179, Verdict.RECORDED),
    ):
        now = begun + seconds
        statistics.count(Outcome(verdict=verdict))
    await statistics.flush_if_due()
    assert len(posted.runs) == 2
    assert counts.unrecorded().total == 1
    now = begun + 185
    await statistics.flush_if_due()
    told = [
        ((run.at or 0) - begun, run.total, run.processed, run.skipped, run.errors)
        for run in posted.runs
    ]
    assert [row[1:] for row in told] == [(2, 1, 1, 0), (1, 0, 0, 1), (1, 1, 0, 0)]
    assert [row[0] // 60 for row in told] == [0, 1, 2]
    assert (counts.processed, counts.skipped, counts.errors) == (2, 1, 1)
    await statistics.flush_if_due()
    assert len(posted.runs) == 3
    assert counts.unrecorded().total == 0
