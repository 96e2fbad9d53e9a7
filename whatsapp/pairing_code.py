"""Becoming a linked device by an 8-character code that is typed on the phone: both roles.

The code encrypts the exchange of two ephemeral keys; from these and from both identity keys the
two sides derive the secret that a QR code would have carried. Then pairing goes on as ever.
Source: docs/protocol.md#pairing-by-code
"""

import collections.abc as cabc
import hashlib
import typing as t

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from whatsapp.device import Device
from whatsapp.e2ee import curve
from whatsapp.e2ee.curve import KeyPair
from whatsapp.e2ee.primitives import hkdf
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.iq import core
from whatsapp.jid import SERVER, Jid
from whatsapp.node import Node

CODE_LIFETIME: t.Final = 180.0  # seconds
MAX_PRIMARY_HELLOS: t.Final = 3  # of one code
TAG: t.Final = "link_code_companion_reg"

_ALPHABET: t.Final = "123456789ABCDEFGHJKLMNPQRSTVWXYZ"
_CODE_BYTES: t.Final = 5
_CODE_LENGTH: t.Final = 8
_ITERATIONS: t.Final = 131_072
_SALT: t.Final = 32
_IV: t.Final = 16
_WRAPPED: t.Final = _SALT + _IV + curve.KEY_LENGTH
_NONCE: t.Final = 12
_BUNDLE: t.Final = 3 * curve.KEY_LENGTH
_BUNDLE_INFO: t.Final = b"link_code_pairing_key_bundle_encryption_key"
_SECRET_INFO: t.Final = b"adv_secret"

_WRAPPED_COMPANION: t.Final = "link_code_pairing_wrapped_companion_ephemeral_pub"
_WRAPPED_PRIMARY: t.Final = "link_code_pairing_wrapped_primary_ephemeral_pub"
_WRAPPED_BUNDLE: t.Final = "link_code_pairing_wrapped_key_bundle"
_REF: t.Final = "link_code_pairing_ref"


def make_code(random: bytes) -> str:
    """The eight characters of five random bytes."""
    number = int.from_bytes(random[:_CODE_BYTES], "big")
    shifts = range(5 * (_CODE_LENGTH - 1), -1, -5)
    return "".join(_ALPHABET[number >> shift & 31] for shift in shifts)


def shown(code: str) -> str:
    """The code as people read it: ``ABCD-EFGH``."""
    return f"{code[:4]}-{code[4:]}"


def phone_digits(number: str) -> str:
    """The digits of a phone number in international form.

    Raises:
        LocalProtocolError: it is not one; says why.
    """
    digits = "".join(char for char in number if char not in " +-().")
    if not (digits.isascii() and digits.isdigit()) or not 7 <= len(digits) <= 15:
        raise LocalProtocolError("a phone number has 7 to 15 digits, with the country code")
    if digits.startswith("0"):
        raise LocalProtocolError("a phone number begins with the country code, such as +55")
    return digits


def wrap(public: bytes, code: str, salt: bytes, iv: bytes) -> bytes:
    """An ephemeral public key under the code; 80 bytes."""
    return salt + iv + _with_code(public, code, salt, iv)


def unwrap(wrapped: bytes, code: str) -> bytes:
    """The ephemeral public key; a wrong code gives a wrong key, not an error.

    Raises:
        RemoteProtocolError: not 80 bytes.
    """
    if len(wrapped) != _WRAPPED:
        raise RemoteProtocolError("a wrapped pairing key of the wrong length")
    salt, iv, body = wrapped[:_SALT], wrapped[_SALT : _SALT + _IV], wrapped[_SALT + _IV :]
    return _with_code(body, code, salt, iv)


def _with_code(data: bytes, code: str, salt: bytes, iv: bytes) -> bytes:
    key = hashlib.pbkdf2_hmac("sha256", code.encode(), salt, _ITERATIONS, 32)
    encryptor = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def adv_secret(shared: bytes, identity_shared: bytes, random: bytes) -> bytes:
    """The secret that authenticates the pairing that follows."""
    return hkdf(shared + identity_shared + random, _SECRET_INFO, 32)


def bundle_key(shared: bytes, salt: bytes) -> bytes:
    """The key of the bundle of identities."""
    return hkdf(shared, _BUNDLE_INFO, 32, salt)


# ---- the companion


@attrs.frozen
class CodePairing:
    """A companion that shows a code and waits for the phone."""

    code: str = attrs.field(repr=False)
    ephemeral: KeyPair = attrs.field(repr=False)
    phone: str  # digits

    @classmethod
    def begin(cls, phone: str, random: cabc.Callable[[int], bytes]) -> "CodePairing":
        """A new code; ``phone`` as for :func:`phone_digits`."""
        ephemeral = KeyPair.from_private(random(curve.KEY_LENGTH))
        return cls(make_code(random(_CODE_BYTES)), ephemeral, phone_digits(phone))

    def hello(
        self,
        iq_id: str,
        device: Device,
        random: cabc.Callable[[int], bytes],
        *,
        platform: str = "1",
        display: str = "Chrome (Linux)",
    ) -> Node:
        """The first stage; ``display`` must be ``Browser (system)`` with a real system's name."""
        wrapped = wrap(self.ephemeral.public, self.code, random(_SALT), random(_IV))
        children = (
            Node(_WRAPPED_COMPANION, {}, wrapped),
            Node("companion_server_auth_key_pub", {}, device.noise.public),
            Node("companion_platform_id", {}, platform.encode()),
            Node("companion_platform_display", {}, display.encode()),
            Node("link_code_pairing_nonce", {}, b"\x00"),
        )
        attributes: dict[str, Jid | str] = {
            "jid": Jid(self.phone, SERVER),
            "stage": "companion_hello",
            "should_show_push_notification": "true",
        }
        return core.set_(iq_id, "md", Node(TAG, attributes, children))

    def finish(
        self, iq_id: str, device: Device, hello: "PrimaryHello", random: cabc.Callable[[int], bytes]
    ) -> tuple[Device, Node]:
        """Answer the phone's part: the device with its new secret, and the last stage.

        Raises:
            RemoteProtocolError: the phone's keys are no keys.
        """
        primary = unwrap(hello.wrapped_ephemeral, self.code)
        shared = curve.agree(self.ephemeral.private, primary)
        identity_shared = curve.agree(device.identity.private, hello.identity)
        secret_random, salt, nonce = random(32), random(_SALT), random(_NONCE)
        bundle = device.identity.public + hello.identity + secret_random
        sealed = AESGCM(bundle_key(shared, salt)).encrypt(nonce, bundle, None)
        children = (
            Node(_WRAPPED_BUNDLE, {}, salt + nonce + sealed),
            Node("companion_identity_public", {}, device.identity.public),
            Node(_REF, {}, hello.ref),
        )
        attributes: dict[str, Jid | str] = {
            "jid": Jid(self.phone, SERVER),
            "stage": "companion_finish",
        }
        secret = adv_secret(shared, identity_shared, secret_random)
        return (
            attrs.evolve(device, adv_secret=secret),
            core.set_(iq_id, "md", Node(TAG, attributes, children)),
        )


def parse_hello_answer(node: Node) -> bytes:
    """The ref of the attempt.

    Raises:
        IqError: refused.
        RemoteProtocolError: malformed.
    """
    return core.require_result(node).required_child(TAG).required_child(_REF).data()


@attrs.frozen(kw_only=True)
class PrimaryHello:
    """The phone's part of the exchange."""

    wrapped_ephemeral: bytes = attrs.field(repr=False)
    identity: bytes
    ref: bytes


def parse_primary_hello(node: Node) -> PrimaryHello | None:
    """What a ``link_code_companion_reg`` notification brings; None: another stage.

    Raises:
        RemoteProtocolError: malformed.
    """
    child = node.child(TAG)
    if child is None or child.text("stage") not in (None, "primary_hello"):
        return None
    return PrimaryHello(
        wrapped_ephemeral=child.required_child(_WRAPPED_PRIMARY).data(),
        identity=_key(child.required_child("primary_identity_pub").data()),
        ref=child.required_child(_REF).data(),
    )


def needs_new_code(node: Node) -> bool:
    """Whether the server asks for another code."""
    child = node.child(TAG)
    return child is not None and child.text("stage") == "refresh_code"


# ---- the phone and its server


@attrs.frozen(kw_only=True)
class CompanionHello:
    """A companion's first stage."""

    phone: Jid
    wrapped_ephemeral: bytes = attrs.field(repr=False)
    noise_public: bytes
    platform: str
    display: str


def parse_companion_hello(node: Node) -> CompanionHello:
    """Read the first stage out of its iq.

    Raises:
        RemoteProtocolError: malformed.
    """
    child = node.required_child(TAG)
    return CompanionHello(
        phone=child.required_jid("jid").bare,
        wrapped_ephemeral=child.required_child(_WRAPPED_COMPANION).data(),
        noise_public=_key(child.required_child("companion_server_auth_key_pub").data()),
        platform=child.required_child("companion_platform_id").data().decode(errors="replace"),
        display=child.required_child("companion_platform_display").data().decode(errors="replace"),
    )


def hello_answer(request: Node, ref: bytes) -> Node:
    """The server's answer to the first stage."""
    child = Node(TAG, {"stage": "companion_hello"}, (Node(_REF, {}, ref),))
    return core.result(request, child)


@attrs.frozen
class CodeEntry:
    """A phone on which somebody typed a code."""

    code: str = attrs.field(repr=False)
    ephemeral: KeyPair = attrs.field(repr=False)

    def hello(
        self, identity: KeyPair, ref: bytes, random: cabc.Callable[[int], bytes]
    ) -> tuple[Node, ...]:
        """The children of the second stage's ``link_code_companion_reg``."""
        wrapped = wrap(self.ephemeral.public, self.code, random(_SALT), random(_IV))
        return (
            Node(_WRAPPED_PRIMARY, {}, wrapped),
            Node("primary_identity_pub", {}, identity.public),
            Node(_REF, {}, ref),
        )

    def accept(self, hello: CompanionHello, finish: Node, identity: KeyPair) -> bytes:
        """The secret for the pairing, out of the companion's last stage.

        Raises:
            RemoteProtocolError: malformed, or made with another code or other keys.
        """
        child = finish.required_child(TAG)
        wrapped = child.required_child(_WRAPPED_BUNDLE).data()
        companion = _key(child.required_child("companion_identity_public").data())
        shared = curve.agree(
            self.ephemeral.private, unwrap(hello.wrapped_ephemeral, normalised(self.code))
        )
        salt, nonce, sealed = wrapped[:32], wrapped[32:44], wrapped[44:]
        try:
            bundle = AESGCM(bundle_key(shared, salt)).decrypt(nonce, sealed, None)
        except (InvalidTag, ValueError) as error:
            raise RemoteProtocolError("the pairing bundle does not open: a wrong code") from error
        if len(bundle) != _BUNDLE or bundle[:64] != companion + identity.public:
            raise RemoteProtocolError("the pairing bundle names other keys")
        return adv_secret(shared, curve.agree(identity.private, companion), bundle[64:])


def normalised(typed: str) -> str:
    """A code as typed by a person, without its hyphen, in capitals."""
    return typed.replace("-", "").replace(" ", "").upper()


def _key(data: bytes) -> bytes:
    if len(data) != curve.KEY_LENGTH:
        raise RemoteProtocolError("a public key of the wrong length")
    return data
