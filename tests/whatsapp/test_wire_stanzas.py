"""Messages, receipts and acks: who, where, and the shape of every answer."""

import contextlib
import typing as t

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp import stanzas
from whatsapp.binary import codec
from whatsapp.device import Device
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import DecryptionFailure, RemoteProtocolError
from whatsapp.iq import prekeys
from whatsapp.jid import SERVER_JID, Jid
from whatsapp.node import Node, Value
from whatsapp.stanzas import EncPayload, MessageStanza, parse_message, parse_receipt

OWN_PN, OWN_LID = Jid.parse("15550009999:7@s.whatsapp.net"), Jid.parse("777:7@lid")
ANNA_PN, ANNA_LID = Jid.parse("15550001111:2@s.whatsapp.net"), Jid.parse("111:2@lid")
GROUP = Jid.parse("120363000000000001@g.us")
ENC = Node("enc", {"v": 2, "type": "msg"}, b"\1\2\3")
Attributes: t.TypeAlias = dict[str, Value | int | None]


def _message(attributes: Attributes, *children: Node) -> Node:
    return Node("message", {"id": "3EB0AA", "t": 1_800_000_000, **attributes}, children or (ENC,))


def _parse(attributes: Attributes, *children: Node) -> MessageStanza:
    return parse_message(_message(attributes, *children), OWN_PN, OWN_LID)


@pytest.mark.parametrize(
    ("attributes", "chat", "chat_alt", "sender", "sender_alt", "from_me"),
    [
        pytest.param(
            {"from": ANNA_PN}, "15550001111@s.whatsapp.net", None, ANNA_PN, None, False, id="PN"
        ),
        pytest.param(
            {"from": ANNA_LID, "sender_pn": ANNA_PN.bare},
            "111@lid",
            "15550001111@s.whatsapp.net",
            ANNA_LID,
            ANNA_PN,
            False,
            id="LID with PN",
        ),
        pytest.param(
            {"from": ANNA_PN, "sender_lid": ANNA_LID},
            "15550001111@s.whatsapp.net",
            "111@lid",
            ANNA_PN,
            ANNA_LID,
            False,
            id="PN with LID",
        ),
        pytest.param(
            {"from": ANNA_PN, "sender_pn": ANNA_PN, "sender_lid": ""},
            "15550001111@s.whatsapp.net",
            None,
            ANNA_PN,
            None,
            False,
            id="useless other addresses",
        ),
        pytest.param(
            {"from": Jid.parse("5511:99@hosted")},
            "5511@s.whatsapp.net",
            None,
            Jid.parse("5511:99@hosted"),
            None,
            False,
            id="hosted companion",
        ),
        pytest.param(
            {"from": Jid.parse("0@c.us")},
            "0@s.whatsapp.net",
            None,
            Jid.parse("0@c.us"),
            None,
            False,
            id="legacy server",
        ),
        pytest.param(
            {"from": OWN_PN.with_device(0), "recipient": ANNA_PN.bare},
            "15550001111@s.whatsapp.net",
            None,
            OWN_PN.with_device(0),
            OWN_LID.with_device(0),
            True,
            id="own phone to a person",
        ),
        pytest.param(
            {
                "from": OWN_LID.with_device(3),
                "recipient": ANNA_LID.bare,
                "peer_recipient_pn": ANNA_PN.bare,
            },
            "111@lid",
            "15550001111@s.whatsapp.net",
            OWN_LID.with_device(3),
            OWN_PN.with_device(3),
            True,
            id="own device to a LID",
        ),
        pytest.param(
            {"from": OWN_PN.with_device(0), "category": "peer"},
            "15550009999@s.whatsapp.net",
            None,
            OWN_PN.with_device(0),
            OWN_LID.with_device(0),
            True,
            id="between own devices",
        ),
        pytest.param(
            {"from": GROUP, "participant": ANNA_LID, "participant_pn": ANNA_PN.bare},
            str(GROUP),
            None,
            ANNA_LID,
            ANNA_PN,
            False,
            id="group",
        ),
        pytest.param(
            {"from": GROUP, "participant": OWN_LID.with_device(0)},
            str(GROUP),
            None,
            OWN_LID.with_device(0),
            OWN_PN.with_device(0),
            True,
            id="own phone in a group",
        ),
        pytest.param(
            {"from": Jid.parse("status@broadcast"), "participant": ANNA_PN},
            "status@broadcast",
            None,
            ANNA_PN,
            None,
            False,
            id="status",
        ),
        pytest.param(
            {"from": Jid.parse("55@newsletter")},
            "55@newsletter",
            None,
            Jid.parse("55@newsletter"),
            None,
            False,
            id="channel",
        ),
    ],
)
def test_who_and_where(
    attributes: Attributes,
    chat: str,
    chat_alt: str | None,
    sender: Jid,
    sender_alt: Jid | None,
    from_me: bool,
) -> None:
    """Row by row of docs/protocol.md#message-stanza, as decoded from the wire."""
    node = codec.decode(codec.encode(_message(attributes)))
    message = parse_message(node, OWN_PN, OWN_LID)
    assert str(message.chat) == chat
    assert message.chat_alt == (None if chat_alt is None else Jid.parse(chat_alt))
    assert (message.sender, message.sender_alt) == (sender, sender_alt)
    assert message.from_me is from_me


def test_bot_chats() -> None:
    """A bot's message belongs to the chat it was asked in."""
    bot, meta = Jid.parse("867@bot"), Node("meta", {"target_chat_jid": ANNA_PN})
    assert _parse({"from": bot}).chat == bot
    assert _parse({"from": bot}, meta, ENC).chat == ANNA_PN.bare
    assert _parse({"from": ANNA_PN, "recipient": bot}).chat == ANNA_PN.bare


def test_everything_a_message_may_carry() -> None:
    """The attributes and children that later steps need."""
    message = _parse(
        {
            "from": ANNA_PN,
            "notify": "Anna",
            "offline": 3,
            "edit": 1,
            "category": "",
            "addressing_mode": "lid",
        },
        Node("enc", {"type": "pkmsg", "v": 2, "count": 2, "decrypt-fail": "hide"}, b"a"),
        Node("enc", {"type": "skmsg", "v": 3}, b"b"),
        Node("device-identity", {}, b"adv"),
        Node("unavailable", {"type": "view_once"}),
        Node("plaintext", {}, b"p"),
    )
    assert message.encs == (
        EncPayload("pkmsg", b"a", 2, True),
        EncPayload("skmsg", b"b", version=3),
    )
    assert [enc.padded for enc in message.encs] == [True, False]
    assert (message.id, message.timestamp, message.push_name) == ("3EB0AA", 1_800_000_000, "Anna")
    assert (message.offline, message.edit, message.category) == (True, "1", None)
    assert (message.addressing_mode, message.is_peer) == ("lid", False)
    assert (message.device_identity, message.plaintext) == (b"adv", b"p")
    assert message.unavailable == "view_once"


def test_what_may_be_missing() -> None:
    """Id, time, name, mode and ciphertexts may be missing."""
    node = Node("message", {"from": ANNA_LID, "notify": "-"}, (Node("unavailable"),))
    message = parse_message(node, OWN_PN, None)
    assert (message.id, message.timestamp, message.push_name) == (None, 0, None)
    assert (message.addressing_mode, message.offline, message.encs) == ("lid", False, ())
    assert message.unavailable == "unspecified"


@pytest.mark.parametrize(
    "node",
    [
        pytest.param(Node("message", {"id": "1"}), id="no from"),
        pytest.param(Node("message", {"id": "1", "from": ""}), id="empty from"),
        pytest.param(Node("message", {"id": "1", "from": SERVER_JID}), id="from the server"),
        pytest.param(_message({"from": GROUP}), id="group without participant"),
        pytest.param(_message({"from": GROUP, "participant": SERVER_JID}), id="nobody in a group"),
        pytest.param(_message({"from": ANNA_PN, "recipient": OWN_PN}), id="recipient, not own"),
        pytest.param(_message({"from": ANNA_PN, "t": "now"}), id="time is no number"),
        pytest.param(_message({"from": "a:b@lid"}), id="malformed JID"),
        pytest.param(_message({"from": ANNA_PN}, Node("enc", {"v": 2}, b"")), id="enc, no type"),
        pytest.param(
            _message({"from": ANNA_PN}, Node("enc", {"type": "msg"}, (ENC,))), id="nested enc"
        ),
    ],
)
def test_malformed_messages_are_refused(node: Node) -> None:
    """Each malformation on its own; all of them can be acknowledged."""
    with pytest.raises(RemoteProtocolError):
        parse_message(node, OWN_PN, OWN_LID)
    codec.encode(stanzas.ack(node, 487))


# ---- answers


def test_acks() -> None:
    """Addresses are copied; the type too, except for messages."""
    node = _message({"from": GROUP, "participant": ANNA_LID, "type": "text"})
    assert stanzas.ack(node).attrs == {
        "class": "message",
        "id": "3EB0AA",
        "to": GROUP,
        "participant": ANNA_LID,
    }
    receipt = Node("receipt", {"id": "1", "from": ANNA_PN, "type": "read", "recipient": GROUP})
    assert stanzas.ack(receipt, 487).attrs == {
        "class": "receipt",
        "id": "1",
        "to": ANNA_PN,
        "recipient": GROUP,
        "type": "read",
        "error": "487",
    }


@pytest.mark.parametrize(
    ("attributes", "active", "expected"),
    [
        ({"from": ANNA_PN}, True, {"to": ANNA_PN}),
        ({"from": ANNA_PN}, False, {"to": ANNA_PN, "type": "inactive"}),
        (
            {"from": GROUP, "participant": ANNA_LID},
            True,
            {"to": GROUP, "participant": ANNA_LID},
        ),
        (
            {"from": OWN_PN.with_device(0), "recipient": ANNA_PN.bare},
            False,
            {"to": OWN_PN.with_device(0), "recipient": ANNA_PN.bare, "type": "sender"},
        ),
        (
            {"from": GROUP, "participant": OWN_LID.with_device(0)},
            True,
            {"to": GROUP, "participant": OWN_LID.with_device(0), "type": "sender"},
        ),
        (
            {"from": OWN_PN.with_device(0), "category": "peer"},
            True,
            {"to": OWN_PN.bare, "type": "peer_msg"},
        ),
    ],
)
def test_delivery_receipts(
    attributes: Attributes, active: bool, expected: dict[str, Value]
) -> None:
    """Row by row of docs/protocol.md#acks-and-receipts."""
    message = _parse(attributes)
    kind = stanzas.delivery_kind(message, active=active)
    receipt = stanzas.delivery_receipt(message, kind)
    assert (receipt.tag, receipt.attrs) == ("receipt", {"id": "3EB0AA", **expected})


def test_history_receipt() -> None:
    """It goes to the own account."""
    message = _parse({"from": OWN_PN.with_device(0), "category": "peer"})
    receipt = stanzas.delivery_receipt(message, "hist_sync")
    assert receipt.attrs == {"id": "3EB0AA", "to": OWN_PN.bare, "type": "hist_sync"}


@pytest.fixture
def device() -> Device:
    """A paired device."""
    return attrs.evolve(
        Device.generate(lambda size: bytes(range(size))), jid=OWN_PN, lid=OWN_LID, account=b"adv"
    )


def test_first_retry_receipt(device: Device) -> None:
    """Count and registration id, no keys."""
    message = _parse({"from": GROUP, "participant": ANNA_LID})
    receipt = stanzas.retry_receipt(message, device, count=1, error=DecryptionFailure.NO_SESSION)
    assert receipt.attrs == {
        "id": "3EB0AA",
        "to": GROUP,
        "type": "retry",
        "participant": ANNA_LID,
    }
    assert receipt.required_child("retry").attrs == {
        "v": "1",
        "id": "3EB0AA",
        "t": "1800000000",
        "count": "1",
        "error": "1",
    }
    assert receipt.child("keys") is None
    registration = receipt.required_child("registration").data()
    assert registration == device.registration_id.to_bytes(4, "big")


def test_retry_receipt_with_keys_reads_back(device: Device) -> None:
    """What we send with keys is what a peer needs to start a session."""
    fresh = KeyPair.from_private(b"\x42" * 32)
    message = _parse({"from": OWN_PN.with_device(0), "category": "peer"})
    sent = stanzas.retry_receipt(message, device, count=2, prekey=(0x010203, fresh))
    assert sent.attrs["category"] == "peer"
    keys = sent.required_child("keys")
    assert [child.tag for child in keys.children] == [
        "type",
        "identity",
        "key",
        "skey",
        "device-identity",
    ]
    assert keys.required_child("key").required_child("id").data() == b"\1\2\3"

    received = parse_receipt(codec.decode(codec.encode(sent)))
    retry = received.retry
    assert retry is not None
    assert (retry.id, retry.count, retry.device_identity) == ("3EB0AA", 2, b"adv")
    assert retry.error is None
    assert retry.bundle is not None
    assert retry.bundle.registration_id == retry.registration_id == device.registration_id
    assert retry.bundle.identity == device.identity.public
    assert (retry.bundle.prekey_id, retry.bundle.prekey) == (0x010203, fresh.public)
    assert retry.bundle.signed_prekey_signature == device.signed_prekey_signature


# ---- receipts and acks that come in


def test_receipts_are_read() -> None:
    """One receipt may speak for several messages."""
    items = Node("list", {}, tuple(Node("item", {"id": name}) for name in ("b", "c", "b")))
    receipt = parse_receipt(
        Node(
            "receipt",
            {"id": "a", "from": ANNA_PN, "type": "read", "t": 5, "recipient": OWN_PN.bare},
            (items,),
        )
    )
    assert receipt.ids == ("a", "b", "c")
    assert (receipt.type, receipt.timestamp) == ("read", 5)
    assert (receipt.sender, receipt.chat) == (ANNA_PN, OWN_PN.bare)
    assert receipt.retry is None


def test_group_receipts_are_read() -> None:
    """By one member, or by several at once."""
    one = parse_receipt(Node("receipt", {"id": "a", "from": GROUP, "participant": ANNA_LID}))
    assert (one.sender, one.chat, one.type) == (ANNA_LID, GROUP, None)
    users = (Node("user", {"jid": ANNA_LID, "t": 9}), Node("user", {"jid": OWN_LID}))
    crowd = parse_receipt(
        Node("receipt", {"from": GROUP}, (Node("participants", {"key": "a"}, users),))
    )
    assert crowd.ids == ("a",)
    assert [(reader.jid, reader.timestamp) for reader in crowd.readers] == [
        (ANNA_LID, 9),
        (OWN_LID, 0),
    ]


def test_client_receipts_may_lack_an_address() -> None:
    """A server reads the ``to`` of a client, which some leave out."""
    assert parse_receipt(Node("receipt", {"id": "a", "to": ANNA_PN})).address == ANNA_PN
    receipt = parse_receipt(Node("receipt", {"id": "a", "type": "sender"}))
    assert (receipt.sender, receipt.chat) == (None, None)


@pytest.mark.parametrize(
    "node",
    [
        Node("receipt", {"from": ANNA_PN}),
        Node("receipt", {"id": "a"}, (Node("list", {}, (Node("item"),)),)),
        Node("receipt", {"from": GROUP}, (Node("participants", {}, (Node("user"),)),)),
        Node("receipt", {"id": "a", "t": "x"}),
        Node("receipt", {"id": "a"}, (Node("retry"), Node("keys"))),
        Node("receipt", {"id": "a"}, (Node("retry"), Node("registration", {}, b"12345"))),
    ],
)
def test_malformed_receipts_are_refused(node: Node) -> None:
    """Each malformation on its own."""
    with pytest.raises(RemoteProtocolError):
        parse_receipt(node)


def test_acks_are_read() -> None:
    """The server's answer to what we sent."""
    node = Node("ack", {"id": "a", "class": "message", "t": 5, "error": 479})
    assert stanzas.parse_ack(node) == stanzas.AckStanza("a", "message", 479, 5)
    with pytest.raises(RemoteProtocolError):
        stanzas.parse_ack(Node("ack"))


# ---- anything at all

TAGS = [
    *("enc", "device-identity", "plaintext", "unavailable", "meta", "retry", "keys", "key"),
    *("skey", "list", "item", "participants", "user", "registration", "identity", "id", "value"),
    *("signature", "type", "error", "count"),
]
KEYS = [
    *("id", "from", "to", "participant", "recipient", "t", "type", "count", "v", "notify"),
    *("sender_pn", "sender_lid", "participant_lid", "participant_pn", "peer_recipient_lid"),
    *("edit", "category", "jid", "key", "error", "decrypt-fail", "target_chat_jid", "offline"),
]
values = st.one_of(
    st.sampled_from([OWN_PN, OWN_LID, ANNA_PN, ANNA_LID, GROUP, SERVER_JID]),
    st.sampled_from(["", "1", "-1", "msg", "pkmsg", "retry", "peer", "x@y", "1:2:3@lid", "@"]),
    st.text(max_size=5),
)
attributes = st.dictionaries(st.sampled_from(KEYS), values, max_size=6)
trees = st.recursive(
    st.builds(Node, st.sampled_from(TAGS), attributes, st.none() | st.binary(max_size=70)),
    lambda children: st.builds(
        Node, st.sampled_from(TAGS), attributes, st.lists(children, max_size=4).map(tuple)
    ),
    max_leaves=8,
)
stanza_trees = st.builds(
    Node,
    st.sampled_from(["message", "receipt"]),
    attributes,
    st.none() | st.lists(trees, max_size=4).map(tuple),
)


@given(stanza_trees)
@settings(deadline=None)
def test_random_trees_are_read_or_refused(node: Node) -> None:
    """Any tree: a stanza, or RemoteProtocolError; and whatever it is, it can be answered."""
    for parse in (parse_receipt, stanzas.parse_ack):
        with contextlib.suppress(RemoteProtocolError):
            parse(node)
    codec.encode(stanzas.ack(node))
    try:
        message = parse_message(node, OWN_PN, OWN_LID)
    except RemoteProtocolError:
        return
    assert message.chat.device == 0
    for active in (False, True):
        kind = stanzas.delivery_kind(message, active=active)
        codec.encode(stanzas.delivery_receipt(message, kind))


def test_key_nodes_with_the_type_in_front() -> None:
    """Some clients send 33-byte keys in retry receipts."""
    public = KeyPair.from_private(b"\1" * 32).public
    assert prekeys.parse_key(Node("value", {}, b"\5" + public)) == public
    for data in (b"\6" + public, public[1:], b"", b"\5" + public[1:] + b"ab"):
        with pytest.raises(RemoteProtocolError):
            prekeys.parse_key(Node("value", {}, data))
