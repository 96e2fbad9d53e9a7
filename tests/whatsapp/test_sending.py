"""The stanzas that we write: messages, resends, receipts, typing; and the question who is there."""

import base64
import hashlib

import pytest

from whatsapp import compose, sending
from whatsapp.binary import codec
from whatsapp.content import TargetKey, read_content
from whatsapp.e2ee.session import Ciphertext
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.iq import core, usync
from whatsapp.jid import Jid
from whatsapp.media_source import MediaSource
from whatsapp.node import Node
from whatsapp.sending import Outline, Sealed
from whatsapp.stanzas import parse_ack, parse_message, parse_receipt

OWN = Jid.parse("15550009999:3@s.whatsapp.net")
PERSON = Jid.parse("15550001111@s.whatsapp.net")
HIDDEN = Jid.parse("900000000001111@lid")
GROUP = Jid.parse("120363000000000001@g.us")
ID = "3EB0AABBCCDDEEFF001122"
IDENTITY = b"signed identity"
MSG = Ciphertext("msg", b"\x33msg")
PKMSG = Ciphertext("pkmsg", b"\x33pkmsg")


def on_the_wire(node: Node) -> Node:
    """What the server reads of it."""
    return codec.decode(codec.encode(node))


def test_message_ids_have_the_form_that_clients_use() -> None:
    """3EB0 and 18 upper-case digits, from time, own number and randomness alone."""
    first = sending.message_id(OWN, 1_790_000_000, b"\x01" * 16)
    seed = (1_790_000_000).to_bytes(8, "big") + b"15550009999@c.us" + b"\x01" * 16
    assert first == "3EB0" + hashlib.sha256(seed).hexdigest()[:18].upper()
    assert first == sending.message_id(OWN, 1_790_000_000, b"\x01" * 16)
    assert first != sending.message_id(OWN, 1_790_000_000, b"\x02" * 16)
    assert first != sending.message_id(OWN, 1_790_000_001, b"\x01" * 16)


KEY = TargetKey(remote_jid=str(PERSON), from_me=True, id="T")
THEIRS = TargetKey(remote_jid=str(GROUP), from_me=False, id="T", participant=str(HIDDEN))


def media(kind: str, **traits: object) -> bytes:
    source = MediaSource(kind=kind, media_key=b"k" * 32, direct_path="/v/x", sha256=b"s" * 32)
    return compose.media(source, traits=compose.Traits(**traits))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("plaintext", "outline"),
    [
        (compose.text("hello"), Outline()),
        (compose.reaction(KEY, "👍", 1), Outline(type="reaction", hide=True)),
        (compose.reaction(KEY, "", 1), Outline(type="reaction", hide=True, edit="7")),
        (compose.edit(KEY, "new", 1), Outline(edit="1", hide=True)),
        (compose.revoke(KEY), Outline(edit="7", hide=True)),
        (compose.revoke(THEIRS), Outline(edit="8", hide=True)),
        (media("image"), Outline(type="media", media_type="image")),
        (media("video"), Outline(type="media", media_type="video")),
        (media("video", gif=True), Outline(type="media", media_type="gif")),
        (media("video", video_note=True), Outline(type="media", media_type="ptv")),
        (media("audio"), Outline(type="media", media_type="audio")),
        (media("audio", voice=True), Outline(type="media", media_type="ptt")),
        (media("document"), Outline(type="media", media_type="document")),
        (media("sticker"), Outline(type="media", media_type="sticker")),
        (compose.location(1.0, 2.0), Outline(type="media", media_type="location")),
        (compose.contact([("A", "v")]), Outline(type="media", media_type="vcard")),
        (
            compose.contact([("A", "v"), ("B", "v")]),
            Outline(type="media", media_type="contact_array"),
        ),
        (
            compose.poll("?", ["a", "b"], selectable=1, secret=b"s" * 32),
            Outline(type="poll", poll_type="creation"),
        ),
    ],
)
def test_the_outline_follows_from_the_content(plaintext: bytes, outline: Outline) -> None:
    """Type, media type, edit and hiding are those that clients expect of each kind."""
    assert sending.outline_of(read_content(plaintext)) == outline


def test_a_direct_message_addresses_every_device() -> None:
    """One ciphertext per device; the identity goes along because one session is new."""
    sealed = [Sealed(HIDDEN, MSG), Sealed(HIDDEN.with_device(2), PKMSG)]
    outline = Outline(type="media", media_type="image")
    node = on_the_wire(sending.direct_message(ID, HIDDEN, sealed, outline, IDENTITY, number=PERSON))
    assert node.required_jid("to") == HIDDEN
    assert node.required_jid("peer_recipient_pn") == PERSON
    assert (node.text("id"), node.text("type"), node.text("edit")) == (ID, "media", None)
    assert [child.tag for child in node.children] == ["participants", "device-identity"]
    targets = node.required_child("participants").children
    assert [target.required_jid("jid") for target in targets] == [
        HIDDEN,
        HIDDEN.with_device(2),
    ]
    encs = [target.required_child("enc") for target in targets]
    assert [(enc.text("v"), enc.text("type"), enc.text("mediatype")) for enc in encs] == [
        ("2", "msg", "image"),
        ("2", "pkmsg", "image"),
    ]
    assert encs[1].data() == PKMSG.body
    assert node.required_child("device-identity").data() == IDENTITY


def test_known_sessions_need_no_identity() -> None:
    """Without a pkmsg the signed identity stays away, and a number has no other number."""
    node = sending.direct_message(
        ID, PERSON, [Sealed(PERSON, MSG)], Outline(), IDENTITY, number=PERSON
    )
    assert [child.tag for child in node.children] == ["participants"]
    assert node.text("peer_recipient_pn") is None


def test_a_message_for_no_device_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="no device"):
        sending.direct_message(ID, PERSON, [], Outline(), IDENTITY)


def test_a_group_message_hands_the_key_out_before_it_uses_it() -> None:
    """Participants first, then the identity, then the common ciphertext."""
    node = on_the_wire(
        sending.group_message(
            ID,
            GROUP,
            [Sealed(HIDDEN.with_device(1), PKMSG)],
            b"skmsg",
            Outline(type="poll", poll_type="creation", hide=True),
            IDENTITY,
            phash="2:abcdefgh",
            lid=True,
        )
    )
    assert node.text("addressing_mode") == "lid"
    assert node.text("phash") == "2:abcdefgh"
    assert [child.tag for child in node.children] == [
        "participants",
        "device-identity",
        "enc",
        "meta",
    ]
    common = node.required_child("enc")
    assert (common.text("type"), common.text("decrypt-fail")) == ("skmsg", "hide")
    assert common.data() == b"skmsg"
    pairwise = node.required_child("participants").required_child("to").required_child("enc")
    assert (pairwise.text("type"), pairwise.text("decrypt-fail")) == ("pkmsg", None)
    assert node.required_child("meta").text("polltype") == "creation"


def test_a_group_that_has_the_key_gets_the_message_alone() -> None:
    node = sending.group_message(
        ID, GROUP, [], b"skmsg", Outline(), IDENTITY, phash="2:a", lid=False
    )
    assert [child.tag for child in node.children] == ["enc"]
    assert node.text("addressing_mode") == "pn"


def test_a_resend_is_for_one_device() -> None:
    """The same id, the count of the request, and no copies for others."""
    device = HIDDEN.with_device(4)
    node = on_the_wire(
        sending.resent_message(
            ID, device, PKMSG, Outline(edit="1"), IDENTITY, count=2, timestamp=1_790_000_000
        )
    )
    assert node.required_jid("to") == device
    assert node.text("device_fanout") == "false"
    assert (node.text("edit"), node.text("t")) == ("1", "1790000000")
    assert node.required_child("enc").text("count") == "2"
    assert node.required_child("device-identity").data() == IDENTITY


def test_a_resend_in_a_group_names_the_device() -> None:
    device = HIDDEN.with_device(4)
    node = sending.resent_message(ID, GROUP, MSG, Outline(), IDENTITY, count=1, participant=device)
    assert (node.required_jid("to"), node.required_jid("participant")) == (GROUP, device)
    assert node.text("device_fanout") is None
    assert node.child("device-identity") is None


def test_a_resend_to_an_own_device_names_the_chat() -> None:
    """What an own device reads of it is a message of the own account in that chat."""
    phone = OWN.bare
    sent = sending.resent_message(ID, phone, MSG, Outline(), IDENTITY, count=1, recipient=PERSON)
    delivered = Node("message", {**sent.attrs, "from": OWN, "t": 1}, sent.content)
    stanza = parse_message(delivered, OWN, None)
    assert (stanza.from_me, stanza.chat, stanza.encs[0].count) == (True, PERSON, 1)


def test_peer_messages_go_to_the_own_phone() -> None:
    """No participants; the category keeps them out of every chat."""
    node = on_the_wire(sending.peer_message(ID, OWN, PKMSG, IDENTITY, priority="high_force"))
    assert node.required_jid("to") == OWN.bare
    assert node.text("category") == "peer"
    assert node.text("push_priority") == "high_force"
    assert node.text("privacy_sensitive") == "1"
    assert [child.tag for child in node.children] == ["meta", "enc", "device-identity"]
    assert node.required_child("meta").text("appdata") == "default"
    delivered = Node("message", {**node.attrs, "from": OWN.bare, "t": 1}, node.content)
    assert parse_message(delivered, OWN, None).is_peer


def test_the_participants_hash_is_of_the_sorted_devices() -> None:
    """Order does not matter, devices do; eight characters of base64 behind the version."""
    devices = [PERSON, PERSON.with_device(2)]
    names = b"15550001111.0:0@s.whatsapp.net15550001111.0:2@s.whatsapp.net"
    expected = hashlib.sha256(names).digest()[:6]
    value = sending.participants_hash(devices)
    assert value == sending.participants_hash(devices[::-1])
    assert value != sending.participants_hash(devices[:1])
    assert len(value) == 10
    assert base64.b64decode(value.removeprefix("2:")) == expected


@pytest.mark.parametrize(
    ("jid", "hosted"),
    [
        ("15550001111:99@s.whatsapp.net", True),
        ("15550001111:2@hosted", True),
        ("900000000001111:2@hosted.lid", True),
        ("15550001111:2@s.whatsapp.net", False),
    ],
)
def test_hosted_devices_are_known(jid: str, hosted: bool) -> None:
    assert sending.is_hosted(Jid.parse(jid)) is hosted


def test_read_receipts_name_messages_of_one_author() -> None:
    """One receipt as long as it holds them; the author counts in groups only."""
    [direct] = sending.read_receipts(["A", "B"], PERSON, PERSON, 1_790_000_000)
    read = parse_receipt(on_the_wire(direct))
    assert (read.ids, read.type, read.timestamp) == (("A", "B"), "read", 1_790_000_000)
    assert (read.address, read.participant) == (PERSON, None)
    [group] = sending.read_receipts(["A"], GROUP, HIDDEN, 1, "played")
    read = parse_receipt(group)
    assert (read.address, read.participant, read.type) == (GROUP, HIDDEN, "played")
    many = sending.read_receipts([str(number) for number in range(600)], PERSON, None, 1)
    assert [len(parse_receipt(item).ids) for item in many] == [256, 256, 88]


def test_typing_recording_and_pausing() -> None:
    composing = sending.chat_state(HIDDEN.with_device(3), "composing")
    assert composing.required_jid("to") == HIDDEN
    assert composing.required_child("composing").text("media") is None
    recording = sending.chat_state(HIDDEN, "recording")
    assert recording.required_child("composing").text("media") == "audio"
    assert sending.chat_state(HIDDEN, "paused").child("paused") is not None


def test_presence() -> None:
    node = sending.presence("Support", available=True)
    assert (node.text("type"), node.text("name")) == ("available", "Support")
    assert sending.presence("Support", available=False).text("type") == "unavailable"
    assert sending.presence_subscription(PERSON.with_device(1)).required_jid("to") == PERSON


def test_an_ack_tells_when_devices_are_missing() -> None:
    node = Node("ack", {"class": "message", "id": ID, "t": 1, "phash": "2:x", "error": 479})
    ack = parse_ack(node)
    assert (ack.phash, ack.error) == ("2:x", 479)
    assert parse_ack(Node("ack", {"class": "message", "id": ID})).phash is None


# ---- who is on WhatsApp


def answer(*users: Node) -> Node:
    usync_node = Node("usync", {}, (Node("result"), Node("list", {}, users)))
    return Node("iq", {"type": "result", "id": "1"}, (usync_node,))


def contact(kind: str, number: str = "") -> Node:
    return Node("contact", {"type": kind}, number.encode() or None)


def test_numbers_are_asked_for_with_their_sign() -> None:
    node = on_the_wire(usync.numbers_request("1", "sid", ["15550001111", "15550002222"]))
    query = node.required_child("usync")
    assert [child.tag for child in query.required_child("query").children] == ["contact", "lid"]
    users = query.required_child("list").children
    assert [user.required_child("contact").data() for user in users] == [
        b"+15550001111",
        b"+15550002222",
    ]


def test_the_verdict_on_numbers() -> None:
    """By the number as repeated or, failing that, the JID; what is left out is not there."""
    node = answer(
        Node("user", {"jid": PERSON}, (contact("in"), Node("lid", {"val": HIDDEN}))),
        Node("user", {"jid": "15550002222@s.whatsapp.net"}, (contact("out", "+15550002222"),)),
    )
    found = usync.parse_numbers_response(node, ["15550001111", "15550002222", "15550003333"])
    assert [(item.number, item.jid, item.lid) for item in found] == [
        ("15550001111", PERSON, HIDDEN),
        ("15550002222", None, None),
        ("15550003333", None, None),
    ]


def test_a_number_may_have_another_jid() -> None:
    """Some numbers are registered with other digits than people dial."""
    user = Node("user", {"jid": PERSON}, (contact("in"),))
    [found] = usync.parse_numbers_response(answer(user), ["155509001111"])
    assert (found.number, found.jid) == ("155509001111", PERSON)


def test_refusals_of_the_question() -> None:
    refused = Node("contact", {}, (Node("error", {"code": 429, "text": "rate-overlimit"}),))
    node = answer(Node("user", {"jid": PERSON}, (refused,)))
    with pytest.raises(core.IqError, match="429"):
        usync.parse_numbers_response(node, ["15550001111"])
    with pytest.raises(RemoteProtocolError):
        usync.parse_numbers_response(Node("iq", {"type": "result"}), ["1"])
