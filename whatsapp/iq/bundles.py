"""Fetching other devices' prekeys, to start sessions with them.

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
