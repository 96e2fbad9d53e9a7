"""Whatever happens in whatever order, the door stays sound and the fleet comes back."""

import typing as t

import hypothesis.strategies as st
import trio
import trio.testing
from hypothesis import given, settings

from actors.admission import AdmissionSettings
from tests.actors.light_fleet import LightFleet, Network, light_fleet

NAMES: t.Final = [f"c{number}" for number in range(6)]
WIDTH: t.Final = 2
Step: t.TypeAlias = tuple[str, t.Any]

names = st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("sleep"), st.sampled_from([0.1, 1.0, 5.0, 11.0, 61.0, 700.0])),
    st.tuples(st.just("network"), st.sampled_from(["refuses", "swallows", None])),
    st.tuples(st.just("drop"), st.none()),
    st.tuples(st.sampled_from(["start", "stop", "restart"]), names),
    st.tuples(st.just("bad"), names),
    st.tuples(st.just("reason"), st.sampled_from(["unavailable", "outdated", "conflict"])),
)


async def take(light: LightFleet, step: Step, wanted: set[str]) -> None:
    match step:
        case ("sleep", float() as seconds):
            await trio.sleep(seconds)
        case ("network", down):
            light.network.down = down
            if down is not None:
                light.network.drop()
        case ("drop", _):
            light.network.drop()
        case ("stop", name):
            wanted.discard(name)
            await light.fleet.stop(name)
        case ("start" | "restart" as order, name):
            wanted.add(name)
            await getattr(light.fleet, order)(name)
        case ("bad", name):
            light.network.bad ^= {name}
            light.network.drop()
        case ("reason", reason):
            light.network.reason = reason


async def play(schedule: list[Step]) -> None:
    wanted = set(NAMES)
    settings_ = AdmissionSettings(handshakes=WIDTH)
    async with light_fleet(NAMES, network=Network(), admission=settings_) as light:
        for step in schedule:
            await take(light, step, wanted)
            assert light.network.dialling <= WIDTH
        assert light.network.peak <= WIDTH
        light.network.down, light.network.reason = None, "unavailable"
        light.network.bad.clear()
        await light.until(lambda: light.online() == len(wanted), f"{wanted} are online")
        for status in light.fleet.status():
            assert status.state == ("online" if status.name in wanted else "stopped")
        await trio.sleep(30)
        assert light.fleet.incidents() == []
        gate, outage, version = (
            light.admission.gate,
            light.admission.outage,
            light.admission.version,
        )
        assert (gate.inside, gate.waiting, len(outage.line), len(version.line)) == (0, 0, 0, 0)


@settings(deadline=None, max_examples=60)
@given(st.lists(steps, max_size=25))
def test_no_schedule_leaves_anybody_behind(schedule: list[Step]) -> None:
    """Networks that come and go, servers that refuse, operators who change their mind: in the end
    whoever is wanted is online, nobody else is, and no place at the door is lost."""
    trio.run(play, schedule, clock=trio.testing.MockClock(autojump_threshold=0))
