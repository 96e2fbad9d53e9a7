"""Linking a companion, as its phone does it: the QR text, the signed device identity, its reply.

Written apart from the companion's side in the product, so that neither proves itself right.
Source: docs/protocol.md#device-identity
"""

import base64
import binascii
import hashlib
import hmac
import typing as t

import attrs
from google.protobuf.message import DecodeError

from simulator.errors import ScanRefusedError
from whatsapp.e2ee import curve
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import RemoteProtocolError
from whatsapp.proto import wa_pb2

QR_PREFIX: t.Final = "https://wa.me/settings/linked_devices#"
MAX_QR_TEXT: t.Final = 2048

Forgery: t.TypeAlias = t.Literal["hmac", "signature"]

_ACCOUNT: t.Final = b"\x06\x00"
_DEVICE: t.Final = b"\x06\x01"
_KEY_INDEX_LIST: t.Final = b"\x06\x02"


@attrs.frozen
class QrCode:
    """What a phone reads off the screen."""

    ref: str
    noise_public: bytes
    identity_public: bytes
    adv_secret: bytes = attrs.field(repr=False)


@attrs.frozen
class Link:
    """One companion's signed identity, waiting for the companion's own signature."""

    details: bytes
    account_signature: bytes
    account_key: bytes
    companion_identity: bytes
    container: bytes  # ADVSignedDeviceIdentityHMAC, for pair-success


def parse_qr(text: str) -> QrCode:
    """Read a QR text: four or five fields, with or without the link in front.

    Raises:
        ScanRefusedError: it is not one.
    """
    fields = text.strip().removeprefix(QR_PREFIX).rsplit(",", 4)
    if len(text) > MAX_QR_TEXT or len(fields) < 4:
        raise ScanRefusedError("this is not the QR text of a WhatsApp companion")
    if len(fields) == 5 and len(fields[4]) > 2:  # the older form: no client type, comma in the ref
        fields = [f"{fields[0]},{fields[1]}", *fields[2:]]
    ref, *keys = fields[:4]
    return QrCode(ref, *(_key(key) for key in keys))


def sign_companion(
    phone: KeyPair,
    code: QrCode,
    *,
    raw_id: int,
    key_index: int,
    now: int,
    random: t.Callable[[int], bytes],
    forge: Forgery | None = None,
) -> Link:
    """The phone's half of a companion's identity; ``forge`` makes one bit of it wrong."""
    details = wa_pb2.ADVDeviceIdentity(
        raw_id=raw_id, timestamp=now, key_index=key_index
    ).SerializeToString()
    signature = curve.sign(phone.private, _ACCOUNT + details + code.identity_public, random(64))
    if forge == "signature":
        signature = _flip(signature)
    signed = wa_pb2.ADVSignedDeviceIdentity(
        details=details, account_signature_key=phone.public, account_signature=signature
    ).SerializeToString()
    mac = hmac.digest(code.adv_secret, signed, hashlib.sha256)
    container = wa_pb2.ADVSignedDeviceIdentityHMAC(
        details=signed, hmac=_flip(mac) if forge == "hmac" else mac
    ).SerializeToString()
    return Link(details, signature, phone.public, code.identity_public, container)


def complete(link: Link, reply: bytes) -> bytes:
    """The whole identity, once the companion has signed it, too.

    Raises:
        RemoteProtocolError: the reply changes what the phone signed, or its signature is wrong.
    """
    try:
        answer = wa_pb2.ADVSignedDeviceIdentity.FromString(reply)
    except DecodeError as error:
        raise RemoteProtocolError("the companion's identity is malformed") from error
    if (answer.details, answer.account_signature) != (link.details, link.account_signature):
        raise RemoteProtocolError("the companion changed what the phone signed")
    message = _DEVICE + link.details + link.companion_identity + link.account_key
    if not curve.verify(link.companion_identity, message, answer.device_signature):
        raise RemoteProtocolError("the companion's device signature is wrong")
    answer.account_signature_key = link.account_key
    return answer.SerializeToString()


def key_index_list(
    phone: KeyPair,
    *,
    raw_id: int,
    indexes: t.Sequence[int],
    now: int,
    random: t.Callable[[int], bytes],
) -> bytes:
    """The signed list of the companions an account has."""
    details = wa_pb2.ADVKeyIndexList(
        raw_id=raw_id, timestamp=now, current_index=max(indexes, default=0), valid_indexes=indexes
    ).SerializeToString()
    signature = curve.sign(phone.private, _KEY_INDEX_LIST + details, random(64))
    return wa_pb2.ADVSignedKeyIndexList(
        details=details, account_signature=signature, account_signature_key=phone.public
    ).SerializeToString()


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 32:
        raise ScanRefusedError("this QR text holds a malformed key")
    return key


def _flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]
