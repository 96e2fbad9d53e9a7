"""What a connection keeps in order beside messages: prekeys, routing hints, dirty marks."""

import typing as t

import attrs
import pytest
import trio.testing

from actors.errors import ConnectionEndedError, ConnectionHeldError
from actors.monitor import Limits, Progress, judge
from simulator.model import Device as ServerDevice
from storage.api import RecordKind
from tests.actors.conftest import FaultyStorage
from tests.actors.world import World, open_world
from whatsapp.device import Device
from whatsapp.jid import SERVER_JID
from whatsapp.node import Node

Clock: t.TypeAlias = trio.testing.MockClock


def server_side(world: World) -> ServerDevice:
    """Our device as the server knows it."""
    return world.accounts["sales"].companions[0]


async def tell(world: World, node: Node) -> None:
    """Send a stanza of the server's own."""
    [session] = world.simulator._sessions
    await session._transport.send(session._stream.send(node))


async def test_prekeys_are_replenished_when_they_run_low(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Strangers use one-time keys up; new ones are stored first, then uploaded."""
    async with open_world(storage, "sales") as world:
        keys = server_side(world).keys.one_time
        stored = storage._connections["sales"].records[RecordKind.PREKEY]
        before = set(stored)
        for key_id in list(keys)[: len(keys) - 3]:
            del keys[key_id]
        await tell(
            world,
            Node(
                "notification",
                {"from": SERVER_JID, "type": "encrypt", "id": "low", "t": 1},
                (Node("count", {"value": 3}),),
            ),
        )
        await world.until(lambda: len(keys) > 50, "new prekeys are uploaded")
        made = set(stored) - before
        assert made
        assert {str(key_id) for key_id in keys} <= set(stored)
        assert world.fleet.status("sales")[0].state == "online"


async def test_a_server_that_forgot_our_keys_gets_them_again(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """After login the digest is compared; what differs is uploaded anew."""
    async with open_world(storage, "sales") as world:
        keys = server_side(world).keys.one_time
        strange = dict.fromkeys(range(5000, 5100), b"\x01" * 32)  # enough of them, but not ours
        keys.clear()
        keys.update(strange)
        await world.fleet.restart("sales")
        await world.until(lambda: set(keys) - set(strange), "our own keys are uploaded")
        assert world.fleet.status("sales")[0].retries == 0


async def test_a_routing_hint_is_kept_for_the_next_connection(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """The hint is stored with the device, and presented when it connects again."""
    async with open_world(storage, "sales") as world:
        info = Node("routing_info", {}, b"\x08\x01\x02")
        await tell(world, Node("ib", {"from": SERVER_JID}, (Node("edge_routing", {}, (info,)),)))
        records = storage._connections["sales"].records[RecordKind.DEVICE]
        await world.until(
            lambda: Device.from_bytes(records[""]).routing_info == b"\x08\x01\x02", "it is stored"
        )
        await world.fleet.restart("sales")
        await world.until_state("sales", "online")


async def test_stanzas_nobody_knows_are_passed_over(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Unknown tags, odd bulletins and malformed notifications change nothing."""
    async with open_world(storage, "sales") as world:
        dials = world.dials
        dirty = Node("dirty", {"type": "groups", "timestamp": "1"})
        for node in (
            Node("novelty", {"a": "b"}),
            Node("ib", {"from": SERVER_JID}, (dirty, Node("novelty"))),
            Node("ib", {"from": SERVER_JID}, (Node("offline_preview", {"count": "many"}),)),
            Node("notification", {"from": SERVER_JID, "type": "encrypt", "id": "n"},
                 (Node("count", {"value": "few"}),)),
            Node("iq", {"from": SERVER_JID, "type": "get", "id": "p", "xmlns": "urn:xmpp:ping"}),
            Node("iq", {"from": SERVER_JID, "type": "result", "id": "nobody asked"}),
        ):  # fmt: skip
            await tell(world, node)
        await trio.sleep(60)
        assert world.dials == dials
        assert world.fleet.status("sales")[0].state == "online"


WELL = Progress(silence=1, backlog=0, busy_for=0, in_flight=0, oldest_in_flight=0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"silence": 61}, "silent"),
        ({"backlog": 9, "busy_for": 91}, "loop_stalled"),
        (
            {"silence": 99, "busy_for": 99, "in_flight": 1, "oldest_in_flight": 61},
            "storage_stalled",
        ),
    ],
)
def test_the_monitor_tells_causes_apart(changes: dict[str, int], reason: str) -> None:
    """Silence and a hanging loop are failures; a database that does not commit is ours."""
    judge(WELL, Limits())
    with pytest.raises(ConnectionEndedError) as caught:
        judge(attrs.evolve(WELL, **changes), Limits())
    assert caught.value.reason == reason
    assert isinstance(caught.value, ConnectionHeldError) == (reason == "storage_stalled")
