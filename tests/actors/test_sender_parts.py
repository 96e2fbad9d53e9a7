"""From the request to the plaintext, and the pace at which messages leave."""

import datetime as dt
import itertools
import random
import typing as t

import attrs
import pytest
import trio
import trio.testing

from actors import drafts
from actors.composition import Composer, Destination, UnsendableError
from actors.devices import Person
from actors.pacing import Pace, Pacer
from storage.inbox import ChatDetail, StoredMessage
from storage.queues import OutboxRequest
from tests.actors.conftest import NAME
from tests.actors.outbox_people import ANNA, BEN, GROUP, OWN
from whatsapp import compose
from whatsapp.addons import Parent, resolve
from whatsapp.content import read_content
from whatsapp.iq.groups import Group
from whatsapp.jid import Jid
from whatsapp.media_source import MediaSource

Clock: t.TypeAlias = trio.testing.MockClock
START = 1_790_000_000


async def test_no_minute_holds_more_than_its_share(autojump_clock: Clock) -> None:
    """The bound counts any sixty seconds, not those of a clock."""
    pacer = Pacer(Pace(gap=1.0, jitter=0.0, per_minute=5), lambda: 0.5)
    at = []
    for _ in range(12):
        await pacer.turn()
        at.append(trio.current_time())
    start = at[0]
    assert [time - start for time in at] == [0, 1, 2, 3, 4, 60, 61, 62, 63, 64, 120, 121]


async def test_the_gap_varies_by_its_jitter(autojump_clock: Clock) -> None:
    draws = iter([0.0, 0.999, 0.5, 0.5])
    pacer = Pacer(Pace(gap=10.0, jitter=0.3, per_minute=100), lambda: next(draws))
    at = []
    for _ in range(4):
        await pacer.turn()
        at.append(trio.current_time())
    gaps = [after - before for before, after in itertools.pairwise(at)]
    assert gaps == pytest.approx([7.0, 12.994, 10.0])


@pytest.mark.parametrize(
    ("kind", "body", "problem"),
    [
        ("text", {}, "is missing @ text.text"),
        ("text", {"text": ""}, "Length of 'text' must be >= 1"),
        ("text", {"text": "a", "colour": 1}, "has unknown fields: colour"),
        ("text", {"text": "a", "mentions": "b"}, "must be a list"),
        ("reply", {"text": "a"}, "a reply without the message that it answers"),
        ("location", {"latitude": 91, "longitude": 0}, "must be <= 90"),
        ("media", {"file": "ab", "kind": "program"}, "must be in"),
        ("media", {"file": "ab", "kind": "image", "width": True}, "must be int"),
        ("poll", {"name": "?", "options": ["one"]}, "must be >= 2"),
        ("read", {"ids": []}, "must be >= 1"),
        ("contact", {"cards": [{"name": "A"}]}, "is missing"),
        ("dance", {}, "nothing of kind 'dance' can be sent"),
    ],
)
def test_malformed_requests_are_told_apart(kind: str, body: dict[str, t.Any], problem: str) -> None:
    """Each with what is wrong, where it is wrong."""
    with pytest.raises(drafts.BadRequestError, match=problem.replace("?", r"\?")):
        drafts.read_request(OutboxRequest(kind=kind, chat="x", body=body))


def test_every_kind_has_a_body_that_reads() -> None:
    """The table of kinds is complete, and JSON is enough to fill it."""
    bodies: dict[str, dict[str, t.Any]] = {
        "text": {"text": "a", "mentions": ["15550001111@s.whatsapp.net"]},
        "reply": {"text": "a", "quoted": "ID"},
        "reaction": {"target": "ID", "emoji": ""},
        "edit": {"target": "ID", "text": "b"},
        "revoke": {"target": "ID"},
        "media": {"file": "ab", "kind": "audio", "voice": True, "seconds": 3},
        "location": {"latitude": 1, "longitude": -2.5, "name": "here"},
        "contact": {"cards": [{"name": "A", "vcard": "BEGIN:VCARD"}]},
        "poll": {"name": "?", "options": ["a", "b"], "selectable": 0},
        "poll_vote": {"target": "ID", "options": []},
        "read": {"ids": ["ID"], "author": None},
    }
    assert set(bodies) == set(drafts.KINDS)
    for kind, body in bodies.items():
        read = drafts.read_request(OutboxRequest(kind=kind, chat="x", body=body))
        assert isinstance(read, drafts.KINDS[kind])


@attrs.define
class Archive:
    """Messages that requests refer to."""

    messages: dict[str, StoredMessage] = attrs.field(factory=dict)
    expiration: int | None = None

    async def find_message(
        self, connection: str, chat: str | None, external_id: str, *, author: str | None = None
    ) -> StoredMessage | None:
        return self.messages.get(external_id)

    async def chat(self, connection: str, address: str) -> ChatDetail | None:
        return ChatDetail(
            connection=connection,
            address=address,
            title=None,
            direct=True,
            archived=None,
            muted_until=None,
            muted=None,
            pinned=None,
            unread=None,
            read_until=None,
            expiration=self.expiration,
            labels=(),
        )

    def keep(self, raw: bytes, *, by: Person | None, external_id: str = "T") -> None:
        content = read_content(raw)
        self.messages[external_id] = StoredMessage(
            id=1,
            connection=NAME,
            conversation=1,
            chat=str(ANNA.lid),
            chat_alt=str(ANNA.number),
            direct=True,
            senders=() if by is None else (str(by.number), str(by.lid)),
            from_me=by is None,
            external_id=external_id,
            kind=content.kind,
            state="stored",
            lane="live",
            text=content.text,
            raw=raw,
            target_id=None,
            target_author=None,
            quoted_id=None,
            quoted_author=None,
            mentions=(),
            flags=(),
            detail=dict(content.detail),
            sent_at=dt.datetime.fromtimestamp(START, dt.UTC),
        )


async def _people(jid: Jid) -> Person:
    return next((who for who in (OWN, ANNA, BEN) if jid in who.forms), Person(jid, None))


async def _upload(file: str, kind: str) -> MediaSource:
    return MediaSource(
        kind=kind, media_key=b"k" * 32, direct_path="/v/1", sha256=b"s" * 32, file_name=file
    )


def composer(archive: Archive) -> Composer:
    return Composer(
        NAME,
        archive,
        _upload,
        person=_people,
        wall_clock=lambda: float(START),
        random=random.Random(4).randbytes,
    )


def direct() -> Destination:
    return Destination(jid=ANNA.form(True), own=OWN.form(True), person=ANNA)


def in_group(*, admin: bool = False, expiration: int = 0) -> Destination:
    group = Group(jid=GROUP, subject="g", participants=(), expiration=expiration)
    return Destination(jid=GROUP, own=OWN.form(True), group=group, admin=admin)


async def test_mentions_are_named_as_the_chat_names_people() -> None:
    """Where a chat uses hidden addresses, so do the mention and the text."""
    body = drafts.Text(text="ask @15550002222!", mentions=("15550002222@s.whatsapp.net",))
    content = read_content(await composer(Archive()).compose(body, in_group()))
    assert content.mentions == (str(BEN.lid),)
    assert content.text == "ask @900002222!"
    for nobody in ("120363000000000001@g.us", "x:y@s.whatsapp.net"):
        with pytest.raises(UnsendableError):
            await composer(Archive()).compose(drafts.Text(text="@", mentions=(nobody,)), in_group())


async def test_an_answer_quotes_author_and_text() -> None:
    archive = Archive()
    archive.keep(compose.text("original"), by=ANNA)
    body = drafts.Text(text="answer", quoted="T")
    content = read_content(await composer(archive).compose(body, direct()))
    assert (content.quoted_id, content.quoted_author) == ("T", str(ANNA.lid))
    archive.keep(compose.text("mine"), by=None)
    content = read_content(await composer(archive).compose(body, direct()))
    assert content.quoted_author == str(OWN.lid)


async def test_disappearing_chats_stay_so() -> None:
    """The chat's setting goes along, as everybody's client does it."""
    archive = Archive(expiration=86_400)
    content = read_content(await composer(archive).compose(drafts.Text(text="hi"), direct()))
    assert content.expiration == 86_400
    body = drafts.Text(text="hi")
    content = read_content(await composer(Archive()).compose(body, in_group(expiration=60)))
    assert content.expiration == 60


async def test_keys_name_the_author_in_groups_only() -> None:
    archive = Archive()
    archive.keep(compose.text("theirs"), by=BEN)
    react = drafts.Reaction(target="T", emoji="👍")
    content = read_content(await composer(archive).compose(react, in_group()))
    assert content.target is not None
    assert (content.target.from_me, content.target.participant) == (False, str(BEN.lid))
    assert content.target.remote_jid == str(GROUP)
    content = read_content(await composer(archive).compose(react, direct()))
    assert content.target is not None
    assert content.target.participant is None
    archive.keep(compose.text("mine"), by=None)
    content = read_content(await composer(archive).compose(react, in_group()))
    assert content.target is not None
    assert (content.target.from_me, content.target.participant) == (True, None)


async def test_administrators_delete_what_others_wrote() -> None:
    archive = Archive()
    archive.keep(compose.text("rude"), by=BEN)
    revoke = drafts.Revoke(target="T")
    with pytest.raises(UnsendableError, match="only administrators"):
        await composer(archive).compose(revoke, in_group())
    content = read_content(await composer(archive).compose(revoke, in_group(admin=True)))
    assert content.kind == "revoke"


async def test_a_vote_is_one_that_the_poll_knows() -> None:
    """It opens with the poll's secret; an option that is not there is refused."""
    archive = Archive()
    poll = compose.poll("?", ["yes", "no"], selectable=1, secret=b"s" * 32)
    archive.keep(poll, by=ANNA)
    vote = drafts.PollVote(target="T", options=("no",))
    raw = await composer(archive).compose(vote, direct())
    parent = Parent(id="T", authors=(str(ANNA.lid),), raw=poll)
    assert resolve(raw, parent, [str(OWN.lid)]).detail["options"] == ["no"]
    with pytest.raises(UnsendableError, match="no option 'maybe'"):
        await composer(archive).compose(drafts.PollVote(target="T", options=("maybe",)), direct())
    archive.keep(compose.text("no poll"), by=ANNA)
    with pytest.raises(UnsendableError, match="no poll"):
        await composer(archive).compose(vote, direct())


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (drafts.Media(file="f", kind="image", caption="look", width=3, height=4), "image"),
        (drafts.Media(file="f", kind="video", gif=True), "gif"),
        (drafts.Media(file="f", kind="audio", voice=True, seconds=3), "voice"),
        (drafts.Media(file="f", kind="document", name="a.pdf", caption="read"), "document"),
        (drafts.Media(file="f", kind="sticker", animated=True), "sticker"),
        (drafts.Location(latitude=1.5, longitude=2.5, name="here"), "location"),
        (drafts.Contact(cards=(drafts.Card(name="A", vcard="V"),)), "contact"),
        (drafts.Poll(name="?", options=("a", "b")), "poll"),
    ],
)
async def test_every_other_kind_is_composed(body: drafts.Body, kind: str) -> None:
    content = read_content(await composer(Archive()).compose(body, direct()))
    assert content.kind == kind


@pytest.mark.parametrize(
    "body",
    [
        drafts.Poll(name="?", options=("same", "same")),
        drafts.Media(file="f", kind="audio", caption="audio has none"),
        drafts.Media(file="f", kind="image", voice=True),
        drafts.Read(ids=("A",)),
    ],
)
async def test_what_makes_no_message_is_refused(body: drafts.Body) -> None:
    with pytest.raises(UnsendableError):
        await composer(Archive()).compose(body, direct())
