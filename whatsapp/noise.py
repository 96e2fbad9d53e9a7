"""The symmetric half of the Noise handshake, and the ciphers it ends in.

Source: docs/protocol.md#noise-handshake
"""

import hashlib
import typing as t

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from whatsapp.errors import LocalProtocolError, RemoteProtocolError

PATTERN: t.Final = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"
TAG_LENGTH: t.Final = 16

_MAX_COUNTER: t.Final = (1 << 32) - 1


class Cipher:
    """AES-256-GCM under one key, with a nonce that counts from 0."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)
        self._counter = 0

    def encrypt(self, plaintext: bytes, associated: bytes = b"") -> bytes:
        """Encrypt and append the tag.

        Raises:
            LocalProtocolError: the counter is used up.
        """
        return self._aead.encrypt(self._next_nonce(), plaintext, associated)

    def decrypt(self, ciphertext: bytes, associated: bytes = b"") -> bytes:
        """Check the tag and decrypt; the counter advances in any case.

        Raises:
            RemoteProtocolError: forged, damaged, or out of order.
        """
        try:
            return self._aead.decrypt(self._next_nonce(), ciphertext, associated)
        except InvalidTag as error:
            raise RemoteProtocolError("a frame that does not decrypt") from error

    def _next_nonce(self) -> bytes:
        if self._counter > _MAX_COUNTER:
            raise LocalProtocolError("the frame counter is used up")
        nonce = self._counter.to_bytes(12, "big")
        self._counter += 1
        return nonce


@attrs.frozen
class Transport:
    """The two ciphers of an open connection, as one side sees them."""

    sending: Cipher
    receiving: Cipher


class SymmetricState:
    """Hash, chaining key and cipher of a running handshake.

    After an error it must not be used again.
    """

    def __init__(self, prologue: bytes) -> None:
        self.hash = PATTERN
        self.chaining_key = PATTERN
        self.key = PATTERN
        self._cipher = Cipher(self.key)
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes) -> None:
        """Bind ``data`` to everything that follows."""
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        """Bind a shared secret to every key that follows; the counter starts over."""
        self.chaining_key, self.key = self._derive(secret)
        self._cipher = Cipher(self.key)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        """Encrypt under the current key and bind the ciphertext."""
        ciphertext = self._cipher.encrypt(plaintext, self.hash)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        """Decrypt under the current key and bind the ciphertext.

        Raises:
            RemoteProtocolError: not what the other side of this handshake wrote.
        """
        plaintext = self._cipher.decrypt(ciphertext, self.hash)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The final keys: client to server, server to client."""
        return self._derive(b"")

    def _derive(self, secret: bytes) -> tuple[bytes, bytes]:
        derivation = HKDF(hashes.SHA256(), length=64, salt=self.chaining_key, info=b"")
        output = derivation.derive(secret)
        return output[:32], output[32:]
