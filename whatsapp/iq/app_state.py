"""Asking for app state, and being told that it changed; both sides.

Source: docs/protocol.md#app-state-fetch
"""

import collections.abc as cabc
import typing as t

import attrs

from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import core
from whatsapp.iq.bulletins import DirtyAnnounced
from whatsapp.jid import SERVER_JID
from whatsapp.node import Node, Value

XMLNS: t.Final = "w:sync:app:state"
CONFLICT: t.Final = 409  # code: a pushed patch was made on top of an older version

MAX_COLLECTIONS: t.Final = 32  # in one stanza
MAX_PATCHES: t.Final = 4096  # of one collection in one answer

_NOTIFICATION: t.Final = "server_sync"
_DIRTY_KINDS: t.Final = frozenset({"account_sync", "syncd_app_state"})


@attrs.frozen(kw_only=True)
class CollectionRequest:
    """What is asked of one collection."""

    name: str
    version: int = 0  # what the device has; 0 is nothing
    snapshot: bool = False  # start over
    patch: bytes | None = attrs.field(default=None, repr=False)  # SyncdPatch to be added


@attrs.frozen(kw_only=True)
class CollectionAnswer:
    """What one collection got; nothing in it is verified."""

    name: str
    version: int | None = None
    more: bool = False  # ask again from the version that this leads to
    snapshot: bytes | None = attrs.field(default=None, repr=False)  # ExternalBlobReference
    patches: tuple[bytes, ...] = attrs.field(default=(), repr=False)  # SyncdPatch, in order
    error: core.IqError | None = None


def sync_request(iq_id: str, wanted: cabc.Iterable[CollectionRequest]) -> Node:
    """Asks for what is new in collections, and may add a patch to each."""
    collections = tuple(_build_request(request) for request in wanted)
    return core.set_(iq_id, XMLNS, Node("sync", {}, collections))


def parse_sync_response(node: Node) -> tuple[CollectionAnswer, ...]:
    """The answers, each for itself: one collection may be refused alone.

    Raises:
        IqError: refused as a whole.
        RemoteProtocolError: malformed.
    """
    return tuple(_parse_answer(child) for child in _collections(core.require_result(node)))


def parse_server_sync(node: Node) -> tuple[tuple[str, int | None], ...] | None:
    """The collections, with their newest version, that a notification says changed.

    None when it is a notification of something else.

    Raises:
        RemoteProtocolError: malformed.
    """
    if node.tag != "notification" or node.text("type") != _NOTIFICATION:
        return None
    return tuple(
        (child.required_text("name"), child.integer("version"))
        for child in node.children_named("collection")[:MAX_COLLECTIONS]
    )


def is_dirty(bulletin: DirtyAnnounced) -> bool:
    """Whether a bulletin says that app state changed while the device was away."""
    return bulletin.kind in _DIRTY_KINDS


def _build_request(request: CollectionRequest) -> Node:
    attributes: dict[str, Value | int | None] = {
        "name": request.name,
        "version": None if request.snapshot else request.version,
        "return_snapshot": "true" if request.snapshot else "false",
    }
    patch = None if request.patch is None else (Node("patch", {}, request.patch),)
    return Node("collection", attributes, patch)


def _parse_answer(node: Node) -> CollectionAnswer:
    snapshot, patches = node.child("snapshot"), node.child("patches")
    held = (node if patches is None else patches).children_named("patch")
    if len(held) > MAX_PATCHES:
        raise RemoteProtocolError(f"{len(held)} patches at once")
    error = None
    if node.text("type") == "error":
        child = node.child("error")
        error = core.IqError(0, "refused") if child is None else core.parse_error(child)
    return CollectionAnswer(
        name=node.required_text("name"),
        version=node.integer("version"),
        more=node.text("has_more_patches") == "true",
        snapshot=None if snapshot is None else snapshot.data() or None,
        patches=tuple(data for patch in held if (data := patch.data())),
        error=error,
    )


def parse_sync_request(node: Node) -> tuple[CollectionRequest, ...]:
    """What a device asks for. A missing version reads as 0: nothing yet.

    Raises:
        RemoteProtocolError: malformed.
    """
    return tuple(_parse_request(child) for child in _collections(node))


def sync_response(request: Node, answers: cabc.Iterable[CollectionAnswer]) -> Node:
    """The answer to a request."""
    collections = tuple(_build_answer(answer) for answer in answers)
    return core.result(request, Node("sync", {}, collections))


def server_sync(
    stanza_id: str, versions: cabc.Mapping[str, int], timestamp: int, offline: int | None = None
) -> Node:
    """Tells a device that collections changed; ``timestamp`` in unix seconds."""
    collections = tuple(
        Node("collection", {"name": name, "version": version}) for name, version in versions.items()
    )
    attributes: dict[str, Value | int | None] = {
        "id": stanza_id,
        "from": SERVER_JID,
        "type": _NOTIFICATION,
        "t": timestamp,
        "offline": offline,
    }
    return Node("notification", attributes, collections)


def _parse_request(node: Node) -> CollectionRequest:
    version, patch = max(node.integer("version") or 0, 0), node.child("patch")
    return CollectionRequest(
        name=node.required_text("name"),
        version=version,
        snapshot=node.text("return_snapshot") == "true",
        patch=None if patch is None else patch.data(),
    )


def _build_answer(answer: CollectionAnswer) -> Node:
    children: list[Node] = []
    if answer.error is not None:
        refusal: dict[str, Value | int | None] = {
            "code": answer.error.code,
            "text": answer.error.text,
        }
        children.append(Node("error", refusal))
    if answer.snapshot is not None:
        children.append(Node("snapshot", {}, answer.snapshot))
    if answer.patches:
        patches = tuple(Node("patch", {}, patch) for patch in answer.patches)
        children.append(Node("patches", {}, patches))
    attributes: dict[str, Value | int | None] = {
        "name": answer.name,
        "type": None if answer.error is None else "error",
        "version": answer.version,
        "has_more_patches": "true" if answer.more else None,
    }
    return Node("collection", attributes, tuple(children))


def _collections(node: Node) -> tuple[Node, ...]:
    collections = node.required_child("sync").children_named("collection")
    if len(collections) > MAX_COLLECTIONS:
        raise RemoteProtocolError(f"{len(collections)} collections at once")
    return collections
