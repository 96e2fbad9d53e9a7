"""Devices and identities in the simulator: companions go, phones are replaced, sockets die."""

import collections.abc as cabc

import httpx
import pytest
import trio
import trio.testing
from scripted_companion import Companion, wall_clock
from simulator_cast import Cast, arrived, gather, linked, of_type
from trio.testing import MockClock

from simulator import Settings, Simulator, UnknownNameError, open_simulator
from simulator.faults import Unheard
from whatsapp import notifications
from whatsapp.iq import ping, usync
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


async def devices_of(companion: Companion, *accounts: Jid) -> list[usync.DeviceList]:
    """Ask for device lists."""
    answer = await companion.ask(usync.devices_request, "sid", accounts)
    return list(usync.parse_devices_response(answer))


async def test_contacts_hear_of_devices(
    autojump_clock: MockClock, simulator: Simulator, nursery: trio.Nursery, cast: Cast
) -> None:
    """Who asked for a list, or got a message, is told when a device comes or goes."""
    (listed,) = await devices_of(cast.desk, cast.ana.lid)
    assert (listed.devices, listed.lid) == ((0,), cast.ana.lid)
    await cast.rui.phone.send_text(cast.desk_account.pn, "hello")
    for person in (cast.ana, cast.rui):
        laptop = await linked(simulator, nursery, f"{person.name}'s laptop", person.name)
        told = await arrived(cast.desk, "notification", of_type("devices"))
        assert [node.children[0].tag for node in told] == ["add", "add"]
        change = notifications.parse_devices_changed(told[0])
        assert change is not None
        assert (change.account, change.lid) == (person.pn, person.lid)
        await person.phone.unlink(laptop.jid)
        told = await arrived(cast.desk, "notification", of_type("devices"))
        assert [node.children[0].tag for node in told] == ["remove", "remove"]
    assert [listed.devices for listed in await devices_of(cast.desk, cast.ana.pn)] == [(0,)]


async def test_own_devices_hear_of_each_other(
    autojump_clock: MockClock, simulator: Simulator, nursery: trio.Nursery, cast: Cast
) -> None:
    """Other companions are told the whole list, after a removal, too."""
    laptop = await linked(simulator, nursery, "laptop", "desk")
    (told,) = await arrived(cast.desk, "notification", of_type("account_sync"))
    change = notifications.parse_devices_changed(told)
    assert change is not None
    assert change.devices == (0, 1, 2)
    await cast.desk_account.phone.unlink(2)
    (told,) = await arrived(cast.desk, "notification", of_type("account_sync"))
    change = notifications.parse_devices_changed(told)
    assert change is not None
    assert change.devices == (0, 1)
    assert laptop.ended.is_set()


async def test_phone_unlinks_its_companion(autojump_clock: MockClock, cast: Cast) -> None:
    """An unlinked companion is told why its connection ends, and cannot come back."""
    await cast.desk_account.phone.unlink(cast.desk.jid)
    last = cast.desk.nodes[-1]
    assert (last.tag, last.text("code")) == ("stream:error", "401")
    assert last.required_child("conflict").text("type") == "device_removed"
    await cast.desk.connect()
    await cast.desk.ended.wait()
    assert cast.desk.nodes[-1].text("reason") == "401"
    for nobody in (7, cast.ana.pn, cast.desk_account.devices[0]):
        with pytest.raises(UnknownNameError):
            await cast.desk_account.phone.unlink(nobody)


async def test_companion_unlinks_only_itself(
    autojump_clock: MockClock, simulator: Simulator, nursery: trio.Nursery, cast: Cast
) -> None:
    """Logging out another companion is the phone's business."""
    laptop = await linked(simulator, nursery, "laptop", "desk")

    def remove(jid: Jid) -> cabc.Callable[[str], Node]:
        order = Node("remove-companion-device", {"jid": jid, "reason": "user_initiated"})
        return lambda iq_id: Node("iq", {"id": iq_id, "type": "set", "xmlns": "md"}, (order,))

    refused = await cast.desk.ask(remove(laptop.jid))
    assert refused.required_child("error").text("code") == "403"
    assert (await laptop.ask(remove(laptop.jid))).text("type") == "result"
    await laptop.ended.wait()
    assert [device.number for device in cast.desk_account.companions] == [1]


async def test_reinstalled_phone_has_another_identity(
    autojump_clock: MockClock, simulator: Simulator, nursery: trio.Nursery, cast: Cast
) -> None:
    """Contacts are told, old sessions are void, companions are gone, and messages go on."""
    group = simulator.create_group("team", [cast.ana, cast.desk_account, cast.rui])
    laptop = await linked(simulator, nursery, "Ana's laptop", "Ana")
    await cast.ana.phone.send_text(cast.desk_account.pn, "before")
    await cast.rui.phone.send_group_text(group.jid, "before")
    for _ in range(2):
        cast.desk.decrypt(await cast.desk.next_message())
    before = cast.ana.devices[0].keys.identity
    await cast.ana.reinstall()
    assert laptop.ended.is_set()
    assert cast.ana.devices[0].keys.identity != before
    (told,) = await arrived(cast.desk, "notification", of_type("encrypt"))
    changed = notifications.parse_identity_changed(told)
    assert changed is not None
    assert changed.account == cast.ana.pn
    await cast.ana.phone.send_text(cast.desk_account.pn, "after")
    assert cast.desk.decrypt(await cast.desk.next_message()).text == "after"
    await cast.rui.phone.send_group_text(group.jid, "after")
    assert cast.desk.decrypt(await cast.desk.next_message()).text == "after"
    assert [r.text for r in cast.ana.phone.inbox if r.chat == group.jid] == ["before", "after"]
    assert cast.ana.phone.failures == 0


async def test_phones_write_for_the_new_identity(autojump_clock: MockClock, cast: Cast) -> None:
    """Other phones notice at once that a number was registered anew."""
    await cast.ana.phone.send_text(cast.rui.pn, "before")
    await cast.ana.reinstall()
    await cast.rui.phone.send_text(cast.ana.pn, "answer")
    assert cast.ana.phone.inbox[-1].text == "answer"


async def test_numbers_are_looked_up(autojump_clock: MockClock, cast: Cast) -> None:
    """Known numbers are in and have an address; others are out."""
    numbers = [cast.ana.pn.user, "15559999999"]
    answer = await cast.desk.ask(usync.numbers_request, "sid", numbers)
    known, unknown = usync.parse_numbers_response(answer, numbers)
    assert (known.jid, known.lid) == (cast.ana.pn, cast.ana.lid)
    assert (unknown.jid, unknown.lid) == (None, None)


async def test_half_open_connection(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast
) -> None:
    """The client's writes are taken and lost, nothing comes; a new connection gets it all."""
    assert simulator.half_open(cast.desk_account.pn) == 1
    await cast.ana.phone.send_text(cast.desk_account.pn, "lost?")
    with pytest.raises(trio.TooSlowError):
        await cast.desk.ask(ping.ping_request)
    assert not cast.desk.ended.is_set()
    assert cast.desk.messages() == []
    older = cast.desk.ended
    await cast.desk.log_in()
    assert cast.desk.decrypt(await cast.desk.next_message()).text == "lost?"
    assert not older.is_set()  # nobody ever ends it from this side
    await cast.ana.phone.send_text(cast.desk_account.pn, "and on")
    assert cast.desk.decrypt(await cast.desk.next_message()).text == "and on"
    assert await simulator.end("503", cast.desk_account.pn) == 1
    await cast.desk.ended.wait()


@pytest.mark.parametrize("unheard", ["everything", "messages"])
async def test_deaf_connection(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast, unheard: Unheard
) -> None:
    """Pings are answered, but nothing (or no message) comes; a new connection gets it all."""
    assert simulator.deafen(cast.desk_account.pn, unheard) == 1
    await cast.ana.phone.send_text(cast.desk_account.pn, "unheard")
    assert (await cast.desk.ask(ping.ping_request)).text("type") == "result"
    simulator.world.notify(cast.desk_account.companions[0], "test", cast.ana.pn)
    told = await arrived(cast.desk, "notification", of_type("test"))
    assert len(told) == (unheard == "messages")
    assert cast.desk.messages() == []
    await cast.desk.log_in()
    assert cast.desk.decrypt(await cast.desk.next_message()).text == "unheard"
    await cast.ana.phone.send_text(cast.desk_account.pn, "heard")
    assert cast.desk.decrypt(await cast.desk.next_message()).text == "heard"


async def test_queue_that_stands_still(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast
) -> None:
    """It is announced, and does not come; another connection gets it."""
    simulator.drop(cast.desk_account.pn)
    await cast.desk.ended.wait()
    await cast.ana.phone.send_text(cast.desk_account.pn, "announced")
    simulator.faults.mute_queues(cast.desk_account.pn)
    with pytest.raises(trio.TooSlowError):
        await cast.desk.log_in()  # waits for the end of the queue
    assert cast.desk.messages() == []
    await cast.desk.log_in()
    assert cast.desk.decrypt(await cast.desk.next_message()).text == "announced"


async def test_half_open_over_http() -> None:
    """A script can order it, too."""
    with trio.fail_after(30):
        async with open_simulator(seed=1, listen=("127.0.0.1", 0)) as simulator:
            async with httpx.AsyncClient(base_url=simulator.http_url) as client:
                answer = await client.post("/admin/fault", json={"fault": "half_open"})
            assert answer.json() == {"fault": "half_open", "struck": 0}
