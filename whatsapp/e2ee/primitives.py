"""The symmetric primitives of sessions and sender keys: key derivation, MAC and cipher."""

import hmac
import typing as t

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

BLOCK: t.Final = 16


def hkdf(key: bytes, info: bytes, length: int, salt: bytes | None = None) -> bytes:
    """HKDF-SHA256; no salt means 32 zero bytes."""
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(key)


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA256, whole."""
    return hmac.digest(key, data, "sha256")


def cbc_encrypt(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    """AES-256-CBC with PKCS#7 padding."""
    count = BLOCK - len(plaintext) % BLOCK
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return encryptor.update(plaintext + bytes([count]) * count) + encryptor.finalize()


def cbc_decrypt(key: bytes, iv: bytes, ciphertext: bytes) -> bytes | None:
    """The plaintext, or None where length or padding is wrong: check a MAC or signature first."""
    if not ciphertext or len(ciphertext) % BLOCK:
        return None
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    count = padded[-1]
    if not (1 <= count <= BLOCK and padded.endswith(bytes([count]) * count)):
        return None
    return padded[:-count]
