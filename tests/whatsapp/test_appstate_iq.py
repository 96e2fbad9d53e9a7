"""Requests for app state and their answers, from one side to the other."""

import typing as t

import pytest

from whatsapp.binary import codec
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import app_state, core
from whatsapp.iq.app_state import CollectionAnswer, CollectionRequest
from whatsapp.iq.bulletins import DirtyAnnounced
from whatsapp.jid import SERVER_JID
from whatsapp.node import Node


def over_the_wire(node: Node) -> Node:
    return codec.decode(codec.encode(node))


def test_requests_reach_the_server() -> None:
    """A first one, an incremental one, and one that adds a patch."""
    wanted = (
        CollectionRequest(name="critical_block", snapshot=True),
        CollectionRequest(name="regular", version=7),
        CollectionRequest(name="regular_low", version=3, patch=b"patch"),
    )
    node = over_the_wire(app_state.sync_request("1", wanted))
    assert node.text("xmlns") == "w:sync:app:state"
    first, second, _ = node.required_child("sync").children
    assert (first.text("version"), first.text("return_snapshot")) == (None, "true")
    assert (second.text("version"), second.text("return_snapshot")) == ("7", "false")
    assert app_state.parse_sync_request(node) == wanted


def test_answers_reach_the_device() -> None:
    """A snapshot, patches with more to come, an empty one, and a refusal of one collection."""
    request = over_the_wire(app_state.sync_request("1", [CollectionRequest(name="regular")]))
    answers = (
        CollectionAnswer(name="critical_block", version=5, snapshot=b"reference", patches=(b"x",)),
        CollectionAnswer(name="regular", version=7, more=True, patches=(b"a", b"b")),
        CollectionAnswer(name="regular_low", version=0),
    )
    refused = CollectionAnswer(name="regular_high", error=core.IqError(409, "conflict"))
    node = over_the_wire(app_state.sync_response(request, (*answers, refused)))
    *parsed, last = app_state.parse_sync_response(node)
    assert tuple(parsed) == answers
    assert last.error is not None
    assert (last.name, last.error.code) == ("regular_high", app_state.CONFLICT)


def test_patches_may_lie_in_the_collection_itself() -> None:
    """As some servers put them."""
    collection = Node("collection", {"name": "regular"}, (Node("patch", {}, b"a"),))
    node = Node("iq", {"type": "result"}, (Node("sync", {}, (collection,)),))
    assert app_state.parse_sync_response(node)[0].patches == (b"a",)


def test_a_refused_request_is_an_error() -> None:
    """As a whole."""
    request = app_state.sync_request("1", [])
    with pytest.raises(core.IqError):
        app_state.parse_sync_response(core.error(request, 500, "internal"))


def iq(*collections: Node) -> Node:
    return Node("iq", {"type": "result"}, (Node("sync", {}, collections),))


@pytest.mark.parametrize(
    "node",
    [
        Node("iq", {"type": "result"}),
        iq(Node("collection")),
        iq(Node("collection", {"name": "regular", "version": "x"})),
        iq(*[Node("collection", {"name": "regular"})] * 99),
        iq(Node("collection", {"name": "r"}, (Node("patch", {}, (Node("patch"),)),))),
        iq(Node("collection", {"name": "r"}, (Node("patch", {}, b"a"),) * 5000)),
    ],
)
def test_malformed_answers_are_refused(node: Node) -> None:
    """With the one error that peers can cause."""
    with pytest.raises(RemoteProtocolError):
        app_state.parse_sync_response(node)


def test_notifications_name_collections() -> None:
    """All of them; other notifications name none."""
    versions = {"regular": 3, "regular_low": 9}
    node = over_the_wire(app_state.server_sync("7", versions, 1_790_000_000, offline=0))
    assert node.attrs["from"] == SERVER_JID
    assert app_state.parse_server_sync(node) == (("regular", 3), ("regular_low", 9))
    assert app_state.parse_server_sync(Node("notification", {"type": "encrypt"})) is None
    malformed = Node("notification", {"type": "server_sync"}, (Node("collection"),))
    with pytest.raises(RemoteProtocolError):
        app_state.parse_server_sync(malformed)


@pytest.mark.parametrize(
    ("kind", "dirty"), [("account_sync", True), ("syncd_app_state", True), ("groups", False)]
)
def test_bulletins_of_app_state(kind: str, dirty: t.Any) -> None:
    """Only some of them are about app state."""
    assert app_state.is_dirty(DirtyAnnounced(kind, "1")) is dirty
