"""Our prekeys on the server: upload, count and digest.

Source: docs/protocol.md#prekey-service
"""

import collections.abc as cabc
import hashlib
import typing as t

import attrs

from whatsapp.device import Device
from whatsapp.e2ee.curve import KEY_LENGTH, KEY_TYPE, SIGNATURE_LENGTH, KeyPair
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import core
from whatsapp.node import Node

XMLNS: t.Final = "encrypt"

INITIAL_UPLOAD: t.Final = 812  # keys, when the server has none
LOW_MARK: t.Final = 5  # below it, upload more

_REGISTRATION_LENGTH: t.Final = 4
_ID_LENGTH: t.Final = 3


@attrs.frozen
class SignedPreKey:
    """The long-lived prekey, as published."""

    id: int
    public: bytes  # 32
    signature: bytes  # 64, by the identity key


# ---- upload


def upload_request(iq_id: str, device: Device, prekeys: cabc.Iterable[tuple[int, KeyPair]]) -> Node:
    """Publishes one-time prekeys, and once more the device's other public keys.

    Store the private keys first: the server may give the public ones out at once.
    """
    return core.set_(
        iq_id,
        XMLNS,
        *identity_nodes(device.registration_id, device.identity.public),
        Node("list", {}, tuple(prekey_node(key_id, key.public) for key_id, key in prekeys)),
        signed_prekey_node(signed_prekey_of(device)),
    )


# ---- count


def count_request(iq_id: str) -> Node:
    """Asks how many of our one-time prekeys are left."""
    return core.get(iq_id, XMLNS, Node("count"))


def parse_count(node: Node) -> int:
    """How many are left; an answer that does not say counts as none.

    Raises:
        IqError: refused.
        RemoteProtocolError: malformed.
    """
    child = core.require_result(node).child("count")
    return (child.integer("value") or 0) if child is not None else 0


def parse_low_notification(node: Node) -> int | None:
    """How many are left, from the server's own notification; None for any other stanza.

    Raises:
        RemoteProtocolError: the count is malformed.
    """
    if node.tag != "notification" or node.text("type") != XMLNS:
        return None
    child = node.child("count")
    return None if child is None else child.integer("value") or 0


# ---- digest


@attrs.frozen(kw_only=True)
class Digest:
    """What the server believes about our keys."""

    registration_id: int
    identity: bytes  # 32
    signed_prekey: SignedPreKey
    prekey_ids: tuple[int, ...]
    hash: bytes  # 20


def digest_request(iq_id: str) -> Node:
    """Asks what the server holds."""
    return core.get(iq_id, XMLNS, Node("digest"))


def parse_digest(node: Node) -> Digest | None:
    """What the server holds; None when it does not say: then upload again.

    Raises:
        IqError: refused; 404 also means to upload again.
        RemoteProtocolError: malformed.
    """
    digest = core.require_result(node).child("digest")
    if digest is None or not digest.children:
        return None
    return Digest(
        registration_id=parse_registration(digest),
        identity=parse_identity_key(digest),
        signed_prekey=parse_signed_prekey(digest.required_child("skey")),
        prekey_ids=tuple(
            core.parse_number(child, _ID_LENGTH)
            for child in digest.required_child("list").children_named("id")
        ),
        hash=core.parse_fixed(digest.required_child("hash"), 20),
    )


def digest_hash(identity: bytes, skey: SignedPreKey, prekeys: cabc.Iterable[bytes]) -> bytes:
    """SHA-1 over the identity key, the signed prekey with its signature, and the prekeys."""
    data = b"".join((identity, skey.public, skey.signature, *prekeys))
    return hashlib.sha1(data, usedforsecurity=False).digest()


# ---- parts which other stanzas share


def signed_prekey_of(device: Device) -> SignedPreKey:
    """The public half of a device's signed prekey."""
    return SignedPreKey(
        device.signed_prekey_id, device.signed_prekey.public, device.signed_prekey_signature
    )


def registration_node(registration_id: int) -> Node:
    """The registration id."""
    return Node("registration", {}, registration_id.to_bytes(_REGISTRATION_LENGTH, "big"))


def identity_nodes(registration_id: int, identity: bytes) -> tuple[Node, Node, Node]:
    """Registration id, key type and identity key."""
    return (registration_node(registration_id), type_node(), Node("identity", {}, identity))


def type_node() -> Node:
    """The type byte which keys in stanzas go without."""
    return Node("type", {}, KEY_TYPE)


def prekey_node(key_id: int, public: bytes) -> Node:
    """A one-time prekey."""
    return Node("key", {}, (Node("id", {}, _id_bytes(key_id)), Node("value", {}, public)))


def signed_prekey_node(key: SignedPreKey) -> Node:
    """The signed prekey."""
    children = (
        Node("id", {}, _id_bytes(key.id)),
        Node("value", {}, key.public),
        Node("signature", {}, key.signature),
    )
    return Node("skey", {}, children)


def parse_registration(parent: Node) -> int:
    """The registration id among the children of ``parent``."""
    return core.parse_number(parent.required_child("registration"), _REGISTRATION_LENGTH)


def parse_identity_key(parent: Node) -> bytes:
    """The identity key among the children of ``parent``, with its type checked."""
    if (kind := parent.child("type")) is not None and kind.data() != KEY_TYPE:
        raise RemoteProtocolError("an identity key of unknown type")
    return parse_key(parent.required_child("identity"))


def parse_prekey(node: Node) -> tuple[int, bytes]:
    """A one-time prekey."""
    return _parse_id(node), parse_key(node.required_child("value"))


def parse_signed_prekey(node: Node) -> SignedPreKey:
    """The signed prekey; its signature is not checked here."""
    signature = core.parse_fixed(node.required_child("signature"), SIGNATURE_LENGTH)
    return SignedPreKey(_parse_id(node), parse_key(node.required_child("value")), signature)


def parse_key(node: Node) -> bytes:
    """A public key of 32 bytes, or of 33 with its type in front, as some clients send it."""
    data = node.data()
    if len(data) == KEY_LENGTH + 1:
        data = data.removeprefix(KEY_TYPE)
    if len(data) != KEY_LENGTH:
        raise RemoteProtocolError(f"<{node.tag}> is not a public key")
    return data


def _parse_id(node: Node) -> int:
    return core.parse_number(node.required_child("id"), _ID_LENGTH)


def _id_bytes(key_id: int) -> bytes:
    return key_id.to_bytes(_ID_LENGTH, "big")
