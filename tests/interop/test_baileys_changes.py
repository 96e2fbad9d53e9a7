"""What real clients say of messages that are there: edits, deletions, reactions, votes, answers."""

import pathlib
import typing as t

from interop_expect import differences
from interop_peer import Driver, Peer, key, raw

from simulator import Account
from tests.support.daemon_process import DaemonProcess

FILE: t.Final = bytes(range(256))
DAY: t.Final = 86_400


async def test_messages_are_shown_as_they_are_now(
    daemon: DaemonProcess, team: Account, baileys: Driver, tmp_path: pathlib.Path
) -> None:
    """Whatever is said of them in the open, or encrypted for those who have them."""
    alice = await baileys.connect("alice")
    await look_at_changes(daemon, team, alice, tmp_path)
    await look_at_encrypted_answers(daemon, team, alice)


async def look_at_changes(
    daemon: DaemonProcess, team: Account, alice: Peer, tmp_path: pathlib.Path
) -> None:
    """Every version, who deleted and when, the newest reaction of each person; content stays."""
    to = str(team.pn)
    path = tmp_path / "file.bin"
    path.write_bytes(FILE)
    image = {"image": {"url": str(path)}, "jpegThumbnail": raw(b"\xff\xd8"), "caption": "a view"}

    edited = await alice.send(to, "frist")
    await alice.edit(to, edited, "first")
    last_edit = await alice.edit(to, edited, "the first")
    quoting = await alice.reply(to, edited, "as I said")
    deleted = await alice.send(to, "never mind")
    revoke = await alice.delete(to, deleted)
    picture = await alice.send_content(to, image)
    await alice.delete(to, picture)
    liked = await alice.send(to, "good?")
    await alice.react(to, liked, "👍")
    await alice.react(to, liked, "❤️")
    undone = await alice.send(to, "bad?")
    await alice.react(to, undone, "😱")
    await alice.react(to, undone, "")
    pin = await alice.send_content(to, {"pin": key(liked), "type": 1, "time": DAY})
    keep = await alice.relay(
        to, {"keepInChatMessage": {"key": key(liked), "keepType": 1, "timestampMs": 1}}
    )
    setting = await alice.send_content(to, {"disappearingMessagesInChat": DAY})
    end = await alice.send(to, "the end")
    await daemon.until_message(end)
    await daemon.until_message(picture, lambda row: row["media"]["state"] == "stored")

    alice_is = {"name": "alice", "addresses": {alice.account}}
    expected = {
        edited: {
            "text": "the first",
            "original_text": "frist",
            "edits": [{"text": "first"}, {"text": "the first", "external_id": last_edit}],
            "deleted": None,
        },
        quoting: {
            "text": "as I said",
            "quoted": {"external_id": edited, "author": alice_is, "text": "the first"},
        },
        deleted: {"kind": "text", "text": "never mind", "deleted": {"by": alice_is}},
        revoke: {"kind": "revoke", "lane": "side", "target_id": deleted},
        picture: {"kind": "image", "text": "a view", "deleted": {"by": alice_is}},
        liked: {"reactions": [{"sender": alice_is, "emoji": "❤️"}]},
        undone: {"reactions": None},
        pin: {"kind": "pin", "target_id": liked, "detail": {"action": "pin"}},
        keep: {"kind": "keep", "target_id": liked, "detail": {"action": "keep"}},
        setting: {"kind": "disappearing", "detail": {"expiration": DAY}},
    }
    rows = {row["external_id"]: row for row in await daemon.details()}
    wrong = [
        line
        for message_id, looks in expected.items()
        for line in differences(rows.get(message_id, {}), looks, rows[message_id]["kind"])
    ]
    assert wrong == []
    versions = await daemon.query(
        "SELECT v.text FROM message_versions v JOIN messages m ON m.id = v.message_id"
        f" WHERE m.external_id = '{edited}' ORDER BY v.version"
    )
    assert [version["text"] for version in versions] == ["frist", "first", "the first"]
    shown = await daemon.query("SELECT text, edited, deleted_at, deleted_by FROM inbox_messages")
    assert [row["text"] for row in shown if row["edited"]] == ["the first"]
    assert {row["deleted_by"] for row in shown if row["deleted_at"]} == {"alice"}
    settings = await daemon.query("SELECT address, value FROM chat_settings")
    assert settings == [{"address": alice.account, "value": DAY}]


async def look_at_encrypted_answers(daemon: DaemonProcess, team: Account, alice: Peer) -> None:
    """Votes, answers to events, encrypted reactions, comments and edits: with the secret of the
    message that they answer, whichever address they were encrypted under."""
    to, me = str(team.pn), alice.account

    poll = {"name": "Lunch?", "values": ["yes", "no", "maybe"], "selectableCount": 0}
    asked = await alice.send_content(to, {"poll": poll})
    await alice.vote(to, asked, ["yes"], creator=me)
    await alice.vote(to, asked, ["no", "maybe"], creator=me)
    withdrawn = await alice.send_content(to, {"poll": poll})
    await alice.vote(to, withdrawn, ["no"], creator=alice.account_lid, voter=alice.account_lid)
    await alice.vote(to, withdrawn, [], creator=me)
    event = await alice.send_content(
        to, {"event": {"name": "Party", "startDate": {"$date": 1_900_000_000_000}}}
    )
    answer = await alice.seal(
        event, "Event Response", "Message.EventResponseMessage",
        {"response": 1, "timestampMs": 5, "extraGuestCount": 2},
        creator=me, author=me, bound=True,
    )  # fmt: skip
    going = await alice.relay(
        to, {"encEventResponseMessage": {"eventCreationMessageKey": key(event), **answer}}
    )
    text = await alice.send(to, "a text")
    heart = await alice.seal(
        text, "Enc Reaction", "Message.ReactionMessage", {"text": "❤️", "senderTimestampMs": 5},
        creator=me, author=me,
    )  # fmt: skip
    await alice.relay(to, {"encReactionMessage": {"targetMessageKey": key(text), **heart}})
    comment = await alice.seal(
        text, "Enc Comment", "Message", {"conversation": "indeed"}, creator=me, author=me
    )
    said = await alice.relay(to, {"encCommentMessage": {"targetMessageKey": key(text), **comment}})
    change = {"protocolMessage": {"key": key(text), "type": 14, "timestampMs": 9,
              "editedMessage": {"conversation": "the text"}}}  # fmt: skip
    sealed = await alice.seal(text, "Message Edit", "Message", change, creator=me, author=me)
    await alice.relay(
        to,
        {"secretEncryptedMessage": {"targetMessageKey": key(text), "secretEncType": 2, **sealed}},
    )

    await daemon.until_message(text, lambda row: row["edits"], "is edited")
    alice_is = {"name": "alice"}
    expected = {
        asked: {"votes": [{"voter": alice_is, "options": ["no", "maybe"]}]},
        withdrawn: {"votes": None},
        going: {"kind": "event_response", "detail": {"response": "going", "guests": 2}},
        text: {
            "text": "the text",
            "original_text": "a text",
            "reactions": [{"sender": alice_is, "emoji": "❤️"}],
        },
        said: {"kind": "comment", "text": "indeed", "target_id": text},
    }
    for message_id, looks in expected.items():
        await daemon.until_message(
            message_id,
            lambda row, looks=looks: not differences(row, looks),
            f"looks like {looks}",
        )
