"""The process does not run for a while: stopped by a signal, or asleep with its machine."""

import trio
import trio.testing

from supervisor.wakefulness import FORGIVEN
from tests.actors.conftest import FaultyStorage
from tests.actors.world import World, open_world


async def tick(world: World) -> None:
    """What the daemon does every second."""
    while True:
        world.wakefulness.tick(trio.current_time())
        await trio.sleep(1)


async def test_healthy_connections_survive_ten_minutes_of_standstill(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """All deadlines pass at once, at any moment of a heartbeat; the sockets are good: they stay."""
    async with open_world(storage, "sales", "support") as world:
        world.nursery.start_soon(tick, world)
        dials = world.dials
        customer = world.simulator.create_account("customer")
        for number in range(20):
            await trio.sleep(60 + number * 1.7)
            await customer.phone.send_text(world.accounts["sales"].pn, f"before {number}")
            autojump_clock.jump(600)
            await trio.sleep(FORGIVEN * 3)
        await world.settled()
        assert world.dials == dials
        assert [each.state for each in world.fleet.status()] == ["online", "online"]
        assert world.fleet.status("sales")[0].messages == 20


async def test_a_heartbeat_under_way_is_not_taken_for_a_dead_socket(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """The answer came in time, only nobody was there to see it."""
    async with open_world(storage, "sales") as world:
        world.nursery.start_soon(tick, world)
        dials = world.dials
        device = world.accounts["sales"].companions[0].pn
        await trio.sleep(130)
        world.simulator.faults.stall(device)  # a ping is on its way now, or soon
        await trio.sleep(18)
        autojump_clock.jump(60)
        world.simulator.faults.clear()
        await trio.sleep(60)
        assert world.dials == dials
        assert world.fleet.status("sales")[0].state == "online"


async def test_sockets_that_died_meanwhile_are_found_at_once_and_not_counted(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """All are checked on waking; the reconnect is no failure of theirs."""
    async with open_world(storage, "sales", "support") as world:
        world.nursery.start_soon(tick, world)
        await trio.sleep(130)
        for account in world.accounts.values():
            world.simulator.faults.stall(account.companions[0].pn)  # dead, and nothing says so
        autojump_clock.jump(3600)
        woke = trio.current_time()
        for name in world.names:
            await world.until_state(name, "backoff", "connecting")
        assert trio.current_time() - woke < FORGIVEN
        for status in world.fleet.status():
            assert status.reason in ("slept", "fence", "dialling")
            assert status.retries == 0
        world.simulator.faults.clear()
        for name in world.names:
            await world.until_state(name, "online")
        reasons = {row.reason for row in storage.recorded if row.state == "backoff"}
        assert reasons == {"slept"}


async def test_without_a_gap_deadlines_count_as_ever(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """A silent socket is a failure when the process ran all the time."""
    async with open_world(storage, "sales") as world:
        world.nursery.start_soon(tick, world)
        await trio.sleep(130)
        world.simulator.faults.stall(world.accounts["sales"].companions[0].pn)
        await world.until_state("sales", "backoff", "connecting")
        [reason] = {row.reason for row in storage.recorded if row.state == "backoff"}
        assert reason == "heartbeat_missed"


async def test_the_monitor_forgives_ages_that_grew_while_nothing_ran(
    autojump_clock: trio.testing.MockClock, storage: FaultyStorage
) -> None:
    """An envelope that was under way when the machine went to sleep is not a stalled database."""
    async with open_world(storage, "sales") as world:
        world.nursery.start_soon(tick, world)
        dials = world.dials
        await trio.sleep(130)
        storage.away = True
        customer = world.simulator.create_account("customer")
        await customer.phone.send_text(world.accounts["sales"].pn, "under way")
        await trio.sleep(1)
        autojump_clock.jump(3600)
        storage.away = False
        await trio.sleep(60)
        assert world.dials == dials
        assert world.fleet.status("sales")[0].messages == 1
