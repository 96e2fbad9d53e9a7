"""What messages hold: kinds, texts whatever their encoding, wrappers, and hostile bytes."""

import collections.abc as cabc

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp import content, content_kinds
from whatsapp.content import (
    build_device_sent,
    build_sender_key_distribution,
    build_text,
    read_content,
)
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.proto import wa_pb2

CHAT = Jid("5511999990001", "s.whatsapp.net")
TYPES = wa_pb2.ProtocolMessage.Type


def field(number: int, value: bytes) -> bytes:
    """One length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def key(message_id: bytes) -> bytes:
    """A message key that names an id."""
    return wa_pb2.MessageKey(id=message_id, from_me=True).SerializeToString()


KINDS = [
    (field(1, b"hello"), "text", "hello"),
    (field(6, field(1, b"https://example.org")), "text", "https://example.org"),
    (field(3, field(2, b"image/jpeg") + field(3, b"caption")), "image", "caption"),
    (field(3, b""), "image", None),
    (field(9, field(7, b"caption")), "video", "caption"),
    (field(9, b"\x40\x01"), "gif", None),
    (field(66, b""), "video_note", None),
    (field(8, field(2, b"audio/mp4")), "audio", None),
    (field(8, b"\x30\x01"), "voice", None),
    (field(7, field(8, b"a.pdf") + field(20, b"see page 2")), "document", "see page 2"),
    (field(7, field(8, b"a.pdf") + field(20, b"")), "document", "a.pdf"),
    (field(53, field(1, field(7, field(3, b"title")))), "document", "title"),
    (field(26, b""), "sticker", None),
    (field(74, field(1, field(26, b""))), "sticker", None),
    (field(86, field(2, b"Cats")), "sticker_pack", "Cats"),
    (field(83, b"\x10\x02"), "album", None),
    (field(4, field(1, b"Ana") + field(16, b"BEGIN:VCARD")), "contact", "Ana"),
    (field(13, field(1, b"2 contacts")), "contacts", "2 contacts"),
    (field(5, field(3, b"Office") + field(4, b"Rua A, 1")), "location", "Office\nRua A, 1"),
    (field(18, field(6, b"on my way")), "live_location", "on my way"),
    (field(49, field(2, b"Lunch?")), "poll", "Lunch?"),
    (field(93, field(1, field(64, field(2, b"Dinner?")))), "poll", "Dinner?"),
    (field(111, field(2, b"Lunch?")), "poll", "Lunch?"),
    (field(75, field(3, b"Party") + field(4, b"at 8")), "event", "Party\nat 8"),
    (field(25, field(4, field(6, b"Your order"))), "template", "Your order"),
    (field(14, field(9, field(2, field(6, b"Your code")))), "template", "Your code"),
    (field(29, field(1, b"id-1") + field(2, b"Yes")), "template_reply", "Yes"),
    (field(42, field(6, b"Choose")), "buttons", "Choose"),
    (field(43, field(1, b"id-1") + field(2, b"No")), "buttons_reply", "No"),
    (field(36, field(1, b"Menu") + field(2, b"Pick one")), "list", "Menu\nPick one"),
    (field(39, field(1, b"Option 2") + field(3, field(1, b"row-2"))), "list_reply", "Option 2"),
    (field(39, field(3, field(1, b"row-2"))), "list_reply", "row-2"),
    (
        field(45, field(1, field(1, b"Offer")) + field(2, field(1, b"Buy"))),
        "interactive",
        "Offer\nBuy",
    ),
    (field(48, field(1, field(1, b"Done"))), "interactive_reply", "Done"),
    (field(30, field(1, field(3, b"Chair"))), "product", "Chair"),
    (field(38, field(6, b"2 items")), "order", "2 items"),
    (field(28, field(4, b"Group")), "group_invite", "Group"),
    (field(16, b""), "payment", None),
    (field(69, b"\x08\x01"), "call_log", None),
    (field(80, b""), "placeholder", None),
]


@pytest.mark.parametrize(("plaintext", "kind", "text"), KINDS)
def test_kinds_and_their_texts(plaintext: bytes, kind: str, text: str | None) -> None:
    """Each kind is named, with the text a person would read."""
    read = read_content(plaintext)
    assert (read.kind, read.text) == (kind, text)
    assert read.raw == plaintext


@pytest.mark.parametrize(
    ("plaintext", "kind", "text"),
    [
        (field(46, field(1, key(b"A1")) + field(2, "👍".encode())), "reaction", "👍"),
        (field(46, field(1, key(b"A1")) + field(2, b"")), "reaction", ""),
        (field(56, field(1, key(b"A1")) + field(2, b"sealed")), "encrypted_reaction", None),
        (field(50, field(1, key(b"A1"))), "poll_vote", None),
        (field(63, field(1, key(b"A1"))), "pin", None),
        (field(51, field(1, key(b"A1"))), "keep", None),
        (field(76, field(1, key(b"A1"))), "event_response", None),
        (field(77, field(1, field(1, b"nice")) + field(2, key(b"A1"))), "comment", "nice"),
        (field(71, field(1, key(b"A1"))), "encrypted_comment", None),
        (field(82, field(1, key(b"A1"))), "secret_encrypted", None),
        (field(12, field(1, key(b"A1")) + b"\x10\x00"), "revoke", None),
        (field(12, field(1, key(b"A1"))), "revoke", None),
        (
            field(12, field(1, key(b"A1")) + b"\x10\x0e" + field(14, field(1, b"new"))),
            "edit",
            "new",
        ),
    ],
)
def test_side_kinds_name_their_target(plaintext: bytes, kind: str, text: str | None) -> None:
    """What answers or changes another message says which one."""
    read = read_content(plaintext)
    assert (read.kind, read.text, read.target_id) == (kind, text, "A1")
    assert kind in content.SIDE_KINDS


def test_an_edit_comes_wrapped_and_may_hold_a_caption() -> None:
    """The wrapper is a flag; the new text is found wherever its kind keeps it."""
    message = wa_pb2.Message()
    protocol = message.edited_message.message.protocol_message
    protocol.key.id = b"A1"
    protocol.type = TYPES.MESSAGE_EDIT
    protocol.edited_message.ephemeral_message.message.image_message.caption = b"better"
    read = read_content(message.SerializeToString())
    assert (read.kind, read.text, read.target_id) == ("edit", "better", "A1")
    assert read.flags == {"edited"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"ol\xc3\xa1", "olá"),
        (b"", ""),
        (b"nul\x00inside", "nul\x00inside"),
        (b"bad \xff\xfe", "bad \ufffd\ufffd"),
        (b"\xed\xa0\xbd\xed\xb8\x80", "\ufffd" * 6),  # surrogates, encoded one by one
        (b"x" * 65536, "x" * 65536),
    ],
)
@pytest.mark.parametrize("wrap", [lambda t: field(1, t), lambda t: field(6, field(1, t))])
def test_every_text_comes_through(
    text: bytes, shown: str, wrap: cabc.Callable[[bytes], bytes]
) -> None:
    """Whatever a peer calls text is shown as far as it goes, and kept exactly."""
    read = read_content(wrap(text))
    assert (read.kind, read.text) == ("text", shown)
    assert text in read.raw


@pytest.mark.parametrize(
    ("number", "flag"),
    [
        (40, "ephemeral"),
        (37, "view_once"),
        (55, "view_once"),
        (59, "view_once"),
        (58, "edited"),
        (91, "associated"),
        (96, "status"),
        (103, "status"),
        (67, "bot_invoke"),
    ],
)
def test_wrappers_are_peeled_off_and_remembered(number: int, flag: str) -> None:
    """The content inside counts; how it was wrapped is a flag."""
    read = read_content(field(number, field(1, field(1, b"inside"))))
    assert (read.kind, read.text, read.flags) == ("text", "inside", {flag})


@pytest.mark.parametrize(("depth", "kind"), [(8, "text"), (9, "unknown"), (40, "unknown")])
def test_wrapping_has_a_limit(depth: int, kind: str) -> None:
    """Eight wrappers are peeled off; deeper messages are kept as unknown."""
    plaintext = build_text("deep")
    for _ in range(depth):
        plaintext = field(40, field(1, plaintext))
    assert read_content(plaintext).kind == kind


def test_wrapping_beyond_reason_is_the_peers_fault() -> None:
    """The parser's own limit on depth surfaces as a protocol error."""
    plaintext = b""
    for _ in range(200):
        plaintext = field(40, field(1, plaintext))
    with pytest.raises(RemoteProtocolError):
        read_content(plaintext)


def test_flags_inside_the_content_count_too() -> None:
    """View-once media and disappearing messages also say so themselves."""
    message = wa_pb2.Message()
    message.image_message.view_once = True
    assert read_content(message.SerializeToString()).flags == {"view_once"}
    message = wa_pb2.Message()
    message.extended_text_message.context_info.expiration = 86400
    assert read_content(message.SerializeToString()).flags == {"ephemeral"}


def test_quotes_and_mentions_are_read() -> None:
    """The quoted message and the people mentioned, with a bound on their number."""
    message = wa_pb2.Message()
    message.extended_text_message.text = b"@5511999990002"
    context = message.extended_text_message.context_info
    context.stanza_id = b"Q1"
    context.mentioned_jid.extend([b"5511999990002@s.whatsapp.net"] * 3000)
    read = read_content(message.SerializeToString())
    assert read.quoted_id == "Q1"
    assert read.mentions == ("5511999990002@s.whatsapp.net",) * content.MAX_MENTIONS
    reply = field(43, field(2, b"Yes") + field(3, field(1, b"Q2")))
    assert read_content(reply).quoted_id == "Q2"


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        field(140, b"new"),
        field(35, b""),
        b"\xa0\x1f\x01",
        field(40, b""),
        field(40, field(1, b"")),
    ],
)
def test_what_is_not_known_is_unknown(plaintext: bytes) -> None:
    """Nothing disappears: a kind we cannot name is still a message."""
    read = read_content(plaintext)
    assert (read.kind, read.text, read.raw) == ("unknown", None, plaintext)


def test_sender_keys_alone_are_no_message() -> None:
    """A distribution is handed out, and is content of no kind."""
    plaintext = build_sender_key_distribution("12036300000@g.us", b"\x33key")
    read = read_content(plaintext)
    assert read.kind == "none"
    assert read.sender_key_distribution == ("12036300000@g.us", b"\x33key")
    for number in (15, 47, 123, 127):
        assert read_content(field(number, b"")).kind == "none"


@pytest.mark.parametrize(
    "group",
    [b"", b"no-server", b"1@s.whatsapp.net", b"@g.us", b"1\x00@g.us", b"\xff@g.us", b"1" * 600],
)
def test_sender_keys_for_no_plausible_group_are_ignored(group: bytes) -> None:
    """The group's name becomes the name of a record, so it is not taken as it comes."""
    read = read_content(field(2, field(1, group) + field(2, b"key")) + field(1, b"hi"))
    assert (read.text, read.sender_key_distribution) == ("hi", None)


def test_status_and_broadcast_lists_have_sender_keys_too() -> None:
    """Not only groups distribute keys."""
    read = read_content(build_sender_key_distribution(Jid("status", "broadcast"), b"key"))
    assert read.sender_key_distribution == ("status@broadcast", b"key")


@pytest.mark.parametrize(
    ("more", "kind"), [(field(1, b"hi"), "text"), (field(140, b"new"), "unknown")]
)
def test_sender_keys_may_accompany_content(more: bytes, kind: str) -> None:
    """They never hide it, not even content we do not know."""
    read = read_content(build_sender_key_distribution(Jid("1-2", "g.us"), b"key") + more)
    assert (read.kind, read.sender_key_distribution) == (kind, ("1-2@g.us", b"key"))


@pytest.mark.parametrize(
    ("type_number", "name"),
    [
        (TYPES.APP_STATE_SYNC_KEY_SHARE, "app_state_sync_key_share"),
        (TYPES.EPHEMERAL_SYNC_RESPONSE, "ephemeral_sync_response"),
        (TYPES.HISTORY_SYNC_NOTIFICATION, "history_sync_notification"),
        (99, "type_99"),
    ],
)
def test_protocol_messages_are_named(type_number: int, name: str) -> None:
    """They serve the protocol; their type tells what they ask."""
    message = wa_pb2.Message()
    message.protocol_message.type = type_number
    read = read_content(message.SerializeToString())
    assert (read.kind, read.protocol) == ("none", name)


def test_a_protocol_message_without_type_or_key_asks_nothing() -> None:
    """The first type is "revoke": it must not be read into an empty message."""
    read = read_content(field(12, b""))
    assert (read.kind, read.protocol, read.target_id) == ("none", "untyped", None)


def test_copies_from_own_devices_name_the_chat() -> None:
    """The wrapper is peeled off; the message's secret travels outside as well."""
    message = wa_pb2.Message(conversation=b"sent from the phone")
    message.message_context_info.message_secret = b"s" * 32
    plaintext = build_device_sent(CHAT, message.SerializeToString())
    read = read_content(plaintext)
    assert (read.kind, read.text, read.device_sent) == ("text", "sent from the phone", CHAT)
    outer = wa_pb2.Message.FromString(plaintext)
    assert outer.message_context_info.message_secret == b"s" * 32
    assert read_content(build_device_sent(CHAT, build_text("x"))).text == "x"


def test_a_copy_for_no_valid_chat_is_the_peers_fault() -> None:
    """It could be filed nowhere."""
    for destination in (b"", b"\xff@"):
        with pytest.raises(RemoteProtocolError):
            read_content(field(31, field(1, destination) + field(2, field(1, b"x"))))
    with pytest.raises(LocalProtocolError):
        build_device_sent(CHAT, b"\xff")


def test_own_text_is_always_encodable() -> None:
    """A lone surrogate in our own text is replaced instead of failing."""
    assert read_content(build_text("ok \ud83d")).text == "ok ?"


def test_an_unreadable_inside_keeps_its_kind() -> None:
    """Content whose inside does not parse is still known by its kind."""
    read = read_content(field(39, b"\xff\xff") + b"")
    assert (read.kind, read.text) == ("list_reply", None)
    read = read_content(field(36, field(1, b"Menu") + field(8, b"\xff")))
    assert (read.kind, read.text, read.quoted_id) == ("list", "Menu", None)


def test_every_field_of_a_message_is_accounted_for() -> None:
    """Each known field is a kind, a wrapper, or side data: a new one cannot be forgotten."""
    side = {*content_kinds.SILENT, "protocol_message", "message_context_info"}
    fields = wa_pb2.Message.DESCRIPTOR.fields
    wrappers = {
        f.name
        for f in fields
        if f.message_type and f.message_type.name in ("FutureProofMessage", "DeviceSentMessage")
    }
    assert {f.name for f in fields} == set(content_kinds.SHAPES) | wrappers | side
    numbers = {f.number for f in wa_pb2.Fields.DESCRIPTOR.fields}
    for shape in content_kinds.SHAPES.values():
        assert numbers.issuperset([*shape.key, *([shape.context] if shape.context else [])])
        assert all(numbers.issuperset(path) for path in shape.text)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_read_or_are_the_peers_fault(plaintext: bytes) -> None:
    """No bytes raise anything but `RemoteProtocolError`."""
    try:
        read = read_content(plaintext)
    except RemoteProtocolError:
        return
    assert read.raw == plaintext


_leaf = st.one_of(st.binary(max_size=20), st.just(key(b"A1")))
_nested = st.recursive(
    _leaf,
    lambda inner: st.lists(st.tuples(st.integers(1, 120), inner), max_size=4).map(
        lambda parts: b"".join(field(number, value) for number, value in parts)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(_nested)
def test_any_nesting_of_fields_reads_or_is_the_peers_fault(plaintext: bytes) -> None:
    """Likewise for bytes that look like messages."""
    try:
        read = read_content(plaintext)
    except RemoteProtocolError:
        return
    assert read.raw == plaintext
    if read.text is not None:
        read.text.encode()


def test_content_stays_out_of_the_repr() -> None:
    """Texts and payloads can be logged by accident without harm."""
    message: Message = wa_pb2.Message(conversation=b"secret")
    assert "secret" not in repr(read_content(message.SerializeToString()))
