"""Pairing by eight characters typed on the phone: what server and phone do.

Written apart from the companion's side in the product, so that neither proves itself right.
Source: docs/protocol.md#pairing-by-code
"""

import hashlib
import re
import typing as t

import attrs
import trio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from simulator.adv import QrCode
from simulator.errors import ScanRefusedError
from whatsapp.e2ee import curve
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.node import Node

if t.TYPE_CHECKING:
    from simulator.linking import Linking

TAG: t.Final = "link_code_companion_reg"
LIFETIME: t.Final = 180.0  # seconds
MAX_TRIES: t.Final = 3  # of one code

_CODE: t.Final = re.compile(r"[1-9A-HJ-NP-TV-Z]{8}")
_DISPLAY: t.Final = re.compile(r"[^()]+ \([^()]+\)")
_ITERATIONS: t.Final = 2 << 16
_BUNDLE_INFO: t.Final = b"link_code_pairing_key_bundle_encryption_key"
_SECRET_INFO: t.Final = b"adv_secret"


@attrs.define(eq=False)
class Attempt:
    """A companion that shows a code for one phone number."""

    linking: "Linking"
    phone: Jid
    ref: bytes
    wrapped: bytes = attrs.field(repr=False)
    noise_public: bytes
    expires_at: float  # trio clock
    tries: int = 0
    finish: Node | None = None
    answered: trio.Event = attrs.field(factory=trio.Event)

    def begin(self) -> None:
        """The code was typed once more.

        Raises:
            ScanRefusedError: too late, or too often.
        """
        self.tries += 1
        if self.expires_at <= trio.current_time() or self.tries > MAX_TRIES:
            raise ScanRefusedError("code typed too late: it has expired")
        self.finish, self.answered = None, trio.Event()


def read_hello(linking: "Linking", iq: Node, ref: bytes, noise_public: bytes) -> Attempt:
    """A companion's first stage.

    Raises:
        RemoteProtocolError: malformed, or what it says of itself is not acceptable.
    """
    child = iq.required_child(TAG)
    display = child.required_child("companion_platform_display").data().decode(errors="replace")
    if _DISPLAY.fullmatch(display) is None:
        raise RemoteProtocolError(f"{display!r} is not the name of a browser (and its system)")
    wrapped = child.required_child("link_code_pairing_wrapped_companion_ephemeral_pub").data()
    if len(wrapped) != 80:
        raise RemoteProtocolError("a wrapped key of another length than 80")
    if child.required_child("companion_server_auth_key_pub").data() != noise_public:
        raise RemoteProtocolError("the companion names another key than it connected with")
    child.required_child("link_code_pairing_nonce")
    child.required_child("companion_platform_id")
    return Attempt(
        linking,
        child.required_jid("jid").bare,
        ref,
        wrapped,
        noise_public,
        trio.current_time() + LIFETIME,
    )


def hello_answer(attempt: Attempt) -> Node:
    """What the companion is told of its attempt."""
    ref = Node("link_code_pairing_ref", {}, attempt.ref)
    return Node(TAG, {"stage": "companion_hello"}, (ref,))


class TypedCode:
    """A phone on which somebody typed a code; keys are drawn from ``random``."""

    def __init__(self, text: str, identity: KeyPair, random: t.Callable[[int], bytes]) -> None:
        self._code = text.replace("-", "").replace(" ", "").upper()
        if _CODE.fullmatch(self._code) is None:
            raise ScanRefusedError("a pairing code has eight characters, without 0, I, O and U")
        self._identity = identity
        self._ephemeral = KeyPair.from_private(random(32))
        self._random = random

    def hello(self, attempt: Attempt) -> Node:
        """The phone's stage."""
        salt, iv = self._random(32), self._random(16)
        wrapped = salt + iv + self._mask(self._ephemeral.public, salt, iv)
        children = (
            Node("link_code_pairing_wrapped_primary_ephemeral_pub", {}, wrapped),
            Node("primary_identity_pub", {}, self._identity.public),
            Node("link_code_pairing_ref", {}, attempt.ref),
        )
        return Node(TAG, {"stage": "primary_hello"}, children)

    def accept(self, attempt: Attempt, finish: Node) -> QrCode:
        """Read the companion's last stage; what a QR code would have told.

        Raises:
            ScanRefusedError: it was made with another code.
            RemoteProtocolError: malformed.
        """
        child = finish.required_child(TAG)
        companion = child.required_child("companion_identity_public").data()
        wrapped = child.required_child("link_code_pairing_wrapped_key_bundle").data()
        if (len(companion), len(wrapped)) != (32, 156):
            raise RemoteProtocolError("the companion's last stage is malformed")
        salt, iv, masked = attempt.wrapped[:32], attempt.wrapped[32:48], attempt.wrapped[48:]
        theirs = self._mask(masked, salt, iv)
        shared = curve.agree(self._ephemeral.private, theirs)
        key = _derive(shared, _BUNDLE_INFO, salt=wrapped[:32])
        try:
            bundle = AESGCM(key).decrypt(wrapped[32:44], wrapped[44:], None)
        except InvalidTag:
            raise ScanRefusedError("this is not the code the companion shows") from None
        if bundle[:64] != companion + self._identity.public:
            raise RemoteProtocolError("the companion's last stage names other keys")
        both = curve.agree(self._identity.private, companion)
        secret = _derive(shared + both + bundle[64:], _SECRET_INFO)
        return QrCode(attempt.ref.hex(), attempt.noise_public, companion, secret)

    def _mask(self, data: bytes, salt: bytes, iv: bytes) -> bytes:
        key = hashlib.pbkdf2_hmac("sha256", self._code.encode(), salt, _ITERATIONS, 32)
        cipher = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
        return cipher.update(data) + cipher.finalize()


def _derive(secret: bytes, info: bytes, salt: bytes | None = None) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(secret)
