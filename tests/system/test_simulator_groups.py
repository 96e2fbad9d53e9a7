"""Groups in the simulator: what members may do, and what all are told."""

import collections.abc as cabc

import pytest
import trio
from scripted_companion import wall_clock
from simulator_cast import Cast, arrived, gather, of_type
from trio.testing import MockClock

from simulator import Group, Settings, Simulator, SimulatorError, open_simulator
from whatsapp import notifications
from whatsapp.iq import groups as group_iqs
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


@pytest.fixture
async def group(cast: Cast) -> Group:
    """A group made by Ana, with the desk and Rui."""
    return await cast.ana.phone.create_group("team", cast.desk_account, cast.rui)


async def events(cast: Cast) -> list[notifications.GroupEvent]:
    """What the desk was told of groups since the last time."""
    told = await arrived(cast.desk, "notification", of_type("w:gp2"))
    return [event for node in told for event in notifications.parse_group_events(node)]


async def test_creation_is_told(autojump_clock: MockClock, cast: Cast, group: Group) -> None:
    """Every member's devices, phones too, get the description of a new group."""
    (event,) = await events(cast)
    assert (event.action, event.actor) == ("create", cast.ana.lid)
    assert event.snapshot is not None
    assert event.snapshot.subject == "team"
    assert {p.jid: p.role for p in event.snapshot.participants} == {
        cast.ana.lid: "superadmin",
        cast.desk_account.lid: None,
        cast.rui.lid: None,
    }
    assert len(cast.rui.phone.notifications) == 1


async def test_members_come_and_go(autojump_clock: MockClock, cast: Cast, group: Group) -> None:
    """Each change is told with who did it and to whom; who goes is told for the last time."""
    ana, rui, eva = cast.ana.phone, cast.rui.phone, cast.eva
    await events(cast)
    assert await rui.add_to_group(group, eva) == {eva.lid: 200}
    assert await rui.add_to_group(group, eva, Jid("1", "lid")) == {
        eva.lid: 409,
        Jid("1", "lid"): 404,
    }
    assert [n.children[0].tag for n in eva.phone.notifications] == ["create", "add"]
    await ana.promote_in_group(group, eva)
    await ana.demote_in_group(group, eva)
    await ana.remove_from_group(group, eva)
    await rui.leave_group(group)
    told = await events(cast)
    assert [event.action for event in told] == ["add", "promote", "demote", "remove", "leave"]
    assert [event.actor for event in told] == [cast.rui.lid, *[cast.ana.lid] * 3, cast.rui.lid]
    assert [event.people[0].alt for event in told] == [*[eva.pn] * 4, cast.rui.pn]
    assert eva.phone.notifications[-1].children[0].tag == "remove"
    assert set(group.members) == {cast.ana.lid, cast.desk_account.lid}
    await ana.remove_from_group(group, cast.desk_account)
    assert [event.action for event in await events(cast)] == ["remove"]
    await ana.set_group_subject(group, "without the desk")
    assert await events(cast) == []


async def test_settings_are_told(autojump_clock: MockClock, cast: Cast, group: Group) -> None:
    """Every setting reaches the members, and the description of the group from then on."""
    ana = cast.ana.phone
    await events(cast)
    await ana.set_group_subject(group, "the team")
    await ana.set_group_description(group, "who we are")
    await ana.set_group_announce(group)
    await ana.set_group_locked(group)
    await ana.set_group_expiration(group, 86400)
    await ana.set_group_adding(group, everybody=False)
    await ana.set_group_approval(group)
    await ana.group_invitation(group, reset=True)
    told = await events(cast)
    assert [(e.action, e.text, e.switch, e.expiration) for e in told[:5]] == [
        ("subject", "the team", None, None),
        ("description", "who we are", None, None),
        ("announce", None, True, None),
        ("locked", None, True, None),
        ("ephemeral", None, None, 86400),
    ]
    assert [event.action for event in told[5:]] == [
        "member_add_mode",
        "membership_approval_mode",
        "invite",
    ]
    answer = await cast.desk.ask(group_iqs.group_request, group.jid)
    known = group_iqs.parse_group_response(answer)
    assert (known.subject, known.description) == ("the team", "who we are")
    assert (known.announce, known.locked, known.expiration) == (True, True, 86400)
    await ana.set_group_description(group, None)
    await ana.set_group_announce(group, on=False)
    await ana.set_group_expiration(group, 0)
    answer = await cast.desk.ask(group_iqs.groups_request)
    (known,) = group_iqs.parse_groups_response(answer)
    assert (known.description, known.announce, known.expiration) == (None, False, 0)


async def test_only_administrators_may(autojump_clock: MockClock, cast: Cast, group: Group) -> None:
    """Members without rights, and strangers, are refused."""
    rui, eva = cast.rui.phone, cast.eva.phone
    for refused in (
        rui.remove_from_group(group, cast.ana),
        rui.promote_in_group(group, cast.rui),
        rui.set_group_announce(group),
        rui.group_invitation(group),
        eva.set_group_subject(group, "mine"),
        eva.leave_group(group),
    ):
        with pytest.raises(SimulatorError, match="40"):
            await refused
    await rui.set_group_subject(group, "allowed")
    await cast.ana.phone.set_group_locked(group)
    with pytest.raises(SimulatorError, match="403"):
        await rui.set_group_subject(group, "not any more")
    with pytest.raises(SimulatorError, match="406"):
        await cast.ana.phone.set_group_subject(group, "x" * 101)


async def test_invitations(autojump_clock: MockClock, cast: Cast, group: Group) -> None:
    """A code lets people in, at once or after an administrator's word; a reset voids it."""
    ana, eva = cast.ana.phone, cast.eva.phone
    cast.eva.may_be_added = False
    assert await ana.add_to_group(group, cast.eva) == {cast.eva.lid: 403}
    code = await ana.group_invitation(group)
    await ana.set_group_approval(group)
    assert not await eva.join_group(code)
    assert ana.notifications[-1].children[0].tag == "created_membership_requests"
    await ana.approve_in_group(group, cast.eva)
    assert cast.eva.lid in group.members
    await eva.leave_group(group)
    await ana.set_group_approval(group, on=False)
    assert await eva.join_group(code)
    await eva.leave_group(group)
    await ana.group_invitation(group, reset=True)
    with pytest.raises(SimulatorError, match="404"):
        await eva.join_group(code)


async def test_companion_changes_groups(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast
) -> None:
    """A companion's own requests do the same, and what it may not ask is refused."""

    def create(iq_id: str) -> Node:
        people = (Node("participant", {"jid": cast.rui.pn}),)
        made = Node("create", {"subject": "from the desk", "key": "k"}, people)
        attributes = {"id": iq_id, "type": "set", "xmlns": "w:g2", "to": group_iqs.GROUPS_JID}
        return Node("iq", attributes, (made,))

    made = (await cast.desk.ask(create)).required_child("group")
    jid = Jid(made.required_text("id"), "g.us")
    assert set(simulator.world.group(jid).members) == {cast.desk_account.lid, cast.rui.lid}

    def odd(iq_id: str) -> Node:
        attributes = {"id": iq_id, "type": "set", "xmlns": "w:g2", "to": jid}
        return Node("iq", attributes, (Node("fly"),))

    refused = await cast.desk.ask(odd)
    assert refused.required_child("error").text("code") == "501"


async def test_group_addressed_by_number(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast
) -> None:
    """In an older group everybody is named by number, and still read by everybody."""
    group = simulator.create_group("old", [cast.ana, cast.desk_account], lid_addressing=False)
    (event,) = await events(cast)
    assert event.snapshot is not None
    assert not event.snapshot.lid_addressing
    assert [p.jid for p in event.snapshot.participants] == [cast.ana.pn, cast.desk_account.pn]
    await cast.ana.phone.send_group_text(group.jid, "by number")
    node = await cast.desk.next_message()
    message = cast.desk.parse(node)
    assert (message.sender, message.sender_alt) == (cast.ana.pn, cast.ana.lid)
    assert cast.desk.decrypt(node).text == "by number"
