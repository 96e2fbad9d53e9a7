"""What simulated phones and real clients tell each other besides messages."""

import collections.abc as cabc
import typing as t

from simulator import Simulator
from simulator.phone import Chunk

if t.TYPE_CHECKING:
    from conftest import Driver, Peer


def reported(peer: "Peer", event: str, **expected: t.Any) -> cabc.Callable[[t.Any], bool]:
    """Accepts a report of this event with an item that has all these values."""

    def accept(report: t.Mapping[str, t.Any]) -> bool:
        if report["event"] != event:
            return False
        data = report["data"]
        items = data if isinstance(data, list) else [data]
        return any(all(item.get(k) == v for k, v in expected.items()) for item in items)

    return accept


async def test_app_state_both_ways(simulator: Simulator, baileys: "Driver") -> None:
    """The client reads what the phone sets; the phone and a second client read what it sets."""
    desk = await baileys.connect("desk", phone="15550001111")
    phone = simulator.accounts[0].phone
    ana, rui = simulator.create_account("Ana"), simulator.create_account("Rui")
    await phone.set_contact_name(ana, "Ana Lima", "Ana")
    await desk.wait_for(reported(desk, "contacts.upsert", id=str(ana.pn), name="Ana Lima"))
    await phone.archive(ana)
    await desk.wait_for(reported(desk, "chats.update", id=str(ana.pn), archived=True))
    await phone.edit_label("7", "VIP", 2)
    await desk.wait_for(reported(desk, "labels.edit", id="7", name="VIP"))
    laptop = await baileys.connect("laptop", phone="15550001111")
    await laptop.wait_for(reported(laptop, "contacts.upsert", id=str(ana.pn), name="Ana Lima"))
    await desk.call("chatModify", {"pin": True}, str(rui.pn))
    await laptop.wait_for(reported(laptop, "chats.update", id=str(rui.pn)))
    pinned = phone.setting("pin_v1", str(rui.pn))
    assert pinned is not None
    assert pinned.value.pin_action.pinned
    await phone.rotate_sync_key()
    await phone.mute(rui)
    await desk.wait_for(reported(desk, "chats.update", id=str(rui.pn), muteEndTime=-1))
    await laptop.wait_for(reported(laptop, "chats.update", id=str(rui.pn), muteEndTime=-1))


async def test_history_reaches_the_client(simulator: Simulator, baileys: "Driver") -> None:
    """The client reads the phone's chats, inline or from the media host, and asks for more."""
    ana = simulator.create_account("Ana")
    account = simulator.create_account("desk", "15550001111")
    sent = [await ana.phone.send_text(account.pn, f"before {number}") for number in range(4)]
    chat = account.phone.conversation(ana.pn, limit=2)
    account.phone.history = (
        Chunk(sync_type="initial_bootstrap", inline=True, conversations=(chat,)),
        Chunk(sync_type="recent", chunk_order=1, conversations=(chat,)),
    )
    desk = await baileys.connect("desk", phone="15550001111")
    first = await desk.wait_for(lambda event: event["event"] == "messaging-history.set")
    ids = [message["key"]["id"] for message in first["data"]["messages"]]
    assert ids == [message.key.id for message in chat.messages]
    oldest = chat.messages[-1]
    await desk.call(
        "fetchMessageHistory",
        2,
        {"remoteJid": str(ana.pn), "id": oldest.key.id, "fromMe": False},
        oldest.timestamp,
    )
    older = await desk.wait_for(
        lambda event: (
            event["event"] == "messaging-history.set"
            and event["data"].get("peerDataRequestSessionId")
        )
    )
    # (it may report several chunks together)
    assert {message["key"]["id"] for message in older["data"]["messages"]} >= {*sent} - set(ids)


async def test_people_come_type_and_call(simulator: Simulator, baileys: "Driver") -> None:
    """Presence, typing and calls of simulated people are reported; refusing a call works."""
    desk = await baileys.connect("desk", phone="15550001111")
    account = simulator.accounts[0]
    ana = simulator.create_account("Ana")
    await desk.call("presenceSubscribe", str(ana.pn))
    await desk.wait_for(reported(desk, "presence.update", id=str(ana.pn)))
    await ana.phone.come()
    await ana.phone.type_in(account.pn)
    await desk.wait_for(
        lambda event: (
            event["event"] == "presence.update"
            and event["data"]["presences"][str(ana.pn)]["lastKnownPresence"] == "composing"
        )
    )
    await desk.call("sendPresenceUpdate", "composing", str(ana.pn))
    call = await ana.phone.call(account.pn, video=True)
    await desk.wait_for(reported(desk, "call", id=call, status="offer", isVideo=True))
    await desk.call("rejectCall", call, str(ana.pn))
    assert [node.children[0].tag for node in ana.phone.calls] == ["reject"]
    assert ana.phone.activity[-1].children[0].tag == "composing"
    missed = await ana.phone.call(account.pn)
    await ana.phone.hang_up(missed)
    await desk.wait_for(reported(desk, "call", id=missed, status="timeout"))


async def test_numbers_are_looked_up(simulator: Simulator, baileys: "Driver") -> None:
    """The client learns who is on WhatsApp, and nothing of who is not."""
    desk = await baileys.connect("desk")
    ana = simulator.create_account("Ana")
    found = await desk.call("onWhatsApp", ana.pn.user, "15559999999")
    assert found == [{"jid": str(ana.pn), "exists": True}]


async def test_contact_gets_another_phone(simulator: Simulator, baileys: "Driver") -> None:
    """Messages go on both ways after a contact registered anew."""
    desk = await baileys.connect("desk", phone="15550001111")
    account = simulator.accounts[0]
    ana = simulator.create_account("Ana")
    await ana.phone.send_text(account.pn, "before")
    await desk.wait_for_text("before")
    await desk.send(str(ana.pn), "to the old phone")
    await ana.reinstall()
    await ana.phone.send_text(account.pn, "from the new phone")
    await desk.wait_for_text("from the new phone")
    sent = await desk.send(str(ana.pn), "to the new phone")
    await desk.wait_for_delivery(sent)
    assert [received.text for received in ana.phone.inbox][-1] == "to the new phone"


async def test_groups_from_phones_and_from_clients(simulator: Simulator, baileys: "Driver") -> None:
    """Changes of a group are reported, whoever makes them."""
    desk = await baileys.connect("desk", phone="15550001111")
    account, ana, rui = (
        simulator.accounts[0],
        simulator.create_account("Ana"),
        simulator.create_account("Rui"),
    )
    group = await ana.phone.create_group("team", account)
    jid = str(group.jid)
    await desk.wait_for(reported(desk, "groups.upsert", id=jid, subject="team"))
    await ana.phone.add_to_group(group, rui)
    await desk.wait_for(reported(desk, "group-participants.update", id=jid, action="add"))
    await ana.phone.set_group_subject(group, "the team")
    await desk.wait_for(reported(desk, "groups.update", id=jid, subject="the team"))
    await ana.phone.set_group_announce(group)
    await desk.wait_for(reported(desk, "groups.update", id=jid, announce=True))
    await ana.phone.promote_in_group(group, account)
    await desk.wait_for(reported(desk, "group-participants.update", id=jid, action="promote"))
    await desk.call("groupUpdateDescription", jid, "who we are")
    await desk.call("groupToggleEphemeral", jid, 86400)
    await desk.call("groupMemberAddMode", jid, "admin_add")
    await desk.call("groupJoinApprovalMode", jid, "on")
    known = await desk.call("groupMetadata", jid)
    assert (known["desc"], known["ephemeralDuration"]) == ("who we are", 86400)
    assert (known["announce"], known["joinApprovalMode"]) == (True, True)
    code = await desk.call("groupInviteCode", jid)
    assert code == group.invite_code
    (removed,) = await desk.call("groupParticipantsUpdate", jid, [str(rui.lid)], "remove")
    assert removed["status"] == "200"
    assert not await rui.phone.join_group(code)
    (waiting,) = await desk.call("groupRequestParticipantsList", jid)
    assert waiting["jid"] == str(rui.lid)
    await desk.call("groupRequestParticipantsUpdate", jid, [str(rui.lid)], "approve")
    assert rui.lid in group.members
    await desk.call("groupLeave", jid)
    assert account.lid not in group.members
