"""All that people send, from their phones through the whole daemon to what the inbox shows."""

import collections.abc as cabc
import functools
import hashlib
import pathlib
import typing as t

import pytest
import trio
import trio.testing

from simulator import Account
from simulator.phone import Chunk, Wrapping
from storage.inbox import MessageDetail
from tests.actors.conftest import NAME
from tests.actors.whole_world import WholeWorld, open_whole
from whatsapp import addons, compose
from whatsapp.compose import Context, Quote, Traits
from whatsapp.content import TargetKey
from whatsapp.history import HistoryConversation
from whatsapp.proto import wa_pb2
from whatsapp.web_message import HistoryMessage

Clock: t.TypeAlias = trio.testing.MockClock

SECRET: t.Final = bytes(range(32))


@pytest.fixture
async def world(autojump_clock: Clock, tmp_path: pathlib.Path) -> cabc.AsyncIterator[WholeWorld]:
    """A paired connection with all its services."""
    async with open_whole(tmp_path / "media") as running:
        yield running


@pytest.fixture
def ana(world: WholeWorld) -> Account:
    """A customer."""
    return world.simulator.create_account("Ana")


async def test_words(autojump_clock: Clock, world: WholeWorld, ana: Account) -> None:
    """A text, an answer that quotes it, and somebody who is mentioned."""
    first = await ana.phone.send_text(world.team.pn, "hello")
    quote = Quote(id=first, author=str(ana.pn), message=compose.text("hello"))
    context = Context(quoted=quote, mentions=(str(world.team.pn),))
    second = await ana.phone.send_message(world.team.pn, compose.text("@team hello?", context))
    await world.settled()
    one, two = await world.talk(ana)
    assert (one.external_id, one.text, one.kind, one.sender.name) == (first, "hello", "text", "Ana")
    assert one.sender.shown == f"+{ana.pn.user}"
    assert (two.external_id, two.text) == (second, "@team hello?")
    assert two.quoted is not None
    assert (two.quoted.id, two.quoted.text, two.quoted.external_id) == (one.id, "hello", first)
    assert two.quoted.author is not None
    assert two.quoted.author.name == "Ana"
    assert [person.is_self for person in two.mentions] == [True]


def about(account: Account, message_id: str, *, mine: bool = False) -> TargetKey:
    """A message of a chat of two, as one of them names it to ``account``."""
    return TargetKey(remote_jid=str(account.pn), from_me=mine, id=message_id)


# ---- files


FILES: t.Final = {
    "image": ("image", Traits(width=4, height=3, thumbnail=b"tiny"), "image/jpeg"),
    "video": ("video", Traits(seconds=2), "video/mp4"),
    "gif": ("video", Traits(seconds=2, gif=True), "video/mp4"),
    "video_note": ("video", Traits(seconds=2, video_note=True), "video/mp4"),
    "audio": ("audio", Traits(seconds=2), "audio/mp4"),
    "voice": ("audio", Traits(seconds=2, voice=True), "audio/ogg"),
    "document": ("document", Traits(pages=2), "application/pdf"),
    "sticker": ("sticker", Traits(animated=True), "image/webp"),
}


async def test_files(autojump_clock: Clock, world: WholeWorld, ana: Account) -> None:
    """Every kind of file is fetched, verified and kept under its hash, whatever shows it."""
    for kind, (group, traits, mimetype) in FILES.items():
        data = f"{kind} ".encode() * 5000
        source = ana.phone.upload(group, data, mimetype=mimetype)
        caption = "look" if kind in ("image", "video", "document") else None
        sent = await ana.phone.send_message(
            world.team.pn,
            compose.media(source, caption, traits=traits),
            Wrapping(type="media", mediatype=kind),
        )
        message = await world.shown(sent, lambda now: now.media and now.media.state == "stored")
        assert (message.kind, message.text) == (kind, caption), kind
        assert message.media is not None
        sha256 = hashlib.sha256(data)
        assert message.media.blob_sha256 == sha256.hexdigest(), kind
        assert (message.media.mimetype, message.media.size) == (mimetype, len(data))
        path = world.services.blobs.path(sha256.digest())
        assert path is not None
        assert path.read_bytes() == data


async def test_a_file_that_is_gone_comes_from_the_phone(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """The team's phone uploads it again when the servers have it no more."""
    source = ana.phone.upload("image", b"picture", mimetype="image/jpeg")
    world.simulator.media.expire(source.direct_path)
    sent = await ana.phone.send_message(world.team.pn, compose.media(source, "gone?"))
    message = await world.shown(sent, lambda now: now.media and now.media.state == "stored")
    assert message.media is not None
    assert message.media.blob_sha256 == hashlib.sha256(b"picture").hexdigest()


async def test_a_changed_file_is_not_shown(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """What is not what its sender announced is never stored, and says so in the end."""
    world.simulator.faults.fail_media("corrupt", count=100)
    source = ana.phone.upload("image", b"picture" * 10_000, mimetype="image/jpeg")
    sent = await ana.phone.send_message(world.team.pn, compose.media(source))
    message = await world.shown(sent, lambda now: now.media and now.media.state == "failed")
    assert message.media is not None
    assert message.media.blob_sha256 is None
    assert message.media.error
    left = [path for path in world.directory.rglob("*") if path.is_file()]
    assert left == []


async def test_view_once(autojump_clock: Clock, world: WholeWorld, ana: Account) -> None:
    """What is to be seen once shows what it is; the flag tells the team."""
    source = ana.phone.upload("image", b"secret", mimetype="image/jpeg")
    inner = wa_pb2.Message.FromString(compose.media(source))
    inner.image_message.view_once = True
    outer = wa_pb2.Message()
    outer.view_once_message_v2.message.CopyFrom(inner)
    sent = await ana.phone.send_message(world.team.pn, outer.SerializeToString())
    message = await world.shown(sent, lambda now: now.media and now.media.state == "stored")
    assert (message.kind, message.flags) == ("image", ("view_once",))


async def test_withheld_view_once_is_a_placeholder_with_a_verdict(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """What WhatsApp gives no companion is there, as what it is; it is not asked for for ever."""
    sent = await ana.phone.send_text(world.team.pn, "first")
    await world.settled()
    world.simulator.faults.withhold(world.team.pn, kind="view_once_unavailable_fanout")
    sent = await ana.phone.send_text(world.team.pn, "hidden")
    message = await world.shown(sent, lambda now: now.verdict)
    assert (message.state, message.verdict) == ("undecryptable", "withheld")


# ---- what changes messages


async def test_reactions_change_and_go(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """One person shows one reaction, the newest; an empty one takes it back."""
    sent = await ana.phone.send_text(world.team.pn, "done")
    key, hidden = about(world.team, sent, mine=True), Wrapping(type="reaction", hidden=True)
    for at, emoji in enumerate(("👍", "🎉", "", "❤")):
        await ana.phone.send_message(world.team.pn, compose.reaction(key, emoji, at + 1), hidden)
        await world.settled()
        [message] = await world.talk(ana)
        assert [reaction.emoji for reaction in message.reactions] == ([emoji] if emoji else [])
    await world.phone.send_message(ana.pn, compose.reaction(about(ana, sent), "👀", 9), hidden)
    await world.settled()
    [message] = await world.talk(ana)
    assert [(item.emoji, item.sender.is_self) for item in message.reactions] == [
        ("❤", False),
        ("👀", True),
    ]


async def test_an_encrypted_reaction_is_opened(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """It shows like any other once its message is there."""
    poll = compose.poll("When?", ["now", "later"], selectable=1, secret=SECRET)
    sent = await ana.phone.send_message(world.team.pn, poll)
    parent = addons.Parent(id=sent, authors=(str(ana.pn),), raw=poll)
    sealed = addons.encrypt_reaction("🔥", 5, parent, str(ana.pn), bytes(12))
    await ana.phone.send_message(
        world.team.pn, compose.encrypted_reaction(about(world.team, sent, mine=True), sealed)
    )
    message = await world.shown(sent, lambda now: now.reactions)
    assert [reaction.emoji for reaction in message.reactions] == ["🔥"]


async def test_edits_keep_every_version(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """The last text shows, the former ones stay, in their order."""
    sent = await ana.phone.send_text(world.team.pn, "one")
    key = about(world.team, sent, mine=True)
    for at, text in enumerate(("two", "three"), 1):
        await trio.sleep(10)
        await ana.phone.send_message(
            world.team.pn, compose.edit(key, text, at * 10_000), Wrapping(edit="1")
        )
    await world.settled()
    [message] = await world.talk(ana)
    assert (message.text, message.original_text) == ("three", "one")
    assert [version.text for version in message.versions] == ["one", "two", "three"]


async def test_somebody_else_cannot_change_a_message(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """Edits and deletions by who is not the author change nothing, in a group or by an id that
    was seen there."""
    eve = world.simulator.create_account("Eve")
    group = world.simulator.create_group("all", [ana, eve, world.team])
    sent = await ana.phone.send_group_text(group.jid, "mine")
    key = TargetKey(remote_jid=str(group.jid), from_me=False, id=sent, participant=str(ana.lid))
    own = TargetKey(remote_jid=str(group.jid), from_me=True, id=sent)
    for claim in (key, own):
        await eve.phone.send_message(group.jid, compose.edit(claim, "hers", 5), Wrapping(edit="1"))
    await eve.phone.send_message(group.jid, compose.revoke(own), Wrapping(edit="7"))
    await world.settled()
    message = await world.shown(sent)
    assert (message.text, message.versions, message.deleted) == ("mine", (), None)


async def test_a_deleted_message_keeps_its_content(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """It shows by whom and when, and its file stays."""
    source = ana.phone.upload("image", b"picture", mimetype="image/jpeg")
    sent = await ana.phone.send_message(world.team.pn, compose.media(source, "oops"))
    await world.shown(sent, lambda now: now.media and now.media.state == "stored")
    await ana.phone.send_message(
        world.team.pn, compose.revoke(about(world.team, sent, mine=True)), Wrapping(edit="7")
    )
    await world.settled()
    [message] = await world.talk(ana)
    assert message.deleted is not None
    assert message.deleted.by.name == "Ana"
    assert (message.text, message.kind) == ("oops", "image")
    assert message.media is not None
    assert message.media.state == "stored"


async def test_an_admin_deletes_for_another(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """In a group its administrator may; the inbox tells who it was."""
    boss = world.simulator.create_account("Boss")
    group = await boss.phone.create_group("all", ana, world.team)
    sent = await ana.phone.send_group_text(group.jid, "rude")
    key = TargetKey(remote_jid=str(group.jid), id=sent, participant=str(ana.lid))
    await boss.phone.send_message(group.jid, compose.revoke(key), Wrapping(edit="8"))
    message = await world.shown(sent, lambda now: now.deleted)
    assert message.deleted is not None
    assert (message.deleted.by.name, message.text) == ("Boss", "rude")


# ---- polls and events


def vote(voter: Account, of: Account, poll_id: str, poll: bytes, *options: str, at: int) -> bytes:
    """A vote in a poll of ``of``, by the numbers of both."""
    parent = addons.Parent(id=poll_id, authors=(str(of.pn),), raw=poll)
    sealed = addons.encrypt_vote(options, parent, str(voter.pn), bytes(12))
    key = TargetKey(remote_jid=str(of.pn), from_me=voter is of, id=poll_id)
    return compose.poll_vote(key, sealed, at)


def voted(options: cabc.Sequence[str], poll: MessageDetail) -> bool:
    """Whether these are all that is voted for."""
    return [option for item in poll.votes for option in item.options] == list(options)


async def test_votes_show_in_their_poll(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """The newest vote of a person counts, also one that came before the poll did."""
    poll = compose.poll("When?", ["now", "later"], selectable=2, secret=SECRET)
    early = vote(ana, world.team, "POLL1", poll, "later", at=1_000)
    await ana.phone.send_message(world.team.pn, early, Wrapping(type="poll", hidden=True))
    await world.settled()
    await trio.sleep(120)  # it was looked at, in vain
    await world.phone.send_message(ana.pn, poll, Wrapping(type="poll"), id="POLL1")
    message = await world.shown("POLL1", lambda now: now.votes)
    assert (message.kind, message.text) == ("poll", "When?")
    assert message.detail["options"] == ["now", "later"]
    assert [(item.voter.name, item.options) for item in message.votes] == [("Ana", ("later",))]
    for at, options in ((2_000, ["now", "later"]), (3_000, []), (4_000, ["now"])):
        changed = vote(ana, world.team, "POLL1", poll, *options, at=at)
        await ana.phone.send_message(world.team.pn, changed, Wrapping(type="poll", hidden=True))
        await world.shown("POLL1", functools.partial(voted, options))
    own = vote(world.team, world.team, "POLL1", poll, "later", at=5_000)
    await world.phone.send_message(ana.pn, own, Wrapping(type="poll", hidden=True))
    message = await world.shown("POLL1", lambda now: len(now.votes) == 2)
    assert {item.options: item.voter.is_self for item in message.votes} == {
        ("now",): False,
        ("later",): True,
    }


async def test_answers_to_an_event(autojump_clock: Clock, world: WholeWorld, ana: Account) -> None:
    """The event shows what it is; an answer to it is opened."""
    event = compose.event("Party", start=1_790_100_000, secret=SECRET, place="here")
    await world.phone.send_message(ana.pn, event, Wrapping(type="event"), id="EVENT1")
    parent = addons.Parent(id="EVENT1", authors=(str(world.team.pn),), raw=event)
    sealed = addons.encrypt_response("going", 7, parent, str(ana.pn), bytes(12))
    key = about(world.team, "EVENT1")
    sent = await ana.phone.send_message(world.team.pn, compose.event_response(key, sealed))
    answer = await world.shown(sent, lambda now: "response" in now.detail)
    assert (answer.kind, answer.detail["response"]) == ("event_response", "going")
    message = await world.shown("EVENT1")
    assert (message.kind, (message.text or "").splitlines()[0]) == ("event", "Party")


# ---- the rest of what can be written


async def test_places_and_cards(autojump_clock: Clock, world: WholeWorld, ana: Account) -> None:
    """Where somebody is, and who somebody knows."""
    card = ("Bob", "BEGIN:VCARD\nFN:Bob\nEND:VCARD")
    for content, kind, text in (
        (compose.location(1.5, -2.5, name="Cafe", address="Main St"), "location", "Cafe\nMain St"),
        (compose.contact([card]), "contact", "Bob"),
        (compose.contact([card, ("Eve", card[1])]), "contacts", "2 contacts"),
    ):
        sent = await ana.phone.send_message(world.team.pn, content)
        message = await world.shown(sent)
        assert (message.kind, message.text) == (kind, text)
    [place, _one, several] = await world.talk(ana)
    assert (place.detail["latitude"], place.detail["longitude"]) == (1.5, -2.5)
    assert "Eve" in str(several.detail)


async def test_disappearing_messages(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """The chat's setting follows what either side sets; such messages are kept, and flagged."""
    for setter, to, seconds in ((ana, world.team, 86_400), (world.team, ana, 604_800)):
        setting = wa_pb2.Message()
        setting.protocol_message.type = wa_pb2.ProtocolMessage.EPHEMERAL_SETTING
        setting.protocol_message.ephemeral_expiration = seconds
        await trio.sleep(10)
        await setter.phone.send_message(to.pn, setting.SerializeToString())
        await world.settled()
        chat = await world.storage.chat(NAME, str(ana.pn))
        assert chat is not None
        assert chat.expiration == seconds
    content = compose.text("soon gone", Context(expiration=604_800))
    sent = await ana.phone.send_message(world.team.pn, content)
    assert (await world.shown(sent)).flags == ("ephemeral",)
    row = await world.send(ana, "text", text="me too")
    assert (await world.shown(row.external_id)).flags == ("ephemeral",)


async def test_what_is_not_known_is_kept(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """A kind of a later day is stored with its bytes, and shown as unknown."""
    later = b"\xfa\x7d\x03new"  # field 2015
    sent = await ana.phone.send_message(world.team.pn, later)
    message = await world.shown(sent)
    assert message.kind == "unknown"
    stored = await world.storage.find_message(NAME, str(ana.pn), sent)
    assert stored is not None
    assert stored.raw == later


# ---- groups


async def test_a_group_and_its_changes(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """Who wrote what, who came and went, what it is called: told by lines, kept as facts."""
    bob = world.simulator.create_account("Bob")
    group = await ana.phone.create_group("friends", world.team)
    jid = str(group.jid)
    first = await ana.phone.send_group_text(jid, "welcome")
    await trio.sleep(1)  # WhatsApp dates changes by the second
    await ana.phone.add_to_group(jid, bob)
    second = await bob.phone.send_group_text(jid, "hi")
    await trio.sleep(1)
    await ana.phone.set_group_subject(jid, "best friends")
    await ana.phone.set_group_description(jid, "for us")
    await ana.phone.promote_in_group(jid, bob)
    await ana.phone.set_group_announce(jid)
    await ana.phone.set_group_expiration(jid, 86_400)
    await world.settled()
    talk = await world.talk(jid)
    assert [(m.external_id, m.sender.name) for m in talk if m.kind == "text"] == [
        (first, "Ana"),
        (second, "Bob"),
    ]
    lines = [message.detail["action"] for message in talk if message.kind == "system"]
    assert lines == ["create", "add", "subject", "description", "promote", "announce", "ephemeral"]
    await world.eventually(lambda: _subject(world, jid, "best friends"), "the subject")
    found = await world.storage.group(NAME, jid)
    assert found is not None
    assert (found.description, found.announce, found.expiration) == ("for us", True, 86_400)
    assert {member.person.name: member.role for member in found.members if member.person.name} == {
        "Ana": "superadmin",
        "Bob": "admin",
    }
    assert sum(member.person.is_self for member in found.members) == 1
    await trio.sleep(1)
    await bob.phone.leave_group(jid)
    await ana.phone.remove_from_group(jid, world.team)
    await world.settled()
    found = await world.storage.group(NAME, jid)
    assert found is not None
    assert [member.person.name for member in found.members] == ["Ana"]


async def _subject(world: WholeWorld, group: str, subject: str) -> bool | None:
    found = await world.storage.group(NAME, group)
    return True if found is not None and found.subject == subject else None


async def test_a_group_that_is_met_is_looked_up(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """Of a group from before the pairing a message tells no more than its address; the rest is
    asked of the server."""
    group = world.simulator.world.create_group("old", ana, [world.team])
    await ana.phone.send_group_text(group.jid, "hello")
    await world.eventually(lambda: _subject(world, str(group.jid), "old"), "the group is known")
    found = await world.storage.group(NAME, str(group.jid))
    assert found is not None
    assert len(found.members) == 2


# ---- calls


async def test_calls(autojump_clock: Clock, world: WholeWorld, ana: Account) -> None:
    """Each call leaves what happened: offered and missed, or answered elsewhere and ended."""
    missed = await ana.phone.call(world.team.pn, video=True)
    await ana.phone.hang_up(missed)
    taken = await ana.phone.call(world.team.pn)
    await world.phone.accept_call(taken)
    await ana.phone.hang_up(taken, "")
    refused = await ana.phone.call(world.team.pn)
    await world.phone.reject_call(refused)
    await world.settled()
    calls = [message for message in await world.talk(ana) if message.kind == "call"]
    told: dict[str, list[str]] = {}
    for call in calls:
        told.setdefault(call.detail["call_id"], []).append(call.detail["event"])
    assert told[missed] == ["offer", "missed"]
    assert told[taken][0] == told[refused][0] == "offer"
    assert "missed" not in told[taken] + told[refused]
    assert {call.detail["video"] for call in calls if call.detail["call_id"] == missed} == {True}


# ---- what could not be read


async def test_corrupt_ciphertext_is_filled_by_the_sender(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """A retry receipt brings the message, which takes the place of its placeholder."""
    await ana.phone.send_text(world.team.pn, "before")
    await world.settled()
    world.simulator.faults.corrupt(world.team.pn)
    sent = await ana.phone.send_text(world.team.pn, "broken")
    await ana.phone.send_text(world.team.pn, "after")
    message = await world.shown(sent, lambda now: now.state == "stored")
    assert (message.text, message.retries) == ("broken", 1)
    await world.settled()
    assert [m.text for m in await world.talk(ana)] == ["before", "broken", "after"]
    assert not world.phone.asked


async def test_corrupt_ciphertext_in_a_group(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """The same with the keys of a group."""
    group = world.simulator.create_group("all", [ana, world.team])
    world.simulator.faults.corrupt(world.team.pn)
    sent = await ana.phone.send_group_text(group.jid, "broken")
    message = await world.shown(sent, lambda now: now.state == "stored")
    assert message.text == "broken"
    await ana.phone.send_group_text(group.jid, "after")
    await world.settled()
    assert [m.text for m in await world.talk(group.jid) if m.kind == "text"] == ["broken", "after"]


async def test_the_own_phone_fills_what_its_sender_does_not(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """A sender without network sends nothing again; the team's phone has the message."""
    world.simulator.faults.corrupt(world.team.pn)
    sent = await ana.phone.send_text(world.team.pn, "broken")
    ana.phone.answers = False
    message = await world.shown(sent, lambda now: now.state == "stored")
    assert (message.text, message.sender.name) == ("broken", "Ana")
    assert sum(world.phone.asked.values()) == 1


async def test_what_never_comes_gets_a_verdict(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """Neither the sender nor the phone has it: the placeholder says so, once and for good."""
    world.phone.answers = False
    ana.phone.answers = False
    world.simulator.faults.corrupt(world.team.pn)
    sent = await ana.phone.send_text(world.team.pn, "lost")
    message = await world.shown(sent, lambda now: now.verdict)
    assert (message.state, message.text) == ("undecryptable", None)
    assert message.verdict == "gave_up"


async def test_placeholders_outlive_a_kill(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """The next daemon asks the phone for what the last one could not read."""
    ana.phone.answers = False
    world.simulator.faults.corrupt(world.team.pn, 3)
    sent = [await ana.phone.send_text(world.team.pn, f"broken {n}") for n in range(3)]
    await world.settled()
    await world.restart_daemon()
    for number, message_id in enumerate(sent):
        message = await world.shown(message_id, lambda now: now.state == "stored")
        assert message.text == f"broken {number}"
    await world.settled()
    assert [m.external_id for m in await world.talk(ana)] == sent
    assert sum(world.phone.asked.values()) == 1


# ---- who people are


async def test_two_addresses_become_one_person(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """What was stored under a number and under a hidden address is one talk once the two are
    known to be one; an operator may undo it."""
    old = [
        (str(ana.lid), "HIDDEN1", "by hidden address", 1_789_000_000),
        (str(ana.pn), "NUMBER1", "by number", 1_789_000_100),
    ]
    for chat, message_id, text, at in old:
        message = HistoryMessage(
            key=TargetKey(remote_jid=chat, id=message_id),
            timestamp=at,
            message=compose.text(text),
        )
        conversation = HistoryConversation(chat=chat, messages=(message,))
        await world.phone.push_history(Chunk(inline=True, conversations=(conversation,)))
        await world.shown(message_id)
    hidden = await world.shown("HIDDEN1")
    assert hidden.sender.shown == f"lid:{ana.lid.user}"
    assert hidden.conversation != (await world.shown("NUMBER1")).conversation
    await world.phone.migrate_lids(ana)
    await world.settled()

    async def merged() -> t.Any:
        return await world.storage.merges(NAME)

    [merge] = await world.eventually(merged, "a merge")
    assert [m.external_id for m in await world.talk(ana)] == ["HIDDEN1", "NUMBER1"]
    [person] = await world.storage.contacts(NAME)
    assert (set(person.addresses), person.shown) == (
        {str(ana.pn), str(ana.lid)},
        f"+{ana.pn.user}",
    )
    await world.storage.unmerge(merge.id)
    people = await world.storage.contacts(NAME)
    assert len(people) == 2


async def test_a_customer_on_a_new_phone(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """A new identity is accepted, in both directions; the talk goes on as it was."""
    await ana.phone.send_text(world.team.pn, "old phone")
    assert (await world.send(ana, "text", text="hello")).state != "failed"
    await ana.reinstall()
    second = await ana.phone.send_text(world.team.pn, "new phone")
    await world.shown(second, lambda now: now.state == "stored")
    row = await world.send(ana, "text", text="welcome back")
    assert row.state != "failed"
    await world.until(
        lambda: [got.text for got in ana.phone.inbox][-1:] == ["welcome back"], "it arrives"
    )
    texts = [message.text for message in await world.talk(ana)]
    assert texts == ["old phone", "hello", "new phone", "welcome back"]
    conversations = await world.storage.conversations(status=None, connection=NAME, limit=10)
    assert len(conversations) == 1


async def test_names_from_the_phone(autojump_clock: Clock, world: WholeWorld, ana: Account) -> None:
    """The address book outranks what people call themselves; chats are as on the phone."""
    await ana.phone.send_text(world.team.pn, "hello")
    await world.phone.set_contact_name(ana, "Ana Maria")
    await world.phone.mute(ana)
    await world.phone.pin(ana)
    await world.phone.edit_label("1", "VIP", color=3)
    await world.phone.label("1", ana)

    async def named() -> bool | None:
        chat = await world.storage.chat(NAME, str(ana.pn))
        return True if chat is not None and chat.labels else None

    await world.eventually(named, "the label")
    chat = await world.storage.chat(NAME, str(ana.pn))
    assert chat is not None
    assert (chat.title, chat.muted, chat.pinned) == ("Ana Maria", True, True)
    assert [label.name for label in chat.labels] == ["VIP"]


# ---- what the team writes


async def test_what_the_phone_writes_shows(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """The team's own messages are in the talk, as ours, with how far they got."""
    sent = await world.phone.send_text(ana.pn, "from the phone")
    message = await world.shown(sent)
    assert (message.from_me, message.sender.is_self, message.text) == (True, True, "from the phone")
    await ana.phone.read(world.team.pn, sent)
    message = await world.shown(sent, lambda now: now.status == "read")
    [receipt] = message.receipts
    assert receipt.recipient.name in (None, "Ana")
    assert receipt.read_at is not None


async def test_receipts_of_what_we_send(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """Sent, delivered, read, played: the row and the message go through them, once each."""
    ana.phone.answers = False
    row = await world.send(ana, "text", text="hello")
    assert row.state == "sent"
    assert (await world.shown(row.external_id)).status == "sent"
    ana.phone.answers = True
    row = await world.send(ana, "text", text="again")
    for kind, act in (("read", ana.phone.read), ("played", ana.phone.play)):
        await act(world.team.pn, row.external_id)
        message = await world.shown(row.external_id, lambda now, wanted=kind: now.status == wanted)
        stored = await world.storage.outbox_row(NAME, row.id)
        assert stored is not None
        assert stored.state == kind
        [receipt] = message.receipts
        assert receipt.delivered_at is not None
    assert [m.text for m in await world.talk(ana)] == ["hello", "again"]


async def test_receipts_of_a_group(autojump_clock: Clock, world: WholeWorld, ana: Account) -> None:
    """In a group each member has a receipt of their own."""
    bob = world.simulator.create_account("Bob")
    group = world.simulator.create_group("all", [ana, bob, world.team])
    row = await world.send(group.jid, "text", text="hello all")
    await ana.phone.read(group.jid, row.external_id, author=world.team.lid)
    message = await world.shown(row.external_id, lambda now: now.status == "read")
    read = {
        receipt.recipient.addresses: receipt.read_at is not None for receipt in message.receipts
    }
    assert sorted(read.values()) == [False, True]
    assert len(read) == 2


async def test_everything_we_can_send(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """A reply, a reaction, an edit, a deletion, a file, a place, a card, a poll and a vote: the
    customer gets each, and the inbox shows it as if the phone had written it."""
    question = await ana.phone.send_text(world.team.pn, "question")
    await world.settled()
    blob = await world.services.blobs.put(_pieces(b"picture"))
    sent: dict[str, str] = {}
    for kind, body in (
        ("reply", {"text": "answer", "quoted": question}),
        ("reaction", {"target": question, "emoji": "👍"}),
        ("media", {"file": blob.sha256.hex(), "kind": "image", "caption": "look"}),
        ("location", {"latitude": 1.0, "longitude": 2.0, "name": "here"}),
        ("contact", {"cards": [{"name": "Bob", "vcard": "BEGIN:VCARD\nEND:VCARD"}]}),
        ("poll", {"name": "When?", "options": ["now", "later"]}),
        ("text", {"text": "tpyo"}),
        ("text", {"text": "wrong chat"}),
    ):
        row = await world.send(ana, kind, **body)
        assert row.state in ("sent", "delivered"), (kind, row.reason)
        sent[str(body.get("text", kind))] = row.external_id
    for kind, body in (
        ("edit", {"target": sent["tpyo"], "text": "typo"}),
        ("revoke", {"target": sent["wrong chat"]}),
        ("poll_vote", {"target": sent["poll"], "options": ["later"]}),
        ("read", {"ids": [question]}),
    ):
        row = await world.send(ana, kind, **body)
        assert row.state in ("sent", "delivered"), (kind, row.reason)
    await world.shown(sent["poll"], lambda now: now.votes)
    talk = {message.external_id: message for message in await world.talk(ana)}
    assert [reaction.emoji for reaction in talk[question].reactions] == ["👍"]
    answer = talk[sent["answer"]]
    assert answer.quoted is not None
    assert (answer.text, answer.quoted.text) == ("answer", "question")
    assert talk[sent["tpyo"]].text == "typo"
    assert talk[sent["wrong chat"]].deleted is not None
    assert [vote.options for vote in talk[sent["poll"]].votes] == [("later",)]
    kinds = [got.kind for got in ana.phone.inbox]
    assert kinds == [
        "text",
        "reaction",
        "image",
        "location",
        "contact",
        "poll_creation_message_v3".removesuffix("_message"),
        "text",
        "text",
        "protocol",
        "protocol",
        "poll_update",
    ]
    assert "read" in [node.text("type") for node in ana.phone.receipts]
    await world.settled()
    assert len(await world.talk(ana)) == 8


async def _pieces(data: bytes) -> cabc.AsyncIterator[bytes]:
    await trio.lowlevel.checkpoint()
    yield data


# ---- everything at once, after a kill


async def test_a_killed_daemon_shows_the_same(
    autojump_clock: Clock, world: WholeWorld, ana: Account
) -> None:
    """What was stored is shown by the next daemon as by the last one; work goes on in it."""
    await world.send(ana, "text", text="hello")
    sent = await ana.phone.send_text(world.team.pn, "one")
    source = ana.phone.upload("image", b"picture", mimetype="image/jpeg")
    world.simulator.faults.fail_media("download", status=503, count=2)
    image = await ana.phone.send_message(world.team.pn, compose.media(source))
    await world.settled()
    await world.kill_daemon()
    edit = await ana.phone.send_message(
        world.team.pn,
        compose.edit(about(world.team, sent, mine=True), "two", 5),
        Wrapping(edit="1"),
    )
    await world.start_daemon()
    await world.until_state(NAME, "online")
    message = await world.shown(sent, lambda now: now.versions)
    assert [version.text for version in message.versions] == ["one", "two"]
    await world.shown(image, lambda now: now.media and now.media.state == "stored")
    assert (await world.shown(edit)).retries == 0  # its keys were stored with what came before
    assert len(await world.talk(ana)) == 3
