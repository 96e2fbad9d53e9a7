"""The binary node codec, against vectors of another implementation and against bad input."""

import hashlib
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp.binary import codec, packed, tokens
from whatsapp.binary.tags import AD_SERVERS, Tag
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.jid import SERVER_JID, Jid
from whatsapp.node import Node

ROOT = Path(__file__).parent.parent.parent

# Encoded by Baileys 7.0.0-rc13, decoded independently: docs/protocol.md#binary-node-codec
VECTORS = [
    (
        Node(
            "iq", {"id": "1.2-3", "to": SERVER_JID, "type": "get", "xmlns": "w:p"}, (Node("ping"),)
        ),
        "00f80a1908ff831b2a3f11fa000304291657f801f80156",
    ),
    (
        Node("iq", {"to": SERVER_JID, "type": "result", "id": "3999999999"}),
        "00f8071911fa0003041408ff053999999999",
    ),
    (
        Node(
            "ack",
            {
                "id": "3EB0ABCDEF",
                "to": Jid.parse("15550001234:11@s.whatsapp.net"),
                "class": "message",
            },
        ),
        "00f8071b08fb053eb0abcdef11f7000bff8615550001234f1513",
    ),
    (
        Node(
            "message",
            {"to": Jid.parse("9915550001:11@lid"), "id": "a", "type": "text"},
            (Node("enc", {"v": 2, "type": "msg"}, b"\1\2\3"),),
        ),
        "00f8081311f7010bff05991555000108fc01610438f801f8061d5145044dfc03010203",
    ),
    (
        Node(
            "x",
            {
                "a": "-12.5",
                "b": "ABC",
                "c": "",
                "d": Jid.parse("123456789@g.us"),
                "e": Jid.parse("user@hosted.lid"),
            },
        ),
        "00f80bfc0178fc0161ff83a12b5ffc0162fb82abcfee25fc00fc0164faff85123456789f1cedebfa0efc0a"
        "686f737465642e6c6964",
    ),
    (
        Node("ib", {}, (Node("offline_batch", {"count": 100}),)),
        "00f802fc026962f801f803ed0841ec33",
    ),
]

# Four implementations agree on them: docs/protocol.md#token-dictionaries
DICTIONARY_HASHES = [
    "34af7d0ba6b51a2a59091374163c9fc6be56ee7957781d6ec4cda91c4ae09cc0",
    "9caea4f9c169762e49bbe19e6af8cf9a04a9e0ebb76584f202ebd7b59c87d769",
    "7c99ed9e1ae1c8a3274dc560664a5d7b808396ba3aaafe5b11da8e838de6750b",
    "ee7425b329885fcf5aaaf4a184f30e1fed21fcf0bbdcf98bd8cef1fe3dd66803",
    "056e3944ba065b904089f490a3f0fc588248825e3d84768c849436515fc7661a",
]


@pytest.mark.parametrize(("node", "encoded"), VECTORS)
def test_vectors_both_ways(node: Node, encoded: str) -> None:
    """We write the bytes of another implementation, and read them back."""
    assert codec.encode(node).hex() == encoded
    assert codec.decode(bytes.fromhex(encoded)) == node


def test_dictionaries_are_the_known_ones() -> None:
    """Each dictionary has the published hash: one word per line, the first line number 0."""
    words = [tokens.SINGLE, *tokens.DOUBLE]
    hashes = [
        hashlib.sha256("".join(f"{word}\n" for word in table).encode()).hexdigest()
        for table in words
    ]
    assert hashes == DICTIONARY_HASHES


def test_table_is_what_the_pinned_package_says() -> None:
    """The script finds no difference between the table and the package's constants."""
    constants = ROOT / "tests/interop/node_modules/baileys/lib/WABinary/constants.js"
    if not constants.exists():
        pytest.skip("the npm package is not installed (make interop)")
    command = [sys.executable, str(ROOT / "scripts/make_tokens.py"), "--check"]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0


# ---- round trips

word = st.text(min_size=1, max_size=40)
short_text = st.one_of(
    st.text(max_size=300),
    st.sampled_from(tokens.TABLE),
    st.text("0123456789-.", max_size=130),
    st.text("0123456789ABCDEF", max_size=130),
)
users = st.text(st.characters(exclude_characters="@:", codec="utf-8"), min_size=1, max_size=30)
jids = st.one_of(
    st.builds(Jid, users, st.sampled_from([*AD_SERVERS.values()]), st.integers(0, 255)),
    st.builds(Jid, users, st.sampled_from(["g.us", "broadcast", "newsletter", "bot", "c.us"])),
    st.builds(Jid, users, st.just("msgr"), st.integers(0, 65535)),
    st.builds(
        lambda user, n, d: Jid(f"{n}-{user}", "interop", d),
        users,
        st.integers(0, 65535),
        st.integers(0, 65535),
    ),
    st.just(SERVER_JID),
)
nodes = st.recursive(
    st.builds(
        Node,
        word,
        st.dictionaries(
            word,
            st.one_of(short_text, jids),
            max_size=4,
        ),
        st.one_of(st.none(), st.binary(max_size=400)),
    ),
    lambda children: st.builds(
        Node,
        st.sampled_from(["iq", "message", "participants", "x"]),
        st.just({}),
        st.lists(children, min_size=1, max_size=4).map(tuple),
    ),
    max_leaves=12,
)


@given(nodes)
@settings(deadline=None, max_examples=100)
def test_what_was_encoded_decodes_to_the_same(node: Node) -> None:
    """Every tree the format can hold survives the way to bytes and back."""
    assert codec.decode(codec.encode(node)) == node


@given(nodes)
@settings(deadline=None, max_examples=30)
def test_compressed_frames_decode_to_the_same(node: Node) -> None:
    """Flag 2 means a zlib stream of the same bytes."""
    compressed = b"\2" + zlib.compress(codec.encode(node)[1:])
    assert codec.decode(compressed) == node


@pytest.mark.parametrize("size", [0, 1, 255, 256, (1 << 20) - 1, 1 << 20])
def test_binary_of_every_length_class(size: int) -> None:
    """The three length forms join without a gap."""
    node = Node("x", {}, b"\xa5" * size)
    assert codec.decode(codec.encode(node)) == node


def test_long_lists() -> None:
    """More than 255 children or attributes need the long list form."""
    node = Node("x", {f"k{n}": "v" for n in range(300)}, tuple(Node("y") for _ in range(1000)))
    assert codec.decode(codec.encode(node)) == node


def test_text_content_and_no_children() -> None:
    """Text content comes back as bytes when it was written so; no children means no content."""
    assert codec.decode(codec.encode(Node("x", {}, "not a token"))).content == b"not a token"
    assert codec.decode(codec.encode(Node("x", {}, "123"))).content == "123"
    assert codec.decode(codec.encode(Node("x", {}, ()))) == Node("x")


@pytest.mark.parametrize("text", ["1:300@lid", "5511:3@g.us"])
def test_jid_without_a_jid_form_is_text(text: str) -> None:
    """A device number that fits no JID tag is written as text, never dropped."""
    node = codec.decode(codec.encode(Node("x", {"to": Jid.parse(text)})))
    assert node.attrs["to"] == text


def test_odd_text_is_never_fatal() -> None:
    """Bytes that are not UTF-8 and lone surrogates end as escapes."""
    assert codec.decode(b"\0\xf8\x03\x13\x08\xfc\x02a\xff").attrs["id"] == "a\\xff"
    assert codec.decode(codec.encode(Node("x", {"id": "\ud800"}))).attrs["id"] == "\\ud800"


@pytest.mark.parametrize("node", [Node(""), Node("x", {"": "y"}), Node("x", {}, (Node(""),))])
def test_nameless_nodes_are_our_bug(node: Node) -> None:
    """An empty tag or attribute name is refused, because peers crash on it."""
    with pytest.raises(LocalProtocolError):
        codec.encode(node)


def test_our_own_nesting_is_bounded() -> None:
    """What we would not read, we do not write."""
    node = Node("x")
    for _ in range(codec.MAX_DEPTH):
        node = Node("x", {}, (node,))
    with pytest.raises(LocalProtocolError):
        codec.encode(node)


# ---- bad input


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_random_bytes_decode_or_are_refused(data: bytes) -> None:
    """Any bytes: a node, or RemoteProtocolError."""
    _decode_or_refuse(data)


@given(nodes, st.data())
@settings(deadline=None)
def test_damaged_frames_decode_or_are_refused(node: Node, data: st.DataObject) -> None:
    """Valid bytes with some changed, lost or doubled: a node, or RemoteProtocolError."""
    frame = bytearray(codec.encode(node))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(frame) - 1))
        frame[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not frame:
            break
    _decode_or_refuse(bytes(frame))
    _decode_or_refuse(b"\2" + zlib.compress(bytes(frame[1:])))


def _decode_or_refuse(data: bytes) -> None:
    try:
        node = codec.decode(data)
    except RemoteProtocolError:
        return
    codec.encode(node)  # whatever came in can be echoed


@given(nodes)
@settings(deadline=None, max_examples=30)
def test_every_truncation_is_refused(node: Node) -> None:
    """No strict prefix of a node is a node."""
    frame = codec.encode(node)
    for size in range(len(frame)):
        with pytest.raises(RemoteProtocolError):
            codec.decode(frame[:size])


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="nothing after the flag byte"),
        pytest.param("00", id="empty list as node"),
        pytest.param("f800", id="node of no elements"),
        pytest.param("f80100", id="empty tag"),
        pytest.param("f801fa0003", id="JID as tag"),
        pytest.param("f801f7000bff8115", id="device JID as tag"),
        pytest.param("f80319" + "fa000303", id="JID as attribute name"),
        pytest.param("f8031900fc00", id="empty attribute name"),
        pytest.param("f803190ef801", id="list as attribute value"),
        pytest.param("f80319" + "08f0", id="unused tag 240"),
        pytest.param("f80319" + "08f4", id="unused tag 244"),
        pytest.param("f8031908ff01c1", id="invalid nibble 12"),
        pytest.param("f8031908ff011f", id="filler without the odd bit"),
        pytest.param("f8031908fa0100", id="JID without server"),
        pytest.param("f8031908fa00fa0003", id="JID within a JID"),
        pytest.param("f8031908fafc0361403103", id="an at sign in a user"),
        pytest.param("f8031908fafc03613a3103", id="a colon in a user"),
        pytest.param("f8031908f7020bff8115", id="unknown device domain"),
        pytest.param("f8031908f7000b00", id="device JID without user"),
        pytest.param("f8031908f6fc0161000103", id="Messenger JID with another server"),
        pytest.param("f8031908f5fc01610001000203", id="interop JID with another server"),
        pytest.param("f80219fe80000000", id="binary of 2 GiB announced"),
        pytest.param("f80219fdffffff", id="binary of 1 MiB announced"),
        pytest.param("f80219f9ffff", id="65535 children announced"),
        pytest.param("f9ffff19", id="32767 attributes announced"),
        pytest.param("f8011900", id="a byte too many"),
    ],
)
def test_malformed_nodes_are_refused(body: str) -> None:
    """Each malformation on its own."""
    with pytest.raises(RemoteProtocolError):
        codec.decode(b"\0" + bytes.fromhex(body))


def test_depth_bomb_is_refused() -> None:
    """Nesting is bounded, long before the interpreter's stack is."""
    deepest = b"\xf8\x01\x19"
    within = b"\0" + b"\xf8\x02\x19\xf8\x01" * (codec.MAX_DEPTH - 1) + deepest
    codec.decode(within)
    with pytest.raises(RemoteProtocolError, match="nested deeper"):
        codec.decode(b"\0" + b"\xf8\x02\x19\xf8\x01" * codec.MAX_DEPTH + deepest)
    with pytest.raises(RemoteProtocolError, match="nested deeper"):
        codec.decode(b"\0" + b"\xf8\x02\x19\xf8\x01" * 1_000_000)


def test_decompression_bomb_is_refused() -> None:
    """Inflation stops at its limit."""
    with pytest.raises(RemoteProtocolError, match="inflates"):
        codec.decode(b"\2" + zlib.compress(bytes(codec.MAX_INFLATED + 1)))


def test_node_bomb_is_refused() -> None:
    """A small frame cannot become millions of objects."""
    child = b"\xf8\x01\x19"
    tree = b"\xf8\x02\x19\xf9\xff\xff" + child * 0xFFFF
    bomb = b"\xf8\x02\x19\xf8\x08" + tree * 8
    with pytest.raises(RemoteProtocolError, match="more than"):
        codec.decode(b"\2" + zlib.compress(bomb))


@pytest.mark.parametrize("body", [b"", b"garbage", zlib.compress(b"\xf8\x01\x19")[:-2]])
def test_broken_compression_is_refused(body: bytes) -> None:
    """Empty, damaged and truncated zlib streams."""
    with pytest.raises(RemoteProtocolError):
        codec.decode(b"\2" + body)


def test_null_values_read_as_empty_text() -> None:
    """Other encoders write an empty value as null, an empty packed string, or empty bytes."""
    for value in ("00", "ff00", "ff80", "fc00"):
        assert codec.decode(bytes.fromhex(f"00f8031908{value}")).attrs["id"] == ""


@given(st.text("0123456789ABCDEF-.", min_size=1, max_size=packed.MAX_LENGTH))
@settings(deadline=None, max_examples=60)
def test_packed_strings_round_trip(text: str) -> None:
    """What qualifies for packing unpacks to the same."""
    if (encoded := packed.pack(text)) is None:
        assert set("-.") & set(text)
        assert set("ABCDEF") & set(text)
    else:
        assert encoded[0] in (Tag.NIBBLE_8, Tag.HEX_8)
        assert packed.unpack(encoded[0], encoded[1], encoded[2:]) == text
