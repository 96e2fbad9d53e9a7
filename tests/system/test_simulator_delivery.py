"""What the simulator owes, offers and forgets: a scripted companion, in virtual time."""

import collections.abc as cabc

import pytest
import trio
import trio.testing
from scripted_companion import NOW, Companion, wall_clock
from trio.testing import MockClock

from simulator import Account, Settings, Simulator, open_simulator
from simulator.faults import ENDINGS
from simulator.transport import MemoryTransport
from whatsapp import lifecycle
from whatsapp.errors import DecryptionError, DuplicateMessageError
from whatsapp.iq import ping
from whatsapp.iq import prekeys as prekey_iqs
from whatsapp.jid import Jid
from whatsapp.node import Node


@pytest.fixture
async def simulator(autojump_clock: MockClock) -> cabc.AsyncIterator[Simulator]:
    """A simulator in memory whose clock is the test's."""
    async with open_simulator(
        seed=1, now=wall_clock(), settings=Settings(history=False)
    ) as running:
        yield running


@pytest.fixture
async def desk(simulator: Simulator, nursery: trio.Nursery) -> Companion:
    """A paired companion of the account "desk" that is online."""
    companion = Companion(simulator, nursery, "desk")
    await companion.pair("desk")
    await companion.log_in()
    return companion


@pytest.fixture
def customer(simulator: Simulator) -> Account:
    """Somebody who writes to the desk."""
    return simulator.create_account("customer")


@pytest.fixture
def desk_account(simulator: Simulator, desk: Companion) -> Account:
    """The account behind the desk."""
    return simulator.world.account(desk.jid)


def with_id(stanza_id: str) -> cabc.Callable[[Node], bool]:
    """Accepts the stanza of that id."""
    return lambda node: node.text("id") == stanza_id


@pytest.mark.parametrize("fault", ["none", "miscount", "lose_queued", "no_end_marker"])
async def test_the_offline_queue_is_announced(
    autojump_clock: MockClock,
    simulator: Simulator,
    desk: Companion,
    customer: Account,
    desk_account: Account,
    fault: str,
) -> None:
    """What waits, then the stanzas, then that this was all; and how each of these goes wrong."""
    await desk.disconnect()
    for number in range(3):
        await customer.phone.send_text(desk_account.pn, f"text {number}")
    faults = simulator.faults
    if fault == "miscount":
        faults.miscount(desk.jid, more=7)
    elif fault == "lose_queued":
        faults.lose_queued(desk.jid, 2)
    elif fault == "no_end_marker":
        faults.withhold_end_marker(desk.jid)
        with pytest.raises(trio.TooSlowError):
            await desk.log_in()
    if fault != "no_end_marker":
        await desk.log_in()
    counts = [
        (child.tag, child.integer("count"))
        for node in desk.nodes
        if node.tag == "ib"
        for child in node.children
    ]
    total = 10 if fault == "miscount" else 3
    ends = [] if fault == "no_end_marker" else [("offline", total)]
    assert counts == [("offline_preview", total), *ends]
    came = [node for node in desk.nodes if node.tag == "message"]
    assert len(came) == (1 if fault == "lose_queued" else 3)
    assert all(node.integer("offline") for node in came)
    lost = simulator.ledger.lost(desk.jid)
    assert len(lost) == 3 - len(came)
    assert len(simulator.ledger.unacknowledged(desk.jid)) == len(came)
    await desk.disconnect()
    await desk.log_in()
    assert len([node for node in desk.nodes if node.tag == "message"]) == len(came)


async def test_a_client_that_leaves_just_then_can_be_told_to_go(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion, desk_account: Account
) -> None:
    """Whatever the moment at which both sides end a connection, nothing breaks here."""
    for ticks in range(120):
        session = desk_account.companions[0].session
        assert session is not None
        assert desk._transport is not None
        desk._transport.abort()
        for _ in range(ticks % 12):
            await trio.lowlevel.checkpoint()
        with trio.fail_after(60):
            await session.end(ENDINGS["503"])
        await desk.log_in()


async def test_pairing_links_a_device(
    autojump_clock: MockClock, simulator: Simulator, nursery: trio.Nursery
) -> None:
    """A scanned companion is the account's first linked device and may log in."""
    companion = Companion(simulator, nursery, "new")
    await companion.pair("Ana")
    (account,) = simulator.accounts
    assert companion.device.jid == account.companions[0].pn
    assert companion.device.lid == account.companions[0].lid
    assert any(
        node.tag == "stream:error" and node.text("code") == "515" for node in companion.nodes
    )
    await companion.log_in()
    assert (await companion.ask(ping.ping_request)).text("type") == "result"


async def test_message_is_delivered_read_and_settled(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion, customer: Account
) -> None:
    """A text arrives with its sender and time; once acknowledged it is never offered again."""
    chosen = await customer.phone.send_text(desk.jid.bare, "olá", timestamp=NOW - 60)
    node = await desk.next_message()
    assert desk.decrypt(node).text == "olá"
    message = desk.parse(node)
    assert (message.id, message.timestamp, message.push_name) == (chosen, NOW - 60, "customer")
    assert (message.chat, message.chat_alt) == (customer.pn, customer.lid)
    assert not message.offline
    await desk.acknowledge(node)
    await trio.testing.wait_all_tasks_blocked()
    (record,) = simulator.ledger.offered(desk.jid)
    assert (record.offered, record.copies, record.duplicates) == (1, 1, 0)
    assert record.acknowledged_at is not None
    await desk.disconnect()
    await desk.log_in()
    assert desk.messages() == []


async def test_unacknowledged_message_comes_again(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion, customer: Account
) -> None:
    """What was offered but not acknowledged comes again after a reconnect, marked offline."""
    await customer.phone.send_text(desk.jid.bare, "again")
    first = await desk.next_message()
    await desk.disconnect()
    await desk.log_in()
    second = await desk.next_message()
    assert desk.parse(second).offline
    assert second.child("enc") == first.child("enc")
    assert desk.decrypt(second).text == "again"
    with pytest.raises(DuplicateMessageError):
        desk.decrypt(first)
    assert len(simulator.ledger.unacknowledged(desk.jid)) == 1
    assert simulator.ledger.duplicates_offered(desk.jid) == 1


async def test_offline_messages_wait_in_order(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion, customer: Account
) -> None:
    """Everything sent meanwhile is announced, delivered in order, and closed by an end mark."""
    await desk.disconnect()
    texts = [f"text {number}" for number in range(20)]
    for text in texts:
        await customer.phone.send_text(desk.jid.bare, text)
    await desk.log_in()
    preview = await desk.wait_for("ib", lambda node: node.child("offline_preview") is not None)
    assert preview.children[0].integer("message") == 20
    assert [desk.decrypt(node).text for node in desk.messages()] == texts
    tags = [node.tag for node in desk.nodes]
    assert tags.index("message") < len(tags) - 1 - tags[::-1].index("ib")


async def test_same_id_from_two_people_is_two_messages(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion, customer: Account
) -> None:
    """Acknowledging one sender's message leaves the other's with the same id owed."""
    other = simulator.create_account("other")
    await customer.phone.send_text(desk.jid.bare, "one", id="SAME")
    await other.phone.send_text(desk.jid.bare, "two", id="SAME")
    first = await desk.next_message()
    await desk.acknowledge(first)
    await trio.testing.wait_all_tasks_blocked()
    (left,) = simulator.ledger.unacknowledged(desk.jid)
    assert left.chat == other.pn


async def test_same_ciphertext_written_twice(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion, customer: Account
) -> None:
    """A repeated stanza is a second copy of one message in the ledger."""
    chosen = await customer.phone.send_text(desk.jid.bare, "twice")
    await customer.phone.repeat(chosen)
    first, second = await desk.next_message(), await desk.next_message()
    assert first == second
    await desk.acknowledge(first)
    await trio.testing.wait_all_tasks_blocked()
    (record,) = simulator.ledger.records(desk.jid)
    assert (record.copies, record.offered, record.duplicates) == (2, 2, 1)


@pytest.mark.parametrize("with_keys", [True, False])
async def test_corrupted_message_is_asked_for_again(
    autojump_clock: MockClock,
    simulator: Simulator,
    desk: Companion,
    customer: Account,
    with_keys: bool,
) -> None:
    """A phone encrypts anew, for a session from the receipt's keys or from the server's."""
    await customer.phone.send_text(desk.jid.bare, "readable")
    desk.decrypt(await desk.next_message())
    simulator.faults.corrupt(desk.jid)
    await customer.phone.send_text(desk.jid.bare, "broken")
    node = await desk.next_message()
    with pytest.raises(DecryptionError):
        desk.decrypt(node)
    await desk.ask_again(node, with_keys=with_keys)
    resent = await desk.next_message()
    assert resent.text("id") == node.text("id")
    assert desk.decrypt(resent).text == "broken"
    record = simulator.ledger.records(desk.jid)[-1]
    assert (record.corrupted, record.resent, record.duplicates) == (1, 1, 0)


async def test_group_text_brings_its_sender_key(
    autojump_clock: MockClock,
    simulator: Simulator,
    desk: Companion,
    desk_account: Account,
    customer: Account,
) -> None:
    """Two members write; the sender key comes with the first message of each only."""
    other = simulator.create_account("other")
    group = simulator.create_group("team", [customer, other, desk_account])
    assert (await desk.wait_for("notification")).children[0].tag == "create"
    for writer in (customer, other, customer):
        await writer.phone.send_group_text(group.jid, f"from {writer.name}")
    nodes = [await desk.next_message() for _ in range(3)]
    assert [len(node.children_named("enc")) for node in nodes] == [2, 2, 1]
    assert [desk.decrypt(node).text for node in nodes] == [
        "from customer",
        "from other",
        "from customer",
    ]
    message = desk.parse(nodes[0])
    assert (message.chat, message.sender) == (group.jid, customer.lid)
    assert [r.text for r in other.phone.inbox] == ["from customer", "from customer"]


async def test_own_phone_writes(
    autojump_clock: MockClock,
    simulator: Simulator,
    desk: Companion,
    desk_account: Account,
    customer: Account,
) -> None:
    """What the own phone sends reaches the companion as sent by itself, in the right chat."""
    await desk_account.phone.send_text(customer.pn, "from the phone")
    node = await desk.next_message()
    message = desk.parse(node)
    assert message.from_me
    assert message.chat == customer.pn
    assert desk.decrypt(node).text == "from the phone"
    assert [received.text for received in customer.phone.inbox] == ["from the phone"]


async def test_new_companion_gets_key_and_history(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A phone greets a companion once, with messages between own devices."""
    async with open_simulator(seed=2, now=wall_clock()) as simulator:
        companion = Companion(simulator, nursery, "new")
        await companion.pair("Ana")
        await companion.log_in()
        peers = [node for node in companion.nodes if node.tag == "message"]
        kinds = [companion.decrypt(node).protocol for node in peers]
        assert len(kinds) == 4
        assert len(set(kinds)) == 2
        for node in peers:
            message = companion.parse(node)
            assert (message.is_peer, message.from_me) == (True, True)
            await companion.acknowledge(node)
        await trio.testing.wait_all_tasks_blocked()
        await companion.disconnect()
        await companion.log_in()
        assert not any(node.tag == "message" for node in companion.nodes)


async def test_duplicates_and_disorder_on_command(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion, customer: Account
) -> None:
    """A stanza is written twice, or overtaken by the next one."""
    simulator.faults.duplicate(desk.jid)
    await customer.phone.send_text(desk.jid.bare, "twice")
    assert await desk.next_message() == await desk.next_message()
    simulator.faults.reorder(desk.jid)
    await customer.phone.send_text(desk.jid.bare, "first")
    await customer.phone.send_text(desk.jid.bare, "second")
    nodes = [await desk.next_message(), await desk.next_message()]
    assert [desk.decrypt(node).text for node in nodes] == ["second", "first"]


async def test_lost_receipt_leaves_the_message_owed(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion, customer: Account
) -> None:
    """A receipt lost on the way makes the server offer the message again."""
    await customer.phone.send_text(desk.jid.bare, "receipt lost")
    simulator.faults.lose_acks(desk.jid)
    await desk.acknowledge(await desk.next_message())
    await desk.disconnect()
    await desk.log_in()
    await desk.acknowledge(await desk.next_message())
    await trio.testing.wait_all_tasks_blocked()
    assert simulator.ledger.unacknowledged(desk.jid) == ()


async def test_stalled_connection_is_open_but_silent(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion, customer: Account
) -> None:
    """Pings go unanswered and messages stay away until the stall ends."""
    simulator.faults.stall(desk.jid)
    await customer.phone.send_text(desk.jid.bare, "later")
    with pytest.raises(trio.TooSlowError):
        await desk.ask(ping.ping_request)
    assert not desk.ended.is_set()
    simulator.faults.stall(desk.jid, on=False)
    assert desk.decrypt(await desk.next_message()).text == "later"


@pytest.mark.parametrize("name", ENDINGS)
async def test_endings_end_a_live_connection(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion, name: str
) -> None:
    """Every ending closes the connection after a stanza that says why."""
    assert await simulator.end(name, desk.jid.bare) == 1
    await desk.ended.wait()
    assert lifecycle.parse_end(desk.nodes[-1]) is not None


async def test_refused_login(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion
) -> None:
    """A login can fail on command, once."""
    await desk.disconnect()
    simulator.faults.fail_login("405", desk.jid)
    await desk.connect()
    await desk.ended.wait()
    assert desk.nodes[-1].text("reason") == "405"
    await desk.log_in()


async def test_second_connection_replaces_the_first(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion
) -> None:
    """The same credentials connecting again end the older connection as a conflict."""
    older = desk.nodes
    await desk.connect()
    await desk.wait_for("success")
    assert older[-1].child("conflict") is not None


async def test_unlinked_device_is_refused(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion
) -> None:
    """Logging out is answered, ends the connection, and makes later logins fail with 401."""
    unlink = Node("remove-companion-device", {"jid": desk.jid, "reason": "user_initiated"})

    def logout(iq_id: str) -> Node:
        return Node("iq", {"id": iq_id, "type": "set", "xmlns": "md"}, (unlink,))

    assert (await desk.ask(logout)).text("type") == "result"
    await desk.ended.wait()
    await desk.connect()
    await desk.ended.wait()
    assert desk.nodes[-1].text("reason") == "401"


async def test_badly_signed_prekey_is_refused(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion
) -> None:
    """The key service checks the signature of an uploaded signed prekey."""
    signature = bytes(64)

    def upload(iq_id: str) -> Node:
        good = prekey_iqs.upload_request(iq_id, desk.device, ())
        skey = good.required_child("skey")
        bad = Node("skey", {}, (*skey.children[:2], Node("signature", {}, signature)))
        return Node("iq", good.attrs, (*good.children[:-1], bad))

    assert (await desk.ask(upload)).text("type") == "error"


async def test_one_time_prekeys_are_handed_out_once(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion, desk_account: Account
) -> None:
    """Every new writer takes another one; the device hears when few are left, and may run out."""
    for number in range(22):
        writer = simulator.create_account(f"writer {number}")
        await writer.phone.send_text(desk.jid.bare, f"text {number}")
        assert desk.decrypt(await desk.next_message()).text == f"text {number}"
    assert desk.prekeys == {}
    low = [n for n in desk.nodes if n.tag == "notification" and n.text("type") == "encrypt"]
    assert [prekey_iqs.parse_low_notification(node) for node in low] == [4, 0]


async def test_unknown_requests_are_answered(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion
) -> None:
    """Nothing is left without an answer."""

    def odd(iq_id: str) -> Node:
        return Node("iq", {"id": iq_id, "type": "get", "xmlns": "w:odd"})

    answer = await desk.ask(odd)
    assert answer.required_child("error").text("code") == "501"


async def test_broken_messages_are_refused_not_fatal(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion
) -> None:
    """A message that cannot be routed is answered with an error; the connection goes on."""
    nobody = Jid("15559999999", "s.whatsapp.net")
    enc = Node("enc", {"v": 2, "type": "msg"}, b"x")
    for node, code in (
        (Node("message", {"id": "A"}, (enc,)), "479"),
        (Node("message", {"id": "B", "to": nobody}), "479"),
        (Node("message", {"id": "C", "to": nobody}, (enc,)), "404"),
    ):
        await desk.send(node)
        ack = await desk.wait_for("ack", with_id(node.required_text("id")))
        assert ack.text("error") == code
    assert (await desk.ask(ping.ping_request)).text("type") == "result"


async def test_nonsense_reaches_phones_unharmed(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion, customer: Account
) -> None:
    """A phone counts what it cannot read and asks for it again; nothing else happens."""
    for kind, body in (("msg", b""), ("pkmsg", b"3nonsense"), ("skmsg", bytes(99)), ("odd", b"")):
        enc = Node("enc", {"v": 2, "type": kind}, body)
        await desk.send(Node("message", {"id": kind, "to": customer.pn}, (enc,)))
        receipt = await desk.wait_for("receipt", with_id(kind))
        assert receipt.text("type") == "retry"
    assert customer.phone.failures == 4
    await desk.send(Node("receipt", {"id": "x", "to": customer.pn, "type": "retry"}))
    await desk.send(Node("receipt", {"id": "x", "to": Jid("1", "lid"), "type": "retry"}))
    assert (await desk.ask(ping.ping_request)).text("type") == "result"


async def test_broken_frame_ends_only_its_connection(
    autojump_clock: MockClock, simulator: Simulator, desk: Companion, customer: Account
) -> None:
    """A frame that does not decrypt ends the connection; what was owed comes with the next."""
    await customer.phone.send_text(desk.jid.bare, "still there")
    await desk.send_bytes(b"\0\0\x11" + bytes(17))
    await desk.ended.wait()
    await desk.log_in()
    assert desk.decrypt(await desk.next_message()).text == "still there"


async def test_endings_do_not_need_a_handshake(
    autojump_clock: MockClock, simulator: Simulator
) -> None:
    """A connection that has said nothing yet is simply closed."""
    transport = await simulator.connect()
    await trio.testing.wait_all_tasks_blocked()
    assert await simulator.end("503") == 1
    with pytest.raises(trio.EndOfChannel):
        await transport.receive()


async def test_endings_may_come_too_late(
    autojump_clock: MockClock,
    simulator: Simulator,
    desk: Companion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client that is told to go has just gone, and writing is where this is noticed first."""

    async def refuse(_transport: MemoryTransport, _data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError

    with monkeypatch.context() as patch:
        patch.setattr(MemoryTransport, "send", refuse)
        assert await simulator.end("503", desk.jid) == 1
    await desk.log_in()


async def test_group_of_everyone(
    autojump_clock: MockClock, simulator: Simulator, nursery: trio.Nursery
) -> None:
    """Each new account is a member of the ready-made group, and can be read there."""
    simulator.group_of_everyone("all of us")
    ana, rui = simulator.create_account("Ana"), simulator.create_account("Rui")
    desk = Companion(simulator, nursery, "desk")
    await desk.pair("desk")
    await desk.log_in()
    (group,) = simulator.world.groups.values()
    assert (group.subject, len(group.members)) == ("all of us", 3)
    await ana.phone.send_group_text(group.jid, "olá")
    assert desk.decrypt(await desk.next_message()).text == "olá"
    assert [received.text for received in rui.phone.inbox] == ["olá"]
