"""Files as they lie on WhatsApp's servers: their cipher, and where they are fetched and put.

A file is encrypted under keys derived from the media key, followed by a short MAC; what was
never secret (a channel's file, say) lies there as it is. Both directions stream in constant
memory. Source: docs/protocol.md#media
"""

import base64
import collections.abc as cabc
import hashlib
import hmac
import typing as t
import urllib.parse

import attrs
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from whatsapp.e2ee.primitives import BLOCK, hkdf
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.media_source import MediaSource

KEY_LENGTH: t.Final = 32
MAC_LENGTH: t.Final = 10
MAX_PATH: t.Final = 4096  # characters of a path on the servers

WHATSAPP_DOMAIN: t.Final = "whatsapp.net"
ORIGIN_HEADERS: t.Final[cabc.Mapping[str, str]] = {
    "Origin": "https://web.whatsapp.com",
    "Referer": "https://web.whatsapp.com/",
}

_EXPANDED: t.Final = 112


class MediaCorruptError(RemoteProtocolError):
    """A file is not the one that was announced: length, MAC or hash differ. Fetching the same
    bytes again cannot help."""


@attrs.frozen
class MediaForm:
    """What a kind of file selects."""

    info: bytes  # of the key derivation
    mms_type: str  # of downloads
    upload_path: str


_IMAGE: t.Final = MediaForm(b"WhatsApp Image Keys", "image", "/mms/image")
_VIDEO: t.Final = MediaForm(b"WhatsApp Video Keys", "video", "/mms/video")
_AUDIO: t.Final = MediaForm(b"WhatsApp Audio Keys", "audio", "/mms/audio")

FORMS: t.Final[cabc.Mapping[str, MediaForm]] = {
    "image": _IMAGE,
    "sticker": _IMAGE,
    "video": _VIDEO,
    "gif": _VIDEO,
    "video_note": _VIDEO,
    "audio": _AUDIO,
    "voice": _AUDIO,
    "document": MediaForm(b"WhatsApp Document Keys", "document", "/mms/document"),
    "sticker_pack": MediaForm(b"WhatsApp Sticker Pack Keys", "sticker-pack", "/mms/sticker-pack"),
    "history": MediaForm(b"WhatsApp History Keys", "md-msg-hist", "/mms/md-msg-hist"),
    "app_state": MediaForm(b"WhatsApp App State Keys", "md-app-state", "/mms/md-app-state"),
    "link_thumbnail": MediaForm(
        b"WhatsApp Link Thumbnail Keys", "thumbnail-link", "/mms/thumbnail-link"
    ),
}


def form_of(kind: str) -> MediaForm:
    """What ``kind`` selects.

    Raises:
        LocalProtocolError: there is no such kind.
    """
    try:
        return FORMS[kind]
    except KeyError:
        raise LocalProtocolError(f"no media is of kind {kind!r}") from None


@attrs.frozen
class MediaKeys:
    """What a media key expands to."""

    iv: bytes = attrs.field(repr=False)
    cipher: bytes = attrs.field(repr=False)
    mac: bytes = attrs.field(repr=False)


def expand_key(media_key: bytes, kind: str) -> MediaKeys:
    """The keys of one file.

    Raises:
        MediaCorruptError: not a media key.
        LocalProtocolError: there is no such kind.
    """
    if len(media_key) != KEY_LENGTH:
        raise MediaCorruptError(f"a media key of {len(media_key)} bytes")
    expanded = hkdf(media_key, form_of(kind).info, _EXPANDED)
    return MediaKeys(iv=expanded[:16], cipher=expanded[16:48], mac=expanded[48:80])


class _Crypt(t.Protocol):
    def update(self, data: bytes) -> bytes: ...
    def finalize(self) -> bytes: ...


class MediaDecryptor:
    """Reads one file as it comes from the server, in pieces of any size.

    What ``feed`` returns is **not yet verified**: nobody may see it before ``finish`` has
    returned. After an error the object is of no more use.
    """

    def __init__(self, source: MediaSource) -> None:
        """
        Raises:
            MediaCorruptError: the media key is malformed.
            LocalProtocolError: there is no such kind of media.
        """
        self._source = source
        self._file_hash = hashlib.sha256()
        self._plain_hash = hashlib.sha256()
        self._received = 0
        self._length = 0
        self._held = b""  # perhaps the MAC
        self._last = b""  # perhaps the padding
        self._keys: MediaKeys | None = None
        if source.media_key:
            keys = self._keys = expand_key(source.media_key, source.kind)
            self._mac = hmac.new(keys.mac, keys.iv, "sha256")
            self._cipher: _Crypt = Cipher(
                algorithms.AES(keys.cipher), modes.CBC(keys.iv)
            ).decryptor()
        self._most = None if source.length is None else self._size_on_server(source.length)

    @property
    def sha256(self) -> bytes:
        """Of the plaintext; final after ``finish``."""
        return self._plain_hash.digest()

    @property
    def length(self) -> int:
        """Of the plaintext, in bytes; final after ``finish``."""
        return self._length

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; returns the plaintext that it completes, perhaps nothing.

        Raises:
            MediaCorruptError: the file is longer than announced.
        """
        self._received += len(data)
        if self._most is not None and self._received > self._most:
            raise MediaCorruptError(f"more than the announced {self._source.length} bytes")
        self._file_hash.update(data)
        if self._keys is None:
            return self._put_out(data)
        data = self._held + data
        self._held = data[-MAC_LENGTH:]
        data = data[:-MAC_LENGTH]
        self._mac.update(data)
        plain = self._last + self._cipher.update(data)
        self._last = plain[-BLOCK:]
        return self._put_out(plain[:-BLOCK])

    def finish(self) -> bytes:
        """No more comes: check everything, and return the rest of the plaintext.

        Raises:
            MediaCorruptError: the file, and all that was returned of it, is not the one that
                was announced.
        """
        expected = self._source.enc_sha256
        if expected and not hmac.compare_digest(self._file_hash.digest(), expected):
            raise MediaCorruptError(f"the hash of the file of {self._received} bytes differs")
        rest = b"" if self._keys is None else self._put_out(self._unpadded())
        if self._source.sha256 and not hmac.compare_digest(self.sha256, self._source.sha256):
            raise MediaCorruptError(f"the hash of the content of {self._length} bytes differs")
        if self._source.length not in (None, self._length):
            raise MediaCorruptError(f"{self._length} bytes, not {self._source.length}")
        return rest

    def _unpadded(self) -> bytes:
        if self._received < BLOCK + MAC_LENGTH or (self._received - MAC_LENGTH) % BLOCK:
            raise MediaCorruptError(f"{self._received} bytes are no encrypted file")
        if not hmac.compare_digest(self._mac.digest()[:MAC_LENGTH], self._held):
            raise MediaCorruptError("the MAC of the file differs")
        count = self._last[-1]
        if not (1 <= count <= BLOCK and self._last.endswith(bytes([count]) * count)):
            raise MediaCorruptError("malformed padding")
        return self._last[:-count]

    def _put_out(self, plain: bytes) -> bytes:
        self._plain_hash.update(plain)
        self._length += len(plain)
        return plain

    def _size_on_server(self, length: int) -> int:
        return length if self._keys is None else length + BLOCK - length % BLOCK + MAC_LENGTH


class MediaEncryptor:
    """Makes one file for the server from its plaintext, in pieces of any size."""

    def __init__(self, kind: str, media_key: bytes) -> None:
        """``media_key``: 32 secret random bytes, for this file alone; empty: not encrypted.

        Raises:
            LocalProtocolError: there is no such kind of media, or the key is malformed.
        """
        form_of(kind)
        if media_key and len(media_key) != KEY_LENGTH:
            raise LocalProtocolError(f"a media key of {len(media_key)} bytes")
        self.kind = kind
        self._media_key = media_key
        self._file_hash = hashlib.sha256()
        self._plain_hash = hashlib.sha256()
        self.length = 0
        """Bytes of plaintext so far."""
        if media_key:
            keys = expand_key(media_key, kind)
            self._mac = hmac.new(keys.mac, keys.iv, "sha256")
            self._cipher: _Crypt = Cipher(
                algorithms.AES(keys.cipher), modes.CBC(keys.iv)
            ).encryptor()

    def feed(self, data: bytes) -> bytes:
        """Take the next piece of plaintext; returns the part of the file that it completes."""
        self._plain_hash.update(data)
        self.length += len(data)
        if not self._media_key:
            self._file_hash.update(data)
            return data
        return self._put_out(self._cipher.update(data))

    def finish(self) -> bytes:
        """No more comes; returns the end of the file."""
        if not self._media_key:
            return b""
        count = BLOCK - self.length % BLOCK
        rest = self._put_out(self._cipher.update(bytes([count]) * count))
        mac = self._mac.digest()[:MAC_LENGTH]
        self._file_hash.update(mac)
        return rest + mac

    @property
    def sha256(self) -> bytes:
        """Of the plaintext; final after ``finish``."""
        return self._plain_hash.digest()

    @property
    def enc_sha256(self) -> bytes:
        """Of the file for the server; final after ``finish``."""
        return self._file_hash.digest()

    def source(
        self,
        *,
        direct_path: str,
        url: str = "",
        mimetype: str | None = None,
        file_name: str | None = None,
    ) -> MediaSource:
        """How a message describes the file, once ``finish`` was called and it lies there."""
        return MediaSource(
            kind=self.kind,
            media_key=self._media_key,
            direct_path=direct_path,
            url=url,
            sha256=self.sha256,
            enc_sha256=self.enc_sha256 if self._media_key else b"",
            length=self.length,
            mimetype=mimetype,
            file_name=file_name,
        )

    def _put_out(self, ciphertext: bytes) -> bytes:
        self._mac.update(ciphertext)
        self._file_hash.update(ciphertext)
        return ciphertext


def decrypt(source: MediaSource, file: bytes) -> bytes:
    """The plaintext of a small file, verified.

    Raises:
        MediaCorruptError: it is not the file that was announced.
        LocalProtocolError: there is no such kind of media.
    """
    decryptor = MediaDecryptor(source)
    return decryptor.feed(file) + decryptor.finish()


def encrypt(kind: str, media_key: bytes, plaintext: bytes) -> tuple[bytes, MediaEncryptor]:
    """A small file for the server, and what knows its hashes.

    Raises:
        LocalProtocolError: there is no such kind of media, or the key is malformed.
    """
    encryptor = MediaEncryptor(kind, media_key)
    file = encryptor.feed(plaintext) + encryptor.finish()
    return file, encryptor


# ---- addresses


def download_urls(source: MediaSource, hosts: cabc.Iterable[str]) -> tuple[str, ...]:
    """Where the file may be fetched, the best place first.

    The path comes from a stranger, so it is only ever asked of ``hosts`` (``name`` or
    ``name:port``), and, where the message names a host of WhatsApp's own, of that one last.

    Raises:
        RemoteProtocolError: there is no usable path.
    """
    form = form_of(source.kind)
    own = urllib.parse.SplitResult("", "", "", "", "")
    if source.url:
        own = _split(source.url)
    path = source.direct_path or _path_of(own)
    if not _is_path(path):
        raise RemoteProtocolError("the file has no usable path on the server")
    names = list(dict.fromkeys(hosts))
    if _is_whatsapps(own) and own.netloc not in names:
        names.append(own.netloc)
    query = {"mms-type": form.mms_type, "__wa-mms": ""}
    if source.enc_sha256:
        query = {"hash": base64.urlsafe_b64encode(source.enc_sha256).decode(), **query}
    given = urllib.parse.urlsplit(path).query
    known = {key for key, _ in urllib.parse.parse_qsl(given, keep_blank_values=True)}
    added = urllib.parse.urlencode({key: query[key] for key in query if key not in known}, safe="=")
    separator = "" if not added else "&" if "?" in path else "?"
    return tuple(f"https://{host}{path}{separator}{added}" for host in names)


def upload_url(host: str, kind: str, enc_sha256: bytes, auth: str) -> str:
    """Where the file with this hash is put; ``auth`` is that of the media connection.

    Raises:
        LocalProtocolError: there is no such kind of media.
    """
    token = base64.urlsafe_b64encode(enc_sha256).decode()
    query = urllib.parse.urlencode({"auth": auth, "token": token})
    return f"https://{host}{form_of(kind).upload_path}/{token}?{query}"


def _split(url: str) -> urllib.parse.SplitResult:
    try:
        return urllib.parse.urlsplit(url)
    except ValueError as error:
        raise RemoteProtocolError("the file has no usable address") from error


def _path_of(url: urllib.parse.SplitResult) -> str:
    return f"{url.path}?{url.query}" if url.query else url.path


def _is_path(path: str) -> bool:
    """Whether it stays a path behind any host: no second host, fragment, or odd character."""
    plain = path.isascii() and path.isprintable() and not set(path) & set(' #\\"<>')
    return path.startswith("/") and not path.startswith("//") and plain and len(path) <= MAX_PATH


def _is_whatsapps(url: urllib.parse.SplitResult) -> bool:
    named = url.netloc.endswith("." + WHATSAPP_DOMAIN)
    return url.scheme == "https" and named and not set(url.netloc) & set(":@[]")
