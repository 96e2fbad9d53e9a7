"""Real clients against the simulator: what they accept of it, its other users may rely on."""

import typing as t

import trio

from simulator import Simulator

if t.TYPE_CHECKING:
    from conftest import Driver, Peer


async def settled(*peers: "Peer") -> None:
    """A round trip of every client, so that whatever was under way before has arrived."""
    for peer in peers:
        await peer.call("fetchPrivacySettings", True)


async def test_two_clients_pair_and_write_to_each_other(
    simulator: Simulator, baileys: "Driver"
) -> None:
    """Two clients pair by QR code; each reads the other, by number and by LID, once."""
    alice, bob = await baileys.connect("alice"), await baileys.connect("bob")
    await alice.send(bob.account, "hello Bob")
    await bob.wait_for_text("hello Bob")
    await bob.send(alice.account, "hello Alice")
    await alice.wait_for_text("hello Alice")
    await alice.send(bob.account_lid, "by LID")
    message = await bob.wait_for_text("by LID")
    assert message["key"]["remoteJid"] == alice.account_lid
    await bob.send(message["key"]["remoteJid"], "and back")
    await alice.wait_for_text("and back")
    await settled(alice, bob)
    assert bob.texts() == ["hello Bob", "by LID"]
    assert alice.texts() == ["hello Alice", "and back"]


async def test_sender_sees_delivery_by_the_phone_and_by_the_companion(
    simulator: Simulator, baileys: "Driver"
) -> None:
    """A delivery receipt reaches the sender; without the phone, the companion's own does."""
    alice, bob = await baileys.connect("alice"), await baileys.connect("bob")
    await alice.wait_for_delivery(await alice.send(bob.account, "phone and companion"))
    for account in simulator.accounts:
        account.phone.answers = False
    await alice.wait_for_delivery(await alice.send(bob.account, "companion alone"))


async def test_group_of_three_senders(simulator: Simulator, baileys: "Driver") -> None:
    """Everybody in a group reads everybody, with sender keys, more than one message each."""
    peers = [await baileys.connect(name) for name in ("alice", "bob", "carol")]
    alice, bob, carol = peers
    group = await alice.call("groupCreate", "trio", [bob.account, carol.account])
    for turn in range(2):
        for writer in peers:
            text = f"{writer.name} {turn}"
            await writer.send(group["id"], text)
            for reader in peers:
                if reader is not writer:
                    message = await reader.wait_for_text(text)
                    assert message["key"]["remoteJid"] == group["id"]
                    assert message["key"]["participant"] == writer.account_lid
    phone = simulator.accounts[1].phone
    spoken = [f"{writer.name} {turn}" for turn in range(2) for writer in peers]
    assert [received.text for received in phone.inbox] == spoken
    assert phone.failures == 0


async def test_offline_client_gets_everything_on_return(
    simulator: Simulator, baileys: "Driver"
) -> None:
    """What was sent to an offline client waits, comes in order, once, and is then settled."""
    alice, bob = await baileys.connect("alice"), await baileys.connect("bob")
    await alice.send(bob.account, "before")
    await bob.wait_for_text("before")
    await bob.disconnect()
    texts = [f"while away {number}" for number in range(3)]
    for text in texts:
        await alice.send(bob.account, text)
    device = simulator.accounts[1].companions[0]
    await bob.reconnect()
    for text in texts:
        await bob.wait_for_text(text)
    await settled(bob)
    assert bob.texts() == ["before", *texts]
    records = simulator.ledger.records(device.pn)
    assert [record.offered for record in records] == [1, 1, 1, 1]
    assert simulator.ledger.unacknowledged(device.pn) == ()
    assert all(simulator.ledger.text(record) is not None for record in records)


async def test_unreadable_message_is_asked_for_again(
    simulator: Simulator, baileys: "Driver"
) -> None:
    """A corrupted ciphertext makes the receiver ask and the sender encrypt anew, in groups, too."""
    alice, bob = await baileys.connect("alice"), await baileys.connect("bob")
    await alice.send(bob.account, "readable")
    await bob.wait_for_text("readable")
    device = simulator.accounts[1].companions[0]
    simulator.faults.corrupt(device.pn)
    await alice.send(bob.account, "broken on the way")
    await bob.wait_for_text("broken on the way")
    record = simulator.ledger.records(device.pn)[-1]
    assert (record.corrupted, record.resent) == (1, 1)
    group = await alice.call("groupCreate", "pair", [bob.account])
    simulator.faults.corrupt(device.pn)
    await alice.send(group["id"], "broken in the group")
    await bob.wait_for_text("broken in the group")
    await alice.send(group["id"], "whole again")
    await bob.wait_for_text("whole again")


async def test_simulated_phone_writes_to_real_clients(
    simulator: Simulator, baileys: "Driver"
) -> None:
    """A handset's messages, one-to-one and in a group, are read by a real client."""
    bob = await baileys.connect("bob")
    carol = simulator.create_account("carol")
    await carol.phone.send_text(bob.account, "from a handset")
    message = await bob.wait_for_text("from a handset")
    assert message["key"]["remoteJid"] == str(carol.pn)
    await carol.phone.send_text(bob.account, "and another")
    await bob.wait_for_text("and another")
    group = simulator.create_group("handsets", [carol, simulator.accounts[0]])
    await carol.phone.send_group_text(group.jid, "to the group")
    await bob.wait_for_text("to the group")
    await bob.send(str(group.jid), "from the group")
    await bob.wait_for_delivery(await bob.send(str(carol.pn), "answer"))
    assert [received.text for received in carol.phone.inbox] == ["from the group", "answer"]


async def test_phone_answers_a_real_clients_retry(simulator: Simulator, baileys: "Driver") -> None:
    """A handset encrypts anew what a real client could not read, also in a group."""
    bob = await baileys.connect("bob")
    carol = simulator.create_account("carol")
    await carol.phone.send_text(bob.account, "readable")
    await bob.wait_for_text("readable")
    group = simulator.create_group("handsets", [carol, simulator.accounts[0]])
    for send, to in (
        (carol.phone.send_text, bob.account),
        (carol.phone.send_group_text, group.jid),
    ):
        simulator.faults.corrupt()
        await send(to, f"broken for {to}")
        await bob.wait_for_text(f"broken for {to}")


async def test_own_handset_and_second_companion_share_a_chat(
    simulator: Simulator, baileys: "Driver"
) -> None:
    """What the own phone, or another companion, writes shows up as sent by oneself."""
    desk = await baileys.connect("desk", phone="15550001111")
    bob = await baileys.connect("bob")
    account = simulator.accounts[0]
    await bob.send(desk.account, "to one device")
    await desk.wait_for_text("to one device")
    await account.phone.send_text(bob.account, "from the own phone")
    await bob.wait_for_text("from the own phone")
    await desk.wait_for(lambda _: own(desk, "from the own phone"))
    laptop = await baileys.connect("laptop", phone="15550001111")
    assert (laptop.account, laptop.jid) == (desk.account, "15550001111:2@s.whatsapp.net")
    await bob.send(desk.account, "to both devices")
    await desk.wait_for_text("to both devices")
    await laptop.wait_for_text("to both devices")
    await laptop.send(bob.account, "from the laptop")
    await desk.wait_for(lambda _: own(desk, "from the laptop"))


def own(peer: "Peer", text: str) -> bool:
    """Whether the client shows a message with this text as its own."""
    return text in peer.texts(from_me=True)


async def test_endings_on_command(simulator: Simulator, baileys: "Driver") -> None:
    """Endings on command reach a real client as the codes it knows."""
    alice = await baileys.connect("alice")
    for ending, code in (("503", 503), ("conflict", 440), ("removed", 401), ("401", 401)):
        assert await simulator.end(ending) == 1
        await alice.wait_for(closed_with(code))
        await alice.reconnect()


def closed_with(code: int) -> t.Callable[[t.Mapping[str, t.Any]], bool]:
    """Accepts the report that the connection was closed with this code."""
    return lambda event: event["event"] == "connection" and event["data"].get("code") == code


async def test_many_clients_at_once(simulator: Simulator, baileys: "Driver") -> None:
    """Clients that pair at the same moment all get through the restart after pairing."""
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(baileys.connect, f"client {number}")
    assert simulator.stats()["devices"] == 8
