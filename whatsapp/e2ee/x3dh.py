"""The key agreement that starts a session (X3DH), from either side.

Source: docs/protocol.md#x3dh
"""

import typing as t

import attrs

from whatsapp.e2ee import curve
from whatsapp.e2ee.chain import Chain
from whatsapp.e2ee.curve import KeyPair
from whatsapp.e2ee.primitives import hkdf
from whatsapp.e2ee.ratchet import PendingPreKey, SessionState, root_step
from whatsapp.errors import RemoteProtocolError

_DISCONTINUITY: t.Final = b"\xff" * 32


@attrs.frozen
class LocalIdentity:
    """Who we are to every peer."""

    identity: KeyPair
    registration_id: int


@attrs.frozen(kw_only=True)
class PreKeyBundle:
    """What the server hands out of a device, to start a session with it."""

    registration_id: int
    identity: bytes
    signed_prekey_id: int
    signed_prekey: bytes
    signed_prekey_signature: bytes
    prekey_id: int | None = None
    prekey: bytes | None = None


def initiate(
    bundle: PreKeyBundle, own: LocalIdentity, base_key: KeyPair, ratchet_key: KeyPair
) -> SessionState:
    """The session with the owner of ``bundle``; both key pairs must be fresh.

    Raises:
        RemoteProtocolError: a malformed key, or a signed prekey which its identity has not signed.
    """
    if len(bundle.signed_prekey) != curve.KEY_LENGTH or not curve.verify(
        bundle.identity, curve.serialise(bundle.signed_prekey), bundle.signed_prekey_signature
    ):
        raise RemoteProtocolError("the signed prekey is not signed by its identity")
    secrets = [
        curve.agree(own.identity.private, bundle.signed_prekey),
        curve.agree(base_key.private, bundle.identity),
        curve.agree(base_key.private, bundle.signed_prekey),
    ]
    prekey_id = None
    if bundle.prekey_id and bundle.prekey is not None:  # peers read id 0 as "no prekey"
        prekey_id = bundle.prekey_id
        secrets.append(curve.agree(base_key.private, bundle.prekey))
    root_key, _chain = _first_keys(secrets)
    root_key, sending = root_step(root_key, ratchet_key.private, bundle.signed_prekey)
    return SessionState(
        remote_identity=bundle.identity,
        remote_registration_id=bundle.registration_id,
        base_key=base_key.public,
        root_key=root_key,
        ratchet=ratchet_key,
        sending=sending,
        pending=PendingPreKey(prekey_id, bundle.signed_prekey_id),
    )


def respond(
    *,
    own: LocalIdentity,
    signed_prekey: KeyPair,
    prekey: KeyPair | None,
    remote_identity: bytes,
    remote_registration_id: int,
    base_key: bytes,
) -> SessionState:
    """The session a peer has started with our prekeys, before its first message.

    The signed prekey is our first ratchet pair, so that first message makes a ratchet step.

    Raises:
        RemoteProtocolError: a key of low order.
    """
    secrets = [
        curve.agree(signed_prekey.private, remote_identity),
        curve.agree(own.identity.private, base_key),
        curve.agree(signed_prekey.private, base_key),
    ]
    if prekey is not None:
        secrets.append(curve.agree(prekey.private, base_key))
    root_key, sending = _first_keys(secrets)
    return SessionState(
        remote_identity=remote_identity,
        remote_registration_id=remote_registration_id,
        base_key=base_key,
        root_key=root_key,
        ratchet=signed_prekey,
        sending=sending,
    )


def _first_keys(secrets: list[bytes]) -> tuple[bytes, Chain]:
    derived = hkdf(_DISCONTINUITY + b"".join(secrets), b"WhisperText", 64)
    return derived[:32], Chain(derived[32:])
