"""The team's own other devices: what a second companion writes and sets, and what the phone
remembers from before the daemon was linked."""

import pathlib
import typing as t

from interop_expect import differences
from interop_peer import Driver, Peer, key, known, raw

from simulator import Account, Simulator
from simulator.phone import Chunk
from tests.support.daemon_process import DaemonProcess

FILE: t.Final = bytes(range(256)) * 4


async def test_a_second_companion_of_the_team(
    daemon: DaemonProcess, simulator: Simulator, team: Account, baileys: Driver
) -> None:
    """What is done on another linked device is known here."""
    bob = await baileys.connect("bob")
    laptop = await baileys.connect("laptop", phone=team.pn.user)
    await write(daemon, team, bob, laptop)
    await change_settings(daemon, simulator, team, bob, laptop)


async def write(daemon: DaemonProcess, team: Account, bob: Peer, laptop: Peer) -> None:
    """Its messages, edits, deletions and reactions are the team's, each once; ours reach it."""
    us = str(team.pn)
    question = await bob.send(us, "are you there?")
    stored = await daemon.until_message(question)
    await laptop.wait_for_text("are you there?")
    answer = await laptop.reply(bob.account, question, "yess")
    await laptop.edit(bob.account, answer, "yes")
    oops = await laptop.send(bob.account, "oops")
    await laptop.delete(bob.account, oops)
    await laptop.react(bob.account, question, "👍")
    poll = await laptop.send_content(
        bob.account, {"poll": {"name": "Ok?", "values": ["ok", "no"], "selectableCount": 1}}
    )
    await bob.wait_for(lambda _: any(m["key"]["id"] == poll for m in bob.messages()))
    await bob.vote(us, poll, ["ok"], creator=us)
    group: str = (await bob.call("groupCreate", "deal", [us]))["id"]
    in_group = await laptop.send(group, "hello all")
    await laptop.call("readMessages", [key(question)])
    ours = await daemon.send("sales", bob.account, text="from the daemon")
    await laptop.wait_for(
        lambda _: any(m["key"]["id"] == ours["external_id"] for m in laptop.messages())
    )
    await daemon.until_message(poll, lambda row: row["votes"], "has a vote")
    await daemon.until_message(in_group)
    team_is = {"is_self": True}
    expected = {
        question: {"reactions": [{"emoji": "👍", "sender": team_is}]},
        answer: {
            "text": "yes",
            "original_text": "yess",
            "from_me": True,
            "quoted": {"external_id": question},
            "conversation": stored["conversation"],
        },
        oops: {"deleted": {"by": team_is}, "text": "oops", "from_me": True},
        poll: {"votes": [{"voter": {"name": "bob"}, "options": ["ok"]}], "from_me": True},
        in_group: {"from_me": True, "sender": team_is, "chat": group},
        ours["external_id"]: {"from_me": True, "conversation": stored["conversation"]},
    }
    rows = await daemon.details()
    by_id = {row["external_id"]: row for row in rows}
    assert len(by_id) == len(rows)
    assert not [
        line
        for message_id, looks in expected.items()
        for line in differences(by_id.get(message_id), looks, str(message_id))
    ]

    async def seen() -> bool:
        return bool(
            await daemon.query(
                "SELECT 1 FROM chat_settings WHERE setting = 'unread' AND value = 'false'"
            )
        )

    await daemon.until(seen, "what the laptop read is read")


async def change_settings(
    daemon: DaemonProcess, simulator: Simulator, team: Account, bob: Peer, laptop: Peer
) -> None:
    """Names, archived, muted, pinned and unread chats, labels: as they come, and after a patch
    that was broken on its way or set while the daemon was down."""
    who = bob.account
    hello = await bob.send(str(team.pn), "hello")
    await laptop.wait_for_text("hello")

    async def setting(name: str) -> t.Any:
        found = await daemon.query(
            "SELECT s.value FROM chat_settings s JOIN contact_addresses a ON"
            " (a.connection_id, a.address) = (s.connection_id, s.address)"
            " JOIN contact_addresses b ON"
            " (b.connection_id, b.contact_id) = (a.connection_id, a.contact_id)"
            f" WHERE b.address = '{who}' AND s.setting = '{name}'"
        )
        return found[0]["value"] if found else None

    async def until(name: str, value: t.Any) -> None:
        async def reached() -> bool:
            return bool(await setting(name) == value)

        await daemon.until(reached, f"{name} is {value}")

    async def named(name: str) -> None:
        async def reached() -> bool:
            row = await daemon.until_message(hello)
            return bool(row["sender"]["name"] == name)

        await daemon.until(reached, f"bob is called {name}")

    last = {"lastMessages": [known(hello)]}
    await laptop.call("chatModify", {"contact": {"fullName": "Bob Silva"}}, who)
    await named("Bob Silva")
    await laptop.call("chatModify", {"archive": True, **last}, who)
    await until("archived", True)
    await laptop.call("chatModify", {"mute": 1_900_000_000_000}, who)
    await until("muted_until", 1_900_000_000)
    simulator.faults.corrupt_patches(team.companions[0].pn, 1)
    await laptop.call("chatModify", {"pin": True}, who)
    await until("pinned", True)
    assert await daemon.terminate() == 0
    await laptop.call("chatModify", {"archive": False, **last}, who)
    await laptop.call("chatModify", {"markRead": False, **last}, who)
    await laptop.call("chatModify", {"contact": {"fullName": "Bob Lima"}}, who)
    await laptop.call("addLabel", who, {"id": "3", "name": "VIP", "color": 1})
    await laptop.call("addChatLabel", who, "3")
    await daemon.start()
    await until("archived", False)
    await until("unread", True)
    await named("Bob Lima")

    async def labelled() -> bool:
        return bool(
            await daemon.query(
                "SELECT 1 FROM labels l JOIN label_links k ON k.label = l.id"
                " WHERE l.name = 'VIP' AND k.labelled"
            )
        )

    await daemon.until(labelled, "bob is a VIP")


async def test_history_is_imported_and_merged(
    daemon: DaemonProcess, simulator: Simulator, baileys: Driver, tmp_path: pathlib.Path
) -> None:
    """What the phone offers at pairing, inline and as files, stands among what comes live:
    each message once, in the order of time; older ones come on demand; progress is shown."""
    path = tmp_path / "file.bin"
    path.write_bytes(FILE)
    team = simulator.create_account("team")
    alice = await baileys.connect("alice")
    alice_jid = next(a for a in simulator.accounts if str(a.pn) == alice.account).pn
    us = str(team.pn)
    before = [await alice.send(us, f"before {turn}") for turn in range(4)]
    before.append(await team.phone.send_text(alice_jid, "an answer"))
    before.append(
        await alice.send_content(
            us, {"image": {"url": str(path)}, "jpegThumbnail": raw(b"\xff"), "caption": "old"}
        )
    )

    async def on_the_phone() -> bool:
        return {message_id for _, _, message_id in team.phone.kept} >= {*before}

    await daemon.until(on_the_phone, "the phone has all of it")
    whole = team.phone.conversation(alice_jid, limit=4)
    newest = team.phone.conversation(alice_jid, limit=2)
    team.phone.history = (
        Chunk(sync_type="initial_bootstrap", inline=True, progress=40, conversations=(newest,)),
        Chunk(sync_type="recent", chunk_order=1, progress=100, conversations=(whole,)),
        Chunk(sync_type="push_name", inline=True, push_names=((str(alice_jid), "alice"),)),
    )

    async def scan(qr: str) -> object:
        return await simulator.scan_qr(qr, phone=team.pn.user)

    await daemon.link("sales", scan)
    live = await alice.send(us, "live")
    await daemon.until_message(live)

    async def imported() -> bool:
        facts = (await daemon.request("GET", "/connections/sales/history")).json()
        return bool(facts["percent"] == 100 and not facts["chunks"]["pending"])

    await daemon.until(imported, "the history is imported")
    await daemon.request("POST", "/connections/sales/history", {"chat": alice.account, "count": 10})
    for message_id in before:
        await daemon.until_message(message_id, what="comes on demand")
    await daemon.until_message(
        before[-1], lambda row: row["media"]["state"] == "stored", "has its file"
    )
    rows = sorted(await daemon.details(), key=lambda row: (row["sent_at"], row["arrival"]))
    assert {row["external_id"] for row in rows} == {*before, live}
    assert len(rows) == len(before) + 1
    assert len({row["conversation"] for row in rows}) == 1
    by_id = {row["external_id"]: row for row in rows}
    for message_id in before:
        row = by_id[message_id]
        assert row["lane"] == "history"
        assert row["from_me"] is (row["text"] == "an answer")
        assert row["sender"]["name"] == (None if row["from_me"] else "alice")
    facts = await daemon.command("history", "sales")
    assert (
        differences(
            facts,
            {
                "percent": 100,
                "chunks": {"pending": 0, "importing": 0, "failed": 0},
                "chats": [{"chat": alice.account, "stored": 6, "failed": 0}],
            },
        )
        == []
    )
