"""The server's ``<ib>`` stanzas, and what a client answers to them.

Source: docs/protocol.md#offline-delivery and docs/protocol.md#dirty
"""

import typing as t

import attrs

from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import core
from whatsapp.node import Node

OFFLINE_BATCH: t.Final = 100  # stanzas to ask for
MAX_ROUTING_INFO: t.Final = 4096  # bytes; it is stored, and sent in front of every login


@attrs.frozen(kw_only=True)
class OfflineAnnounced:
    """What waits in the offline queue, in stanzas; None: not told, or no number."""

    total: int | None
    messages: int | None
    receipts: int | None
    notifications: int | None


@attrs.frozen
class OfflineCompleted:
    """The offline queue has been delivered."""

    total: int | None  # stanzas; None: not told, or no number


@attrs.frozen
class DirtyAnnounced:
    """Something of the account changed while the device was away; fetch it, then clean."""

    kind: str
    timestamp: str | None  # as the server wrote it; goes back with the cleaning


@attrs.frozen
class RoutingChanged:
    """A blob to present on the next connect."""

    routing_info: bytes


Bulletin: t.TypeAlias = OfflineAnnounced | OfflineCompleted | DirtyAnnounced | RoutingChanged


def parse_bulletin(node: Node) -> tuple[Bulletin, ...]:
    """What an ``<ib>`` says; what is not known is left out.

    Raises:
        RemoteProtocolError: malformed.
    """
    bulletins = (_parse(child) for child in node.children)
    return tuple(bulletin for bulletin in bulletins if bulletin is not None)


def _parse(node: Node) -> Bulletin | None:
    match node.tag:
        case "offline_preview":
            return OfflineAnnounced(
                total=_count(node, "count"),
                messages=_count(node, "message"),
                receipts=_count(node, "receipt"),
                notifications=_count(node, "notification"),
            )
        case "offline":
            return OfflineCompleted(_count(node, "count"))
        case "dirty":
            return DirtyAnnounced(node.required_text("type"), node.text("timestamp"))
        case "edge_routing":
            return RoutingChanged(_routing_info(node.required_child("routing_info")))
        case _:
            return None


def _routing_info(node: Node) -> bytes:
    if len(data := node.data()) > MAX_ROUTING_INFO:
        raise RemoteProtocolError(f"routing information of {len(data)} bytes")
    return data


def _count(node: Node, key: str) -> int | None:
    """A count that makes no sense says nothing; what it stands in still does."""
    try:
        value = node.integer(key)
    except RemoteProtocolError:
        return None
    return None if value is None else max(value, 0)


def offline_batch_request() -> Node:
    """Asks for the offline queue; there is no answer but the queue itself."""
    return Node("ib", {}, (Node("offline_batch", {"count": OFFLINE_BATCH}),))


def clean_request(iq_id: str, dirty: DirtyAnnounced) -> Node:
    """Says that a change has been taken over."""
    child = Node("clean", {"type": dirty.kind, "timestamp": dirty.timestamp})
    return core.set_(iq_id, "urn:xmpp:whatsapp:dirty", child)
