"""What we compose reads back as what was meant."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp import compose
from whatsapp.addons import Encrypted
from whatsapp.compose import Context, Quote, Traits
from whatsapp.content import TargetKey, build_device_sent, message_secret, read_content
from whatsapp.errors import LocalProtocolError
from whatsapp.jid import Jid
from whatsapp.media_source import MediaSource
from whatsapp.proto import wa_pb2

CHAT = "15550001111@s.whatsapp.net"
AUTHOR = "90000000000001@lid"
SECRET = b"s" * 32
OWN = TargetKey(remote_jid=CHAT, from_me=True, id="A1")
GROUP = TargetKey(remote_jid="120363000000000001@g.us", from_me=False, id="A2", participant=AUTHOR)


def source(kind: str) -> MediaSource:
    """An uploaded file."""
    return MediaSource(
        kind=kind,
        media_key=b"k" * 32,
        direct_path="/v/1",
        url="https://mmg.whatsapp.net/v/1",
        sha256=b"h" * 32,
        enc_sha256=b"e" * 32,
        length=7,
        mimetype="application/x",
        file_name="a.pdf" if kind == "document" else None,
    )


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
jids = st.integers(1, 10**15).map(lambda user: f"{user}@lid")
keys = st.builds(
    TargetKey,
    remote_jid=jids,
    from_me=st.booleans(),
    id=texts.filter(bool),
    participant=st.none() | jids,
)
contexts = st.builds(
    Context,
    quoted=st.none() | st.builds(Quote, id=texts.filter(bool), author=jids),
    mentions=st.lists(jids, max_size=3).map(tuple),
    expiration=st.none() | st.integers(1, 2**31),
)


@settings(deadline=None, max_examples=100)
@given(texts, contexts)
def test_texts_read_back(body: str, context: Context) -> None:
    """With what they quote, whom they mention, and when they disappear."""
    read = read_content(compose.text(body, context))
    assert (read.kind, read.text) == ("text", body)
    assert read.mentions == context.mentions
    assert read.expiration == context.expiration
    quoted = context.quoted
    assert (read.quoted_id, read.quoted_author) == (
        (None, None) if quoted is None else (quoted.id, quoted.author)
    )


@settings(deadline=None, max_examples=50)
@given(keys, texts, st.integers(0, 2**62))
def test_reactions_and_edits_read_back(key: TargetKey, body: str, moment: int) -> None:
    """They name the whole key of their target."""
    read = read_content(compose.reaction(key, body, moment))
    assert (read.kind, read.text, read.target) == ("reaction", body, key)
    assert read.detail == {"sent_at_ms": moment}
    read = read_content(compose.edit(key, body, moment))
    assert (read.kind, read.text, read.target) == ("edit", body, key)


def test_a_plain_text_is_the_shortest_form() -> None:
    """Nothing goes along: the old form says it all."""
    assert compose.text("hi") == wa_pb2.Message(conversation=b"hi").SerializeToString()
    assert read_content(compose.text("ok \ud83d")).text == "ok ?"


def test_revokes() -> None:
    """One of ours, or anyone's as an admin; then the author is named."""
    for key in (OWN, GROUP):
        read = read_content(compose.revoke(key))
        assert (read.kind, read.target) == ("revoke", key)
    with pytest.raises(LocalProtocolError):
        compose.revoke(TargetKey(remote_jid=CHAT, from_me=False, id="A1"))


def test_a_quote_holds_a_copy_without_its_own_quote_and_secrets() -> None:
    """The receiver sees what is answered, and no keys."""
    quoted = compose.text("old", Context(quoted=Quote(id="Q0", author=AUTHOR)))
    message = wa_pb2.Message.FromString(quoted)
    message.message_context_info.message_secret = SECRET
    message.sender_key_distribution_message.group_id = b"g"
    wrapped = build_device_sent(Jid.parse(CHAT), message.SerializeToString())
    answer = compose.text(
        "new", Context(quoted=Quote(id="Q1", author=AUTHOR, message=wrapped, chat=CHAT))
    )
    context = wa_pb2.Message.FromString(answer).extended_text_message.context_info
    copy = wa_pb2.Message.FromString(context.quoted_message)
    old = wa_pb2.ExtendedTextMessage(text=b"old")
    assert copy == wa_pb2.Message(extended_text_message=old)
    assert context.remote_jid == CHAT.encode()
    for unreadable in (b"", b"\xff", b"\xfa\x01\x02\x0a\x00"):
        answer = compose.text(
            "new", Context(quoted=Quote(id="Q1", author=AUTHOR, message=unreadable))
        )
        context = wa_pb2.Message.FromString(answer).extended_text_message.context_info
        assert wa_pb2.Message.FromString(context.quoted_message).HasField("conversation")


@pytest.mark.parametrize(
    ("kind", "traits", "shown", "detail"),
    [
        ("image", Traits(width=4, height=3, thumbnail=b"j"), "image", {"width": 4, "height": 3}),
        ("video", Traits(seconds=9), "video", {"seconds": 9}),
        ("video", Traits(gif=True), "gif", {}),
        ("video", Traits(video_note=True), "video_note", {}),
        ("audio", Traits(seconds=3), "audio", {"seconds": 3}),
        ("audio", Traits(voice=True, waveform=b"w" * 64), "voice", {}),
        ("document", Traits(pages=2), "document", {"name": "a.pdf", "pages": 2}),
        ("sticker", Traits(animated=True), "sticker", {"animated": True}),
    ],
)
def test_files_read_back(kind: str, traits: Traits, shown: str, detail: dict[str, object]) -> None:
    """All kinds, each with what it looks or sounds like, as an answer to something."""
    context = Context(quoted=Quote(id="Q1", author=AUTHOR))
    read = read_content(compose.media(source(kind), traits=traits, context=context))
    assert (read.kind, read.detail, read.media) == (shown, detail, source(kind))
    assert (read.quoted_id, read.quoted_author) == ("Q1", AUTHOR)


@pytest.mark.parametrize("kind", ["image", "video", "document"])
def test_captions_and_their_edits(kind: str) -> None:
    """A caption is the text; editing it keeps the file."""
    sent = compose.media(source(kind), "look")
    read = read_content(sent)
    assert (read.kind, read.text, read.media) == (kind, "look", source(kind))
    edit = read_content(compose.edit(OWN, "better", 5, original=sent))
    assert (edit.kind, edit.text) == ("edit", "better")
    assert edit.edited is not None
    assert (edit.edited.kind, edit.edited.media) == (kind, source(kind))
    nowhere = wa_pb2.Message(device_sent_message=wa_pb2.DeviceSentMessage())
    for other in (compose.text("x"), b"\xff", b"", nowhere.SerializeToString()):
        edit = read_content(compose.edit(OWN, "better", 5, original=other))
        assert edit.edited is not None
        assert edit.edited.kind == "text"


def test_files_are_told_as_what_they_can_be() -> None:
    """No caption on a sticker, no length of a picture, no unknown kind."""
    with pytest.raises(LocalProtocolError):
        compose.media(source("sticker"), "look")
    with pytest.raises(LocalProtocolError):
        compose.media(source("image"), traits=Traits(seconds=1))
    with pytest.raises(LocalProtocolError):
        compose.media(source("history"))


def test_places_and_cards_read_back() -> None:
    """Coordinates, one card, several cards."""
    read = read_content(compose.location(-23.5, 0.0, name="Office", address="Rua A"))
    assert (read.kind, read.text) == ("location", "Office\nRua A")
    assert read.detail == {
        "latitude": -23.5,
        "longitude": 0.0,
        "name": "Office",
        "address": "Rua A",
    }
    read = read_content(compose.contact([("Ana", "V1")]))
    assert (read.kind, read.detail) == ("contact", {"name": "Ana", "vcard": "V1"})
    read = read_content(compose.contact([("Ana", "V1"), ("Bo", "V2")], Context(expiration=60)))
    assert (read.kind, read.expiration) == ("contacts", 60)
    assert read.detail["contacts"][1] == {"name": "Bo", "vcard": "V2"}
    with pytest.raises(LocalProtocolError):
        compose.contact([])


@pytest.mark.parametrize("selectable", [0, 1, 2])
def test_polls_read_back(selectable: int) -> None:
    """With the secret that their votes need."""
    sent = compose.poll("Lunch?", ["Tea", "Café"], selectable=selectable, secret=SECRET)
    read = read_content(sent)
    assert (read.kind, read.text) == ("poll", "Lunch?")
    assert read.detail == {
        "name": "Lunch?",
        "options": ["Tea", "Café"],
        "selectable": selectable,
    }
    assert message_secret(sent) == SECRET


def test_polls_that_make_no_sense_are_refused() -> None:
    """Options are some, not too many, and different; the secret has its length."""
    for options in (["a"], ["a", "a"], [str(number) for number in range(13)]):
        with pytest.raises(LocalProtocolError):
            compose.poll("q", options, selectable=1, secret=SECRET)
    with pytest.raises(LocalProtocolError):
        compose.poll("q", ["a", "b"], selectable=3, secret=SECRET)
    with pytest.raises(LocalProtocolError):
        compose.poll("q", ["a", "b"], selectable=1, secret=b"short")


def test_events_and_encrypted_answers_read_back() -> None:
    """What can be read of them without their key."""
    read = read_content(
        compose.event("Party", start=7, end=9, secret=SECRET, description="at 8", place="Home")
    )
    assert (read.kind, read.text) == ("event", "Party\nat 8")
    assert (read.detail["start"], read.detail["end"]) == (7, 9)
    assert read.detail["location"] == {"name": "Home"}
    sealed = Encrypted(b"payload", b"i" * 12)
    for plaintext, kind in (
        (compose.poll_vote(OWN, sealed, 5), "poll_vote"),
        (compose.event_response(OWN, sealed), "event_response"),
        (compose.encrypted_reaction(OWN, sealed), "encrypted_reaction"),
        (compose.encrypted_edit(OWN, sealed), "secret_encrypted"),
    ):
        read = read_content(plaintext)
        assert (read.kind, read.target) == (kind, OWN)
