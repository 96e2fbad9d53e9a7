"""Fetching other devices' prekeys, to start sessions with them. Both sides.

Source: docs/protocol.md#prekey-service
"""

import collections.abc as cabc
import typing as t

import attrs

from whatsapp.e2ee.x3dh import PreKeyBundle
from whatsapp.iq import core, prekeys
from whatsapp.jid import Jid
from whatsapp.node import Node


@attrs.frozen
class FetchedBundles:
    """The server's answer; a device that is in neither has no entry at all."""

    bundles: cabc.Mapping[Jid, PreKeyBundle]
    errors: cabc.Mapping[Jid, core.IqError]


def fetch_request(
    iq_id: str, devices: cabc.Iterable[Jid], reason: t.Literal["identity"] | None = None
) -> Node:
    """Asks for a bundle of each device; every fetch uses up one of its one-time prekeys."""
    users = tuple(Node("user", {"jid": jid, "reason": reason}) for jid in devices)
    return core.get(iq_id, prekeys.XMLNS, Node("key", {}, users))


def parse_fetch_request(node: Node) -> tuple[Jid, ...] | None:
    """The devices a client asks about; None for any other stanza.

    Raises:
        RemoteProtocolError: such a request, but malformed.
    """
    if not core.is_request(node, "get", prekeys.XMLNS) or (key := node.child("key")) is None:
        return None
    return tuple(user.required_jid("jid") for user in key.children_named("user"))


def fetch_response(request: Node, bundles: cabc.Mapping[Jid, PreKeyBundle | None]) -> Node:
    """The server's answer, in the JID form that was asked; None for devices it does not know."""
    users = tuple(
        Node("user", {"jid": jid}, (_not_found(),) if bundle is None else _bundle_nodes(bundle))
        for jid, bundle in bundles.items()
    )
    return core.result(request, Node("list", {}, users))


def _not_found() -> Node:
    return Node("error", {"code": 404, "text": "item-not-found"})


def _bundle_nodes(bundle: PreKeyBundle) -> tuple[Node, ...]:
    signed = prekeys.SignedPreKey(
        bundle.signed_prekey_id, bundle.signed_prekey, bundle.signed_prekey_signature
    )
    nodes = [
        *prekeys.identity_nodes(bundle.registration_id, bundle.identity),
        prekeys.signed_prekey_node(signed),
    ]
    if bundle.prekey_id is not None and bundle.prekey is not None:
        nodes.append(prekeys.prekey_node(bundle.prekey_id, bundle.prekey))
    return tuple(nodes)


def parse_fetch_response(node: Node) -> FetchedBundles:
    """The bundles by the JID that was asked for; their signatures are not checked here.

    Raises:
        IqError: refused as a whole.
        RemoteProtocolError: malformed.
    """
    bundles: dict[Jid, PreKeyBundle] = {}
    errors: dict[Jid, core.IqError] = {}
    for user in core.require_result(node).required_child("list").children_named("user"):
        jid = user.required_jid("jid")
        if (error := user.child("error")) is not None:
            errors[jid] = core.parse_error(error)
        else:
            bundles[jid] = parse_bundle(user, user.child("keys") or user)
    return FetchedBundles(bundles, errors)


def parse_bundle(parent: Node, keys: Node) -> PreKeyBundle:
    """The bundle whose registration id is in ``parent`` and whose keys are in ``keys``.

    Raises:
        RemoteProtocolError: malformed.
    """
    signed = prekeys.parse_signed_prekey(keys.required_child("skey"))
    one_time = keys.child("key")
    prekey_id, prekey = (None, None) if one_time is None else prekeys.parse_prekey(one_time)
    registration = parent if parent.child("registration") is not None else keys
    return PreKeyBundle(
        registration_id=prekeys.parse_registration(registration),
        identity=prekeys.parse_identity_key(keys),
        signed_prekey_id=signed.id,
        signed_prekey=signed.public,
        signed_prekey_signature=signed.signature,
        prekey_id=prekey_id,
        prekey=prekey,
    )
