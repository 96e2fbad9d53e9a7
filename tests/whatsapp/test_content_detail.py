"""What messages hold besides text: as another implementation encodes them, and under hostile bytes.

The vectors are made by vectors/make_message_vectors.mjs, which says how.
"""

import json
import pathlib
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp import content_detail, content_kinds
from whatsapp.content import SIDE_KINDS, TargetKey, media_source, message_secret, read_content
from whatsapp.content_parts import MAX_DETAIL_TEXT
from whatsapp.errors import RemoteProtocolError
from whatsapp.proto import wa_pb2

VECTORS = json.loads(
    (pathlib.Path(__file__).parent / "vectors" / "message_vectors.json").read_text()
)
MESSAGES = {name: bytes.fromhex(data) for name, data in VECTORS["messages"].items()}
PEER = "5511999990002@s.whatsapp.net"
SIZE = {"width": 640, "height": 480}
MOMENT = 1_700_000_000_123

EXPECTED: dict[str, tuple[str, str | None, dict[str, t.Any]]] = {
    "text": ("text", "hello", {}),
    "quoted": ("text", "answer @5511999990003", {}),
    "preview": (
        "text",
        "see https://example.org",
        {
            "preview": {
                "url": "https://example.org",
                "title": "Example",
                "description": "A domain",
            }
        },
    ),
    "referral": (
        "text",
        "Hi",
        {
            "referral": {
                "title": "Ad",
                "body": "Buy",
                "url": "https://fb.me/x",
                "source": "ad",
                "id": "123",
                "click_id": "click",
                "ref": "r",
            }
        },
    ),
    "image": ("image", "look", SIZE),
    "view_once": ("image", None, {}),
    "view_once_absent": ("view_once", None, {}),
    "video": ("video", "look", {**SIZE, "seconds": 9}),
    "gif": ("gif", None, {}),
    "video_note": ("video_note", None, {"seconds": 5}),
    "audio": ("audio", None, {"seconds": 61}),
    "voice": ("voice", None, {"seconds": 3}),
    "document": ("document", "page 2", {"title": "A", "name": "a.pdf", "pages": 3}),
    "sticker": ("sticker", None, {"width": 512, "height": 512, "animated": True}),
    "contact": ("contact", "Ana", {"name": "Ana", "vcard": "BEGIN:VCARD\nFN:Ana\nEND:VCARD"}),
    "contacts": (
        "contacts",
        "2 contacts",
        {
            "name": "2 contacts",
            "contacts": [{"name": "Ana", "vcard": "V1"}, {"name": "Bo", "vcard": "V2"}],
        },
    ),
    "location": (
        "location",
        "Office\nRua A, 1",
        {"latitude": -23.5, "longitude": -46.625, "name": "Office", "address": "Rua A, 1"},
    ),
    "live_location": (
        "live_location",
        "on my way",
        {"latitude": -23.5, "longitude": -46.625, "accuracy": 10, "speed": 1.5, "sequence": 7},
    ),
    "reaction": ("reaction", "👍", {"sent_at_ms": MOMENT}),
    "poll": ("poll", "Lunch?", {"name": "Lunch?", "options": ["Pizza", "Sushi"], "selectable": 1}),
    "poll_many": (
        "poll",
        "Lunch?",
        {"name": "Lunch?", "options": ["Pizza", "Sushi"], "selectable": 0},
    ),
    "event": (
        "event",
        "Party\nat 8",
        {
            "name": "Party",
            "description": "at 8",
            "start": 1_700_000_000,
            "end": 1_700_003_600,
            "canceled": False,
            "location": {"latitude": 1.0, "longitude": 2.0, "name": "Home"},
        },
    ),
    "buttons": ("buttons", "Choose", {"buttons": [{"id": "b1", "text": "Yes"}], "footer": "foot"}),
    "buttons_reply": ("buttons_reply", "Yes", {"id": "b1"}),
    "list": (
        "list",
        "Menu\nPick one",
        {
            "button": "Open",
            "sections": [
                {"title": "S", "rows": [{"id": "r1", "title": "Tea", "description": "hot"}]}
            ],
        },
    ),
    "list_reply": ("list_reply", "Tea", {"id": "r1", "description": "hot"}),
    "template": (
        "template",
        "Your order",
        {
            "id": "t1",
            "footer": "foot",
            "buttons": [
                {"text": "Ok", "id": "q1"},
                {"text": "Open", "url": "https://example.org"},
                {"text": "Call", "phone": "+15550001111"},
            ],
        },
    ),
    "template_reply": ("template_reply", "Ok", {"id": "q1", "index": 0}),
    "interactive": (
        "interactive",
        "Offer\nBuy",
        {"buttons": [{"name": "quick_reply", "params": '{"id":"n1"}'}], "footer": "foot"},
    ),
    "interactive_reply": (
        "interactive_reply",
        "Done",
        {"name": "menu", "params": '{"id":"n1"}', "id": "n1"},
    ),
    "album": ("album", None, {"images": 2, "videos": 1}),
    "album_child": ("image", None, {"album": "ALBUM1"}),
    "product": (
        "product",
        "Chair",
        {
            "id": "p1",
            "title": "Chair",
            "description": "Wood",
            "currency": "BRL",
            "price_1000": 99_000,
            "seller": "5511999990001@s.whatsapp.net",
        },
    ),
    "order": (
        "order",
        "2 items",
        {
            "id": "o1",
            "items": 2,
            "status": 1,
            "title": "Order",
            "seller": "5511999990001@s.whatsapp.net",
            "currency": "BRL",
            "total_1000": 198_000,
        },
    ),
    "group_invite": (
        "group_invite",
        "Join us",
        {
            "group": "120363000000000001@g.us",
            "code": "code",
            "name": "Team",
            "expires_at": 1_700_000_000,
        },
    ),
    "payment": ("payment", None, {"payment": "requested"}),
    "pin": ("pin", None, {"action": "pin", "sent_at_ms": MOMENT, "duration": 86_400}),
    "keep": ("keep", None, {"action": "keep", "sent_at_ms": MOMENT}),
    "revoke": ("revoke", None, {}),
    "revoke_admin": ("revoke", None, {}),
    "edit": ("edit", "new", {"sent_at_ms": MOMENT, "kind": "text"}),
    "edit_wrapped": ("edit", "new", {"sent_at_ms": MOMENT, "kind": "text"}),
    "disappearing": ("disappearing", None, {"expiration": 86_400}),
    "call_log": ("call_log", None, {"outcome": "missed", "video": True, "seconds": 0}),
    "comment": ("comment", "nice", {}),
    "ephemeral": ("text", "gone soon", {}),
    "device_sent": ("text", "from the phone", {}),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_every_kind_of_another_implementation_is_read(name: str) -> None:
    """Kind, text and detail, as Baileys' schema writes them."""
    read = read_content(MESSAGES[name])
    assert (read.kind, read.text, read.detail) == EXPECTED[name]
    assert read.raw == MESSAGES[name]
    assert read.kind in content_kinds.KINDS
    assert (read.target is not None) <= (read.kind in SIDE_KINDS)
    json.dumps(read.detail, allow_nan=False)


def test_keys_of_other_messages_are_whole() -> None:
    """Who wrote the message that is meant is as important as its id."""
    own = TargetKey(remote_jid=PEER, from_me=True, id=VECTORS["id"])
    for name in ("reaction", "pin", "keep", "revoke", "edit", "edit_wrapped", "comment"):
        assert read_content(MESSAGES[name]).target == own
        assert read_content(MESSAGES[name]).target_id == own.id
    assert read_content(MESSAGES["revoke_admin"]).target == TargetKey(
        remote_jid="120363000000000001@g.us", from_me=False, id=VECTORS["id"], participant=PEER
    )
    assert read_content(MESSAGES["text"]).target is None


def test_quote_mentions_forwarding_and_expiration() -> None:
    """The context of a message."""
    read = read_content(MESSAGES["quoted"])
    assert (read.quoted_id, read.quoted_author) == ("Q1", PEER)
    assert read.mentions == ("5511999990003@s.whatsapp.net",)
    assert read.flags == {"ephemeral", "forwarded"}
    assert read.expiration == 86_400
    assert read_content(MESSAGES["text"]).expiration is None


def test_an_edit_holds_the_new_content() -> None:
    """With its own mentions; its text and mentions are the edit's."""
    read = read_content(MESSAGES["edit"])
    assert read.edited is not None
    assert (read.edited.kind, read.edited.text) == ("text", "new")
    assert read.mentions == read.edited.mentions == (PEER,)
    nested = wa_pb2.Message()
    nested.protocol_message.type = wa_pb2.ProtocolMessage.MESSAGE_EDIT
    nested.protocol_message.key.id = b"A1"
    nested.protocol_message.edited_message.protocol_message.type = 14
    inner = read_content(nested.SerializeToString()).edited
    assert inner is not None
    assert inner.kind == "unknown"


def test_files_are_described() -> None:
    """Where a file lies and what opens it, for all kinds that carry one."""
    kinds = {
        name: source.kind
        for name, data in MESSAGES.items()
        if (source := media_source(data)) is not None
    }
    assert kinds == {
        "image": "image",
        "view_once": "image",
        "album_child": "image",
        "video": "video",
        "gif": "video",
        "video_note": "video",
        "audio": "audio",
        "voice": "audio",
        "document": "document",
        "sticker": "sticker",
    }
    source = media_source(MESSAGES["document"])
    assert source is not None
    assert source == read_content(MESSAGES["document"]).media
    assert (source.url, source.direct_path) == (
        "https://mmg.whatsapp.net/v/t62/1?oh=a",
        "/v/t62/1?oh=a",
    )
    assert (source.length, source.mimetype, source.file_name) == (1234, "application/pdf", "a.pdf")
    assert {len(source.media_key), len(source.sha256), len(source.enc_sha256)} == {32}


def test_files_of_headers_count_too() -> None:
    """A picture above buttons, in a template, or of a product."""
    image = wa_pb2.ImageMessage(direct_path=b"/p", media_key=b"k" * 32).SerializeToString()
    product = wa_pb2.ProductMessage()
    product.product.product_image = image
    for message in (
        wa_pb2.Message(product_message=product.SerializeToString()),
        wa_pb2.Message(buttons_message=b"\x1a" + bytes([len(image)]) + image),
        wa_pb2.Message(
            template_message=b"\x22" + bytes([len(image) + 2, 0x1A, len(image)]) + image
        ),
        wa_pb2.Message(
            interactive_message=b"\x0a" + bytes([len(image) + 2, 0x22, len(image)]) + image
        ),
    ):
        source = media_source(message.SerializeToString())
        assert source is not None
        assert (source.kind, source.direct_path) == ("image", "/p")


def test_a_file_that_nothing_opens_is_none() -> None:
    """No place and no key, or a key of no size; odd hashes and sizes are dropped."""
    message = wa_pb2.Message()
    message.image_message.mimetype = b"image/jpeg"
    assert media_source(message.SerializeToString()) is None
    message.image_message.direct_path = b"/p"
    message.image_message.media_key = b"short"
    assert media_source(message.SerializeToString()) is None
    message.image_message.media_key = b"k" * 32
    message.image_message.file_sha256 = b"odd"
    message.image_message.file_length = 2**64 - 1
    source = media_source(message.SerializeToString())
    assert source is not None
    assert (source.sha256, source.length) == (b"", None)
    with pytest.raises(RemoteProtocolError):
        media_source(b"\xff")
    empty = wa_pb2.Message(view_once_message=wa_pb2.FutureProofMessage())
    assert media_source(empty.SerializeToString()) is None


def test_the_inner_secret_counts() -> None:
    """A message inside a wrapper has its own secret; one of another length is none."""
    assert message_secret(MESSAGES["poll"]) == bytes.fromhex(VECTORS["secret"])
    assert message_secret(MESSAGES["device_sent"]) == bytes.fromhex(VECTORS["secret"])
    outer = wa_pb2.Message()
    outer.message_context_info.message_secret = b"o" * 32
    outer.device_sent_message.destination_jid = PEER.encode()
    inner = outer.device_sent_message.message
    inner.conversation = b"x"
    assert message_secret(outer.SerializeToString()) == b"o" * 32
    inner.message_context_info.message_secret = b"i" * 32
    assert message_secret(outer.SerializeToString()) == b"i" * 32
    inner.message_context_info.message_secret = b"short"
    assert message_secret(outer.SerializeToString()) == b"o" * 32
    assert message_secret(wa_pb2.Message(conversation=b"x").SerializeToString()) is None


def test_other_associations_are_kept() -> None:
    """A better copy of a picture names the one that it replaces; unknown ones keep a number."""
    for number, kind in ((10, "hd_image"), (99, "type_99")):
        association = wa_pb2.MessageAssociation(association_type=number)
        association.parent_message_key.id = b"P1"
        message = wa_pb2.Message(conversation=b"x")
        message.message_context_info.message_association = association.SerializeToString()
        detail = read_content(message.SerializeToString()).detail
        assert detail == {"association": {"kind": kind, "id": "P1"}}


def test_quizzes_results_and_answers_to_other_chats() -> None:
    """What polls tell besides their options, and where a quoted message was written."""
    quiz = wa_pb2.PollCreationMessage(name=b"2+2", end_time=9)
    quiz.correct_answer.option_name = b"4"
    message = wa_pb2.Message(poll_creation_message_v5=quiz.SerializeToString())
    detail = read_content(message.SerializeToString()).detail
    assert detail == {"name": "2+2", "selectable": 0, "ends_at": 9, "correct": "4"}
    result = wa_pb2.PollResultSnapshotMessage(name=b"Lunch?")
    result.poll_votes.add(option_name=b"Tea", option_vote_count=3)
    message = wa_pb2.Message(poll_result_snapshot_message_v3=result.SerializeToString())
    read = read_content(message.SerializeToString())
    votes = [{"option": "Tea", "votes": 3}]
    assert (read.kind, read.detail) == ("poll_result", {"name": "Lunch?", "votes": votes})
    message = wa_pb2.Message()
    context = message.extended_text_message.context_info
    context.stanza_id, context.remote_jid = b"Q1", b"status@broadcast"
    context.external_ad_reply = b"\xff"
    detail = read_content(message.SerializeToString()).detail
    assert detail == {"quoted_chat": "status@broadcast"}


def test_details_are_bounded_and_clean() -> None:
    """Long texts and lists are cut; NUL, NaN and infinity are left out."""
    poll = wa_pb2.PollCreationMessage(name=b"a\x00b" + "é".encode() * 10_000)
    poll.options.extend(wa_pb2.PollCreationMessage.Option(option_name=b"o") for _ in range(500))
    message = wa_pb2.Message(poll_creation_message=poll.SerializeToString())
    detail = read_content(message.SerializeToString()).detail
    assert detail["name"].startswith("abé")
    assert len(detail["name"]) <= MAX_DETAIL_TEXT
    assert len(detail["options"]) == content_detail.MAX_OPTIONS
    place = wa_pb2.Message()
    place.location_message.degrees_latitude = float("nan")
    place.location_message.degrees_longitude = float("inf")
    assert read_content(place.SerializeToString()).detail == {}
    rows = wa_pb2.ListMessage()
    for _ in range(300):
        rows.sections.add().rows.add(row_id=b"r")
    message = wa_pb2.Message(list_message=rows.SerializeToString())
    sections = read_content(message.SerializeToString()).detail["sections"]
    assert sum(len(section["rows"]) for section in sections) == 128


def test_a_detail_that_is_too_long_says_what_it_leaves_out() -> None:
    """So that a flood of text hides nothing else; cards without room are names."""
    buttons = wa_pb2.ButtonsMessage(footer_text=b"foot")
    for _ in range(128):
        buttons.buttons.add(button_id=b"x" * 4_000)
    message = wa_pb2.Message(buttons_message=buttons.SerializeToString())
    assert read_content(message.SerializeToString()).detail == {
        "footer": "foot",
        "cut": ["buttons"],
    }
    cards = wa_pb2.ContactsArrayMessage()
    for _ in range(100):
        cards.contacts.add(display_name=b"Ana", vcard=b"v" * 10_000)
    message = wa_pb2.Message(contacts_array_message=cards.SerializeToString())
    contacts = read_content(message.SerializeToString()).detail["contacts"]
    assert [len(card) for card in contacts] == [2] * 13 + [1] * 87


@pytest.mark.parametrize("params", [b"", b"{", b"[]", b'{"id":7}', b"[" * 100_000, b"\xff"])
def test_odd_parameters_of_a_choice_name_none(params: bytes) -> None:
    """A reply whose parameters cannot be read is still a reply."""
    reply = wa_pb2.InteractiveResponseMessage()
    reply.native_flow_response_message.name = b"menu"
    reply.native_flow_response_message.params_json = params
    message = wa_pb2.Message(interactive_response_message=reply.SerializeToString())
    read = read_content(message.SerializeToString())
    assert read.kind == "interactive_reply"
    assert "id" not in read.detail


def test_cards_of_a_carousel_are_read_one_level_deep() -> None:
    """A carousel inside a carousel is not followed."""
    card = wa_pb2.InteractiveMessage()
    card.native_flow_message.buttons.add(name=b"quick_reply")
    for _ in range(2_000):
        outer = wa_pb2.InteractiveMessage()
        outer.carousel_message.cards.append(card.SerializeToString())
        card = outer
    message = wa_pb2.Message(interactive_message=card.SerializeToString())
    assert read_content(message.SerializeToString()).detail == {
        "cards": [{"text": "", "buttons": []}]
    }


_FIELDS = sorted(
    f.number for f in wa_pb2.Message.DESCRIPTOR.fields if f.name in content_kinds.SHAPES
)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(_FIELDS), st.binary(max_size=120))
def test_any_inside_of_any_kind_reads_or_is_the_peers_fault(number: int, inside: bytes) -> None:
    """No bytes inside a known kind raise anything but `RemoteProtocolError`, and every detail
    is fit for JSON."""
    plaintext = _varint(number << 3 | 2) + _varint(len(inside)) + inside
    try:
        read = read_content(plaintext)
        media_source(plaintext)
        message_secret(plaintext)
    except RemoteProtocolError:
        return
    assert "\\u0000" not in json.dumps(read.detail, allow_nan=False)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(MESSAGES)), st.data())
def test_any_damage_reads_or_is_the_peers_fault(name: str, data: st.DataObject) -> None:
    """Likewise for real messages with some bytes changed."""
    plaintext = bytearray(MESSAGES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        plaintext[data.draw(st.integers(0, len(plaintext) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = read_content(bytes(plaintext))
    except RemoteProtocolError:
        return
    json.dumps(read.detail, allow_nan=False)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
