"""Encrypted answers: those of another implementation open, ours open, nothing else does.

The vectors are made by vectors/make_message_vectors.mjs, which says how.
"""

import json
import pathlib
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp import addons, compose
from whatsapp.addons import Parent
from whatsapp.content import TargetKey, read_content
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.proto import wa_pb2

VECTORS = json.loads(
    (pathlib.Path(__file__).parent / "vectors" / "message_vectors.json").read_text()
)
ME = ("5511999990001@s.whatsapp.net", "90000000000001@lid")
PEER = ("5511999990002@s.whatsapp.net", "90000000000002@lid")
SECRET = b"s" * 32
IV = b"i" * 12
POLL = compose.poll("Lunch?", ["Tea", "Café"], selectable=0, secret=SECRET)
PARENT = Parent(id="A1", authors=ME, raw=POLL)
KEY = TargetKey(remote_jid=PEER[0], from_me=False, id="A1")

RESOLVED: dict[str, tuple[str, str | None, dict[str, t.Any]]] = {
    "Poll Vote": ("poll_vote", None, {"sent_at_ms": 1_700_000_000_123, "options": ["Sushi"]}),
    "Event Response": (
        "event_response",
        None,
        {"response": "going", "sent_at_ms": 1_700_000_000_123, "guests": 2},
    ),
    "Enc Reaction": ("reaction", "👍", {"sent_at_ms": 1_700_000_000_123}),
    "Enc Comment": ("comment", "nice", {}),
    "Message Edit": ("edit", "after", {"type": "message_edit", "kind": "text"}),
    "Event Edit": (
        "edit",
        "Party",
        {
            "type": "event_edit",
            "kind": "event",
            "detail": {"name": "Party", "start": 1_700_007_200, "canceled": True},
        },
    ),
}


@pytest.mark.parametrize("vector", VECTORS["answers"], ids=lambda vector: vector["use"])
def test_answers_of_another_implementation_open(vector: dict[str, str]) -> None:
    """Under whichever of their two addresses author and sender were named."""
    parent = Parent(id=VECTORS["id"], authors=ME, raw=bytes.fromhex(vector["parent"]))
    senders = ME if vector["sender"] in ME else PEER
    raw = bytes.fromhex(vector["message"])
    content = addons.resolve(raw, parent, senders)
    assert (content.kind, content.text, content.detail) == RESOLVED[vector["use"]]
    assert content.target_id == VECTORS["id"]
    assert content.raw == raw
    wrong = tuple(jid for jid in senders if jid != vector["sender"])
    with pytest.raises(RemoteProtocolError):
        addons.resolve(raw, parent, wrong)


@pytest.mark.parametrize("author", ME)
@pytest.mark.parametrize("sender", PEER)
@pytest.mark.parametrize("options", [[], ["Café"], ["Tea", "Café"]])
def test_votes_open_again(author: str, sender: str, options: list[str]) -> None:
    """All options at once, none, and in any pair of address forms."""
    vote = addons.encrypt_vote(options, Parent(id="A1", authors=(author,), raw=POLL), sender, IV)
    raw = compose.poll_vote(KEY, vote, 5)
    content = addons.resolve(raw, PARENT, PEER)
    assert content.detail == {"sent_at_ms": 5, "options": options}


def test_a_vote_for_what_the_poll_does_not_list_is_kept() -> None:
    """An option that was added later is known by its hash."""
    raw = compose.poll_vote(KEY, addons.encrypt_vote(["Milk", "Tea"], PARENT, PEER[0], IV), 5)
    detail = addons.resolve(raw, PARENT, PEER).detail
    assert detail["options"] == ["Tea"]
    assert detail["unknown_options"] == [addons.option_hash(b"Milk").hex()]


def test_a_vote_in_what_is_no_poll_names_no_option() -> None:
    """Anything with a secret can be voted in; only a poll has options."""
    event = compose.event("Party", start=1, secret=SECRET)
    parent = Parent(id="A1", authors=ME, raw=event)
    raw = compose.poll_vote(KEY, addons.encrypt_vote(["Tea"], parent, PEER[0], IV), 5)
    detail = addons.resolve(raw, parent, PEER).detail
    assert (detail["options"], len(detail["unknown_options"])) == ([], 1)


def test_reactions_responses_and_edits_open_again() -> None:
    """Each becomes what it would be without encryption."""
    sealed = addons.encrypt_reaction("", 5, PARENT, PEER[0], IV)
    content = addons.resolve(compose.encrypted_reaction(KEY, sealed), PARENT, PEER)
    assert (content.kind, content.text) == ("reaction", "")
    sealed = addons.encrypt_response("maybe", 5, PARENT, PEER[0], IV)
    content = addons.resolve(compose.event_response(KEY, sealed), PARENT, PEER)
    assert content.detail["response"] == "maybe"
    with pytest.raises(LocalProtocolError):
        addons.encrypt_response("perhaps", 5, PARENT, PEER[0], IV)
    for new in (compose.text("new"), compose.edit(KEY, "new", 5)):
        sealed = addons.encrypt_edit(new, PARENT, ME[1], IV)
        content = addons.resolve(compose.encrypted_edit(KEY, sealed), PARENT, ME)
        assert (content.kind, content.text, content.target_id) == ("edit", "new", "A1")
        assert content.edited is not None


def test_what_is_no_answer_or_has_no_secret_does_not_open() -> None:
    """Plain messages, unknown types, and parents that allow no answers."""
    raw = compose.poll_vote(KEY, addons.encrypt_vote(["Tea"], PARENT, PEER[0], IV), 5)
    scheduled = wa_pb2.EncryptedAddOn(secret_enc_type=3)
    for message, parent in (
        (compose.text("x"), PARENT),
        (wa_pb2.Message(secret_encrypted_message=scheduled.SerializeToString()), PARENT),
        (raw, Parent(id="A1", authors=ME, raw=compose.text("no secret"))),
        (raw, Parent(id="A2", authors=ME, raw=POLL)),
        (raw, Parent(id="A1", authors=(), raw=POLL)),
        (raw, Parent(id="A1", authors=ME, raw=b"\xff")),
        (compose.poll_vote(KEY, addons.Encrypted(bytes(20), b"short"), 5), PARENT),
        (compose.poll_vote(KEY, addons.Encrypted(b"short", IV), 5), PARENT),
    ):
        data = message if isinstance(message, bytes) else message.SerializeToString()
        with pytest.raises(RemoteProtocolError):
            addons.resolve(data, parent, PEER)
    with pytest.raises(LocalProtocolError):
        addons.encrypt_vote([], Parent(id="A1", authors=ME, raw=compose.text("x")), PEER[0], IV)
    with pytest.raises(LocalProtocolError):
        addons.encrypt_vote([], PARENT, PEER[0], b"short")


@pytest.mark.parametrize("use", addons.Use)
def test_any_plaintext_inside_resolves_or_is_the_peers_fault(use: addons.Use) -> None:
    """Who has the message can encrypt anything for it."""
    fields = {
        addons.Use.REACTION: "enc_reaction_message",
        addons.Use.COMMENT: "enc_comment_message",
        addons.Use.EVENT_RESPONSE: "enc_event_response_message",
    }
    types = {
        addons.Use.EVENT_EDIT: addons.EVENT_EDIT,
        addons.Use.MESSAGE_EDIT: addons.MESSAGE_EDIT,
        addons.Use.POLL_EDIT: addons.POLL_EDIT,
    }
    for plaintext in (b"", b"\xff", b"\x0a\x01", b"\x0a\x02\xff\xff", bytes(500)):
        sealed = addons.encrypt(plaintext, use, PARENT, PEER[0], IV)
        if use is addons.Use.POLL_VOTE:
            raw = compose.poll_vote(KEY, sealed, 5)
        else:
            add_on = wa_pb2.EncryptedAddOn(
                enc_payload=sealed.payload,
                enc_iv=sealed.iv,
                secret_enc_type=types.get(use, 0),
            )
            message = wa_pb2.Message()
            field = fields.get(use, "secret_encrypted_message")
            setattr(message, field, add_on.SerializeToString())
            raw = message.SerializeToString()
        try:
            content = addons.resolve(raw, PARENT, PEER)
        except RemoteProtocolError:
            continue
        json.dumps(content.detail, allow_nan=False)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=100), st.binary(max_size=100))
def test_any_bytes_resolve_to_nothing_else_than_an_error(raw: bytes, poll: bytes) -> None:
    """No bytes open by chance, or raise anything else."""
    with pytest.raises(RemoteProtocolError):
        addons.resolve(raw, Parent(id="A1", authors=ME, raw=poll), PEER)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 200), st.integers(1, 255))
def test_a_changed_bit_closes_a_vote(position: int, change: int) -> None:
    """Whatever is changed in it, it opens as what it was, or not at all."""
    vote = addons.encrypt_vote(["Tea"], PARENT, PEER[0], IV)
    payload = bytearray(vote.payload)
    payload[position % len(payload)] ^= change
    raw = compose.poll_vote(KEY, addons.Encrypted(bytes(payload), vote.iv), 5)
    assert read_content(raw).kind == "poll_vote"
    with pytest.raises(RemoteProtocolError):
        addons.resolve(raw, PARENT, PEER)
