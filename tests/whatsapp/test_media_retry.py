"""Asking the phone for a file again, as Baileys asks; and media hosts, from both sides.

The vectors are made by vectors/make_media_vectors.mjs, which says how.
"""

import contextlib
import json
import pathlib
import typing as t

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp import media_retry as retry
from whatsapp.binary import codec
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.iq import core
from whatsapp.iq import media_conn as conn
from whatsapp.jid import SERVER_JID, Jid
from whatsapp.node import Node

VECTORS = json.loads((pathlib.Path(__file__).parent / "vectors" / "media_vectors.json").read_text())
KEY, IV = bytes(range(32)), bytes(12)
OWN = Jid.parse("15550009999:7@s.whatsapp.net")
GROUP = Jid.parse("120363000000000001@g.us")
ANNA = Jid.parse("15550001111@s.whatsapp.net")
MEDIA = retry.MediaOf(id="3EB0AAAA", chat=GROUP, from_me=False, participant=ANNA)


def node_of(described: dict[str, t.Any]) -> Node:
    content = described.get("content")
    if isinstance(content, list):
        return Node(described["tag"], described["attrs"], tuple(map(node_of, content)))
    return Node(described["tag"], described["attrs"], content and bytes.fromhex(content))


def in_words(node: Node) -> t.Any:
    """A node whose addresses are text, as a script writes them."""
    attributes = {key: str(value) for key, value in node.attrs.items()}
    return node.tag, attributes, tuple(map(in_words, node.children)) or node.content


def over_the_wire(node: Node) -> Node:
    return codec.decode(codec.encode(node))


# ---- re-upload


@pytest.mark.parametrize("vector", VECTORS["requests"], ids=lambda v: v["node"]["attrs"]["id"])
def test_requests_agree(vector: dict[str, t.Any]) -> None:
    """The phone's side reads what Baileys asks, and ours asks the same."""
    theirs, key = node_of(vector["node"]), bytes.fromhex(vector["media_key"])
    assert retry.is_retry_receipt(theirs)
    request = retry.parse_retry_receipt(theirs)
    retry.verify_request(request, key)
    ours = over_the_wire(retry.retry_receipt(request.media, OWN, key, request.iv))
    assert in_words(ours) == in_words(theirs)


@pytest.mark.parametrize("vector", VECTORS["answers"], ids=lambda vector: vector["result"])
def test_answers_agree(vector: dict[str, t.Any]) -> None:
    """Ours reads what Baileys reads."""
    media = retry.MediaOf(id=vector["id"], chat=ANNA, from_me=False)
    box, iv = bytes.fromhex(vector["box"]), bytes.fromhex(vector["iv"])
    answer = retry.RetryAnswer(media=media, box=box, iv=iv)
    verdict = retry.open_answer(answer, bytes.fromhex(vector["media_key"]))
    assert verdict.result.name.lower() == vector["result"]
    assert verdict.direct_path == vector["direct_path"]


@pytest.mark.parametrize("result", list(retry.RetryResult))
def test_there_and_back(result: retry.RetryResult) -> None:
    """Request and answer pass the wire in both directions."""
    asked = over_the_wire(retry.retry_receipt(MEDIA, OWN, KEY, IV))
    request = retry.parse_retry_receipt(asked)
    assert request.media == MEDIA
    retry.verify_request(request, KEY)
    path = "/v/new?x=1" if result is retry.RetryResult.SUCCESS else ""
    verdict = retry.RetryVerdict(result=result, direct_path=path)
    answered = over_the_wire(
        retry.retry_notification(
            request, verdict, own=OWN, timestamp=5, media_key=KEY, iv=b"\1" * 12
        )
    )
    assert retry.is_retry_notification(answered)
    answer = retry.parse_retry_notification(answered)
    assert answer.media == MEDIA
    assert retry.open_answer(answer, KEY) == verdict


@pytest.mark.parametrize(("code", "result"), [(0, 0), (1, 0), (2, 2), (3, 3), (99, 0)])
def test_refusals(code: int, result: int) -> None:
    """An error says why; it never says success."""
    request = retry.RetryRequest(media=MEDIA)
    node = retry.refusal_notification(request, own=OWN, timestamp=5)
    error = Node("error", {"code": code})
    node = attrs.evolve(node, content=(node.children[0], error))
    verdict = retry.open_answer(retry.parse_retry_notification(over_the_wire(node)), KEY)
    assert verdict == retry.RetryVerdict(result=retry.RetryResult(result))


def test_boxes_open_with_their_key_and_message_only() -> None:
    """Another key, another id, a changed byte: an error of the peer."""
    request = retry.parse_retry_receipt(retry.retry_receipt(MEDIA, OWN, KEY, IV))
    assert request.box is not None
    others = [
        (request, bytes(32)),
        (request, b""),
        (attrs.evolve(request, box=request.box[:-1] + bytes([request.box[-1] ^ 1])), KEY),
        (attrs.evolve(request, media=attrs.evolve(MEDIA, id="3EB0BBBB")), KEY),
        (attrs.evolve(request, box=None), KEY),
    ]
    for changed, key in others:
        with pytest.raises(RemoteProtocolError):
            retry.verify_request(changed, key)
    for key, iv in ((b"short", IV), (KEY, b"short")):
        with pytest.raises(LocalProtocolError):
            retry.retry_receipt(MEDIA, OWN, key, iv)


def test_a_success_without_a_path() -> None:
    """Is no answer."""
    request = retry.RetryRequest(media=MEDIA)
    for path in ("", "nowhere", "/" + "x" * 5000):
        verdict = retry.RetryVerdict(result=retry.RetryResult.SUCCESS, direct_path=path)
        node = retry.retry_notification(
            request, verdict, own=OWN, timestamp=5, media_key=KEY, iv=IV
        )
        with pytest.raises(RemoteProtocolError):
            retry.open_answer(retry.parse_retry_notification(node), KEY)


def test_answers_that_say_nothing() -> None:
    """Neither box nor error, a box without its parts, no message, no chat."""
    rmr = Node("rmr", {"jid": GROUP, "from_me": "false"})
    empty = Node("encrypt", {}, (Node("enc_p", {}, b"x" * 20),))
    short = Node("encrypt", {}, (Node("enc_p", {}, b"x"), Node("enc_iv", {}, IV)))
    for children in ((rmr,), (rmr, empty), (rmr, short), (empty,)):
        node = Node("notification", {"id": "1", "type": "mediaretry"}, children)
        with pytest.raises(RemoteProtocolError):
            retry.parse_retry_notification(node)
    nowhere = Node("rmr", {"jid": SERVER_JID, "from_me": "false"})
    for rmr_node, attributes in ((rmr, {}), (nowhere, {"id": "1"})):
        node = Node("notification", attributes, (rmr_node, Node("error", {"code": 2})))
        with pytest.raises(RemoteProtocolError):
            retry.parse_retry_notification(node)


# ---- media_conn

GRANTED = conn.MediaConnection(
    hosts=(
        conn.MediaHost(name="fallback.example", fallback=True),
        conn.MediaHost(name="media.example:8443", max_length=1 << 20),
    ),
    auth="AUTH==",
    ttl=300,
    auth_ttl=21_600,
    max_buckets=12,
)


def test_media_conn_there_and_back() -> None:
    """Both sides agree; fallbacks are tried last."""
    request = over_the_wire(conn.media_conn_request("9"))
    assert conn.is_media_conn_request(request)
    assert request.attrs == {"to": SERVER_JID, "xmlns": "w:m", "type": "set", "id": "9"}
    answer = over_the_wire(conn.media_conn_result(request, GRANTED))
    assert conn.parse_media_conn(answer) == GRANTED
    assert GRANTED.host_names == ("media.example:8443", "fallback.example")
    assert not conn.is_media_conn_request(core.get("1", "w:p"))


def media_conn(*hosts: str, **attributes: str) -> Node:
    attributes = {"auth": "a", "ttl": "1", "auth_ttl": "1", **attributes}
    children = tuple(Node("host", {"hostname": host}) for host in hosts)
    return core.result(Node("iq", {"id": "1"}), Node("media_conn", dict(attributes), children))


def test_odd_answers() -> None:
    """Hosts that are no hosts are passed over; numbers are kept within reason."""
    odd = ("a/b", "user@host", "", "-x", "h:", "h:123456", "a b", "ü.example", "ok.example")
    granted = conn.parse_media_conn(media_conn(*odd, ttl="-5", auth_ttl="9" * 15))
    assert granted.host_names == ("ok.example",)
    assert (granted.ttl, granted.auth_ttl) == (0, conn.MAX_TTL)
    assert len(conn.parse_media_conn(media_conn(*["h.example"] * 99)).hosts) == conn.MAX_HOSTS
    for bad in (
        media_conn(),
        media_conn("a/b"),
        media_conn("h", auth="x" * 9999),
        core.result(Node("iq", {"id": "1"})),
    ):
        with pytest.raises(RemoteProtocolError):
            conn.parse_media_conn(bad)
    with pytest.raises(core.IqError):
        conn.parse_media_conn(core.error(Node("iq", {"id": "1"}), 503, "later"))


# ---- whatever comes

NODES = st.recursive(
    st.builds(
        Node,
        st.sampled_from(["rmr", "error", "encrypt", "enc_p", "enc_iv", "host", "media_conn"]),
        st.dictionaries(
            st.sampled_from(["id", "jid", "code", "hostname", "auth", "participant", "ttl"]),
            st.sampled_from(["", "1", "x", "@", "a@g.us", "a:b@lid", "h.example"]),
        ),
        st.binary(max_size=40),
    ),
    lambda inner: st.builds(
        Node,
        st.sampled_from(["encrypt", "media_conn", "rmr"]),
        st.just({"jid": "1@g.us", "auth": "a"}),
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(NODES, max_size=4), st.booleans())
def test_any_stanza_reads_or_is_the_peers_fault(children: list[Node], named: bool) -> None:
    """Nothing but ``RemoteProtocolError`` comes out of a peer's stanza."""
    node = Node("iq", {"type": "result", **({"id": "1"} if named else {})}, tuple(children))
    with contextlib.suppress(RemoteProtocolError):
        conn.parse_media_conn(node)
    with contextlib.suppress(RemoteProtocolError):
        retry.open_answer(retry.parse_retry_notification(node), KEY)
    with contextlib.suppress(RemoteProtocolError):
        retry.verify_request(retry.parse_retry_receipt(node), KEY)
