"""A WhatsApp that answers wrongly, ends connections at any moment, and plays tricks with keys."""

import typing as t
from unittest import mock

import attrs
import pytest
import trio
import trio.testing

from actors.purpose import MAX_RETRY_RECEIPTS
from simulator import receipts
from simulator.faults import Twist
from storage.api import RecordKind
from tests.actors.conftest import FaultyStorage
from tests.actors.hostile_world import NAME, few_prekeys, hostile_world, is_well, say
from tests.actors.world import World
from whatsapp.binary import codec
from whatsapp.node import Node

pytestmark = pytest.mark.usefixtures("few_prekeys")
__all__ = ["few_prekeys"]

Clock: t.TypeAlias = trio.testing.MockClock

NAMESPACES: t.Final = (
    "encrypt",
    "passive",
    "w:g2",
    "w:sync:app:state",
    "usync",
    "urn:xmpp:whatsapp:dirty",
    "w:m",
)
FATAL_PINGS: t.Final = frozenset({"none", "other"})


async def relogin(world: World) -> None:
    """Cut the connection, and give it time for whatever comes."""
    world.simulator.drop(world.accounts[NAME].pn)
    await trio.sleep(100)


@pytest.mark.parametrize("how", t.get_args(Twist))
async def test_twisted_answers(autojump_clock: Clock, storage: FaultyStorage, how: Twist) -> None:
    """Whatever a request is answered: the life goes on, or ends for a reason and comes back."""
    async with hostile_world(storage) as (world, ana, watch):
        for namespace in NAMESPACES:
            world.simulator.faults.twist_answers(how, namespace)
            await relogin(world)
            world.simulator.faults.clear()
            assert set(watch.reasons(NAME)) <= {"network", "no_answer"}, namespace
            await is_well(world, ana, watch, namespace)


@pytest.mark.parametrize("how", t.get_args(Twist))
async def test_twisted_answers_to_pings(
    autojump_clock: Clock, storage: FaultyStorage, how: Twist
) -> None:
    """Only an answer with the right id is a sign of life; which one does not matter."""
    async with hostile_world(storage) as (world, ana, watch):
        world.simulator.faults.twist_answers(how, "w:p")
        await trio.sleep(100)
        world.simulator.faults.clear()
        expected = {"heartbeat_missed"} if how in FATAL_PINGS else set()
        assert set(watch.reasons(NAME)) == expected
        await say(world, ana, watch, "after")
        await world.settled()
        assert watch.texts(NAME) == watch.said[NAME]


# ---- ends at any moment


MOMENTS: t.Final = ("before success", "in the queue", "unanswered request", "while quiet")
ENDINGS: t.Final = {
    "515": "online",
    "503": "online",
    "conflict": "conflict",
    "removed": "logged_out",
    "401": "logged_out",
    "403": "logged_out",
    "405": "parked",
    "ban": "banned",
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("ending", ENDINGS)
async def test_an_end_at_any_moment(
    autojump_clock: Clock, storage: FaultyStorage, ending: str, moment: str
) -> None:
    """It is taken for what it is, whenever it comes; afterwards nothing is missing."""
    async with hostile_world(storage) as (world, ana, watch):
        team = world.accounts[NAME].pn
        simulator = world.simulator
        match moment:
            case "before success":
                simulator.faults.fail_login(ending, team)
                simulator.drop(team)
                await trio.sleep(10)
            case "in the queue":
                simulator.faults.lose_acks(team, 1000)
                for number in range(30):
                    await say(world, ana, watch, f"queued {number}")
                await trio.sleep(1)
                simulator.drop(team)
                simulator.faults.latency = 0.5
                await world.until_state(NAME, "syncing")
                await trio.sleep(3)
                await simulator.end(ending, team)
            case "unanswered request":
                simulator.faults.twist_answers("none", "passive")
                simulator.drop(team)
                await world.until_state(NAME, "syncing")
                await trio.sleep(1)
                await simulator.end(ending, team)
            case _:
                await simulator.end(ending, team)
        simulator.faults.clear()
        await world.until_state(NAME, ENDINGS[ending])
        await trio.sleep(60)
        assert world.fleet.status(NAME)[0].state == ENDINGS[ending]
        if ENDINGS[ending] != "online":
            await world.fleet.start(NAME)
        await is_well(world, ana, watch)


# ---- keys


async def test_no_one_time_prekeys_left(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """Customers who got a bundle without one are read like all others."""
    async with hostile_world(storage) as (world, ana, watch):
        for companion in world.accounts[NAME].companions:
            companion.keys.one_time.clear()
        ben = world.simulator.create_account("Ben")
        await ben.phone.send_text(world.accounts[NAME].pn, "without a prekey")
        watch.said[NAME].append("without a prekey")
        await is_well(world, ana, watch)
        assert watch.kinds("undecryptable") == 0


@pytest.mark.parametrize("count", [0, 5, -7, 9_999_999_999_999_999_999, "many"])
async def test_a_count_of_prekeys_that_lies(
    autojump_clock: Clock, storage: FaultyStorage, count: int | str
) -> None:
    """It costs an upload at most; the connection goes on."""
    async with hostile_world(storage) as (world, ana, watch):
        low = Node("count", {"value": count})
        told = {"id": "L1", "from": "s.whatsapp.net", "type": "encrypt"}
        for _time in range(20):
            plaintext = codec.encode(Node("notification", told, (low,)))
            await world.simulator.say(plaintext, world.accounts[NAME].pn)
        await trio.sleep(30)
        await is_well(world, ana, watch)
        assert watch.reasons(NAME) == []


async def test_replayed_stanzas(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """The same ciphertext, at once, later, and after a restart of everything: known each time."""
    async with hostile_world(storage) as (world, ana, watch):
        team = world.accounts[NAME]
        [device] = team.companions
        world.simulator.faults.lose_acks(team.pn, 1)
        await say(world, ana, watch, "once")
        await trio.sleep(1)
        [entry] = [item for item in device.queue if item.kind == "message"]
        replay = codec.encode(entry.node)
        for pause in (0, 3600):
            await trio.sleep(pause)
            await world.simulator.say(replay, team.pn)
            await trio.sleep(5)
        await world.kill_daemon()
        await world.start_daemon()
        await world.until_state(NAME, "online")
        await world.simulator.say(replay, team.pn)
        await is_well_after_restart(world)
        assert watch.texts(NAME) == watch.said[NAME]
        assert watch.kinds("undecryptable") == 0


async def is_well_after_restart(world: World) -> None:
    await trio.sleep(30)
    await world.settled()
    assert world.fleet.status(NAME)[0].state == "online"


async def test_a_ciphertext_that_never_opens(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """Redelivered for ever, it is asked for a few times only, and stays one placeholder."""
    async with hostile_world(storage) as (world, ana, watch):
        stanza = Node(
            "message",
            {"id": "EVIL", "from": ana.pn.with_device(0), "t": 1_790_000_000, "type": "text"},
            (Node("enc", {"v": "2", "type": "msg"}, b"\x33" + bytes(60)),),
        )
        with mock.patch.object(receipts, "on_receipt", wraps=receipts.on_receipt) as heard:
            for _time in range(50):
                await world.simulator.say(codec.encode(stanza), world.accounts[NAME].pn)
                await trio.sleep(10)
        sent = [call.args[2] for call in heard.call_args_list]
        asked = [node for node in sent if node.text("type") == "retry"]
        assert 0 < len(asked) <= MAX_RETRY_RECEIPTS
        await is_well(world, ana, watch)
        assert watch.kinds("undecryptable") == 1
        assert watch.reasons(NAME) == []


async def test_a_customer_with_a_new_identity(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Whoever reinstalls, again and again, is read; what was said before stays."""
    async with hostile_world(storage) as (world, ana, watch):
        for number in range(3):
            await ana.phone.reinstall()
            await say(world, ana, watch, f"after reinstallation {number}")
            await world.settled()
        await is_well(world, ana, watch)
        assert watch.kinds("undecryptable") == 0


DAMAGES: t.Final[dict[str, t.Callable[[bytes], bytes]]] = {
    "nonsense": lambda _row: b"\xff\xff",
    "empty": lambda _row: b"",
    "half": lambda row: row[: len(row) // 2],
    "archive": lambda row: row + b"\x1a\x02\xff\xff",
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_records(autojump_clock: Clock, storage: FaultyStorage, damage: str) -> None:
    """A record that does not read counts as absent: its sender starts a new session."""
    async with hostile_world(storage) as (world, ana, watch):
        group = world.simulator.create_group("team", [ana, world.accounts[NAME]])
        await ana.phone.send_group_text(group.jid, "to the group")
        watch.said[NAME].append("to the group")
        await world.settled()
        await world.kill_daemon()
        records = storage._connections[NAME].records
        for kind in (RecordKind.SESSION, RecordKind.SENDER_KEY):
            for key, value in records[kind].items():
                records[kind][key] = DAMAGES[damage](value)
        await world.start_daemon()
        await world.until_state(NAME, "online")
        await ana.phone.send_group_text(group.jid, "to the group again")
        watch.said[NAME].append("to the group again")
        await say(world, ana, watch, "after")
        await trio.sleep(120)
        await world.settled()
        assert sorted(watch.texts(NAME)) == sorted(watch.said[NAME])
        assert watch.kinds("undecryptable") == 0


async def test_retry_receipts_in_a_loop(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """Receipts that ask again, for messages sent and never sent, end nothing and send nothing."""
    async with hostile_world(storage) as (world, ana, watch):
        retry = Node("retry", {"v": 1, "id": "NEVER", "t": 1, "count": 1})
        for number in range(200):
            stanza = Node(
                "receipt",
                {"id": "NEVER", "from": ana.pn.with_device(0), "type": "retry", "t": number},
                (attrs.evolve(retry, attrs={**retry.attrs, "count": number}),),
            )
            await world.simulator.say(codec.encode(stanza), world.accounts[NAME].pn)
        await trio.sleep(60)
        await is_well(world, ana, watch)
        assert watch.reasons(NAME) == []
