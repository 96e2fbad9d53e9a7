"""Who hears of what in the simulator: receipts, presence, typing, calls."""

import collections.abc as cabc

import pytest
import trio
import trio.testing
from scripted_companion import Companion, wall_clock
from simulator_cast import Cast, arrived, gather, linked, of_type
from trio.testing import MockClock

from simulator import Settings, Simulator, SimulatorError, open_simulator, receipts
from whatsapp import calls
from whatsapp.jid import Jid
from whatsapp.node import Node


@pytest.fixture
async def simulator(autojump_clock: MockClock) -> cabc.AsyncIterator[Simulator]:
    """A simulator in memory whose clock is the test's."""
    settings = Settings(history=False)
    async with open_simulator(seed=1, now=wall_clock(), settings=settings) as running:
        yield running


@pytest.fixture
async def cast(simulator: Simulator, nursery: trio.Nursery) -> Cast:
    """Everybody, paired and online."""
    return await gather(simulator, nursery)


async def test_reading_is_told_to_author_and_own_devices(
    autojump_clock: MockClock, simulator: Simulator, nursery: trio.Nursery, cast: Cast
) -> None:
    """A read receipt reaches the author's devices and the own ones; a quiet one only these."""
    phone = cast.desk_account.phone
    ana = await linked(simulator, nursery, "Ana's laptop", "Ana")
    first = await cast.ana.phone.send_text(cast.desk_account.pn, "one")
    second = await cast.ana.phone.send_text(cast.desk_account.pn, "two")
    await arrived(cast.desk, "receipt")
    await phone.read(cast.ana.pn, first, second)
    (told,) = await arrived(ana, "receipt", of_type("read"))
    assert (told.text("id"), told.jid("from")) == (first, cast.desk_account.pn)
    assert [n.text("id") for n in told.required_child("list").children] == [second]
    (own,) = await arrived(cast.desk, "receipt")
    assert (own.jid("from"), own.jid("recipient")) == (cast.desk_account.pn, cast.ana.pn)
    assert [n.text("type") for n in cast.ana.phone.receipts] == [None, None, "read"]
    await phone.play(cast.ana.pn, first, quietly=True)
    assert [n.text("type") for n in await arrived(cast.desk, "receipt")] == ["played-self"]
    assert await arrived(ana, "receipt", of_type("played-self")) == []
    with pytest.raises(SimulatorError, match="no message"):
        await phone.read(cast.ana.pn)


async def test_reading_in_a_group(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast
) -> None:
    """In a group the receipt comes from the group, and tells who read and whose message."""
    group = simulator.create_group("team", [cast.ana, cast.desk_account, cast.rui])
    sent = await cast.ana.phone.send_group_text(group.jid, "hello")
    cast.ana.phone.receipts.clear()
    await cast.desk_account.phone.read(group.jid, sent, author=cast.ana.lid)
    (told,) = cast.ana.phone.receipts
    assert (told.jid("from"), told.jid("participant")) == (group.jid, cast.desk_account.lid)
    (own,) = await arrived(cast.desk, "receipt", of_type("read"))
    assert own.jid("recipient") == cast.ana.lid


async def test_own_devices_confirm_to_the_device_that_wrote(
    autojump_clock: MockClock, cast: Cast
) -> None:
    """What one own device wrote is confirmed by the others to that device, and to nobody else."""
    for device in (cast.desk_account.companions[0], cast.rui.devices[0]):
        told = {"id": "x", "to": device.pn, "recipient": cast.ana.pn, "type": "sender"}
        await cast.desk.send(Node("receipt", told))
    assert await arrived(cast.desk, "receipt", of_type("sender")) == []
    cast.rui.phone.receipts.clear()
    told = {"id": "y", "to": cast.desk_account.pn, "recipient": cast.ana.pn, "type": "sender"}
    await cast.desk.send(Node("receipt", told))
    await trio.testing.wait_all_tasks_blocked()
    (heard,) = cast.desk_account.phone.receipts
    assert (heard.text("id"), heard.jid("from")) == ("y", cast.desk.jid)
    assert heard.jid("recipient") == cast.ana.pn
    assert not cast.rui.phone.receipts


async def test_group_receipts_can_be_aggregated(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """One receipt then tells of several members."""
    settings = Settings(history=False, aggregate_group_receipts=True)
    async with open_simulator(seed=1, now=wall_clock(), settings=settings) as simulator:
        cast = await gather(simulator, nursery)
        group = simulator.create_group("team", [cast.desk_account, cast.ana, cast.rui])
        sent = ["one", "two"]
        for account in (cast.ana, cast.rui):
            for message_id in sent:
                told = {"id": message_id, "to": group.jid, "participant": cast.desk.device.lid}
                receipts.on_receipt(simulator.world, account.devices[0], Node("receipt", told))
        heard = await arrived(cast.desk, "receipt")
        assert [node.text("id") for node in heard] == sent
        for node in heard:
            assert (node.jid("from"), node.jid("participant")) == (group.jid, None)
            users = node.required_child("participants").children_named("user")
            assert [user.jid("jid") for user in users] == [cast.ana.lid, cast.rui.lid]


async def test_presence_is_told_to_who_asked(autojump_clock: MockClock, cast: Cast) -> None:
    """Coming and going is told to subscribers that are connected, and kept for nobody."""
    await cast.ana.phone.come()
    assert await arrived(cast.desk, "presence") == []
    await cast.desk.send(Node("presence", {"type": "subscribe", "to": cast.ana.lid}))
    (now,) = await arrived(cast.desk, "presence")
    assert (now.jid("from"), now.text("type")) == (cast.ana.lid, None)
    await cast.ana.phone.go()
    (then,) = await arrived(cast.desk, "presence")
    assert then.text("type") == "unavailable"
    assert then.integer("last") == int(cast.simulator.world.now())
    await cast.desk.disconnect()
    await cast.ana.phone.come()
    await cast.desk.log_in()
    assert await arrived(cast.desk, "presence") == []


async def test_companion_comes_and_goes_with_its_connection(
    autojump_clock: MockClock, simulator: Simulator, nursery: trio.Nursery, cast: Cast
) -> None:
    """A companion says that it is in use; when its connection ends, it is not."""
    ana = await linked(simulator, nursery, "Ana's laptop", "Ana")
    await cast.desk.send(Node("presence", {"type": "subscribe", "to": cast.ana.pn}))
    await ana.send(Node("presence", {"type": "available", "name": "Ana"}))
    await trio.testing.wait_all_tasks_blocked()
    await ana.disconnect()
    told = await arrived(cast.desk, "presence")
    assert [node.text("type") for node in told] == ["unavailable", None, "unavailable"]
    await ana.log_in()
    for nonsense in (
        Node("presence", {"type": "subscribe", "to": Jid("1", "lid")}),
        Node("presence"),
        Node("chatstate", {"to": Jid("1", "lid")}),
    ):
        await ana.send(nonsense)
    await trio.testing.wait_all_tasks_blocked()
    assert not ana.ended.is_set()


async def test_typing_is_told_to_the_chat(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast
) -> None:
    """Writing, recording and pausing reach the other side of the chat."""
    group = simulator.create_group("team", [cast.ana, cast.desk_account])
    await cast.ana.phone.type_in(cast.desk_account.pn)
    await cast.ana.phone.type_in(cast.desk_account.lid, "recording")
    await cast.ana.phone.type_in(group.jid, "paused")
    told = await arrived(cast.desk, "chatstate")
    assert [(n.jid("from"), n.jid("participant"), n.children[0].tag) for n in told] == [
        (cast.ana.pn, None, "composing"),
        (cast.ana.lid, None, "composing"),
        (group.jid, cast.ana.lid, "paused"),
    ]
    assert told[1].children[0].text("media") == "audio"
    await cast.desk.send(Node("chatstate", {"to": cast.ana.pn}, (Node("composing"),)))
    await trio.testing.wait_all_tasks_blocked()
    assert cast.ana.phone.activity[-1].jid("from") == cast.desk_account.pn


async def heard_calls(companion: Companion) -> list[tuple[str, str | None]]:
    """The steps of calls that came, and why."""
    steps = [calls.parse_call(node) for node in await arrived(companion, "call")]
    return [(step.event, step.reason) for step in steps if step is not None]


async def test_missed_call(autojump_clock: MockClock, cast: Cast) -> None:
    """A call rings on every device, and ends; both wait for an offline companion."""
    call = await cast.ana.phone.call(cast.desk_account.lid, video=True)
    (offer,) = await arrived(cast.desk, "call")
    step = calls.parse_call(offer)
    assert step is not None
    assert (step.call_id, step.caller, step.caller_alt) == (call, cast.ana.lid, cast.ana.pn)
    assert (step.video, step.push_name) == (True, "Ana")
    await cast.desk.disconnect()
    await cast.ana.phone.hang_up(call)
    await cast.desk.log_in()
    told = await arrived(cast.desk, "call")
    assert [node.children[0].tag for node in told] == ["offer", "terminate"]
    for node in told:
        ack = {"class": "call", "id": node.text("id"), "to": node.jid("from")}
        await cast.desk.send(Node("ack", ack))
    await trio.testing.wait_all_tasks_blocked()
    assert not cast.desk_account.companions[0].queue


async def test_call_taken_on_another_device(autojump_clock: MockClock, cast: Cast) -> None:
    """When the phone takes a call, the companions stop ringing."""
    call = await cast.ana.phone.call(cast.desk_account.pn)
    await cast.desk_account.phone.accept_call(call)
    await cast.ana.phone.hang_up(call, "done")
    assert await heard_calls(cast.desk) == [
        ("offer", None),
        ("terminate", "accepted_elsewhere"),
        ("terminate", "done"),
    ]
    assert [node.children[0].tag for node in cast.ana.phone.calls] == ["accept"]


async def test_companion_refuses_a_call(autojump_clock: MockClock, cast: Cast) -> None:
    """A refusal is acknowledged, told to the caller, and stops the phone from ringing."""
    call = await cast.ana.phone.call(cast.desk_account.pn)
    refusal = Node("reject", {"call-id": call, "call-creator": cast.ana.pn, "count": 0})
    await cast.desk.send(Node("call", {"to": cast.ana.pn, "id": "r"}, (refusal,)))
    (ack,) = await arrived(cast.desk, "ack", lambda node: node.text("class") == "call")
    assert ack.text("id") == "r"
    assert [node.children[0].tag for node in cast.ana.phone.calls] == ["reject"]
    told = [node.children[0].text("reason") for node in cast.desk_account.phone.calls]
    assert told == [None, "rejected_elsewhere"]
    with pytest.raises(SimulatorError, match="no call"):
        await cast.ana.phone.hang_up("unknown")


async def test_group_call(autojump_clock: MockClock, simulator: Simulator, cast: Cast) -> None:
    """Everybody in the group is rung."""
    group = simulator.create_group("team", [cast.ana, cast.desk_account, cast.rui])
    call = await cast.ana.phone.call(group.jid)
    (offer,) = await arrived(cast.desk, "call")
    step = calls.parse_call(offer)
    assert step is not None
    assert (step.group, step.caller) == (group.jid, cast.ana.lid)
    await cast.rui.phone.reject_call(call)
    await cast.ana.phone.hang_up(call)
    assert await heard_calls(cast.desk) == [("terminate", "timeout")]
