"""Files as phones encrypt them for the media host, and open them.

Written apart from the product's side, so that neither proves itself right.
Source: docs/protocol.md#media
"""

import hashlib
import hmac
import typing as t

import attrs
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

INFOS: t.Final[dict[str, bytes]] = {
    "image": b"WhatsApp Image Keys",
    "sticker": b"WhatsApp Image Keys",
    "video": b"WhatsApp Video Keys",
    "audio": b"WhatsApp Audio Keys",
    "document": b"WhatsApp Document Keys",
    "history": b"WhatsApp History Keys",
    "app_state": b"WhatsApp App State Keys",
    "sticker_pack": b"WhatsApp Sticker Pack Keys",
    "link_thumbnail": b"WhatsApp Link Thumbnail Keys",
}

_MAC: t.Final = 10  # bytes


@attrs.frozen
class SealedFile:
    """One file, encrypted."""

    data: bytes = attrs.field(repr=False)  # as it lies on the server
    media_key: bytes = attrs.field(repr=False)
    sha256: bytes
    enc_sha256: bytes
    length: int


def seal(kind: str, plaintext: bytes, media_key: bytes) -> SealedFile:
    """Encrypt a file under a key of 32 bytes."""
    iv, cipher_key, mac_key = _keys(kind, media_key)
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(cipher_key), modes.CBC(iv)).encryptor()
    padded = padder.update(plaintext) + padder.finalize()
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    data = ciphertext + hmac.digest(mac_key, iv + ciphertext, hashlib.sha256)[:_MAC]
    return SealedFile(
        data,
        media_key,
        hashlib.sha256(plaintext).digest(),
        hashlib.sha256(data).digest(),
        len(plaintext),
    )


def unseal(kind: str, data: bytes, media_key: bytes) -> bytes:
    """Decrypt a file.

    Raises:
        ValueError: it was changed, or is for another key or kind.
    """
    iv, cipher_key, mac_key = _keys(kind, media_key)
    ciphertext, mac = data[:-_MAC], data[-_MAC:]
    if not hmac.compare_digest(mac, hmac.digest(mac_key, iv + ciphertext, hashlib.sha256)[:_MAC]):
        raise ValueError("the file's MAC is wrong")
    decryptor = Cipher(algorithms.AES(cipher_key), modes.CBC(iv)).decryptor()
    unpadder = padding.PKCS7(128).unpadder()
    return unpadder.update(decryptor.update(ciphertext) + decryptor.finalize()) + (
        unpadder.finalize()
    )


def _keys(kind: str, media_key: bytes) -> tuple[bytes, bytes, bytes]:
    expand = HKDF(algorithm=hashes.SHA256(), length=112, salt=None, info=INFOS[kind])
    expanded = expand.derive(media_key)
    return expanded[:16], expanded[16:48], expanded[48:80]
