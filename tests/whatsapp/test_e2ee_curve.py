"""Curve25519: published vectors, signatures against an independent library, hostile keys."""

import hashlib

import pytest
import xeddsa
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp.e2ee import curve, primitives
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import LocalProtocolError, RemoteProtocolError

keys = st.binary(min_size=32, max_size=32)

P = 2**255 - 19
LOW_ORDER = [
    bytes.fromhex(u)
    for u in (
        "00" * 32,
        "01" + "00" * 31,
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # -1
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # 0, not reduced
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # 1, not reduced
    )
]


@pytest.mark.parametrize(
    ("private", "public", "shared"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_agreement_follows_rfc_7748(private: str, public: str, shared: str) -> None:
    """The vectors of RFC 7748, section 5.2."""
    assert curve.agree(bytes.fromhex(private), bytes.fromhex(public)).hex() == shared


def test_public_keys_follow_rfc_7748() -> None:
    """The Diffie-Hellman example of RFC 7748, section 6.1."""
    bob = KeyPair.from_private(
        bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    )
    assert bob.public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    alice = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert curve.agree(bob.private, alice).hex() == shared


@pytest.mark.parametrize(
    ("salt", "info", "derived"),
    [
        (
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            None,
            "",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_key_derivation_follows_rfc_5869(salt: str | None, info: str, derived: str) -> None:
    """The test cases 1 and 3 of RFC 5869."""
    salt_bytes = None if salt is None else bytes.fromhex(salt)
    assert primitives.hkdf(b"\x0b" * 22, bytes.fromhex(info), 42, salt_bytes).hex() == derived


@settings(deadline=None)
@given(keys, st.binary(max_size=300), st.binary(min_size=64, max_size=64))
def test_own_signatures_verify_here_and_in_an_independent_library(
    private: bytes, message: bytes, nonce: bytes
) -> None:
    """A signature verifies under its key and message, and under no other message."""
    pair = KeyPair.from_private(private)
    signature = curve.sign(private, message, nonce)
    assert signature[63] & 0x80 == 0
    assert curve.verify(pair.public, message, signature)
    assert not curve.verify(pair.public, message + b"!", signature)
    edwards = xeddsa.curve25519_pub_to_ed25519_pub(pair.public, False)
    assert xeddsa.ed25519_verify(signature, edwards, message)


@settings(deadline=None)
@given(keys, st.binary(max_size=300), st.binary(min_size=64, max_size=64), st.booleans())
def test_signatures_of_either_convention_verify(
    private: bytes, message: bytes, nonce: bytes, legacy: bool
) -> None:
    """A signer that forces sign 0, and one that tells its sign in the top bit, both verify."""
    private = bytes([private[0] & 248]) + private[1:31] + bytes([private[31] & 127 | 64])
    pair = KeyPair.from_private(private)
    if legacy:
        edwards = xeddsa.priv_to_ed25519_pub(private)
        signature = xeddsa.ed25519_priv_sign(private, message, nonce)
        signature = signature[:63] + bytes([signature[63] | edwards[31] & 0x80])
    else:
        forced = xeddsa.priv_force_sign(private, False)
        signature = xeddsa.ed25519_priv_sign(forced, message, nonce)
    assert curve.verify(pair.public, message, signature)


@settings(deadline=None)
@given(st.integers(0, 511))
def test_a_signature_with_any_bit_flipped_is_refused(bit: int) -> None:
    """Every bit of a signature counts, the sign bit included."""
    pair = KeyPair.from_private(b"\x21" * 32)
    signature = bytearray(curve.sign(pair.private, b"message", bytes(64)))
    signature[bit // 8] ^= 1 << bit % 8
    assert not curve.verify(pair.public, b"message", bytes(signature))


@settings(deadline=None)
@given(st.binary(max_size=70), st.binary(max_size=40), st.binary(max_size=70))
def test_verify_answers_for_any_bytes(public: bytes, message: bytes, signature: bytes) -> None:
    """Random bytes are never a signature, and never an exception."""
    assert curve.verify(public, message, signature) is False


@settings(deadline=None)
@given(keys, keys, keys)
def test_verify_answers_for_any_bytes_of_the_right_length(
    public: bytes, commitment: bytes, response: bytes
) -> None:
    """The lengths being right does not help."""
    assert curve.verify(public, b"", commitment + response) is False


@pytest.mark.parametrize("public", LOW_ORDER, ids=lambda public: public.hex()[:8])
def test_keys_of_low_order_are_malformed(public: bytes) -> None:
    """No agreement with them, and nothing verifies under them."""
    with pytest.raises(RemoteProtocolError):
        curve.agree(b"\x42" * 32, public)
    for signature in (bytes(64), b"\x01" + bytes(63), b"\xff" * 64):
        assert curve.verify(public, b"message", signature) is False


def test_a_key_at_the_pole_of_the_map_verifies_nothing() -> None:
    """u = -1 has no Edwards y; the signature is refused, without an error."""
    assert curve.verify((P - 1).to_bytes(32, "little"), b"", bytes(64)) is False


@pytest.mark.parametrize("length", [0, 31, 33])
def test_public_keys_of_another_length_are_malformed(length: int) -> None:
    """The length of a peer's key is checked before anything is computed."""
    with pytest.raises(RemoteProtocolError):
        curve.agree(b"\x42" * 32, bytes(length))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_own_keys_of_another_length_are_our_fault(length: int) -> None:
    """Wrong arguments raise the local error."""
    with pytest.raises(LocalProtocolError):
        KeyPair.from_private(bytes(length))
    with pytest.raises(LocalProtocolError):
        curve.agree(bytes(length), b"\x09" + bytes(31))
    with pytest.raises(LocalProtocolError):
        curve.sign(bytes(length), b"", bytes(64))
    with pytest.raises(LocalProtocolError):
        curve.sign(bytes(32), b"", bytes(length))
    with pytest.raises(LocalProtocolError):
        curve.serialise(bytes(length))


@given(st.binary(max_size=40))
def test_serialised_keys_parse_or_are_malformed(data: bytes) -> None:
    """33 bytes with the type in front are a key, all else is not."""
    try:
        assert curve.serialise(curve.parse_public(data)) == data
    except RemoteProtocolError:
        assert len(data) != 33 or data[0] != 5


def test_a_serialised_key_parses() -> None:
    """Both directions agree."""
    public = hashlib.sha256(b"key").digest()
    assert curve.parse_public(curve.serialise(public)) == public


def test_the_private_key_stays_out_of_the_repr() -> None:
    """A pair can be logged by accident without harm."""
    assert "private" not in repr(KeyPair.from_private(b"\x07" * 32))
