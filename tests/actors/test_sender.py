"""Sending, from the outbox to the recipients' devices: each message once, committed before."""

import itertools
import typing as t

import pytest
import trio
import trio.testing

from actors.line import NotOnlineError
from simulator import Account
from storage.api import RecordKind
from storage.errors import StorageRejectedError
from tests.actors.conftest import NAME
from tests.actors.outbox_world import sending_world
from whatsapp.compose import text
from whatsapp.jid import Jid

Clock: t.TypeAlias = trio.testing.MockClock


@pytest.mark.parametrize("lid", [False, True], ids=["number", "lid"])
async def test_a_text_reaches_every_device(autojump_clock: Clock, lid: bool) -> None:
    """The customer's phone and companion read it, our own phone gets its copy, and it is in the
    conversation once, as ours."""
    async with sending_world() as world:
        chat = world.customer.address(lid)
        row = await world.send(chat, text="hello")
        await world.until_state(row.id, "delivered")
        assert world.phone_texts(world.customer) == ["hello"]
        assert world.phone_texts(world.team) == ["hello"]
        await world.world.settled()
        assert await world.texts("buyer") == ["hello"]
        assert await world.texts(NAME) == ["hello"]
        stored = await world.storage.find_message(NAME, str(chat), row.external_id)
        assert stored is not None
        assert (stored.from_me, stored.kind, stored.lane) == (True, "text", "live")
        assert stored.senders == (str(world.team.pn), str(world.team.lid))
        assert [step.state for step in world.storage.steps] == ["sending", "sent"]
        sessions = world.records(RecordKind.SESSION)
        lids = {jid.signal_address for jid in (world.customer.lid, world.team.lid)}
        assert lids <= set(sessions)
        assert not any("@" in key or not key.partition(".")[0].endswith("_1") for key in sessions)


async def test_the_address_pair_is_learned(autojump_clock: Clock) -> None:
    """What WhatsApp tells on the way (LID, devices) commits with the message."""
    async with sending_world() as world:
        await world.send(world.customer.pn, text="hello")
        customer = world.customer
        known = await world.storage.contact(NAME, str(customer.pn))
        assert known is not None
        assert set(known.addresses) == {str(customer.pn), str(customer.lid)}
        assert world.storage.lists[str(customer.lid)] == (0, 1)
        assert world.storage.lists[str(customer.pn)] == (0, 1)


async def test_a_conversation_goes_both_ways(autojump_clock: Clock) -> None:
    """Once the customer has answered, the session is settled and serves both directions."""
    async with sending_world() as world:
        await world.send(world.customer.pn, text="one")
        await world.customer.phone.send_text(world.team.pn, "two")
        await world.world.settled()
        await world.send(world.customer.pn, text="three")
        await world.world.settled()
        assert await world.texts(NAME) == ["one", "two", "three"]
        assert await world.texts("buyer") == ["one", "two", "three"]
        assert world.customer.phone.failures == 0


async def test_nothing_leaves_before_its_commit(autojump_clock: Clock) -> None:
    """While the database is away nobody gets the message; once it is back, everybody does."""
    async with sending_world() as world:
        world.storage.away = True
        number = await world.put(world.customer.pn, text="later")
        await trio.sleep(15)
        assert world.phone_texts(world.customer) == []
        world.storage.away = False
        await world.until_done(number)
        await trio.sleep(1)
        assert world.phone_texts(world.customer) == ["later"]


async def test_a_kill_after_the_commit_sends_nothing_twice(autojump_clock: Clock) -> None:
    """Committed, and killed before the first byte left: unknown, and it stays unsent."""
    async with sending_world() as world:
        world.storage.hold_after = "sending"
        number = await world.put(world.customer.pn, text="maybe")
        await world.held()
        await world.restart_after_hold()
        await trio.sleep(300)
        assert world.storage.rows[number].state == "unknown"
        assert world.phone_texts(world.customer) == []
        row = await world.send(world.customer.pn, text="next")
        assert row.state in ("sent", "delivered")
        assert world.phone_texts(world.customer) == ["next"]


async def test_a_receipt_settles_what_a_kill_left_open(autojump_clock: Clock) -> None:
    """Sent, and killed before the server's ack was stored: the receipt tells that it arrived."""
    async with sending_world() as world:
        world.storage.hold_before = "sent"
        number = await world.put(world.customer.pn, text="sent")
        await world.held()
        assert world.storage.rows[number].state == "sending"
        await world.restart_after_hold()
        await world.until_state(number, "delivered")
        await trio.sleep(120)
        assert world.phone_texts(world.customer) == ["sent"]
        assert await world.texts(NAME) == ["sent"]


async def test_an_ack_that_never_comes_leaves_it_open(autojump_clock: Clock) -> None:
    """Without an answer of the server for 75 s nobody knows; the next message is not held up."""
    async with sending_world() as world:
        world.world.simulator.faults.lose_acks(None, 100)
        world.customer.phone.answers = False
        heard = world.sender.on_ack
        world.sender.on_ack = lambda ack: None  # type: ignore[method-assign]
        first = await world.put(world.customer.pn, text="first")
        await world.until_state(first, "sending")
        await trio.sleep(5)
        world.sender.on_ack = heard  # type: ignore[method-assign]
        second = await world.put(world.customer.pn, text="second")
        await world.until_state(second, "sent", "delivered")
        assert world.storage.rows[first].state in ("sending", "delivered")
        await trio.sleep(75)
        steps = [(step.id, step.state) for step in world.storage.steps]
        assert (first, "unknown") in steps


async def test_the_same_key_sends_one_message(autojump_clock: Clock) -> None:
    """An impatient client that repeats its order changes nothing; another order is refused."""
    async with sending_world() as world:
        first = await world.put(world.customer.pn, key="order 7", text="once")
        assert await world.put(world.customer.pn, key="order 7", text="once") == first
        await world.until_done(first)
        assert await world.put(world.customer.pn, key="order 7", text="once") == first
        with pytest.raises(StorageRejectedError):
            await world.put(world.customer.pn, key="order 7", text="twice")
        await trio.sleep(60)
        assert world.phone_texts(world.customer) == ["once"]


async def test_an_unknown_number_fails_with_the_reason(autojump_clock: Clock) -> None:
    """Nobody has this number: the row says so, and the queue goes on."""
    async with sending_world() as world:
        failed = await world.send("15550000000@s.whatsapp.net", text="anybody?")
        assert (failed.state, failed.reason) == ("failed", "this number is not on WhatsApp")
        assert (await world.send(world.customer.pn, text="you")).state in ("sent", "delivered")
        assert await world.texts(NAME) == ["you"]


@pytest.mark.parametrize(
    ("chat", "reason"),
    [
        ("900000000000000@lid", "this person has no device on WhatsApp"),
        ("120363999999999999@g.us", "this account is not a member of the group, or there is none"),
        ("status@broadcast", "messages go to people and to groups only"),
        ("s.whatsapp.net", "messages go to people and to groups only"),
        (":x@", "no address"),
    ],
)
async def test_chats_that_nothing_reaches(autojump_clock: Clock, chat: str, reason: str) -> None:
    """Each fails with a sentence of its own, and leaves no message behind."""
    async with sending_world() as world:
        row = await world.send(chat, text="hello?")
        assert row.state == "failed"
        assert (row.reason or "").startswith(reason)
        assert await world.texts(NAME) == []


async def test_a_refusal_of_the_server_is_told(autojump_clock: Clock) -> None:
    """The code of the ack, in words."""
    async with sending_world() as world:
        group = await make_group(world)
        await world.send(group, text="inside")
        del world.world.simulator.world.groups[group].members[world.team.lid]  # nobody told us
        row = await world.send(group, text="outside")
        assert row.state == "failed"
        assert row.reason == "WhatsApp knows no such recipient (code 404)"


async def test_a_broken_request_fails_alone(autojump_clock: Clock) -> None:
    """Neither a malformed body nor a bug in composing keeps the next message from leaving."""
    async with sending_world() as world:
        assert (await world.send(world.customer.pn, "dance")).state == "failed"
        assert (await world.send(world.customer.pn, text=5)).reason == "must be str @ text.text"
        broken = await world.send(world.customer.pn, "media", file="broken", kind="image")
        assert broken.reason == "it cannot be composed: ZeroDivisionError"
        assert (await world.send(world.customer.pn, text="fine")).state in ("sent", "delivered")
        assert world.world.fleet.status(NAME)[0].state == "online"


async def test_messages_keep_a_distance(autojump_clock: Clock) -> None:
    """About one second between two, never the same; and in the order of the queue."""
    async with sending_world() as world:
        numbers = [await world.put(world.customer.pn, text=f"{n}") for n in range(6)]
        await world.until_done(*numbers)
        at = [step.at for step in world.storage.steps if step.state == "sending"]
        gaps = [after - before for before, after in itertools.pairwise(at)]
        assert all(0.69 <= gap <= 1.31 for gap in gaps)
        assert len({round(gap, 6) for gap in gaps}) == len(gaps)
        assert world.phone_texts(world.customer) == [f"{n}" for n in range(6)]


async def test_side_messages_name_what_they_change(autojump_clock: Clock) -> None:
    """Reaction, edit, answer and deletion are stored beside the message that they are about."""
    async with sending_world() as world:
        first = await world.send(world.customer.pn, text="helo")
        await world.customer.phone.send_text(world.team.pn, "what?", id="THEIRS")
        await world.world.settled()
        await world.send(world.customer.pn, "edit", target=first.external_id, text="hello")
        await world.send(world.customer.pn, "reaction", target="THEIRS", emoji="👍")
        await world.send(world.customer.pn, "reply", quoted="THEIRS", text="sorry")
        await world.send(world.customer.pn, "revoke", target=first.external_id)
        await world.world.settled()
        for name in (NAME, "buyer"):
            kinds = {item.kind for item in await world.stored(name)}
            assert {"text", "edit", "reaction", "revoke"} <= kinds
        changed = await world.storage.find_message(NAME, None, first.external_id)
        assert changed is not None
        detail = await world.storage.message(changed.id)
        assert detail is not None
        assert (detail.text, detail.original_text) == ("hello", "helo")
        assert detail.deleted is not None
        assert world.customer.phone.failures == 0


async def test_side_messages_without_their_message(autojump_clock: Clock) -> None:
    """What is not stored cannot be answered; what others wrote cannot be edited."""
    async with sending_world() as world:
        await world.customer.phone.send_text(world.team.pn, "mine", id="THEIRS")
        await world.world.settled()
        row = await world.send(world.customer.pn, "reaction", target="NOWHERE", emoji="👍")
        assert row.reason == "the message that this refers to is not stored in this chat"
        row = await world.send(world.customer.pn, "edit", target="THEIRS", text="yours")
        assert row.reason == "only messages of this account can be edited"
        row = await world.send(world.customer.pn, "revoke", target="THEIRS")
        assert row.reason == "only messages of this account can be deleted for everyone"
        first = await world.send(world.customer.pn, text="old")
        await trio.sleep(1300)
        row = await world.send(world.customer.pn, "edit", target=first.external_id, text="new")
        assert row.reason == "only messages of the last 20 minutes can be edited"


async def test_a_file_is_uploaded_once(autojump_clock: Clock) -> None:
    """The composed message is kept: a second try uploads nothing again."""
    async with sending_world() as world:
        world.storage.hold_after = "sending"
        number = await world.put(
            world.customer.pn, "media", file="ab12", kind="image", caption="look"
        )
        await world.held()
        await world.restart_after_hold()
        assert world.storage.rows[number].state == "unknown"
        await world.storage.outbox_retry(NAME, number)
        world.sender.wake()
        await world.until_done(number)
        await world.world.settled()
        assert world.storage.uploads == [("ab12", "image")]
        assert await world.texts("buyer") == ["look"]


async def test_an_upload_may_take_several_tries(autojump_clock: Clock) -> None:
    """What the file's host refuses for now is tried again, after the pause that it asks for."""
    async with sending_world() as world:
        began = trio.current_time()
        row = await world.send(world.customer.pn, "media", file="late", kind="image")
        assert row.state in ("sent", "delivered")
        assert len(world.storage.uploads) == 3
        assert trio.current_time() - began >= 200


async def test_read_receipts_leave_without_a_message(autojump_clock: Clock) -> None:
    """The customer sees that it was read; nothing is stored in the conversation."""
    async with sending_world() as world:
        await world.customer.phone.send_text(world.team.pn, "urgent", id="THEIRS")
        await world.world.settled()
        row = await world.send(world.customer.pn, "read", ids=["THEIRS"])
        assert row.state == "sent"
        await trio.sleep(1)
        kinds = {node.text("type") for node in world.customer.phone.receipts}
        assert "read" in kinds
        assert await world.texts(NAME) == ["urgent"]


async def test_typing_and_numbers_need_no_outbox(autojump_clock: Clock) -> None:
    """Both are asked for at once; a number's account comes by its number."""
    async with sending_world() as world:
        await world.sender.typing(world.customer.pn, "composing")
        await world.sender.typing(world.customer.pn, "paused")
        found = await world.sender.check_number(world.customer.pn.user)
        assert found == world.customer.pn
        assert await world.sender.check_number("15550000000") is None
        assert world.storage.rows == {}


async def test_the_own_phone_is_written_to(autojump_clock: Clock) -> None:
    """A peer message is committed before it leaves, and shows in no chat."""
    async with sending_world() as world:
        line = world.world.fleet._members[NAME].connection.line
        before = world.records(RecordKind.SESSION).copy()
        stanza_id = await line.send_peer(text("for the phone"), priority="high")
        assert stanza_id.startswith("3EB0")
        address = world.team.lid.signal_address
        assert world.records(RecordKind.SESSION)[address] != before.get(address)
        await trio.sleep(1)
        assert world.team.phone.failures == 0
        assert world.phone_texts(world.customer) == []
        assert await world.texts(NAME) == []


async def test_a_message_to_oneself(autojump_clock: Clock) -> None:
    """The own phone is the recipient."""
    async with sending_world() as world:
        row = await world.send(world.team.pn, text="note")
        assert row.state in ("sent", "delivered")
        await trio.sleep(1)
        assert world.phone_texts(world.team) == ["note"]


async def test_a_new_device_gets_the_next_message(autojump_clock: Clock) -> None:
    """A companion that is linked between two messages is not forgotten."""
    async with sending_world() as world:
        await world.send(world.customer.pn, text="before")
        await world.customer.phone.unlink(1)
        await trio.sleep(1)
        await world.send(world.customer.pn, text="between")
        assert world.storage.lists[str(world.customer.lid)] == (0,)
        assert world.phone_texts(world.customer) == ["before", "between"]


async def test_a_reinstalled_phone_reads_the_next_message(autojump_clock: Clock) -> None:
    """Its identity changed: the sessions are dropped, and new ones begin by themselves."""
    async with sending_world() as world:
        await world.send(world.customer.pn, text="before")
        await world.customer.phone.reinstall()
        await trio.sleep(2)
        await world.send(world.customer.pn, text="after")
        await trio.sleep(1)
        assert world.phone_texts(world.customer)[-1] == "after"
        assert world.customer.phone.failures == 0


async def test_offline_nothing_is_offered(autojump_clock: Clock) -> None:
    """Without a socket the line says so, and the outbox waits for the next one."""
    async with sending_world() as world:
        line = world.world.fleet._members[NAME].connection.line
        await world.world.fleet.stop(NAME)
        with pytest.raises(NotOnlineError):
            await line.send_peer(text("x"))
        row = await world.enqueue(world.customer.pn, "text", None, {"text": "waiting"})
        await world.world.fleet.start(NAME)
        await world.until_state(row.id, "delivered")
        assert world.phone_texts(world.customer) == ["waiting"]


async def test_a_message_that_cannot_be_stored_is_not_sent(autojump_clock: Clock) -> None:
    """What the database refuses is quarantined, and fails instead of leaving unseen."""
    async with sending_world() as world:
        row = await world.send(world.customer.pn, text="poison")
        assert row.state == "failed"
        assert (row.reason or "").startswith("the message cannot be stored")
        await trio.sleep(5)
        assert world.phone_texts(world.customer) == []
        assert world.storage._connections[NAME].quarantined == 1


# ---- groups


async def make_group(world: t.Any, *others: Account) -> Jid:
    group = world.world.simulator.create_group("team", [world.customer, world.team, *others])
    await trio.sleep(1)
    return t.cast(Jid, group.jid)


def holders(world: t.Any, group: Jid) -> bytes:
    return t.cast(bytes, world.records(RecordKind.SENDER_KEY)[f"{group}::distributed"])


async def test_a_group_message_reaches_two_devices_each(autojump_clock: Clock) -> None:
    """The sender key goes to every device with the first message, and to none with the second."""
    async with sending_world() as world:
        group = await make_group(world)
        await world.send(group, text="first")
        first = holders(world, group)
        row = await world.send(group, text="second")
        await world.world.settled()
        assert world.phone_texts(world.customer) == ["first", "second"]
        assert world.phone_texts(world.team) == ["first", "second"]
        assert await world.texts("buyer") == ["first", "second"]
        assert await world.texts(NAME) == ["first", "second"]
        assert row.state in ("sent", "delivered")
        assert holders(world, group) == first
        assert first.count(b"_1.") == 3


async def test_a_group_key_survives_a_restart(autojump_clock: Clock) -> None:
    """Who has the key is stored with it, so nothing is handed out twice."""
    async with sending_world() as world:
        group = await make_group(world)
        await world.send(group, text="first")
        first = holders(world, group)
        await world.restart()
        await world.send(group, text="second")
        await world.world.settled()
        assert await world.texts("buyer") == ["first", "second"]
        assert holders(world, group) == first


async def test_a_member_who_left_reads_nothing_more(autojump_clock: Clock) -> None:
    """The key changes with the members: who is gone has none that opens what follows."""
    async with sending_world() as world:
        leaver = world.world.simulator.create_account("leaver")
        group = await make_group(world, leaver)
        await world.send(group, text="with you")
        before = holders(world, group)
        await world.customer.phone.remove_from_group(group, leaver)
        await trio.sleep(1)
        await world.send(group, text="without you")
        await world.world.settled()
        assert await world.texts("buyer") == ["with you", "without you"]
        assert world.phone_texts(leaver) == ["with you"]
        after = holders(world, group)
        assert before.split(b",")[0] != after.split(b",")[0]  # another key
        assert leaver.lid.user.encode() not in after


async def test_a_new_member_gets_the_key(autojump_clock: Clock) -> None:
    """Only the newcomer lacks it."""
    async with sending_world() as world:
        newcomer = world.world.simulator.create_account("newcomer")
        group = await make_group(world)
        await world.send(group, text="before")
        before = holders(world, group)
        await world.customer.phone.add_to_group(group, newcomer)
        await trio.sleep(1)
        await world.send(group, text="welcome")
        await trio.sleep(1)
        assert world.phone_texts(newcomer) == ["welcome"]
        after = holders(world, group)
        assert before.split(b",")[0] == after.split(b",")[0]  # the same key


async def test_a_group_for_administrators_is_closed(autojump_clock: Clock) -> None:
    async with sending_world() as world:
        group = await make_group(world)
        await world.customer.phone.set_group_announce(group)
        await trio.sleep(1)
        row = await world.send(group, text="may I?")
        assert row.reason == "only administrators may write to this group"
        await world.customer.phone.promote_in_group(group, world.team)
        await trio.sleep(1)
        assert (await world.send(group, text="now I may")).state in ("sent", "delivered")
