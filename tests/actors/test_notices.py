"""What receipts, groups and calls leave in the database."""

import typing as t

import attrs
import pytest

from actors.notices import (
    CLOCK_SKEW,
    Calls,
    Moments,
    address_pair,
    asked_snapshot,
    group_facts,
    group_message,
    receipt_facts,
)
from actors.reading import Origin, author_of
from storage.api import Lane
from storage.facts import (
    AddressPair,
    ChatSettings,
    Delivery,
    DeliveryStatus,
    GroupChange,
    GroupMember,
    GroupSnapshot,
)
from whatsapp.calls import CallEvent
from whatsapp.content import TargetKey
from whatsapp.iq.groups import Group, Participant
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.notifications import GroupEvent
from whatsapp.stanzas import parse_receipt

OWN = (Jid.parse("5511955550000@s.whatsapp.net"), Jid.parse("955550000@lid"))
ANNA = Jid.parse("5511900000001@s.whatsapp.net")
ANNA_LID = Jid.parse("900000001@lid")
BRUNO_LID = Jid.parse("900000002@lid")
GROUP = Jid.parse("120363000000000001@g.us")


def receipt(source: Jid, **more: t.Any) -> Node:
    return Node("receipt", {"from": source, "id": "A", "t": 50, **more})


def test_delivered_and_read_by_the_customer() -> None:
    [delivered] = receipt_facts(parse_receipt(receipt(ANNA_LID.with_device(4))), OWN)
    assert delivered == Delivery(
        chat=str(ANNA_LID),
        direct=True,
        ids=("A",),
        recipient=str(ANNA_LID),
        status=DeliveryStatus.DELIVERED,
        at=50,
    )
    [read] = receipt_facts(parse_receipt(receipt(ANNA, type="read")), OWN)
    assert isinstance(read, Delivery)
    assert read.status is DeliveryStatus.READ


def test_group_receipts_count_for_each_member() -> None:
    [one] = receipt_facts(parse_receipt(receipt(GROUP, participant=ANNA_LID, type="played")), OWN)
    assert isinstance(one, Delivery)
    assert (one.chat, one.recipient, one.direct) == (str(GROUP), str(ANNA_LID), False)
    users = (Node("user", {"jid": ANNA_LID, "t": 7}), Node("user", {"jid": BRUNO_LID}))
    crowd = Node(
        "receipt",
        {"from": GROUP, "id": "x", "t": 50, "type": "read"},
        (Node("participants", {"key": "A"}, users),),
    )
    facts = receipt_facts(parse_receipt(crowd), OWN)
    assert [(f.recipient, f.at, f.ids) for f in facts if isinstance(f, Delivery)] == [
        (str(ANNA_LID), 7, ("A",)),
        (str(BRUNO_LID), 50, ("A",)),
    ]


def test_what_the_team_read_on_the_phone_is_a_setting_of_the_chat() -> None:
    node = receipt(OWN[0], type="read", recipient=ANNA)
    assert receipt_facts(parse_receipt(node), OWN) == (
        ChatSettings(chat=str(ANNA), direct=True, at=50, unread=False),
    )
    sender = receipt(OWN[1], type="sender", recipient=ANNA)
    assert receipt_facts(parse_receipt(sender), OWN) == ()
    assert receipt_facts(parse_receipt(receipt(ANNA, type="server-error")), OWN) == ()


def event(action: str, **more: t.Any) -> GroupEvent:
    return GroupEvent(
        group=GROUP, id="9", index=0, at=5, actor=ANNA_LID, actor_alt=ANNA, action=action, **more
    )


def test_a_change_of_members_is_a_fact_and_a_line_in_the_chat() -> None:
    added = event("add", people=(Participant(BRUNO_LID, Jid.parse("55@s.whatsapp.net")),))
    pair, change = group_facts(added, 5)
    assert pair == AddressPair("55@s.whatsapp.net", str(BRUNO_LID), "group")
    assert change == GroupChange(
        group=str(GROUP),
        at=5,
        joined=(GroupMember(address=str(BRUNO_LID), alt="55@s.whatsapp.net"),),
    )
    message = group_message(added, OWN)
    assert (message.kind, message.lane, message.external_id) == (
        "system",
        Lane.HISTORY,
        "system-9-0",
    )
    assert message.detail == {"action": "add", "people": [str(BRUNO_LID)]}
    assert (message.sender, message.sender_alt, message.from_me) == (
        str(ANNA_LID),
        str(ANNA),
        False,
    )
    assert group_facts(event("leave", people=(Participant(ANNA_LID),)), 5) == (
        GroupChange(group=str(GROUP), at=5, left=(str(ANNA_LID),)),
    )
    [promoted] = group_facts(event("promote", people=(Participant(ANNA_LID),)), 5)
    assert isinstance(promoted, GroupChange)
    assert promoted.joined[0].role == "admin"
    [renamed] = group_facts(event("subject", text="X"), 5)
    assert isinstance(renamed, GroupChange)
    assert renamed.subject == "X"


def test_a_change_just_after_we_asked_is_newer_than_the_answer() -> None:
    """Also when the server's clock is behind ours, and counts whole seconds."""
    group = Group(jid=GROUP, subject="before", participants=())
    [change] = group_facts(event("subject", text="after"), 5)
    assert isinstance(change, GroupChange)
    [snapshot] = asked_snapshot(group, change.at + CLOCK_SKEW - 0.1)
    assert isinstance(snapshot, GroupSnapshot)
    assert snapshot.at < change.at


def test_changes_of_one_second_keep_their_order() -> None:
    """The first is as old as the server says; one that comes again keeps its moment."""
    moments = Moments()
    events = [attrs.evolve(event("subject"), id=name) for name in "abc"]
    seen = [moments.of(each) for each in events]
    assert seen[0] == 5 < seen[1] < seen[2] < 6
    assert moments.of(events[0]) == 5
    assert moments.of(attrs.evolve(events[0], id="d", at=6)) == 6
    many = [moments.of(attrs.evolve(events[0], id=f"e{n}", at=7)) for n in range(20_000)]
    assert many == sorted(many)
    assert many[-1] < 8


def call(event: str, **more: t.Any) -> CallEvent:
    defaults: dict[str, t.Any] = {
        "call_id": "C",
        "caller": ANNA_LID,
        "caller_alt": ANNA,
        "sender": ANNA_LID,
        "group": None,
        "video": False,
        "reason": None,
        "at": 5,
        "push_name": None,
    }
    return CallEvent(event=event, **{**defaults, **more})


def outcomes(*events: str) -> list[str]:
    calls = Calls()
    messages = [calls.message(call(name), OWN) for name in events]
    return [message.detail["event"] for message in messages if message is not None]


def test_a_call_that_nobody_took_is_missed() -> None:
    assert outcomes("offer", "terminate") == ["offer", "missed"]
    assert outcomes("offer", "accept", "terminate") == ["offer", "terminated"]
    assert outcomes("offer", "reject") == ["offer", "rejected"]
    assert outcomes("terminate") == ["terminated"]  # began before this daemon: not known


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("accepted_elsewhere", "terminated"), ("rejected_elsewhere", "rejected")],
)
def test_a_call_that_another_own_device_took_is_not_missed(reason: str, expected: str) -> None:
    calls = Calls()
    calls.message(call("offer", video=True), OWN)
    end = calls.message(call("terminate", reason=reason), OWN)
    assert end is not None
    assert end.detail == {"event": expected, "call_id": "C", "video": True, "reason": reason}


def test_a_call_offer_is_a_reason_to_open_a_conversation_its_end_is_not() -> None:
    calls = Calls()
    offer, end = calls.message(call("offer"), OWN), calls.message(call("terminate"), OWN)
    assert offer is not None
    assert end is not None
    assert (offer.lane, end.lane) == (Lane.LIVE, Lane.HISTORY)
    assert (offer.external_id, end.external_id) == ("call-offer-C", "call-end-C")
    assert (offer.chat, offer.chat_alt) == (str(ANNA_LID), str(ANNA))


def test_an_address_pair_is_a_number_and_a_lid_in_any_order() -> None:
    assert address_pair(ANNA, ANNA_LID, "x") == address_pair(ANNA_LID, ANNA, "x")
    assert address_pair(ANNA, ANNA, "x") is None
    assert address_pair(ANNA, None, "x") is None


def test_whose_message_a_key_means() -> None:
    def origin(chat: Jid, sender: Jid, from_me: bool) -> Origin:
        return Origin(chat=chat, sender=sender, from_me=from_me, own=OWN, id="1", timestamp=1)

    theirs = origin(ANNA_LID, ANNA_LID, False)
    assert author_of(TargetKey(id="x", from_me=True), theirs) == str(ANNA_LID)
    assert author_of(TargetKey(id="x", from_me=False), theirs) == str(OWN[0])
    ours = origin(ANNA_LID, OWN[1], True)
    assert author_of(TargetKey(id="x", from_me=True), ours) == str(OWN[0])
    assert author_of(TargetKey(id="x", from_me=False), ours) == str(ANNA_LID)
    group = origin(GROUP, ANNA_LID, False)
    key = TargetKey(id="x", participant=str(BRUNO_LID.with_device(3)))
    assert author_of(key, group) == str(BRUNO_LID)
    assert author_of(TargetKey(id="x"), group) is None
    assert author_of(TargetKey(id="x", participant="not a jid@@"), group) is None
