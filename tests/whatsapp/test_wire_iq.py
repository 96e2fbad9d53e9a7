"""Requests and answers, in the shapes of docs/protocol.md."""

import contextlib
import hashlib
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp.binary import codec
from whatsapp.device import Device
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import bulletins, bundles, core, groups, ping, prekeys, session, usync
from whatsapp.jid import SERVER_JID, Jid
from whatsapp.node import Node

ANNA, BEN = Jid.parse("111@lid"), Jid.parse("222@lid")
GROUP = Jid.parse("120363000000000001@g.us")
KEY = KeyPair.from_private(b"\1" * 32)


def _result(*children: Node) -> Node:
    return Node("iq", {"from": SERVER_JID, "type": "result", "id": "1"}, children)


def _refusal(code: int) -> Node:
    child = Node("error", {"code": code, "text": "no", "backoff": 30})
    return Node("iq", {"from": SERVER_JID, "type": "error", "id": "1"}, (child,))


def _node(tag: str, content: bytes) -> Node:
    return Node(tag, {}, content)


@pytest.fixture
def device() -> Device:
    """An unpaired device."""
    return Device.generate(lambda size: bytes(range(size)))


# ---- the frame


def test_ids_never_repeat() -> None:
    """A prefix per connection, then a count."""
    ids = core.IqIds(b"\x01\x02\xff\xff")
    assert [ids.next() for _ in range(3)] == ["258.65535-1", "258.65535-2", "258.65535-3"]


def test_requests() -> None:
    """Requests go to the server unless told otherwise."""
    assert core.get("1", "w:p").attrs == {
        "to": SERVER_JID,
        "xmlns": "w:p",
        "type": "get",
        "id": "1",
    }
    assert core.set_("1", "w:g2", Node("x"), to=GROUP).attrs["to"] == GROUP


def test_errors_say_why() -> None:
    """Code, text and how long to wait."""
    with pytest.raises(core.IqError) as caught:
        core.require_result(_refusal(429))
    error = caught.value
    assert (error.code, error.text, error.backoff) == (429, "no", 30)
    for node in (Node("ack"), Node("iq", {"type": "get"}), Node("iq", {"type": "error"})):
        with pytest.raises(RemoteProtocolError):
            core.require_result(node)


def test_pings() -> None:
    """Ours has no content; the server's is answered with an empty result."""
    assert ping.ping_request("1") == core.get("1", "w:p")
    theirs = Node(
        "iq",
        {"from": SERVER_JID, "type": "get", "id": "x", "xmlns": "urn:xmpp:ping"},
        (Node("ping"),),
    )
    assert ping.is_ping(theirs)
    assert not ping.is_ping(Node("iq", {"type": "result", "xmlns": "urn:xmpp:ping"}))
    assert core.result(theirs) == Node("iq", {"to": SERVER_JID, "id": "x", "type": "result"})


def test_session_requests() -> None:
    """Going active, and leaving for good."""
    assert session.active_request("1") == core.set_("1", "passive", Node("active"))
    leave = session.logout_request("1", Jid.parse("1:2@s.whatsapp.net"))
    child = leave.required_child("remove-companion-device")
    assert child.attrs["reason"] == "user_initiated"
    assert leave.attrs["xmlns"] == "md"


# ---- prekeys


def test_prekey_upload(device: Device) -> None:
    """Children in the order and widths which the server expects."""
    node = prekeys.upload_request("1", device, [(0x010203, KEY), (2, KEY)])
    assert (node.attrs["xmlns"], node.attrs["type"]) == ("encrypt", "set")
    tags = [child.tag for child in node.children]
    assert tags == ["registration", "type", "identity", "list", "skey"]
    assert node.required_child("registration").data() == device.registration_id.to_bytes(4, "big")
    assert node.required_child("type").data() == b"\5"
    assert node.required_child("identity").data() == device.identity.public
    first, second = node.required_child("list").children
    assert first == Node("key", {}, (_node("id", b"\1\2\3"), _node("value", KEY.public)))
    assert second.required_child("id").data() == b"\0\0\2"
    assert node.required_child("skey") == Node(
        "skey",
        {},
        (
            _node("id", b"\0\0\1"),
            _node("value", device.signed_prekey.public),
            _node("signature", device.signed_prekey_signature),
        ),
    )


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        (_result(Node("count", {"value": 12})), 12),
        (_result(Node("count")), 0),
        (_result(), 0),
    ],
)
def test_prekey_count(answer: Node, count: int) -> None:
    """An answer without a number counts as none."""
    assert prekeys.parse_count(answer) == count


def test_low_notification() -> None:
    """Only the notification that counts is one."""
    low = Node("notification", {"type": "encrypt", "id": "1"}, (Node("count", {"value": 3}),))
    assert prekeys.parse_low_notification(low) == 3
    identity = Node("notification", {"type": "encrypt"}, (Node("identity"),))
    assert prekeys.parse_low_notification(identity) is None
    assert prekeys.parse_low_notification(Node("notification", {"type": "devices"})) is None


def test_prekey_digest(device: Device) -> None:
    """The hash is over identity, signed prekey, signature and the listed prekeys."""
    skey = prekeys.signed_prekey_of(device)
    expected = hashlib.sha1(
        device.identity.public + skey.public + skey.signature + KEY.public
    ).digest()
    assert prekeys.digest_hash(device.identity.public, skey, [KEY.public]) == expected
    digest = prekeys.parse_digest(
        _result(
            Node(
                "digest",
                {},
                (
                    prekeys.registration_node(device.registration_id),
                    prekeys.type_node(),
                    _node("identity", device.identity.public),
                    prekeys.signed_prekey_node(skey),
                    Node("list", {}, (_node("id", b"\0\0\7"),)),
                    _node("hash", expected),
                ),
            )
        )
    )
    assert digest is not None
    assert (digest.registration_id, digest.identity) == (
        device.registration_id,
        device.identity.public,
    )
    assert (digest.signed_prekey, digest.prekey_ids, digest.hash) == (skey, (7,), expected)
    assert prekeys.parse_digest(_result()) is None
    assert prekeys.parse_digest(_result(Node("digest"))) is None


# ---- bundles


def _bundle(one_time: bool = True) -> tuple[Node, ...]:
    skey = prekeys.SignedPreKey(9, KEY.public, b"s" * 64)
    nodes = [
        prekeys.registration_node(77),
        prekeys.type_node(),
        _node("identity", KEY.public),
        prekeys.signed_prekey_node(skey),
    ]
    return (*nodes, prekeys.prekey_node(5, KEY.public)) if one_time else tuple(nodes)


def test_bundles() -> None:
    """With and without a one-time prekey, wrapped or not, and refusals per device."""
    request = bundles.fetch_request("1", [ANNA, BEN], reason="identity")
    assert [user.attrs for user in request.required_child("key").children] == [
        {"jid": ANNA, "reason": "identity"},
        {"jid": BEN, "reason": "identity"},
    ]
    carl, dora = ANNA.with_device(1), ANNA.with_device(2)
    fetched = bundles.parse_fetch_response(
        _result(
            Node(
                "list",
                {},
                (
                    Node("user", {"jid": ANNA}, _bundle()),
                    Node("user", {"jid": BEN}, _bundle(one_time=False)),
                    Node("user", {"jid": carl}, (Node("error", {"code": 404, "text": "no"}),)),
                    Node("user", {"jid": dora}, (Node("keys", {}, _bundle()),)),
                ),
            )
        )
    )
    anna, ben = fetched.bundles[ANNA], fetched.bundles[BEN]
    assert (anna.registration_id, anna.identity) == (77, KEY.public)
    assert (anna.signed_prekey_id, anna.signed_prekey_signature) == (9, b"s" * 64)
    assert (anna.prekey_id, anna.prekey) == (5, KEY.public)
    assert (ben.prekey_id, ben.prekey) == (None, None)
    assert fetched.bundles[dora] == anna
    assert fetched.errors[carl].code == 404


# ---- device lists


def _device_list(*devices: Node) -> Node:
    return Node("devices", {}, (Node("device-list", {}, devices),))


def test_device_lists() -> None:
    """Numbers once each, hosted ones left out, LIDs where the server tells them."""
    request = usync.devices_request("1", "sid", [ANNA.with_device(3)])
    asked = request.required_child("usync")
    assert asked.required_child("list").children == (Node("user", {"jid": ANNA}),)
    assert [child.tag for child in asked.required_child("query").children] == ["devices", "lid"]

    devices = _device_list(
        Node("device", {"id": 0}),
        Node("device", {"id": 3, "key-index": 2}),
        Node("device", {"id": 99, "is_hosted": "true"}),
        Node("device", {"id": 3}),
    )
    users = (
        Node("user", {"jid": ANNA}, (devices, Node("lid", {"val": BEN}))),
        Node("user", {"jid": BEN}),
        Node("user", {"jid": BEN}, (Node("devices"),)),
    )
    answer = _result(Node("usync", {}, (Node("result"), Node("list", {}, users))))
    [anna] = usync.parse_devices_response(answer)
    assert (anna.account, anna.devices, anna.lid) == (ANNA, (0, 3), BEN)
    assert anna.jids == (ANNA, ANNA.with_device(3))


@pytest.mark.parametrize("number", [None, -1, 256, "x"])
def test_device_numbers_are_bounded(number: int | str | None) -> None:
    """A device number is one byte."""
    user = Node("user", {"jid": ANNA}, (_device_list(Node("device", {"id": number})),))
    with pytest.raises(RemoteProtocolError):
        usync.parse_devices_response(_result(Node("usync", {}, (Node("list", {}, (user,)),))))


def test_refused_device_list() -> None:
    """A refusal for one account is a refusal."""
    devices = Node("devices", {}, (Node("error", {"code": 403, "text": "no"}),))
    user = Node("user", {"jid": ANNA}, (devices,))
    with pytest.raises(core.IqError, match="403"):
        usync.parse_devices_response(_result(Node("usync", {}, (Node("list", {}, (user,)),))))


# ---- groups


@pytest.mark.parametrize("group_id", [GROUP.user, str(GROUP)])
def test_groups(group_id: str) -> None:
    """The id may be a whole JID; members come with both addresses where known."""
    phone = Jid.parse("1555@s.whatsapp.net")
    node = Node(
        "group",
        {
            "id": group_id,
            "subject": "Café",
            "addressing_mode": "lid",
            "creation": 5,
            "creator": ANNA,
        },
        (
            Node("participant", {"jid": ANNA, "phone_number": phone, "type": "admin"}),
            Node("participant", {"jid": BEN}),
        ),
    )
    expected = groups.Group(
        jid=GROUP,
        subject="Café",
        participants=(groups.Participant(ANNA, phone, "admin"), groups.Participant(BEN)),
        lid_addressing=True,
        creator=ANNA,
        created_at=5,
    )
    assert groups.parse_group_response(_result(node)) == expected
    assert groups.parse_groups_response(_result(Node("groups", {}, (node,)))) == (expected,)
    assert groups.group_request("1", GROUP).attrs["to"] == GROUP
    assert groups.groups_request("1").attrs["to"] == Jid("", "g.us")


# ---- bulletins


def test_bulletins() -> None:
    """Everything the server tells on the side; unknown words are ignored."""
    node = Node(
        "ib",
        {"from": SERVER_JID},
        (
            Node("offline_preview", {"count": 9, "message": 4, "receipt": 3, "notification": 2}),
            Node("offline", {"count": 9}),
            Node("dirty", {"type": "groups", "timestamp": "17"}),
            Node("edge_routing", {}, (_node("routing_info", b"blob"),)),
            Node("tos"),
        ),
    )
    preview, offline, dirty, routing = bulletins.parse_bulletin(node)
    assert preview == bulletins.OfflineAnnounced(total=9, messages=4, receipts=3, notifications=2)
    assert offline == bulletins.OfflineCompleted(9)
    assert routing == bulletins.RoutingChanged(b"blob")
    absurd = {"count": "9" * 30, "message": "-4", "receipt": "many"}
    [preview] = bulletins.parse_bulletin(Node("ib", {}, (Node("offline_preview", absurd),)))
    assert preview == bulletins.OfflineAnnounced(
        total=None, messages=0, receipts=None, notifications=None
    )
    [offline] = bulletins.parse_bulletin(Node("ib", {}, (Node("offline", {"count": "x"}),)))
    assert offline == bulletins.OfflineCompleted(None)
    assert isinstance(dirty, bulletins.DirtyAnnounced)
    clean = bulletins.clean_request("1", dirty)
    assert clean.attrs["xmlns"] == "urn:xmpp:whatsapp:dirty"
    assert clean.required_child("clean").attrs == {"type": "groups", "timestamp": "17"}
    assert codec.encode(bulletins.offline_batch_request()).hex() == (
        "00f802fc026962f801f803ed0841ec33"
    )


# ---- anything at all

PARSERS: t.Final = (
    core.require_result,
    prekeys.parse_count,
    prekeys.parse_digest,
    prekeys.parse_low_notification,
    bundles.parse_fetch_response,
    usync.parse_devices_response,
    groups.parse_group_response,
    groups.parse_groups_response,
    bulletins.parse_bulletin,
    ping.is_ping,
)
TAGS = [
    *("count", "digest", "registration", "type", "identity", "skey", "list", "hash", "id", "value"),
    *("signature", "user", "key", "keys", "error", "usync", "devices", "device-list", "device"),
    *("lid", "key-index-list", "group", "groups", "participant", "offline", "offline_preview"),
    *("dirty", "edge_routing", "routing_info"),
]
KEYS = ["jid", "id", "value", "count", "type", "code", "text", "backoff", "creation", "val", "t"]
values = st.one_of(
    st.sampled_from([ANNA, GROUP, SERVER_JID]),
    st.sampled_from(["", "1", "-1", "999999999999999999", "x@", "1:2:3@lid"]),
    st.text(max_size=5),
)
attributes = st.dictionaries(st.sampled_from(KEYS), values, max_size=4)
content = st.one_of(st.none(), st.sampled_from([b"\5", KEY.public]), st.binary(max_size=70))
trees = st.recursive(
    st.builds(Node, st.sampled_from(TAGS), attributes, content),
    lambda children: st.builds(
        Node, st.sampled_from(TAGS), attributes, st.lists(children, max_size=5).map(tuple)
    ),
    max_leaves=12,
)


@given(st.lists(trees, max_size=3), st.sampled_from(["result", "error", ""]))
@settings(deadline=None)
def test_random_trees_are_read_or_refused(children: list[Node], kind: str) -> None:
    """Any tree, to any parser: a value, or RemoteProtocolError."""
    node = Node("iq", {"type": kind, "id": "1"}, tuple(children))
    for parse in PARSERS:
        with contextlib.suppress(RemoteProtocolError):
            parse(node)
