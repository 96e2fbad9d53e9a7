"""Curve25519: key pairs, agreement, and signatures made with agreement keys (XEdDSA).

Every key here is the raw 32 bytes; `serialise` and `parse_public` add and remove the type byte
which the Signal messages carry. Source: docs/protocol.md#curve-and-encodings
"""

import functools
import hashlib
import typing as t

import attrs
import nacl.bindings
import nacl.exceptions

from whatsapp.errors import LocalProtocolError, RemoteProtocolError

KEY_LENGTH: t.Final = 32
SIGNATURE_LENGTH: t.Final = 64
SERIALISED_LENGTH: t.Final = 33
KEY_TYPE: t.Final = b"\x05"

_P: t.Final = 2**255 - 19
_SIGN_BIT: t.Final = 0x80
_NONCE_PREFIX: t.Final = b"\xfe" + b"\xff" * 31  # sets the nonce hash apart from all other hashes


@attrs.frozen
class KeyPair:
    """A Curve25519 private key with its public key, raw 32 bytes each."""

    private: bytes = attrs.field(repr=False)
    public: bytes

    @classmethod
    def from_private(cls, private: bytes) -> "KeyPair":
        """The pair of any 32 (random) bytes; clamping happens when they are used.

        Raises:
            LocalProtocolError: not 32 bytes.
        """
        _check_own_length(private, KEY_LENGTH, "private key")
        return cls(private, nacl.bindings.crypto_scalarmult_base(private))


def agree(private: bytes, public: bytes) -> bytes:
    """The X25519 shared secret of an own private and a peer's public key.

    Raises:
        RemoteProtocolError: the public key is malformed or of low order.
        LocalProtocolError: the private key is not 32 bytes.
    """
    _check_own_length(private, KEY_LENGTH, "private key")
    if len(public) != KEY_LENGTH:
        raise RemoteProtocolError(f"public key of {len(public)} bytes")
    try:
        return nacl.bindings.crypto_scalarmult(private, public)
    except (RuntimeError, nacl.exceptions.CryptoError) as error:
        raise RemoteProtocolError("public key of low order") from error


def sign(private: bytes, message: bytes, random64: bytes) -> bytes:
    """Sign with an agreement key; ``random64`` must be fresh secret randomness.

    The signer's Edwards key is taken with sign 0, as XEdDSA says, so the top bit of the
    signature stays clear. Source: docs/protocol.md#xeddsa

    Raises:
        LocalProtocolError: a key that is not 32, or randomness that is not 64 bytes.
    """
    _check_own_length(private, KEY_LENGTH, "private key")
    _check_own_length(random64, 64, "signature randomness")
    scalar = _reduce(_clamp(private))
    point = nacl.bindings.crypto_scalarmult_ed25519_base_noclamp(scalar)
    if point[31] & _SIGN_BIT:
        scalar = nacl.bindings.crypto_core_ed25519_scalar_negate(scalar)
        point = point[:31] + bytes([point[31] ^ _SIGN_BIT])
    nonce = _hash_to_scalar(_NONCE_PREFIX + scalar + message + random64)
    commitment = nacl.bindings.crypto_scalarmult_ed25519_base_noclamp(nonce)
    challenge = _hash_to_scalar(commitment + point + message)
    product = nacl.bindings.crypto_core_ed25519_scalar_mul(challenge, scalar)
    return commitment + nacl.bindings.crypto_core_ed25519_scalar_add(nonce, product)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` over ``message`` was made by ``public``; False for any malformed input.

    The top bit of the signature tells the sign of the signer's Edwards key: signers older than
    XEdDSA set it. Source: docs/protocol.md#xeddsa
    """
    if len(public) != KEY_LENGTH or len(signature) != SIGNATURE_LENGTH:
        return False
    y = _edwards_y(public)
    if y is None:
        return False
    top = signature[63]
    point = y[:31] + bytes([y[31] | (top & _SIGN_BIT)])
    plain_signature = signature[:63] + bytes([top & ~_SIGN_BIT])
    try:
        nacl.bindings.crypto_sign_open(plain_signature + message, point)
    except nacl.exceptions.CryptoError:
        return False
    return True


def serialise(public: bytes) -> bytes:
    """The 33-byte form of a public key which Signal signs, MACs and sends.

    Raises:
        LocalProtocolError: not 32 bytes.
    """
    _check_own_length(public, KEY_LENGTH, "public key")
    return KEY_TYPE + public


def parse_public(serialised: bytes) -> bytes:
    """The raw key inside the 33-byte form.

    Raises:
        RemoteProtocolError: another length or another key type.
    """
    if len(serialised) != SERIALISED_LENGTH or serialised[:1] != KEY_TYPE:
        raise RemoteProtocolError(f"not a serialised public key ({len(serialised)} bytes)")
    return serialised[1:]


def _check_own_length(value: bytes, length: int, name: str) -> None:
    if len(value) != length:
        raise LocalProtocolError(f"{name} of {len(value)} bytes, not {length}")


def _clamp(private: bytes) -> bytes:
    return bytes([private[0] & 248]) + private[1:31] + bytes([private[31] & 127 | 64])


def _reduce(number: bytes) -> bytes:
    return nacl.bindings.crypto_core_ed25519_scalar_reduce(number.ljust(64, b"\0"))


def _hash_to_scalar(data: bytes) -> bytes:
    return _reduce(hashlib.sha512(data).digest())


@functools.lru_cache(maxsize=4096)  # group members sign every message; the inverse costs ~20 us
def _edwards_y(public: bytes) -> bytes | None:
    """The y coordinate ``(u - 1) / (u + 1)``, or None where there is none."""
    u = int.from_bytes(public, "little")
    if u >= _P or u == _P - 1:  # not reduced, or the pole at u = -1
        return None
    y = (u - 1) * pow(u + 1, -1, _P) % _P
    return y.to_bytes(KEY_LENGTH, "little")
