"""Pairing by code: the published vector, and both roles against each other."""

import random

import pytest

from whatsapp.device import Device
from whatsapp.e2ee import curve
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.iq import core
from whatsapp.node import Node
from whatsapp.pairing_code import (
    TAG,
    CodeEntry,
    CodePairing,
    adv_secret,
    bundle_key,
    hello_answer,
    make_code,
    needs_new_code,
    normalised,
    parse_companion_hello,
    parse_hello_answer,
    parse_primary_hello,
    phone_digits,
    shown,
    unwrap,
    wrap,
)

SALT = bytes(range(32))
IV = bytes(range(16))


def pair(byte: int) -> KeyPair:
    return KeyPair.from_private(bytes([byte]) * 32)


def test_code_of_the_vector() -> None:
    assert make_code(bytes.fromhex("0123456789")) == "15JMBSWA"
    assert shown("15JMBSWA") == "15JM-BSWA"
    assert normalised(" 15jm-bswa ") == "15JMBSWA"


def test_wrapping_is_its_own_inverse() -> None:
    key = pair(7).public
    wrapped = wrap(key, "ABCD1234", SALT, IV)
    assert len(wrapped) == 80
    assert unwrap(wrapped, "ABCD1234") == key
    assert unwrap(wrapped, "ABCD1235") != key


def entered(companion: CodePairing, device: Device, typed: str) -> tuple[Device, bytes]:
    rng = random.Random(5).randbytes
    identity, entry = pair(0x66), CodeEntry(normalised(typed), pair(9))
    request = companion.hello("1", device, rng)
    hello = parse_companion_hello(request)
    assert hello.noise_public == device.noise.public
    assert parse_hello_answer(hello_answer(request, b"ref")) == b"ref"
    notification = Node(
        "notification",
        {},
        (Node(TAG, {"stage": "primary_hello"}, entry.hello(identity, b"ref", rng)),),
    )
    primary = parse_primary_hello(notification)
    assert primary is not None
    assert primary.ref == b"ref"
    paired, finish = companion.finish("2", device, primary, rng)
    return paired, entry.accept(hello, finish, identity)


def test_both_sides_agree_on_the_secret() -> None:
    rng = random.Random(4).randbytes
    device = Device.generate(rng)
    companion = CodePairing.begin("+55 11 99999-0000", rng)
    paired, secret = entered(companion, device, shown(companion.code))
    assert paired.adv_secret == secret
    assert paired.adv_secret != device.adv_secret


def test_a_wrong_code_is_refused() -> None:
    rng = random.Random(4).randbytes
    companion = CodePairing.begin("5511999990000", rng)
    with pytest.raises(RemoteProtocolError, match="wrong code"):
        entered(companion, Device.generate(rng), "11111111")


def test_keys_of_the_vector() -> None:
    """Independent of this code: docs/protocol.md#pairing-by-code."""
    shared = curve.agree(pair(0x11).private, pair(0x33).public)
    identity = curve.agree(pair(0x55).private, pair(0x66).public)
    assert adv_secret(shared, identity, b"\x88" * 32).hex() == (
        "1f39e8a9f490534e99ecd8eb2a7ada589cb3539faa5950cebc411748cc82d5ee"
    )
    assert bundle_key(shared, b"\x99" * 32).hex() == (
        "52610c885f7bfb0bbdb69876a54a415e06d338bcd02e9fc087ec23c494a77d35"
    )
    assert wrap(pair(0x11).public, "ABCD1234", SALT, IV)[48:].hex() == (
        "285642c29238cc0f89bc06a6c1eac8b4bd9b791b187cb92494795a0cea5bae9c"
    )


@pytest.mark.parametrize("number", ["", "12345", "011999990000", "letters", "1" * 16])
def test_bad_numbers_are_refused(number: str) -> None:
    with pytest.raises(LocalProtocolError, match="phone number"):
        phone_digits(number)


@pytest.mark.parametrize("wrapped", [b"", b"x" * 79, b"x" * 81])
def test_malformed_phone_part(wrapped: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        unwrap(wrapped, "ABCD1234")
    assert parse_primary_hello(Node("notification", {}, (Node(TAG, {"stage": "other"}),))) is None
    assert needs_new_code(Node("notification", {}, (Node(TAG, {"stage": "refresh_code"}),)))
    with pytest.raises(core.IqError):
        parse_hello_answer(
            Node(
                "iq",
                {"type": "error", "id": "1"},
                (Node("error", {"code": 400, "text": "bad-request"}),),
            )
        )
