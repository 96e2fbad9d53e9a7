"""Harness for pairing: the phone's answer behind its MAC and signature, and the code's stages."""

import hashlib
import hmac
import typing as t
from unittest import mock

from google.protobuf.message import DecodeError

from fuzz import keys
from fuzz.harness import Target, choice, ensure, refused
from whatsapp import pairing, pairing_code
from whatsapp.binary import codec
from whatsapp.device import Device
from whatsapp.e2ee import curve
from whatsapp.jid import LID_SERVER, SERVER, Jid
from whatsapp.node import Node
from whatsapp.pairing_code import CodeEntry, CodePairing
from whatsapp.proto import wa_pb2

_PHONE: t.Final = keys.pair("phone")
_IDENTITY: t.Final = keys.pair("phone identity")
_CODE: t.Final = CodePairing("12345678", keys.pair("code"), "5511900000001")


def pairings(data: bytes) -> None:
    """A node as it comes; or a blob that the phone has signed; or details that it has signed."""
    way, data = choice(data, 4)
    with refused:
        match way:
            case 0:
                _accept(codec.decode(data))
            case 1:
                _accept(_success(_container(data)))
            case 2:
                _accept(_success(_container(_signed(data))))
            case _:
                _by_code(codec.decode(data))


def _accept(node: Node) -> None:
    device, reply = pairing.accept_pair_success(keys.DEVICE, node, keys.Drawn("reply"))
    ensure(Device.from_bytes(device.to_bytes()) == device, "a paired device that cannot be stored")
    codec.encode(reply)
    pairing.account_identity(device.account)


def _success(identity: bytes) -> Node:
    jids = {"jid": Jid("5511900000001", SERVER, 4), "lid": Jid("100000000000001", LID_SERVER, 4)}
    children = (Node("device", jids), Node("device-identity", {}, identity))
    return Node("iq", {"id": "1", "type": "set"}, (Node("pair-success", {}, children),))


def _container(signed: bytes) -> bytes:
    try:
        hosted = wa_pb2.ADVSignedDeviceIdentityHMAC.FromString(signed).account_type
    except DecodeError:
        hosted = wa_pb2.E2EE
    prefix = b"\x06\x05" if hosted == wa_pb2.HOSTED else b""
    return wa_pb2.ADVSignedDeviceIdentityHMAC(
        details=signed,
        hmac=hmac.digest(keys.DEVICE.adv_secret, prefix + signed, hashlib.sha256),
        account_type=hosted,
    ).SerializeToString()


def _signed(details: bytes) -> bytes:
    message = b"\x06\x00" + details + keys.DEVICE.identity.public
    return wa_pb2.ADVSignedDeviceIdentity(
        details=details,
        account_signature_key=_PHONE.public,
        account_signature=curve.sign(_PHONE.private, message, bytes(64)),
    ).SerializeToString()


def _by_code(node: Node) -> None:
    """Both sides of pairing by code, without the slow derivation."""
    with mock.patch.object(pairing_code, "_ITERATIONS", 1):
        with refused:
            if (hello := pairing_code.parse_primary_hello(node)) is not None:
                _device, last = _CODE.finish("1", keys.DEVICE, hello, keys.Drawn("finish"))
                codec.encode(last)
        with refused:
            entry = CodeEntry(_CODE.code, keys.pair("entry"))
            companion = pairing_code.parse_companion_hello(_hello())
            entry.accept(companion, node, _IDENTITY)


def _hello() -> Node:
    return _CODE.hello("1", keys.DEVICE, keys.Drawn("hello"))


def seeds() -> list[bytes]:
    """Inputs that get far, for the corpus."""
    details = wa_pb2.ADVDeviceIdentity(raw_id=1, timestamp=keys.NOW, key_index=1)
    signed = _signed(details.SerializeToString())
    entry = CodeEntry(_CODE.code, keys.pair("entry"))
    with mock.patch.object(pairing_code, "_ITERATIONS", 1):
        children = entry.hello(_IDENTITY, b"ref", keys.Drawn("entry"))
        primary = Node(pairing_code.TAG, {"stage": "primary_hello"}, children)
        notification = Node("notification", {"id": "1"}, (primary,))
        hello = pairing_code.parse_primary_hello(notification)
        assert hello is not None
        _device, last = _CODE.finish("1", keys.DEVICE, hello, keys.Drawn("finish"))
    return [
        b"\0" + codec.encode(_success(_container(signed))),
        b"\1" + signed,
        b"\2" + details.SerializeToString(),
        b"\3" + codec.encode(notification),
        b"\3" + codec.encode(last),
    ]


TARGETS: t.Final = (Target(name="pairing", run=pairings),)
