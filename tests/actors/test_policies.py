"""What follows from each way to end: conflicts, bans, logouts and refused versions."""

import itertools
import typing as t

import pytest
import structlog.testing
import trio
import trio.testing

from actors.version import VersionUnknownError
from storage.api import RecordKind
from tests.actors.conftest import FaultyStorage
from tests.actors.world import START, World, open_world
from whatsapp.payload import Version

Clock: t.TypeAlias = trio.testing.MockClock
HOUR: t.Final = 3600.0
THREE: t.Final = ("anna", "bruno", "carla")


def dials(storage: FaultyStorage, name: str = "sales") -> list[float]:
    """When a connection dialled."""
    return [
        event.at - START
        for event in storage.recorded
        if (event.connection, event.reason) == (name, "dialling")
    ]


def gaps(moments: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(moments)]


# ---- conflict


async def test_a_conflict_is_not_fought(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """Each trial that is replaced again makes the next wait twice as long, up to four hours; none
    of them counts as a failure. An operator's start begins anew."""
    async with open_world(storage, "sales") as world:
        device = world.accounts["sales"].companions[0].pn
        world.simulator.faults.fail_login("conflict", device, 1000)
        began = trio.current_time()
        await world.simulator.end("conflict", device)
        await world.until_state("sales", "conflict")
        await trio.sleep(16 * HOUR)
        waits = gaps([began, *(at for at in dials(storage) if at > began)])
        for wait, least in zip(waits, [900, 1800, 3600, 7200, 14_400, 14_400], strict=False):
            assert least <= wait <= 1.11 * least
        assert len(waits) == 6
        [status] = world.fleet.status("sales")
        assert (status.state, status.retries) == ("conflict", 0)
        assert status.next_attempt_in is not None
        assert "zapvisor start sales" in status.sentence
        await world.fleet.start("sales")
        before = len(dials(storage))
        await trio.sleep(1000)
        assert len(dials(storage)) == before + 2
        assert "parked" not in {event.state for event in storage.recorded}


async def test_a_conflict_that_was_over_begins_anew(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Two minutes online are peace: the next conflict waits as short as the first. Less is not."""
    async with open_world(storage, "sales", park_interval=300.0) as world:
        device = world.accounts["sales"].companions[0].pn
        waits = []
        for peace in (60, 60, 200):
            await world.simulator.end("conflict", device)
            await world.until_state("sales", "conflict")
            [status] = world.fleet.status("sales")
            waits.append(status.next_attempt_in or 0.0)
            await world.until_state("sales", "online")
            await trio.sleep(peace)
        await world.simulator.end("conflict", device)
        await world.until_state("sales", "conflict")
        waits.append(world.fleet.status("sales")[0].next_attempt_in or 0.0)
        assert [round(wait / 315) for wait in waits] == [1, 2, 4, 1]


async def test_without_trials_a_conflict_waits_for_a_person(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """``park_interval = 0``: never, until somebody starts it."""
    async with open_world(storage, "sales", park_interval=None) as world:
        await world.simulator.end("conflict", world.accounts["sales"].companions[0].pn)
        await world.until_state("sales", "conflict")
        before = world.dials
        await trio.sleep(4 * HOUR)
        assert world.dials == before
        assert world.fleet.status("sales")[0].next_attempt_in is None
        await world.fleet.start("sales")
        await world.until_state("sales", "online")


# ---- bans and logouts


async def test_a_ban_shows_its_end_and_ends_by_itself(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """The expiry is a time on the clock; the daemon may be restarted, or killed, meanwhile."""
    async with open_world(storage, "sales") as world:
        world.simulator.faults.fail_login("ban", world.accounts["sales"].pn, 1)
        world.simulator.drop(world.accounts["sales"].pn)
        await world.until_state("sales", "banned")
        [status] = world.fleet.status("sales")
        assert status.until is not None
        until = status.until.timestamp() - START
        assert abs(until - trio.current_time() - 3600) < 2
        assert f"{status.until:%Y-%m-%d %H:%M} UTC" in status.sentence
        assert status.retries == 1  # from the network
        before = world.dials
        await trio.sleep(100)
        await world.kill_daemon()
        await world.start_daemon()
        await trio.sleep(1)
        [again] = world.fleet.status("sales")
        assert (again.state, again.until, again.reason) == ("banned", status.until, status.reason)
        assert again.sentence == status.sentence
        await trio.sleep(until - trio.current_time())
        assert world.dials == before
        await world.until_state("sales", "online")
        assert 10 <= trio.current_time() - until < 65
        assert world.fleet.status("sales")[0].until is None


async def test_an_operator_may_try_before_a_ban_is_over(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """A start dials at once, after a restart of the daemon, too."""
    async with open_world(storage, "sales") as world:
        for restarted in (False, True):
            world.simulator.faults.fail_login("ban", world.accounts["sales"].pn, 1)
            world.simulator.drop(world.accounts["sales"].pn)
            await world.until_state("sales", "banned")
            await trio.sleep(5)
            if restarted:
                await world.kill_daemon()
                await world.start_daemon()
                await trio.sleep(5)
            began = trio.current_time()
            await world.fleet.start("sales")
            await world.until_state("sales", "online")
            assert trio.current_time() - began < 5


@pytest.mark.parametrize(
    ("failure", "state"), [("401", "logged_out"), ("403", "logged_out"), ("406", "banned")]
)
async def test_what_only_a_person_can_cure_outlives_the_daemon(
    autojump_clock: Clock, storage: FaultyStorage, failure: str, state: str
) -> None:
    """No trial, not even by a restart of the daemon; keys and evidence stay; a start tries."""
    async with open_world(storage, "sales") as world:
        world.simulator.faults.fail_login(failure, world.accounts["sales"].pn, 1)
        world.simulator.drop(world.accounts["sales"].pn)
        await world.until_state("sales", state)
        [status] = world.fleet.status("sales")
        assert failure in status.sentence
        before = world.dials
        await trio.sleep(5)
        for _ in range(2):
            await world.kill_daemon()
            await world.start_daemon()
            await trio.sleep(HOUR)
            [again] = world.fleet.status("sales")
            assert (again.state, again.reason, again.sentence) == (
                status.state,
                status.reason,
                status.sentence,
            )
        assert world.dials == before
        assert await storage.load_records("sales", RecordKind.DEVICE, [""])
        await world.fleet.start("sales")
        await world.until_state("sales", "online")


async def expired_pairing(world: World) -> None:
    """Pair by force, and let nobody scan."""
    await world.fleet.pair("sales", force=True)
    await world.until(lambda: world.fleet.pairing("sales").state == "failed", "nobody scans")


async def test_a_failed_pairing_leaves_a_working_device_at_work(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """The old keys are untouched, and the connection comes back with them by itself."""
    async with open_world(storage, "sales") as world:
        before = await storage.load_records("sales", RecordKind.DEVICE, [""])
        await expired_pairing(world)
        await world.until_state("sales", "online")
        assert await storage.load_records("sales", RecordKind.DEVICE, [""]) == before
        assert world.fleet.status("sales")[0].retries == 0


async def test_a_failed_pairing_leaves_a_dead_device_dead(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Keys that WhatsApp has revoked are not tried, whatever became of the pairing, and the
    advice can be followed again without force; the evidence is kept."""
    async with open_world(storage, "sales") as world:
        await world.simulator.end("removed", world.accounts["sales"].companions[0].pn)
        await world.until_state("sales", "logged_out")
        before = await storage.load_records("sales", RecordKind.DEVICE, [""])
        await world.fleet.pair("sales")
        await world.until(lambda: world.fleet.pairing("sales").qr, "a code")
        await world.fleet.pair("sales")  # somebody begins again
        await world.until(lambda: world.fleet.pairing("sales").state == "failed", "nobody scans")
        await world.until_state("sales", "logged_out")
        [status] = world.fleet.status("sales")
        assert status.reason == "logged_out"
        assert "unlinked" in status.sentence
        after = world.dials
        await trio.sleep(HOUR)
        assert world.dials == after
        assert await storage.load_records("sales", RecordKind.DEVICE, [""]) == before
        account = world.accounts["sales"]
        await world.fleet.pair("sales")
        await world.until(lambda: world.fleet.pairing("sales").qr, "a code")
        qr = world.fleet.pairing("sales").qr
        assert qr is not None
        await world.simulator.scan_qr(qr, phone=account.pn.user)
        await world.until_state("sales", "online")


async def test_a_pairing_that_is_stopped_is_over(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """The next start goes on with the device of before, and draws no codes."""
    async with open_world(storage, "sales") as world:
        before = await storage.load_records("sales", RecordKind.DEVICE, [""])
        await world.fleet.pair("sales", force=True)
        await world.until(lambda: world.fleet.pairing("sales").qr, "a code")
        await world.fleet.stop("sales")
        assert world.fleet.pairing("sales").state == "failed"
        assert await storage.load_records("sales", RecordKind.DEVICE, [""]) == before
        await world.fleet.start("sales")
        await world.until_state("sales", "online")


# ---- an outdated client


def refuse_all(world: World) -> None:
    for name in world.names:
        device = world.accounts[name].companions[0].pn
        world.simulator.faults.fail_login("405", device, 1000)


async def test_an_outdated_client_pauses_the_fleet(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Whoever is online stays; one alert; one trial at a time, every interval; then all resume."""
    async with open_world(storage, *THREE, "online") as world:
        refuse_all(world)
        with structlog.testing.capture_logs() as logs:
            for name in THREE:
                world.simulator.drop(world.accounts[name].companions[0].pn)
            await trio.sleep(100)
            before = world.dials
            for name in THREE:
                [status] = world.fleet.status(name)
                assert (status.state, status.reason) == ("parked", "outdated")
                assert "whatsapp.version" in status.sentence
            [incident] = world.fleet.incidents()
            assert (incident.code, incident.connections) == ("outdated", 3)
            await trio.sleep(3 * 900)
            assert world.dials == before + 3
            assert len({event.connection for event in storage.recorded[-30:]} & set(THREE)) == 3
            assert world.fleet.status("online")[0].state == "online"
            world.simulator.faults.clear()
            await trio.sleep(910)
            assert {status.state for status in world.fleet.status()} == {"online"}
        assert world.fleet.incidents() == []
        alerts = [entry for entry in logs if entry["event"] == "fleet.outdated"]
        assert [entry["log_level"] for entry in alerts] == ["error"]
        assert {status.retries for status in world.fleet.status()} <= {0, 1}  # from the network


async def test_orders_are_obeyed_during_the_pause(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """A start is the trial, at once; two of them are one after the other; a stop is a stop, and
    passes the trial on."""
    async with open_world(storage, *THREE) as world:
        refuse_all(world)
        for name in THREE:
            world.simulator.drop(world.accounts[name].companions[0].pn)
        await trio.sleep(100)
        before = {name: len(dials(storage, name)) for name in THREE}

        def tried() -> list[int]:
            return [len(dials(storage, name)) - before[name] for name in THREE]

        await world.fleet.start("bruno")
        await trio.sleep(5)
        assert tried() == [0, 1, 0]
        await world.fleet.stop("anna")
        assert world.fleet.status("anna")[0].state == "stopped"
        await world.fleet.start("anna")
        await trio.sleep(5)
        assert tried() == [1, 1, 0]
        world.simulator.faults.clear()
        world.simulator.faults.latency = 20.0
        await world.fleet.start("carla")
        await trio.sleep(5)
        assert tried() == [1, 1, 1]
        await world.fleet.stop("carla")  # in the middle of its trial
        world.simulator.faults.clear()
        await trio.sleep(35)
        states = {status.name: status.state for status in world.fleet.status()}
        assert states == {"anna": "online", "bruno": "online", "carla": "stopped"}


async def test_a_pairing_is_a_trial(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """Where nobody else could try, it dials in spite of the pause, and what gets in ends it."""
    async with open_world(storage, "sales", park_interval=None) as world:
        await world.simulator.end("removed", world.accounts["sales"].companions[0].pn)
        await world.until_state("sales", "logged_out")
        world.fleet._tools.admission.claim("sales", (2, 3000, 1))
        world.fleet._tools.admission.ended("sales", "outdated")
        assert [each.code for each in world.fleet.incidents()] == ["outdated"]
        await world.fleet.pair("sales")
        await world.until(lambda: world.fleet.pairing("sales").qr, "a code")
        qr = world.fleet.pairing("sales").qr
        assert qr is not None
        await world.simulator.scan_qr(qr, phone=world.accounts["sales"].pn.user)
        await world.until_state("sales", "online")
        assert world.fleet.incidents() == []


async def test_without_trials_the_pause_waits_for_a_person(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """``park_interval = 0`` holds for the whole fleet, too."""
    async with open_world(storage, *THREE, park_interval=None) as world:
        refuse_all(world)
        world.simulator.drop(world.accounts["anna"].companions[0].pn)
        await world.until_state("anna", "parked")
        before = world.dials
        await trio.sleep(4 * HOUR)
        assert world.dials == before
        world.simulator.faults.clear()
        await world.fleet.start("anna")
        await world.until_state("anna", "online")


async def test_a_newer_version_that_is_found_ends_the_pause(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """The look-up cures by itself what an operator would have to; one that fails is told once."""
    answers: list[Version | None] = [None, None, (2, 3000, 1), (2, 3000, 7)]

    async def look_up() -> Version:
        await trio.sleep(1)
        found = answers.pop(0)
        if found is None:
            raise VersionUnknownError("the web is not reachable")
        return found

    async with open_world(storage, *THREE, look_up=look_up) as world:
        with structlog.testing.capture_logs() as logs:
            refuse_all(world)
            for name in THREE:
                world.simulator.drop(world.accounts[name].companions[0].pn)
            await trio.sleep(900 * 2 + 100)
            assert len(answers) == 1
            assert {status.reason for status in world.fleet.status()} == {"outdated"}
            world.simulator.faults.clear()
            world.simulator.faults.refuse_connections = True  # so that no trial gets in
            await world.until(lambda: not answers, "it is found")
            world.simulator.faults.clear()
            for name in THREE:
                await world.until_state(name, "online")
        events = [entry["event"] for entry in logs]
        assert events.count("fleet.version_unknown") == events.count("fleet.outdated") == 1
        assert events.count("fleet.version_found") == 1
        admission = world.fleet._tools.admission
        assert admission.claim("anna", (2, 3000, 1)) == (2, 3000, 7)
        assert admission.claim("anna", (2, 3000, 8)) == (2, 3000, 8)


async def test_a_newer_version_in_the_configuration_ends_the_pause(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """A reload makes connections anew with what it says: one is enough, an older is not."""
    async with open_world(storage, *THREE) as world:
        refuse_all(world)
        for name in THREE:
            world.simulator.drop(world.accounts[name].companions[0].pn)
        await trio.sleep(100)
        world.simulator.faults.clear()
        version = world.fleet.tools.admission.version
        version.configured((2, 3000, 1))
        await trio.sleep(10)
        assert world.fleet.incidents()
        version.configured((2, 3000, 2))
        for name in THREE:
            await world.until_state(name, "online")
        assert world.fleet.incidents() == []


# ---- the gate


async def test_waiting_for_a_turn_is_not_connecting(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Two logins that hang until their deadline cost the third one, behind them, nothing."""
    async with open_world(storage, *THREE, handshakes=1, connect_timeout=12.0) as world:
        for name in THREE:
            await world.fleet.stop(name)
        for name in THREE[:2]:
            world.simulator.faults.stall(world.accounts[name].companions[0].pn)
        began = trio.current_time()
        for name in THREE:
            await world.fleet.start(name)
            await trio.sleep(0.5)
        for name, reason in zip(THREE, ("dialling", "queued", "queued"), strict=True):
            [status] = world.fleet.status(name)
            assert (status.state, status.reason) == ("connecting", reason)
        await world.until_state("carla", "online")
        assert 24 <= trio.current_time() - began < 26
        assert [status.retries for status in world.fleet.status()] == [1, 1, 0]
