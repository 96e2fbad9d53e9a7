"""Answers to the requests of a logged-in device. None is left without one."""

import collections.abc as cabc
import typing as t

from simulator import app_state, directory, groups, keys
from simulator.media import TTL
from simulator.model import Device
from simulator.replies import Attributes, error, result
from simulator.world import World
from whatsapp.errors import RemoteProtocolError
from whatsapp.node import Node

PRIVACY: t.Final = (
    "readreceipts",
    "last",
    "online",
    "profile",
    "status",
    "groupadd",
    "calladd",
    "messages",
)

Answer: t.TypeAlias = cabc.Callable[[World, Device, Node], Node]


def answer(world: World, device: Device, node: Node) -> Node:
    """The answer to one request: refused when malformed, 501 when unknown."""
    handler = _HANDLERS.get(node.text("xmlns") or "", _unknown)
    try:
        return handler(world, device, node)
    except RemoteProtocolError as problem:
        return error(node, 406, f"not-acceptable: {problem}")


def ping(_world: World, _device: Device, node: Node) -> Node:
    """A sign of life."""
    return result(node)


def _unknown(_world: World, _device: Device, node: Node) -> Node:
    return error(node, 501, "feature-not-implemented")


def _nothing(_world: World, _device: Device, node: Node) -> Node:
    return result(node)


def _props(_world: World, _device: Device, node: Node) -> Node:
    return result(node, Node("props", {"protocol": 1, "hash": "0", "refresh": 86400}))


def _blocklist(_world: World, _device: Device, node: Node) -> Node:
    return result(node, Node("list", {"dhash": "0"}))


def _privacy(_world: World, _device: Device, node: Node) -> Node:
    if node.child("privacy") is None:
        return result(node)  # tokens, and changes of a setting
    categories = tuple(Node("category", {"name": name, "value": "all"}) for name in PRIVACY)
    return result(node, Node("privacy", {}, categories))


def _media_conn(world: World, _device: Device, node: Node) -> Node:
    hosts = (Node("host", {"hostname": world.media.host, "type": "primary"}),)
    told: Attributes = {
        "auth": world.media.auth,
        "ttl": TTL,
        "auth_ttl": TTL,
        "max_buckets": 12,
        "id": 1,
    }
    return result(node, Node("media_conn", told, hosts))


def _picture(_world: World, _device: Device, node: Node) -> Node:
    return error(node, 404, "item-not-found")


_HANDLERS: t.Final[dict[str, Answer]] = {
    "w:p": ping,
    "encrypt": keys.answer_encrypt,
    "usync": directory.answer_usync,
    "w:g2": groups.answer_groups,
    "abt": _props,
    "w": _props,
    "blocklist": _blocklist,
    "privacy": _privacy,
    "w:sync:app:state": app_state.answer,
    "w:m": _media_conn,
    "w:profile:picture": _picture,
    "urn:xmpp:whatsapp:dirty": _nothing,
    "w:stats": _nothing,
    "tos": _nothing,
    "status": _nothing,
}
