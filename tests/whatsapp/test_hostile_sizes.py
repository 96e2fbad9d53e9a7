"""What a peer claims, nests and repeats is bounded before it costs memory or time."""

import typing as t
import zlib

import pytest

from whatsapp import content, history, peer, protobuf, stanzas
from whatsapp.appstate import requests, wire
from whatsapp.binary import codec
from whatsapp.calls import parse_call
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import bulletins, groups
from whatsapp.jid import MAX_JID_LENGTH, SERVER, Jid
from whatsapp.node import MAX_ID, MAX_INTEGER, Node
from whatsapp.notifications import parse_group_events
from whatsapp.proto import sync_pb2, wa_pb2
from whatsapp.protobuf_fields import length_delimited
from whatsapp.web_message import read_web_message

OWN: t.Final = Jid("15550000001", SERVER, 3)
ANA: t.Final = Jid("15550000002", SERVER)
GROUP: t.Final = Jid("120363000000000001", "g.us")


# ---- nodes


@pytest.mark.parametrize("tag", [0xF5, 0xF6, 0xF7, 0xFA], ids=hex)
def test_jids_inside_of_jids(tag: int) -> None:
    """The parts of a JID are text; else one short frame would nest without end."""
    head, part = b"\0\xf8\x02\x05", bytes([tag]) + (b"\0\0" if tag == 0xF7 else b"")
    with pytest.raises(RemoteProtocolError):
        codec.decode(head + part * 50_000)


def test_texts_are_bounded() -> None:
    """An answer repeats several texts of a stanza, and has to fit one frame."""
    longest = "é" * (codec.MAX_TEXT // 2)
    node = Node("message", dict.fromkeys(("id", "from", "participant", "type"), longest))
    assert codec.decode(codec.encode(node)) == node
    assert len(codec.encode(stanzas.ack(node))) < 1 << 24
    for text in (b"x" * (codec.MAX_TEXT + 1), b"\xff" * (codec.MAX_TEXT // 2)):
        raw = b"\0\xf8\x03\x05\x06\xfe" + len(text).to_bytes(4, "big") + text
        with pytest.raises(RemoteProtocolError, match="a text of"):
            codec.decode(raw)


@pytest.mark.parametrize("device", ["65536", "0000065536", "0000001234567890", "9" * 400])
def test_device_numbers_are_bounded(device: str) -> None:
    """Leading zeros do not hide a number that fits nowhere."""
    with pytest.raises(RemoteProtocolError):
        Jid.parse(f"1:{device}@{SERVER}")
    assert Jid.parse(f"1:0000000007@{SERVER}").device == 7


def test_jids_are_bounded_in_both_forms() -> None:
    """A JID may become part of a key in storage, however it was written."""
    long = "x" * MAX_JID_LENGTH
    for value in (Jid(long, SERVER), Jid("1", long), f"{long}@{SERVER}"):
        with pytest.raises(RemoteProtocolError):
            Node("a", {"from": value}).jid("from")


def test_numbers_fit_storage() -> None:
    """A number beyond 64 bits counts as the largest; absurd times then read as absurd."""
    for text, number in (("9" * 19, MAX_INTEGER), ("-" + "9" * 19, -MAX_INTEGER)):
        assert Node("a", {"t": text}).integer("t") == number
    with pytest.raises(RemoteProtocolError):
        Node("a", {"t": "9" * 20}).integer("t")


# ---- stanzas


def _message(*children: Node, **attributes: t.Any) -> Node:
    given = {"id": "1", "from": ANA, "t": 1} | attributes
    return Node("message", {key: given[key] for key in given}, children)


def test_ids_are_bounded() -> None:
    """Wherever an id may become part of a key."""
    long, call = "x" * (MAX_ID + 1), {"from": ANA, "id": "1"}
    stanzas.parse_message(_message(id="x" * MAX_ID), OWN, None)
    with pytest.raises(RemoteProtocolError):
        stanzas.parse_message(_message(id=long), OWN, None)
    with pytest.raises(RemoteProtocolError):
        parse_call(Node("call", call, (Node("offer", {"call-id": long}),)))
    with pytest.raises(RemoteProtocolError):
        parse_group_events(Node("notification", {"id": long, "from": GROUP}))
    for receipt in (
        Node("receipt", {"id": long, "from": ANA}),
        Node(
            "receipt", {"id": "1", "from": ANA}, (Node("list", {}, (Node("item", {"id": long}),)),)
        ),
        Node("receipt", {"id": "1", "from": ANA}, (Node("participants", {"key": long}),)),
        Node("receipt", {"id": "1", "from": ANA}, (Node("retry", {"id": long}),)),
    ):
        with pytest.raises(RemoteProtocolError):
            stanzas.parse_receipt(receipt)


def test_counts_are_bounded() -> None:
    """Ciphertexts of a message, parts of a receipt, members of a group, bytes of routing."""
    enc = Node("enc", {"v": "2", "type": "msg"}, b"")
    stanzas.parse_message(_message(*[enc] * stanzas.MAX_ENCS), OWN, None)
    with pytest.raises(RemoteProtocolError, match="ciphertexts"):
        stanzas.parse_message(_message(*[enc] * (stanzas.MAX_ENCS + 1)), OWN, None)
    too_many = stanzas.MAX_RECEIPT_IDS + 1
    for name, part in (
        ("list", Node("item", {"id": "1"})),
        ("participants", Node("user", {"jid": ANA})),
    ):
        receipt = Node("receipt", {"id": "1", "from": ANA}, (Node(name, {}, (part,) * too_many),))
        with pytest.raises(RemoteProtocolError, match="parts"):
            stanzas.parse_receipt(receipt)
    members = (Node("participant", {"jid": ANA}),) * (groups.MAX_MEMBERS + 1)
    with pytest.raises(RemoteProtocolError, match="members"):
        groups.parse_group(Node("group", {"id": GROUP}, members))
    blob = Node("routing_info", {}, bytes(bulletins.MAX_ROUTING_INFO + 1))
    with pytest.raises(RemoteProtocolError, match="routing"):
        bulletins.parse_bulletin(Node("ib", {}, (Node("edge_routing", {}, (blob,)),)))


def test_a_group_is_named_by_a_group() -> None:
    """A bare id is read as strictly as a whole JID."""
    assert groups.parse_group(Node("group", {"id": "123"})).jid == Jid("123", "g.us")
    with pytest.raises(RemoteProtocolError):
        groups.parse_group(Node("group", {"id": "1:99999"}))
    with pytest.raises(RemoteProtocolError):
        groups.parse_group(Node("group", {"id": "x" * MAX_JID_LENGTH}))


# ---- protobuf: a field of two bytes becomes an object of fifty and more


MANY: t.Final = protobuf.MAX_FIELDS + 1
FEW: t.Final = 2_000  # in the place of a million, which take a while to count


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(length_delimited(6, length_delimited(17, b"\x7a\0" * MANY)), id="mentions"),
        pytest.param(length_delimited(12, length_delimited(7, b"\x0a\0" * MANY)), id="keys"),
    ],
)
def test_messages_of_absurdly_many_fields(raw: bytes) -> None:
    """They are refused before they are decoded."""
    with pytest.raises(RemoteProtocolError, match="fields"):
        content.read_content(raw)


def test_contents_of_absurdly_many_fields() -> None:
    """The message stays what it is; what it lists is left out."""
    for field, kind, item in ((13, "contacts", b"\x1a\0"), (42, "buttons", b"\x4a\0")):
        read = content.read_content(length_delimited(field, item * MANY))
        assert (read.kind, read.detail) == (kind, {}), kind


def test_many_fields_are_read_up_to_the_limit() -> None:
    """The count is of fields at every depth, and exact."""
    mentions = b"\x7a\0" * (protobuf.MAX_FIELDS - 2)
    raw = length_delimited(6, length_delimited(17, mentions))
    assert len(content.read_content(raw).mentions) == content.MAX_MENTIONS
    with pytest.raises(RemoteProtocolError):
        content.read_content(raw + b"\x0a\0")


def test_a_small_message_that_inflates(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the phone sends compressed is counted after it was inflated."""
    monkeypatch.setattr(requests, "MAX_FIELDS", FEW)
    packed = zlib.compress(b"\x1a\0" * (FEW + 1), 9)
    result = length_delimited(8, length_delimited(1, packed) + b"\x10\x01")
    raw = length_delimited(
        12, b"\x10\x11" + length_delimited(17, b"\x08\x08" + length_delimited(3, result))
    )
    assert len(raw) < 200
    with pytest.raises(RemoteProtocolError, match="fields"):
        requests.read_recovery(raw)


def test_files_of_absurdly_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """App state, history, and messages out of it."""
    monkeypatch.setattr(wire, "MAX_FIELDS", FEW)
    monkeypatch.setattr(history, "MAX_FIELDS", FEW)
    with pytest.raises(RemoteProtocolError, match="fields"):
        wire.with_mutations(sync_pb2.SyncPatch(), b"\x0a\0" * (FEW + 1))
    with pytest.raises(RemoteProtocolError, match="parts"):
        history.read_history(b"\x12\0" * (FEW // 16))
    with pytest.raises(RemoteProtocolError, match="parts"):
        history.read_history(b"\x3a\0" * (FEW + 1))
    with pytest.raises(RemoteProtocolError, match="parts"):
        history.read_history(length_delimited(2, b"\xa2\x01\0" * (FEW + 1)))
    with pytest.raises(RemoteProtocolError, match="fields"):
        read_web_message(length_delimited(1, b"") + b"\xc2\x02\0" * MANY)


def test_a_phone_may_tell_all_addresses_it_knows() -> None:
    """The bound of its messages is higher: tens of thousands of pairs are read."""
    pairs = tuple(
        peer.LidMapping(
            number=Jid(str(15_550_000_000 + n), SERVER), lid=Jid(str(10**14 + n), "lid")
        )
        for n in range(25_000)
    )
    assert peer.parse_lid_mappings(peer.build_lid_mappings(pairs)) == pairs


def test_nesting_is_bounded_before_it_is_followed() -> None:
    """Also in a message that is long enough to be counted."""
    nested = b""
    for _level in range(200):
        nested = length_delimited(37, length_delimited(1, nested))
    with pytest.raises(RemoteProtocolError):
        content.read_content(nested)
    with pytest.raises(RemoteProtocolError):
        protobuf.decode(wa_pb2.Message, nested + b"\x0a\0" * MANY)
