"""Notifications and calls as the server sends them."""

import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp.calls import parse_call
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq.groups import Participant, parse_group
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.notifications import (
    DevicesChanged,
    IdentityChanged,
    parse_devices_changed,
    parse_group_events,
    parse_identity_changed,
)

GROUP = Jid.parse("120363000000000001@g.us")
ANNA = Jid.parse("5511900000001@s.whatsapp.net")
ANNA_LID = Jid.parse("900000001@lid")
BRUNO_LID = Jid.parse("900000002@lid")


def group_notification(*children: Node) -> Node:
    attributes: dict[str, t.Any] = {
        "from": GROUP,
        "type": "w:gp2",
        "id": "77",
        "t": 1_790_000_000,
        "participant": ANNA_LID.with_device(3),
        "participant_pn": ANNA,
    }
    return Node("notification", attributes, children)


def participant(jid: Jid, **more: t.Any) -> Node:
    return Node("participant", {"jid": jid, **more})


def test_every_change_of_a_group_is_an_event_in_order() -> None:
    node = group_notification(
        Node("add", {}, (participant(BRUNO_LID, phone_number=ANNA),)),
        Node("promote", {}, (participant(BRUNO_LID),)),
        Node("subject", {"subject": "Novo nome", "s_t": 1}),
        Node("description", {"id": "d"}, (Node("body", {}, "Olá".encode()),)),
        Node("announcement", {"v_id": 1}),
        Node("unlocked"),
        Node("ephemeral", {"expiration": 86400}),
        Node("not_ephemeral"),
        Node("growth_locked"),
    )
    events = parse_group_events(node)
    assert [event.action for event in events] == [
        "add",
        "promote",
        "subject",
        "description",
        "announce",
        "locked",
        "ephemeral",
        "ephemeral",
        "growth_locked",
    ]
    assert [event.index for event in events] == list(range(9))
    assert {event.actor for event in events} == {ANNA_LID}
    assert {event.actor_alt for event in events} == {ANNA}
    assert events[0].people == (Participant(BRUNO_LID, ANNA, None),)
    assert (events[2].text, events[3].text) == ("Novo nome", "Olá")
    assert (events[4].switch, events[5].switch) == (True, False)
    assert (events[6].expiration, events[7].expiration) == (86400, 0)


def test_removing_oneself_is_leaving() -> None:
    [left] = parse_group_events(group_notification(Node("remove", {}, (participant(ANNA_LID),))))
    [removed] = parse_group_events(
        group_notification(Node("remove", {}, (participant(BRUNO_LID),)))
    )
    assert (left.action, removed.action) == ("leave", "remove")


def test_a_new_group_comes_with_all_of_its_metadata() -> None:
    inner = Node(
        "group",
        {"id": GROUP.user, "subject": "Time", "creation": 5, "creator": ANNA_LID},
        (
            participant(ANNA_LID, type="superadmin", phone_number=ANNA),
            participant(BRUNO_LID),
            Node("announcement"),
            Node("locked"),
            Node("ephemeral", {"expiration": 7}),
            Node("description", {"id": "x"}, (Node("body", {}, b"about"),)),
        ),
    )
    [event] = parse_group_events(group_notification(Node("create", {}, (inner,))))
    group = event.snapshot
    assert group is not None
    assert group == parse_group(inner)
    assert (group.announce, group.locked, group.expiration) == (True, True, 7)
    assert (group.description, group.subject) == ("about", "Time")
    assert event.people == group.participants


def test_devices_of_the_own_account_are_told_in_full() -> None:
    devices = tuple(Node("device", {"jid": ANNA.with_device(n)}) for n in (0, 4, 2))
    node = Node(
        "notification",
        {"from": ANNA, "type": "account_sync"},
        (Node("devices", {"dhash": "2:x"}, devices),),
    )
    assert parse_devices_changed(node) == DevicesChanged(ANNA, None, (0, 2, 4))
    other = Node("notification", {"from": ANNA, "type": "account_sync"}, (Node("privacy"),))
    assert parse_devices_changed(other) is None


@pytest.mark.parametrize("tag", ["add", "remove", "update"])
def test_devices_of_others_have_to_be_asked_for(tag: str) -> None:
    node = Node(
        "notification", {"from": ANNA, "type": "devices", "lid": ANNA_LID}, (Node(tag, {}),)
    )
    assert parse_devices_changed(node) == DevicesChanged(ANNA, ANNA_LID, None)


def test_a_new_identity() -> None:
    node = Node("notification", {"from": ANNA, "type": "encrypt"}, (Node("identity"),))
    assert parse_identity_changed(node) == IdentityChanged(ANNA)
    count = Node("notification", {"from": ANNA, "type": "encrypt"}, (Node("count"),))
    assert parse_identity_changed(count) is None


def call(child: Node) -> Node:
    return Node("call", {"from": ANNA_LID, "id": "1", "t": 9, "notify": "Anna"}, (child,))


def test_calls() -> None:
    offer = Node(
        "offer",
        {"call-id": "C", "call-creator": ANNA_LID.with_device(2), "caller_pn": ANNA},
        (Node("audio"), Node("video")),
    )
    event = parse_call(call(offer))
    assert event is not None
    assert (event.event, event.call_id, event.video, event.at) == ("offer", "C", True, 9)
    assert (event.caller, event.caller_alt, event.push_name) == (ANNA_LID, ANNA, "Anna")
    ended = parse_call(call(Node("terminate", {"call-id": "C", "reason": "timeout"})))
    assert ended is not None
    assert (ended.event, ended.reason, ended.video) == ("terminate", "timeout", False)
    assert parse_call(call(Node("relaylatency", {"call-id": "C"}))) is None


values = st.one_of(st.text(max_size=12), st.sampled_from([ANNA, GROUP, "1", "-1", "x@y"]))
names = st.sampled_from(
    ["from", "id", "t", "jid", "participant", "subject", "expiration", "call-id", "call-creator"]
)
tags = st.sampled_from(
    [
        "create",
        "group",
        "add",
        "participant",
        "subject",
        "description",
        "body",
        "ephemeral",
        "devices",
        "device",
        "identity",
        "offer",
        "terminate",
        "update",
    ]
)
trees = st.recursive(
    st.builds(Node, tags, st.dictionaries(names, values, max_size=4), st.binary(max_size=8)),
    lambda inner: st.builds(
        Node,
        tags,
        st.dictionaries(names, values, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(tree=trees, kind=st.sampled_from(["w:gp2", "devices", "account_sync", "encrypt"]))
def test_anything_else_is_one_kind_of_error(tree: Node, kind: str) -> None:
    attributes = {"from": GROUP, "id": "1", **tree.attrs, "type": kind}
    node = Node("notification", attributes, tree.content)
    for parse in (parse_group_events, parse_devices_changed, parse_identity_changed, parse_call):
        try:
            parse(node)
        except RemoteProtocolError:
            continue
