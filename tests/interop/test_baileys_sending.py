"""What the team sends through the daemon, as real clients receive it and answer."""

import typing as t

from interop_expect import differences
from interop_peer import Driver, Event, Peer, key, text_of

from simulator import Account, Simulator
from tests.support.daemon_process import DaemonProcess

FILE: t.Final = bytes(range(256)) * 300
NOBODY: t.Final = "15550199999"


async def received(peer: Peer, message_id: str) -> Event:
    """The message with this id, from others, once it has come and is readable."""

    def find() -> list[Event]:
        return [m for m in peer.messages() if m["key"]["id"] == message_id and m.get("message")]

    await peer.wait_for(lambda _: find())
    (message,) = find()
    return message


async def test_everything_that_can_be_sent_arrives(
    daemon: DaemonProcess, team: Account, baileys: Driver
) -> None:
    """To people and to groups, with files, once for each key."""
    alice, bob = await baileys.connect_all("alice", "bob")
    await talk(daemon, team, alice)
    await send_files(daemon, alice)
    await use_a_key_again(daemon, bob)
    await write_to_a_group(daemon, team, alice, bob)
    await reach_every_device(daemon, baileys, bob)


async def talk(daemon: DaemonProcess, team: Account, alice: Peer) -> None:
    """Texts, replies, places, cards, polls and votes; what changes them; read receipts, typing.

    And all of it stands in the conversation, once.
    """
    me, us = alice.account, str(team.pn)
    number = me.partition("@")[0]
    greeting = await alice.send(us, "hello")
    stored = await daemon.until_message(greeting)
    theirs = await alice.send_content(
        us, {"poll": {"name": "When?", "values": ["now", "later"], "selectableCount": 1}}
    )
    await daemon.until_message(theirs)

    async def send(**fields: t.Any) -> str:
        row = await daemon.send("sales", me, **fields)
        return str(row["external_id"])

    text = (await daemon.command("send", "sales", f"+{number}", "good morning"))["external_id"]
    reply = await send(kind="reply", text="hello to you", quoted=stored["id"])
    reaction = await send(kind="reaction", target=greeting, emoji="👋")
    place = await send(kind="location", latitude=1.5, longitude=2.5, name="Here")
    card = await send(kind="contact", cards=[{"name": "Ana", "vcard": "BEGIN:VCARD\nEND:VCARD"}])
    poll = await send(kind="poll", name="Ready?", options=["yes", "no"])
    vote = await send(kind="poll_vote", target=theirs, options=["later"])
    gone = await send(text="never mind")
    await received(alice, text)
    edit = await send(kind="edit", target=text, text="good evening")
    revoke = await send(kind="revoke", target=gone)
    last = await send(text="the end")
    await received(alice, last)
    await alice.vote(us, poll, ["yes"], creator=us)

    looks = {
        text: {"conversation": "good morning"},
        reply: {
            "extendedTextMessage": {
                "text": "hello to you",
                "contextInfo": {"stanzaId": greeting, "participant": alice.account_lid},
            }
        },
        reaction: {"reactionMessage": {"text": "👋", "key": {"id": greeting}}},
        place: {"locationMessage": {"degreesLatitude": 1.5, "name": "Here"}},
        card: {"contactMessage": {"displayName": "Ana"}},
        edit: {
            "protocolMessage": {
                "type": "MESSAGE_EDIT",
                "key": {"id": text},
            }
        },
        revoke: {"protocolMessage": {"type": "REVOKE", "key": {"id": gone}}},
    }
    wrong = [
        line
        for message_id, expected in looks.items()
        for line in differences((await received(alice, message_id))["message"], expected)
    ]
    assert wrong == []
    chosen = await alice.options(theirs, vote, creator=alice.account_lid, voter=str(team.lid))
    assert chosen == ["later"]

    await daemon.until_message(poll, lambda row: row["votes"], "has a vote")
    shown = {
        text: {"text": "good evening", "original_text": "good morning", "kind": "text"},
        reply: {"quoted": {"external_id": greeting, "text": "hello"}},
        greeting: {"reactions": [{"emoji": "👋", "sender": {"is_self": True}}]},
        theirs: {"votes": [{"options": ["later"], "voter": {"is_self": True}}]},
        poll: {"votes": [{"options": ["yes"], "voter": {"name": "alice"}}], "from_me": True},
        gone: {"text": "never mind", "deleted": {"by": {"is_self": True}}},
        last: {"from_me": True, "sender": {"is_self": True}},
    }
    rows = await daemon.details()
    assert len({row["external_id"] for row in rows}) == len(rows)
    assert len({row["conversation"] for row in rows}) == 1
    by_id = {row["external_id"]: row for row in rows}
    assert not [
        line
        for message_id, expected in shown.items()
        for line in differences(by_id.get(message_id), expected, str(message_id))
    ]

    await alice.call("readMessages", [key(last)])
    (row,) = [r for r in await daemon.command("outbox") if r["external_id"] == last]
    await daemon.until_outbox(row["id"], "read")
    path = f"/conversations/{stored['conversation']}/read"
    assert (await daemon.request("POST", path)).status_code == 202
    await alice.wait_for(
        lambda event: (
            event["event"] == "messages.update"
            and any(
                item["key"]["id"] == greeting and item["update"].get("status") in (4, "READ")
                for item in event["data"]
            )
        )
    )
    typing = await daemon.request("POST", "/connections/sales/typing", {"to": me})
    assert typing.status_code == 204
    await alice.wait_for(
        lambda event: (
            event["event"] == "presence.update" and "composing" in str(event["data"]["presences"])
        )
    )
    refused = await daemon.send("sales", NOBODY, text="anybody there?")
    failed = await daemon.until_outbox(refused["id"], "failed")
    assert "not on WhatsApp" in failed["reason"]


async def send_files(daemon: DaemonProcess, alice: Peer) -> None:
    """The client downloads the bytes that were handed to the daemon."""
    uploaded = (await daemon.request("POST", "/media", FILE)).json()
    image = await daemon.send(
        "sales", alice.account, kind="image", file=uploaded["sha256"],
        mimetype="image/jpeg", caption="a view", width=3, height=4,
    )  # fmt: skip
    document = await daemon.send(
        "sales", alice.account, kind="document", file=uploaded["sha256"],
        mimetype="application/pdf", name="a.pdf",
    )  # fmt: skip
    voice = await daemon.send(
        "sales", alice.account, kind="audio", file=uploaded["sha256"],
        mimetype="audio/ogg; codecs=opus", voice=True, seconds=3,
    )  # fmt: skip
    looks = {
        image["external_id"]: {"imageMessage": {"caption": "a view", "width": 3}},
        document["external_id"]: {"documentMessage": {"fileName": "a.pdf"}},
        voice["external_id"]: {"audioMessage": {"ptt": True, "seconds": 3}},
    }
    for message_id, expected in looks.items():
        message = await received(alice, message_id)
        assert differences(message["message"], expected) == []
        assert await alice.download(message_id) == FILE
    await alice.call("sendReceipts", [key(voice["external_id"])], "played")
    await daemon.until_outbox(voice["id"], "played")
    row = await daemon.until_message(
        image["external_id"], lambda row: row["media"]["state"] == "stored"
    )
    stored = await daemon.request("GET", f"/messages/{row['id']}/media")
    assert stored.content == FILE


async def write_to_a_group(daemon: DaemonProcess, team: Account, alice: Peer, bob: Peer) -> None:
    """Every member reads it, and each one's receipts are told apart."""
    group: str = (await alice.call("groupCreate", "deal", [bob.account, str(team.pn)]))["id"]
    question = await alice.send(group, "who is there?")
    await daemon.until_message(question)
    number = bob.account.partition("@")[0]
    row = await daemon.send(
        "sales", group, text=f"we, @{number}", quoted=question, mentions=[bob.account]
    )
    sent = row["external_id"]
    for peer in (alice, bob):
        message = await received(peer, sent)
        assert text_of(message) == f"we, @{bob.account_lid.partition('@')[0]}"
        context = message["message"]["extendedTextMessage"]["contextInfo"]
        assert context["mentionedJid"] == [bob.account_lid]
        assert (context["stanzaId"], context["participant"]) == (question, alice.account_lid)
        assert message["key"]["participant"] in (str(team.pn), str(team.lid))
    await bob.call("readMessages", [key(sent)])
    await alice.react(group, sent, "👍")

    def complete(row: dict[str, t.Any]) -> bool:
        receipts = {r["recipient"]["name"]: r for r in row["receipts"] or ()}
        return bool(
            receipts.get("alice", {}).get("delivered_at")
            and not receipts["alice"]["read_at"]
            and receipts.get("bob", {}).get("read_at")
            and row["reactions"]
        )

    await bob.send(group, "so am I")  # tells the team bob's name
    await daemon.until_message(sent, complete, "is delivered to alice and read by bob")
    await daemon.until_outbox(row["id"], "read")


async def use_a_key_again(daemon: DaemonProcess, bob: Peer) -> None:
    """A request may be repeated without fear; another one under the same key is refused."""
    first = await daemon.send("sales", bob.account, key="order-1", text="once")
    again = await daemon.send("sales", bob.account, key="order-1", text="once")
    assert again["id"] == first["id"]
    other = await daemon.send("sales", bob.account, key="order-1", text="twice")
    assert "id" not in other
    await daemon.send("sales", bob.account, key="order-2", text="after")
    await bob.wait_for_text("after")
    assert bob.texts() == ["once", "after"]


async def reach_every_device(daemon: DaemonProcess, baileys: Driver, bob: Peer) -> None:
    """Of the person as it has them now: one more, then one less."""
    tablet = await baileys.connect("tablet", phone=bob.account.partition("@")[0])
    await daemon.send("sales", bob.account, text="to both")
    await tablet.wait_for_text("to both")
    await bob.wait_for_text("to both")
    await tablet.call("logout")
    await daemon.send("sales", bob.account, text="to one")
    await bob.wait_for_text("to one")
    assert tablet.texts() == ["to both"]


async def test_who_cannot_read_it_gets_it_again(
    daemon: DaemonProcess, simulator: Simulator, team: Account, baileys: Driver
) -> None:
    """A client's retry receipt is answered, also by a daemon that was restarted meanwhile."""
    alice = await baileys.connect("alice")
    device = next(a for a in simulator.accounts if str(a.pn) == alice.account).companions[0]
    await daemon.send("sales", alice.account, text="first")
    await alice.wait_for_text("first")
    simulator.faults.corrupt(device.pn, 1)
    await daemon.send("sales", alice.account, text="broken")
    await alice.wait_for_text("broken")
    await alice.disconnect()
    simulator.faults.corrupt(device.pn, 1)
    row = await daemon.send("sales", alice.account, text="broken again")
    await daemon.until_outbox(row["id"], "sent", "delivered")
    assert await daemon.terminate() == 0
    await alice.reconnect()
    await daemon.start()
    await alice.wait_for_text("broken again")
    assert alice.texts() == ["first", "broken", "broken again"]


async def test_kill_9_never_sends_twice(
    daemon: DaemonProcess, team: Account, baileys: Driver
) -> None:
    """Killed again and again while it sends: each message arrives at most once, and the outbox
    tells which; what it cannot tell is said to be unknown."""
    alice = await baileys.connect("alice")
    texts = [f"message {turn}" for turn in range(30)]
    rows = {text: await daemon.send("sales", alice.account, key=text, text=text) for text in texts}
    for goal in (3, 12):
        await alice.wait_for(lambda _, goal=goal: len(alice.texts()) >= goal)
        await daemon.kill()
        await daemon.start()
    for text in texts:  # whoever asked did not hear an answer, and asks again
        again = await daemon.send("sales", alice.account, key=text, text=text)
        assert again["id"] == rows[text]["id"]

    async def over() -> bool:
        pending = "state IN ('queued', 'sending', 'sent')"
        return not await daemon.query(f"SELECT 1 FROM outbox WHERE {pending}")

    await daemon.until(over, "everything is sent and delivered, or unknown")
    states = await daemon.query("SELECT key, state FROM outbox ORDER BY id")
    arrived = [row["key"] for row in states if row["state"] == "delivered"]
    assert alice.texts() == arrived
    unknown = [row["key"] for row in states if row["state"] == "unknown"]
    assert sorted(arrived + unknown) == sorted(texts)
    assert len(unknown) <= 2
    mine = [row for row in await daemon.details() if row["from_me"]]
    assert {row["external_id"] for row in mine} >= {rows[key]["external_id"] for key in arrived}
    assert len(mine) == len({row["external_id"] for row in mine})
