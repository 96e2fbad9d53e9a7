"""Becoming a linked device by QR code.

Source: docs/protocol.md#pairing
"""

import base64
import collections.abc as cabc
import hashlib
import hmac
import typing as t

import attrs

from whatsapp import protobuf
from whatsapp.device import Device
from whatsapp.e2ee import curve
from whatsapp.e2ee.curve import KEY_LENGTH
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.iq import core
from whatsapp.node import Node
from whatsapp.proto import wa_pb2

FIRST_REF_LIFETIME: t.Final = 60.0  # seconds
REF_LIFETIME: t.Final = 20.0  # seconds

QR_PREFIX: t.Final = "https://wa.me/settings/linked_devices#"
CLIENT_TYPE: t.Final = "1"  # Chrome

_ROTATIONS: t.Final = frozenset({"companion_reg_refresh", "pair-device-rotate-qr"})

_ACCOUNT: t.Final = b"\x06\x00"
_DEVICE: t.Final = b"\x06\x01"
_HOSTED_ACCOUNT: t.Final = b"\x06\x05"


class PairingError(RemoteProtocolError):
    """The phone's answer is not for this device, or not readable; ``reply`` tells the server."""

    def __init__(self, message: str, reply: Node) -> None:
        super().__init__(message)
        self.reply = reply


def ref_lifetime(index: int) -> float:
    """How many seconds to show the ref with this index (from 0) before the next one."""
    return REF_LIFETIME if index else FIRST_REF_LIFETIME


# ---- the server's offer and the QR code


def parse_pair_device(node: Node) -> tuple[str, ...]:
    """The refs to show one after the other; answer the stanza with ``core.result``.

    Raises:
        RemoteProtocolError: no refs, or refs that are not text.
    """
    try:
        refs = tuple(
            ref.data().decode() for ref in node.required_child("pair-device").children_named("ref")
        )
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("a pairing ref that is not text") from error
    if not refs or not all(refs):
        raise RemoteProtocolError("<pair-device> without refs")
    return refs


def qr_text(ref: str, device: Device) -> str:
    """What the QR code says."""
    keys = (device.noise.public, device.identity.public, device.adv_secret)
    fields = [ref, *(base64.b64encode(key).decode() for key in keys), CLIENT_TYPE]
    return QR_PREFIX + ",".join(fields)


def is_secret_rotation(node: Node) -> bool:
    """Whether the server retires the secret in the QR code: rotate it, and show the same ref.

    Only for a device that is not paired. Source: docs/protocol.md#companion-reg-refresh
    """
    children = {child.tag for child in node.children}
    return (
        node.tag == "notification"
        and node.text("type") == "companion_reg_refresh"
        and not children.isdisjoint(_ROTATIONS)
    )


def rotate_adv_secret(device: Device, random: cabc.Callable[[int], bytes]) -> Device:
    """The same device with a new secret for its QR codes.

    Raises:
        LocalProtocolError: the device is paired.
    """
    if device.paired:
        raise LocalProtocolError("the secret of a paired device stays")
    return attrs.evolve(device, adv_secret=random(32))


# ---- the phone's answer


def accept_pair_success(
    device: Device, node: Node, random: cabc.Callable[[int], bytes]
) -> tuple[Device, Node]:
    """Check the phone's answer; the paired device, and the reply that completes the pairing.

    Store the device before sending the reply. Then the server ends the stream (515) and the
    device logs in. ``random(n)`` gives n secret random bytes.

    Raises:
        PairingError: not by a phone that scanned this device's code; send its ``reply``.
        RemoteProtocolError: nothing that could be replied to.
        LocalProtocolError: the device is paired already.
    """
    if device.paired:
        raise LocalProtocolError("the device is paired already")
    core.result(node)  # whatever goes wrong from here can be replied to
    try:
        return _accept(device, node, random)
    except PairingError:
        raise
    except RemoteProtocolError as error:
        reply = core.error(node, 500, "internal-error")
        raise PairingError(str(error), reply) from error


def _accept(device: Device, node: Node, random: cabc.Callable[[int], bytes]) -> tuple[Device, Node]:
    success = node.required_child("pair-success")
    jids = success.required_child("device")
    jid, lid = jids.required_jid("jid"), jids.jid("lid")
    if not (jid.device and jid.user and not jid.is_lid and (lid is None or lid.is_lid)):
        raise RemoteProtocolError("paired as something that is not a companion device")
    blob = success.required_child("device-identity").data()
    signed = _read_blob(device, node, blob)
    identity = protobuf.parse(wa_pb2.ADVDeviceIdentity, signed.details)
    _check_account_signature(device, node, signed, identity)
    signed.device_signature = curve.sign(
        device.identity.private,
        _device_message(signed, device.identity.public),
        random(64),
    )
    platform, business = success.child("platform"), success.child("biz")
    paired = attrs.evolve(
        device,
        jid=jid,
        lid=lid,
        account=signed.SerializeToString(),
        platform=None if platform is None else platform.text("name"),
        business_name=None if business is None else business.text("name"),
    )
    signed.ClearField("account_signature_key")
    return paired, _sign_reply(node, signed.SerializeToString(), identity.key_index)


def _read_blob(device: Device, node: Node, blob: bytes) -> wa_pb2.ADVSignedDeviceIdentity:
    container = protobuf.parse(wa_pb2.ADVSignedDeviceIdentityHMAC, blob)
    prefix = _HOSTED_ACCOUNT if container.account_type == wa_pb2.HOSTED else b""
    expected = _mac(device.adv_secret, prefix + container.details)
    if not hmac.compare_digest(expected, container.hmac):
        reply = core.error(node, 401, "hmac-mismatch")
        raise PairingError("the phone did not scan this device's code", reply)
    return protobuf.parse(wa_pb2.ADVSignedDeviceIdentity, container.details)


def _check_account_signature(
    device: Device,
    node: Node,
    signed: wa_pb2.ADVSignedDeviceIdentity,
    identity: wa_pb2.ADVDeviceIdentity,
) -> None:
    prefix = _HOSTED_ACCOUNT if identity.device_type == wa_pb2.HOSTED else _ACCOUNT
    message = prefix + signed.details + device.identity.public
    if not curve.verify(signed.account_signature_key, message, signed.account_signature):
        reply = core.error(node, 401, "signature-mismatch")
        raise PairingError("the account's signature is wrong", reply)


def _sign_reply(node: Node, signed: bytes, key_index: int) -> Node:
    identity = Node("device-identity", {"key-index": key_index}, signed)
    return core.result(node, Node("pair-device-sign", {}, (identity,)))


def _device_message(signed: wa_pb2.ADVSignedDeviceIdentity, companion: bytes) -> bytes:
    return _DEVICE + signed.details + companion + signed.account_signature_key


def _mac(secret: bytes, message: bytes) -> bytes:
    return hmac.digest(secret, message, hashlib.sha256)


def is_own_account(signed: wa_pb2.ADVSignedDeviceIdentity, companion: bytes) -> bool:
    """Whether a phone has linked the device with the identity key ``companion`` by this, and the
    device has agreed: both signatures are right."""
    account, details = signed.account_signature_key, signed.details
    return any(
        curve.verify(account, prefix + details + companion, signed.account_signature)
        for prefix in (_ACCOUNT, _HOSTED_ACCOUNT)
    ) and curve.verify(companion, _device_message(signed, companion), signed.device_signature)


def account_identity(account: bytes) -> bytes:
    """The identity key (32) of the phone behind a device's stored ``account``.

    Raises:
        RemoteProtocolError: not an account blob.
    """
    key = protobuf.parse(wa_pb2.ADVSignedDeviceIdentity, account).account_signature_key
    if len(key) != KEY_LENGTH:
        raise RemoteProtocolError(f"an account key of {len(key)} bytes")
    return key
