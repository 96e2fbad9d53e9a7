"""Messages of ours that somebody could not decrypt: sent again, to that device alone."""

import typing as t

import attrs
import pytest
import trio
import trio.testing

from storage.api import RecordKind
from tests.actors.conftest import NAME
from tests.actors.outbox_world import SendingWorld, sending_world
from whatsapp.e2ee.session import SessionRecord, peer_of
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.stanzas import parse_receipt

Clock: t.TypeAlias = trio.testing.MockClock


def buyer(world: SendingWorld) -> Jid:
    """The customer's companion, which is a connection of ours."""
    return world.customer.companions[0].pn


def base_key(world: SendingWorld, jid: Jid) -> bytes:
    """What the present session with a device is known by."""
    record = world.records(RecordKind.SESSION)[jid.signal_address]
    return peer_of(SessionRecord.from_bytes(record))[1]


def request(sender: Jid, message: str, count: int = 1, **more: t.Any) -> Node:
    """A retry receipt as the server delivers it; without keys."""
    registration = more.pop("registration", None)
    retry = Node("retry", {"v": 1, "id": message, "t": 1, "count": count})
    children = (retry,)
    if registration is not None:
        children += (Node("registration", {}, registration.to_bytes(4, "big")),)
    attributes = {"id": message, "from": sender, "type": "retry", "t": 1, **more}
    return Node("receipt", attributes, children)


def ask(world: SendingWorld, node: Node) -> None:
    """Let a request arrive."""
    world.sender.on_retry(parse_receipt(node), node)


def copies(world: SendingWorld) -> list[str | None]:
    """What the customer's phone read, copies included."""
    return world.phone_texts(world.customer)


@pytest.mark.parametrize("group", [False, True], ids=["direct", "group"])
@pytest.mark.parametrize("broken", [1, 2], ids=["once", "twice"])
async def test_a_broken_ciphertext_is_sent_again(
    autojump_clock: Clock, group: bool, broken: int
) -> None:
    """The companion asks, gets it again, and shows it once; the phone is not bothered."""
    async with sending_world() as world:
        chat = world.customer.pn
        if group:
            chat = world.world.simulator.create_group("g", [world.customer, world.team]).jid
            await trio.sleep(1)
        world.world.simulator.faults.corrupt(buyer(world), broken)
        await world.send(chat, text="fragile")
        await world.world.settled()
        assert await world.texts("buyer") == ["fragile"]
        assert copies(world) == ["fragile"]
        assert world.world.fleet.status("buyer")[0].undecryptable == 0
        await world.send(chat, text="next")
        await world.world.settled()
        assert await world.texts("buyer") == ["fragile", "next"]


@pytest.mark.parametrize("group", [False, True], ids=["direct", "group"])
async def test_it_is_sent_again_after_a_restart(autojump_clock: Clock, group: bool) -> None:
    """The request arrives when nothing is left in memory: the outbox still has the message."""
    async with sending_world() as world:
        chat = world.customer.pn
        if group:
            chat = world.world.simulator.create_group("g", [world.customer, world.team]).jid
            await trio.sleep(1)
        await world.world.fleet.stop("buyer")
        world.customer.phone.answers = False  # or the companion would get it from there
        world.world.simulator.faults.corrupt(buyer(world), 1)
        await world.send(chat, text="patient")
        await world.world.fleet.stop(NAME)
        await world.world.fleet.start("buyer")
        await world.world.until_state("buyer", "online")
        await trio.sleep(5)
        assert await world.texts("buyer") == [""]  # the placeholder
        await world.world.fleet.start(NAME)
        await world.world.until_state(NAME, "online")
        await world.world.settled()
        assert await world.texts("buyer") == ["patient"]


async def test_the_session_step_of_a_resend_is_committed_first(autojump_clock: Clock) -> None:
    """While the database is away nothing is sent again, and the request is not acknowledged."""
    async with sending_world() as world:
        row = await world.send(world.customer.pn, text="hello")
        await trio.sleep(1)
        before = world.records(RecordKind.SESSION)[world.customer.lid.signal_address]
        world.storage.away = True
        ask(world, request(world.customer.lid, row.external_id))
        await trio.sleep(5)
        assert copies(world) == ["hello"]
        world.storage.away = False
        await trio.sleep(15)
        assert copies(world) == ["hello", "hello"]
        assert world.records(RecordKind.SESSION)[world.customer.lid.signal_address] != before


async def test_the_own_phone_gets_its_copy_again(autojump_clock: Clock) -> None:
    """A copy for an own device says for which chat it was."""
    async with sending_world() as world:
        row = await world.send(world.customer.pn, text="copy")
        await trio.sleep(1)
        node = request(world.team.lid, row.external_id, recipient=world.customer.lid)
        ask(world, node)
        await trio.sleep(1)
        assert world.phone_texts(world.team) == ["copy", "copy"]
        assert {item.chat for item in world.team.phone.inbox} == {world.customer.pn}
        assert copies(world) == ["copy"]


async def test_a_message_to_the_own_phone_is_sent_again(autojump_clock: Clock) -> None:
    """It is in no outbox, but remembered for a while."""
    async with sending_world() as world:
        stanza_id = await world.sender.send_peer(b"", priority="high")
        before = base_key(world, world.team.lid)
        ask(world, request(world.team.pn, stanza_id, category="peer"))
        ask(world, request(world.team.pn, stanza_id, 2, category="peer"))
        await trio.sleep(1)
        assert world.team.phone.failures == 0
        assert base_key(world, world.team.lid) != before  # the second time in a new session


async def test_only_the_recipient_may_ask(autojump_clock: Clock) -> None:
    """Neither a stranger nor a member of some group gets somebody else's message."""
    async with sending_world() as world:
        stranger = world.world.simulator.create_account("stranger")
        row = await world.send(world.customer.pn, text="secret")
        group = world.world.simulator.create_group("g", [world.customer, world.team])
        await trio.sleep(1)
        said = await world.send(group.jid, text="among us")
        await trio.sleep(1)
        ask(world, request(stranger.lid, row.external_id))
        ask(world, request(stranger.pn, row.external_id, recipient=world.customer.pn))
        ask(world, request(group.jid, said.external_id, participant=stranger.lid))
        ask(world, request(group.jid, row.external_id, participant=world.customer.lid))
        ask(world, request(world.customer.lid, said.external_id))
        await trio.sleep(5)
        assert world.phone_texts(stranger) == []
        assert stranger.phone.failures == 0
        assert copies(world) == ["secret", "among us"]


async def test_nobody_asks_without_end(autojump_clock: Clock) -> None:
    """Five answers per device and message; what claims a sixth request is not answered at all."""
    async with sending_world() as world:
        row = await world.send(world.customer.pn, text="again")
        await trio.sleep(1)
        ask(world, request(world.customer.lid, row.external_id, 6))
        for _ in range(8):
            ask(world, request(world.customer.lid, row.external_id))
        await trio.sleep(5)
        assert copies(world) == ["again"] * 6


async def test_requests_are_acknowledged_even_if_refused(autojump_clock: Clock) -> None:
    """A request for a message that nobody knows is taken off the server's queue."""
    async with sending_world() as world:
        device = world.team.companions[0]
        owed = request(world.customer.lid, "NOSUCHMESSAGE")
        world.world.simulator.world.owe(device, owed)
        await trio.sleep(1)
        assert len(device.queue) == 0


async def test_another_registration_means_a_new_session(autojump_clock: Clock) -> None:
    """Who has another registration id was installed anew: the old session is of no use."""
    async with sending_world() as world:
        row = await world.send(world.customer.pn, text="hello")
        await trio.sleep(1)
        before = base_key(world, world.customer.lid)
        same = world.customer.phone.device.keys.registration_id
        ask(world, request(world.customer.lid, row.external_id, registration=same))
        await trio.sleep(1)
        assert base_key(world, world.customer.lid) == before
        ask(world, request(world.customer.lid, row.external_id, registration=same + 1))
        await trio.sleep(1)
        assert base_key(world, world.customer.lid) != before
        assert copies(world) == ["hello"] * 3


async def test_a_session_that_does_not_help_is_replaced(autojump_clock: Clock) -> None:
    """The second request rebuilds it, but not more than once an hour; one more that still sees
    the session of the second does so at once."""
    async with sending_world() as world:
        row = await world.send(world.customer.pn, text="hello")
        await trio.sleep(1)
        keys = [base_key(world, world.customer.lid)]
        for count in (2, 2, 3):
            ask(world, request(world.customer.lid, row.external_id, count))
            await trio.sleep(1)
            keys.append(base_key(world, world.customer.lid))
        assert keys[1] != keys[0]
        assert keys[2] == keys[1]
        assert keys[3] != keys[2]
        assert copies(world) == ["hello"] * 4


async def test_too_many_requests_wait_for_the_next_login(autojump_clock: Clock) -> None:
    """What finds no room is not acknowledged, so WhatsApp keeps it."""
    async with sending_world() as world:
        row = await world.send(world.customer.pn, text="hello")
        await trio.sleep(1)
        node = request(world.customer.lid, row.external_id)
        receipt = attrs.evolve(parse_receipt(node), retry=None)
        for _ in range(300):
            world.sender.on_retry(receipt, node)
        await trio.sleep(5)
        assert world.world.fleet.status(NAME)[0].state == "online"
