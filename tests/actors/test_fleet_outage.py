"""The breaker and the gate over whole fleets: one outage, no stampede, and nobody is parked."""

import itertools
import typing as t

import pytest
import structlog.testing
import trio
import trio.testing

from actors.admission import AdmissionSettings
from tests.actors.light_fleet import HANDSHAKE, LightFleet, Network, light_fleet

Clock: t.TypeAlias = trio.testing.MockClock
TEN: t.Final = [f"c{number}" for number in range(10)]


def told(logs: t.Sequence[t.MutableMapping[str, t.Any]], event: str) -> list[t.Any]:
    return [entry for entry in logs if entry["event"] == event]


async def all_online(fleet: LightFleet, count: int) -> None:
    await fleet.until(lambda: fleet.online() == count, f"{count} are online")


async def test_a_thousand_connections_come_back_without_a_stampede(autojump_clock: Clock) -> None:
    """At most 16 handshakes at a time, 99 % online within 20 s of the network's return, all soon
    after; one outage is told, at its beginning and at its end; no retry is counted."""
    names = [f"c{number:03}" for number in range(1000)]
    async with light_fleet(names) as light:
        await all_online(light, 1000)
        assert light.network.peak == 16
        with structlog.testing.capture_logs() as logs:
            light.network.down = "swallows"  # worse than refusing: dials hang, and block the gate
            light.network.drop()
            await trio.sleep(90)
            assert light.online() == 0
            [incident] = light.fleet.incidents()
            assert (incident.code, incident.connections) == ("outage", 1000)
            light.network.down, began = None, trio.current_time()
            await light.until(lambda: light.online() >= 990, "99 % are back")
            assert trio.current_time() - began < 20
            await all_online(light, 1000)
            await trio.sleep(20)
        assert light.network.peak == 16
        assert light.fleet.incidents() == []
        [outage], [over] = told(logs, "fleet.outage"), told(logs, "fleet.outage_over")
        assert outage["log_level"] == "error"
        assert over["connections"] == 1000
        assert 90 < over["seconds"] < 130
        assert max(status.retries for status in light.fleet.status()) <= 1


@pytest.mark.parametrize("how", ["refuses", "swallows"])
async def test_a_long_outage_parks_nobody(
    autojump_clock: Clock, how: t.Literal["refuses", "swallows"]
) -> None:
    """Two hours without a network: probes dial for all, and take turns; nobody is parked."""
    async with light_fleet(TEN) as light:
        await all_online(light, 10)
        light.network.dials.clear()
        light.network.down = how
        light.network.drop()
        began = trio.current_time()
        await trio.sleep(7200)
        assert set(light.states()) <= {"backoff", "connecting"}
        assert max(status.retries for status in light.fleet.status()) <= 2
        late = [name for at, name in light.network.dials if at > began + 60]
        assert 7200 / 7 < len(late) < 7200 / 3
        counts = [late.count(name) for name in TEN]
        assert max(counts) - min(counts) <= 0.2 * len(late) / len(TEN)
        light.network.down, back = None, trio.current_time()
        await all_online(light, 10)
        assert trio.current_time() - back < 12


async def test_one_failing_connection_is_no_outage(autojump_clock: Clock) -> None:
    """I6: it backs off and is parked alone; the others do not notice."""
    async with light_fleet(TEN, retry_limit=5, network=Network(bad={"c3"})) as light:
        await light.until(lambda: light.states() == {"online": 9, "parked": 1}, "it is parked")
        assert light.fleet.incidents() == []
        assert len([1 for _at, name in light.network.dials if name != "c3"]) == 9


async def test_a_failing_connection_delays_no_start(autojump_clock: Clock) -> None:
    """I6: what one connection suffers holds nobody else back at the door."""
    names = TEN[:4]
    async with light_fleet(names, network=Network(bad={"c0", "c1"})) as light:
        await light.until(lambda: light.online() == 2, "the others")
        await trio.sleep(300)
        for _ in range(5):
            began = trio.current_time()
            await light.fleet.restart("c3")
            await light.until(lambda: light.online() == 2, "it is back")
            assert trio.current_time() - began < 1
        assert light.fleet.incidents() == []


async def test_failures_of_different_kinds_are_no_outage(autojump_clock: Clock) -> None:
    """Three connections with three troubles of their own are three connections."""
    async with light_fleet(TEN[:3]) as light:
        await all_online(light, 3)
        outage = light.admission.outage
        assert not outage.failed("c0", "network")
        assert not outage.failed("c1", "server_error")
        assert not outage.failed("c2", "protocol_error")
        assert not outage.failed("c0", "storage_stalled")
        await trio.sleep(11)
        assert not outage.failed("c1", "network")
        assert not outage.failed("c2", "heartbeat_missed")
        assert light.fleet.incidents() == []
        assert outage.failed("c0", "connect_timeout")
        assert [each.code for each in light.fleet.incidents()] == ["outage"]


async def test_backoff_ends_with_the_outage(autojump_clock: Clock) -> None:
    """Whoever sleeps when the network returns is woken, and need not sleep to the end."""
    async with light_fleet(TEN, backoff_initial=3000.0, backoff_max=3000.0) as light:
        await all_online(light, 10)
        light.network.down = "refuses"
        light.network.drop()
        await trio.sleep(30)
        light.network.down, back = None, trio.current_time()
        await all_online(light, 10)
        assert trio.current_time() - back < 7


async def test_a_stopped_probe_passes_its_part_on(autojump_clock: Clock) -> None:
    """A connection that is stopped in the middle of its probe holds nobody up, nor does it come
    back; the gate has its place again."""
    settings = AdmissionSettings(handshakes=1)
    async with light_fleet(TEN, admission=settings) as light:
        await all_online(light, 10)
        light.network.down = "swallows"
        light.network.drop()
        await trio.sleep(100)
        stopped = []
        for _ in range(5):
            await light.until(lambda: light.network.dialling, "a probe dials")
            probe = light.network.dials[-1][1]
            await light.fleet.stop(probe)
            stopped.append(probe)
            await trio.sleep(10)
        assert len(set(stopped)) == 5
        light.network.down = None
        await light.until(lambda: light.states() == {"online": 5, "stopped": 5}, "the rest is back")
        await trio.sleep(60)
        assert light.fleet.incidents() == []
        assert light.admission.gate.inside == 0


async def test_an_outage_of_which_nobody_is_left_is_over(autojump_clock: Clock) -> None:
    """An operator who stops all that failed ends it, too."""
    async with light_fleet(TEN[:4]) as light:
        await all_online(light, 4)
        light.network.down = "refuses"
        light.network.drop()
        await trio.sleep(30)
        assert light.fleet.incidents()
        for name in TEN[:4]:
            await light.fleet.stop(name)
        await trio.sleep(20)
        assert light.fleet.incidents() == []
        assert light.states() == {"stopped": 4}


async def test_orders_are_obeyed_during_an_outage(autojump_clock: Clock) -> None:
    """A connection that is held back can be stopped; one that is started waits with the others."""
    async with light_fleet(TEN) as light:
        await all_online(light, 10)
        await light.fleet.stop("c9")
        light.network.down = "refuses"
        light.network.drop()
        await trio.sleep(60)
        await light.fleet.stop("c1")
        await light.fleet.start("c9")
        await trio.sleep(1)
        [one], [nine] = light.fleet.status("c1"), light.fleet.status("c9")
        assert one.state == "stopped"
        assert (nine.state, nine.reason) in {("backoff", "outage"), ("connecting", "dialling")}
        await trio.sleep(600)
        light.network.down = None
        await light.until(lambda: light.states() == {"online": 9, "stopped": 1}, "all but one")


async def test_an_outage_that_goes_on_is_told_once(autojump_clock: Clock) -> None:
    """A probe that gets through while the others still fail does not make it two outages."""
    async with light_fleet(TEN) as light:
        await all_online(light, 10)
        with structlog.testing.capture_logs() as logs:
            light.network.down = "refuses"
            light.network.drop()
            for _ in range(5):
                await trio.sleep(60)
                light.network.down = None
                await light.until(lambda: light.online(), "one gets through")
                light.network.down = "refuses"
                light.network.drop()
            await trio.sleep(60)
            light.network.down = None
            await all_online(light, 10)
            await trio.sleep(30)
        assert len(told(logs, "fleet.outage")) == len(told(logs, "fleet.outage_over")) == 1
        assert max(status.retries for status in light.fleet.status()) <= 1


async def test_waiting_at_the_gate_is_shown_and_can_be_ended(autojump_clock: Clock) -> None:
    """First come, first served; the wait has no deadline, and a stop leaves no gap behind."""
    network = Network(down="swallows")
    settings = AdmissionSettings(handshakes=2)
    async with light_fleet(TEN[:5], network=network, admission=settings) as light:
        await trio.sleep(1)
        shown = {status.name: status.reason for status in light.fleet.status()}
        assert list(shown.values()) == ["dialling", "dialling", "queued", "queued", "queued"]
        assert "waits for its turn" in light.fleet.status("c2")[0].sentence
        await light.fleet.stop("c2")
        await trio.sleep(60)  # the first two have failed by now
        shown = {status.name: status.reason for status in light.fleet.status()}
        assert (shown["c3"], shown["c4"], shown["c2"]) == ("dialling", "dialling", "stopped")
        await light.fleet.start("c2")
        network.down = None
        await light.until(lambda: light.online() == 5, "all are online")
        assert network.peak == 2


async def test_a_start_is_staggered_and_leaves_out_whom_an_operator_stopped(
    autojump_clock: Clock,
) -> None:
    """Ten at once through a gate of two, in five rounds; those not wanted stay stopped."""
    settings = AdmissionSettings(handshakes=2)
    async with light_fleet(TEN, admission=settings) as light:
        began = trio.current_time()
        await all_online(light, 10)
        assert trio.current_time() - began >= 4 * HANDSHAKE
        assert light.network.peak == 2


async def test_each_transition_of_a_thousand_is_recorded_in_order(autojump_clock: Clock) -> None:
    """Mail for the writer waits its turn, however small its mailbox, and none of it is lost."""
    names = [f"c{number:03}" for number in range(300)]
    async with light_fleet(names) as light:
        await all_online(light, 300)
        await trio.sleep(5)
        for name in names:
            rows = await light.storage.events(name, 9)
            states = [row["state"] for row in reversed(rows)]
            assert states[-2:] == ["syncing", "online"]
            assert states[0] == "connecting"
            assert all(row["previous"] == old["state"] for row, old in itertools.pairwise(rows))
        light.stop()
        await trio.sleep(5)
        for name in names:
            [row] = await light.storage.events(name, 1)
            assert (row["state"], row["reason"]) == ("stopped", "shutdown")


# ---- one connection on its own


async def test_failures_are_forgotten_after_two_minutes_of_health(autojump_clock: Clock) -> None:
    """A minute online is no health: the count goes on. Two minutes are."""
    async with light_fleet(TEN[:1]) as light:
        for expected in (1, 2, 3):
            await all_online(light, 1)
            await trio.sleep(60)
            light.network.drop()
            await light.until(lambda: not light.online(), "it is noticed")
            assert light.fleet.status()[0].retries == expected
        await all_online(light, 1)
        await trio.sleep(121)
        assert light.fleet.status()[0].retries == 0
        light.network.drop()
        await light.until(lambda: not light.online(), "it is noticed")
        assert light.fleet.status()[0].retries == 1


async def test_a_parked_connection_is_tried_now_and_then(autojump_clock: Clock) -> None:
    """After thirty retries one every 15 minutes; the first that gets through brings it back, and
    another failure before it is stable parks it again."""
    async with light_fleet(TEN[:1], network=Network(bad={"c0"})) as light:
        await light.until(lambda: light.states() == {"parked": 1}, "it gives up")
        assert len(light.network.dials) == 31
        [status] = light.fleet.status()
        assert "every 15 min" in status.sentence
        assert "zapvisor start c0" in status.sentence
        since = trio.current_time()
        await trio.sleep(3650)
        trials = [at - since for at, _name in light.network.dials[31:]]
        assert [round(at / 900) for at in trials] == [1, 2, 3, 4]
        light.network.bad.clear()
        await all_online(light, 1)
        light.network.drop()
        await light.until(lambda: light.states() == {"parked": 1}, "it is on trial")
        await all_online(light, 1)
        await trio.sleep(121)
        light.network.drop()
        await light.until(lambda: light.states() == {"backoff": 1}, "it is trusted again")


async def test_a_fleet_that_is_run_again_takes_up_what_was(autojump_clock: Clock) -> None:
    """If the fleet itself has to be restarted: who was stopped stays stopped, who is banned waits
    on, and whose keys are dead is not tried."""
    network = Network(bad={"c1"}, reason="banned")
    async with light_fleet(TEN[:4], network=network) as light:
        await light.until(lambda: light.online() == 3, "all but one")
        await light.until(lambda: light.states().get("banned"), "that is banned")
        await light.fleet.stop("c2")
        await trio.sleep(1)
        before = len(network.dials)
        await light.restart()
        await light.until(lambda: light.online() == 2, "the others are back")
        await trio.sleep(2000)
        assert [status.state for status in light.fleet.status()] == [
            "online",
            "banned",
            "stopped",
            "online",
        ]
        assert len(network.dials) == before + 2
