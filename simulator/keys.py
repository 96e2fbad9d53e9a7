"""The key service: who has which public Signal keys, each one-time prekey handed out once.

Uploads are read here without the client's own code, and every signature is checked.
Source: docs/protocol.md#prekey-service
"""

import hashlib
import typing as t

from simulator.errors import UnknownNameError
from simulator.model import Device, KeyBundle
from simulator.replies import error, result
from simulator.world import World
from whatsapp.e2ee import curve
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import SERVER_JID
from whatsapp.node import Node

MAX_PREKEY_ID: t.Final = 0xFFFFFF
MAX_UPLOAD: t.Final = 2000


def take_one_time(world: World, device: Device) -> tuple[int, bytes] | None:
    """Hand out one of the device's one-time prekeys; the owner hears when few are left."""
    taken = device.keys.pop_one_time()
    left = len(device.keys.one_time)
    if device.is_phone:
        device.account.phone.refill()
    elif taken is not None and left in (world.settings.low_prekeys - 1, 0):
        world.notify(device, "encrypt", SERVER_JID, Node("count", {"value": left}))
    return taken


def answer_encrypt(world: World, device: Device, node: Node) -> Node:
    """Answer a request of the namespace ``encrypt``.

    Raises:
        RemoteProtocolError: a malformed upload.
    """
    if (wanted := node.child("key")) is not None:
        users = tuple(_bundle(world, user) for user in wanted.children_named("user"))
        return result(node, Node("list", {}, users))
    if node.child("count") is not None:
        return result(node, Node("count", {"value": len(device.keys.one_time)}))
    if node.child("digest") is not None:
        return result(node, _digest(device.keys))
    if (rotation := node.child("rotate")) is not None:
        return _rotate(device, node, rotation.required_child("skey"))
    if node.child("list") is not None:
        return _upload(device, node)
    return error(node, 400, "bad-request")


def read_signed_prekey(skey: Node, identity: bytes) -> tuple[int, bytes, bytes]:
    """Id, key and signature of a signed prekey.

    Raises:
        RemoteProtocolError: malformed, or not signed by ``identity``.
    """
    number = _number(skey, 3)
    public = _exactly(skey.required_child("value"), 32)
    signature = _exactly(skey.required_child("signature"), 64)
    check_signed_prekey(identity, public, signature)
    return number, public, signature


def check_signed_prekey(identity: bytes, public: bytes, signature: bytes) -> None:
    """Check a signed prekey strictly.

    Raises:
        RemoteProtocolError: not signed by ``identity``.
    """
    if not curve.verify(identity, curve.serialise(public), signature):
        raise RemoteProtocolError("the signed prekey's signature is wrong")


def bundle_children(keys: KeyBundle, one_time: tuple[int, bytes] | None) -> tuple[Node, ...]:
    """The parts of a bundle, in the order of the wire."""
    key = () if one_time is None else (Node("key", {}, _id_and_value(*one_time)),)
    return (
        Node("registration", {}, keys.registration_id.to_bytes(4, "big")),
        Node("type", {}, curve.KEY_TYPE),
        Node("identity", {}, keys.identity),
        *key,
        _skey(keys),
    )


def _bundle(world: World, user: Node) -> Node:
    jid = user.required_jid("jid")
    try:
        device = world.device(jid)
    except UnknownNameError:
        missing = Node("error", {"code": 404, "text": "item-not-found"})
        return Node("user", {"jid": jid}, (missing,))
    identity = (Node("device-identity", {}, device.identity_blob),) if device.identity_blob else ()
    children = (*bundle_children(device.keys, take_one_time(world, device)), *identity)
    return Node("user", {"jid": jid, "t": int(world.now())}, children)


def _upload(device: Device, node: Node) -> Node:
    identity = _exactly(node.required_child("identity"), 32)
    if identity != device.keys.identity:
        return error(node, 406, "not-acceptable")
    listed = node.required_child("list").children_named("key")
    if len(listed) > MAX_UPLOAD:
        return error(node, 406, "not-acceptable")
    one_time = {_number(key, 3): _exactly(key.required_child("value"), 32) for key in listed}
    number, public, signature = read_signed_prekey(node.required_child("skey"), identity)
    keys = device.keys
    keys.registration_id = int.from_bytes(_exactly(node.required_child("registration"), 4), "big")
    keys.signed_prekey_id, keys.signed_prekey = number, public
    keys.signed_prekey_signature = signature
    keys.one_time.update(one_time)
    return result(node)


def _rotate(device: Device, node: Node, skey: Node) -> Node:
    keys = device.keys
    (
        keys.signed_prekey_id,
        keys.signed_prekey,
        keys.signed_prekey_signature,
    ) = read_signed_prekey(skey, keys.identity)
    return result(node)


def _digest(keys: KeyBundle) -> Node:
    parts = (keys.identity, keys.signed_prekey, keys.signed_prekey_signature)
    digest = hashlib.sha1(b"".join((*parts, *keys.one_time.values())), usedforsecurity=False)
    ids = tuple(Node("id", {}, number.to_bytes(3, "big")) for number in keys.one_time)
    first = bundle_children(keys, None)
    return Node("digest", {}, (*first, Node("list", {}, ids), Node("hash", {}, digest.digest())))


def _skey(keys: KeyBundle) -> Node:
    parts = _id_and_value(keys.signed_prekey_id, keys.signed_prekey)
    return Node("skey", {}, (*parts, Node("signature", {}, keys.signed_prekey_signature)))


def _id_and_value(number: int, value: bytes) -> tuple[Node, ...]:
    return Node("id", {}, number.to_bytes(3, "big")), Node("value", {}, value)


def _number(node: Node, size: int) -> int:
    number = int.from_bytes(_exactly(node.required_child("id"), size), "big")
    if not 1 <= number <= MAX_PREKEY_ID:
        raise RemoteProtocolError(f"prekey id {number}")
    return number


def _exactly(node: Node, size: int) -> bytes:
    data = node.data()
    if len(data) != size:
        raise RemoteProtocolError(f"<{node.tag}> of {len(data)} bytes, not {size}")
    return data
