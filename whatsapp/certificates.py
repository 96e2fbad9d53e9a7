"""The server's certificate chain: checking it, and issuing one under another root.

Source: docs/protocol.md#certificate-chain
"""

import collections.abc as cabc
import hmac
import typing as t

import attrs

from whatsapp import protobuf
from whatsapp.e2ee import curve
from whatsapp.e2ee.curve import KEY_LENGTH, SIGNATURE_LENGTH, KeyPair
from whatsapp.errors import RemoteProtocolError
from whatsapp.proto import wa_pb2

PRODUCTION_ROOT_KEY: t.Final = bytes.fromhex(
    "142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b"
)
"""WhatsApp's root of trust, serial 0."""

ROOT_SERIAL: t.Final = 0

_Certificate: t.TypeAlias = wa_pb2.CertChain.NoiseCertificate
_Details: t.TypeAlias = wa_pb2.CertChain.NoiseCertificate.Details


def verify_chain(chain: bytes, static_key: bytes, root_key: bytes, now: int) -> None:
    """Check that ``root_key`` vouches, through one intermediate, for the server's static key.

    ``now`` is unix seconds. All seven checks must pass: structure, both signatures, both issuer
    serials, the leaf's key, and the validity of both certificates.

    Raises:
        RemoteProtocolError: one of them does not; the message says which.
    """
    message = protobuf.parse(wa_pb2.CertChain, chain)
    intermediate = _read(message.intermediate, "intermediate")
    leaf = _read(message.leaf, "leaf")
    _check_signature(intermediate, root_key, ROOT_SERIAL, "intermediate")
    if len(intermediate.details.key) != KEY_LENGTH:
        raise RemoteProtocolError("the intermediate certificate's key is not 32 bytes")
    _check_signature(leaf, intermediate.details.key, intermediate.details.serial, "leaf")
    if not hmac.compare_digest(leaf.details.key, static_key):
        raise RemoteProtocolError("the leaf certificate is for another key than the server's")
    _check_validity(intermediate.details, now, "intermediate")
    _check_validity(leaf.details, now, "leaf")


@attrs.frozen
class _Read:
    """A certificate with its details parsed; the signature is over the raw bytes."""

    raw: bytes
    signature: bytes
    details: _Details


def _read(certificate: _Certificate, name: str) -> _Read:
    if not certificate.details or len(certificate.signature) != SIGNATURE_LENGTH:
        raise RemoteProtocolError(f"the {name} certificate is missing or incomplete")
    details = protobuf.parse(_Details, certificate.details)
    return _Read(certificate.details, certificate.signature, details)


def _check_signature(certificate: _Read, issuer_key: bytes, issuer_serial: int, name: str) -> None:
    if not curve.verify(issuer_key, certificate.raw, certificate.signature):
        raise RemoteProtocolError(f"the {name} certificate's signature is wrong")
    if certificate.details.issuer_serial != issuer_serial:
        raise RemoteProtocolError(f"the {name} certificate names another issuer")


def _check_validity(details: _Details, now: int, name: str) -> None:
    if not details.not_before <= now <= details.not_after:
        raise RemoteProtocolError(
            f"the {name} certificate is valid from {details.not_before} to {details.not_after},"
            f" and it is {now}"
        )


def issue_chain(
    *,
    root: KeyPair,
    intermediate: KeyPair,
    leaf_key: bytes,
    not_before: int,
    not_after: int,
    random: cabc.Callable[[int], bytes],
    intermediate_serial: int = 1,
    leaf_serial: int = 2,
) -> bytes:
    """A chain that ``verify_chain`` accepts under ``root.public`` between the two times.

    ``leaf_key`` is the server's static public key; ``random(n)`` gives n secret random bytes.
    """
    middle = _Details(
        serial=intermediate_serial,
        issuer_serial=ROOT_SERIAL,
        key=intermediate.public,
        not_before=not_before,
        not_after=not_after,
    )
    leaf = _Details(
        serial=leaf_serial,
        issuer_serial=intermediate_serial,
        key=leaf_key,
        not_before=not_before,
        not_after=not_after,
    )
    return wa_pb2.CertChain(
        intermediate=_signed(middle, root, random),
        leaf=_signed(leaf, intermediate, random),
    ).SerializeToString()


def _signed(
    details: _Details, issuer: KeyPair, random: cabc.Callable[[int], bytes]
) -> _Certificate:
    raw = details.SerializeToString()
    return _Certificate(details=raw, signature=curve.sign(issuer.private, raw, random(64)))
