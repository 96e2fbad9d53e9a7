"""Taking a person out of messages of others."""

from hypothesis import given
from hypothesis import strategies as st

from whatsapp.proto import wa_pb2
from whatsapp.redaction import redact, redact_json, redact_text, users_of

NUMBER = "5511999990001"
PERSON = f"{NUMBER}@s.whatsapp.net"
HIDDEN = "900000000001@lid"
BOTH = (PERSON, HIDDEN)


def test_users_are_long_enough() -> None:
    """Short ones would be found anywhere; the longest first, so that no part of one stays."""
    assert users_of(("12@lid", HIDDEN, PERSON, "")) == (NUMBER, "900000000001")


def test_a_caption_keeps_its_file() -> None:
    """Quote, mention and number go; what opens the file stays."""
    message = wa_pb2.Message()
    image = message.image_message
    image.caption, image.media_key = f"com @{NUMBER}".encode(), b"k" * 32
    context = image.context_info
    context.stanza_id, context.participant = b"A1", f"{NUMBER}:3@s.whatsapp.net".encode()
    context.quoted_message, context.expiration = b"theirs", 60
    context.mentioned_jid.extend([HIDDEN.encode(), b"15550002222@s.whatsapp.net"])
    found = wa_pb2.Message.FromString(redact(message.SerializeToString(), BOTH)).image_message
    assert (found.caption, found.media_key) == (b"com @removed", b"k" * 32)
    assert list(found.context_info.mentioned_jid) == [b"15550002222@s.whatsapp.net"]
    assert not found.context_info.HasField("quoted_message")
    assert (found.context_info.stanza_id, found.context_info.expiration) == (b"", 60)


def test_what_cannot_be_taken_apart_goes_whole() -> None:
    """Fields that are not known, and bytes that are no message."""
    unknown = wa_pb2.Message(conversation=b"x").SerializeToString()
    unknown += b"\xfa\xff\x01" + bytes([len(NUMBER)]) + NUMBER.encode()
    assert redact(unknown, BOTH) == b""
    assert redact(b"\xff" + NUMBER.encode(), BOTH) == b""


def test_json() -> None:
    """Texts, keys, and numbers that hold one."""
    value = {NUMBER: [f"+{NUMBER}", int(NUMBER), True, None, 1.5, {"a": "b"}]}
    assert redact_json(value, users_of(BOTH)) == {
        "removed": ["+removed", None, True, None, 1.5, {"a": "b"}]
    }
    assert redact_text(None, users_of(BOTH)) is None


@given(st.binary(), st.binary())
def test_no_bytes_make_it_fail_or_name_anybody(before: bytes, after: bytes) -> None:
    """Whatever a peer sent."""
    assert NUMBER.encode() not in redact(before + NUMBER.encode() + after, BOTH)
    if not any(user.encode() in before for user in users_of(BOTH)):
        assert redact(before, BOTH) == before
