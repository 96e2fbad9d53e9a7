"""Sealing: AES-256-GCM over the secrets that go to the database, and where its key is from."""

import base64
import binascii
import collections.abc as cabc
import contextlib
import hmac
import os
import pathlib
import secrets
import stat
import typing as t

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import SealError

KEY_LENGTH: t.Final = 32
KEY_VARIABLE: t.Final = "ZAPVISOR_SECRET_KEY"
CREDENTIAL: t.Final = "zapvisor-key"  # as systemd's LoadCredential= names it

_VERSION: t.Final = b"\x01"
_NONCE_LENGTH: t.Final = 12
_TAG_LENGTH: t.Final = 16


@attrs.frozen
class Sealer:
    """Seals values so that they open only as what they were sealed for.

    A sealed value is a version byte, a nonce, and the ciphertext with its tag. Connection, kind
    and key are authenticated with it: a row moved elsewhere in the database does not open.
    """

    key: bytes = attrs.field(repr=False)
    random: cabc.Callable[[int], bytes] = attrs.field(default=secrets.token_bytes, repr=False)
    _cipher: AESGCM = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if len(self.key) != KEY_LENGTH:
            raise SealError(f"the secret key has {len(self.key)} bytes; it must have {KEY_LENGTH}")
        object.__setattr__(self, "_cipher", AESGCM(self.key))

    def seal(self, connection: str, kind: str, key: str, value: bytes) -> bytes:
        """``value`` sealed under a nonce of its own."""
        nonce = self.random(_NONCE_LENGTH)
        return _VERSION + nonce + self._cipher.encrypt(nonce, value, _bound(connection, kind, key))

    def open(self, connection: str, kind: str, key: str, sealed: bytes) -> bytes:
        """The value that was sealed.

        Raises:
            SealError: another key, another place, or bytes that were altered.
        """
        if sealed[:1] != _VERSION or len(sealed) < 1 + _NONCE_LENGTH + _TAG_LENGTH:
            raise SealError(f"the {kind} record of {connection!r} is not sealed as expected")
        nonce, ciphertext = sealed[1 : 1 + _NONCE_LENGTH], sealed[1 + _NONCE_LENGTH :]
        try:
            return self._cipher.decrypt(nonce, ciphertext, _bound(connection, kind, key))
        except InvalidTag:
            raise SealError(
                f"the {kind} record of {connection!r} does not open: sealed under another secret "
                "key, or altered"
            ) from None


def load_or_create_key(path: pathlib.Path, environ: cabc.Mapping[str, str] = os.environ) -> bytes:
    """The secret key: from the environment, systemd's credentials, or the file ``path``.

    The file is made, with mode 0600, when none of them exists.

    Raises:
        SealError: the key is malformed, its file cannot be read or made, or others can read it;
            no file was changed.
    """
    if text := environ.get(KEY_VARIABLE):
        return _parse(text, KEY_VARIABLE)
    if directory := environ.get("CREDENTIALS_DIRECTORY"):
        credential = pathlib.Path(directory, CREDENTIAL)
        with _readable(credential):
            if credential.exists():
                return _parse_bytes(credential.read_bytes(), str(credential))
    with _readable(path):
        try:
            return _read(path)
        except FileNotFoundError:
            pass
    try:
        return _create(path)
    except OSError as error:
        raise SealError(
            f"the secret key cannot be written to {path}: {error.strerror};"
            " make its directory writable for this user, or set storage.key_file"
        ) from error


def find_key(path: pathlib.Path, environ: cabc.Mapping[str, str] = os.environ) -> bytes | None:
    """The key that :func:`load_or_create_key` would load; None: it would make one.

    Raises:
        SealError: as there.
    """
    try:
        if environ.get(KEY_VARIABLE) or key_source(path, environ) != str(path):
            return load_or_create_key(path, environ)
        with _readable(path):
            return _read(path)
    except FileNotFoundError:
        return None


def fingerprint(key: bytes) -> str:
    """What tells one key from another, and nothing of the key itself: 16 hexadecimal digits."""
    return hmac.digest(key, b"zapvisor: the fingerprint of a key", "sha256")[:8].hex()


def key_source(path: pathlib.Path, environ: cabc.Mapping[str, str] = os.environ) -> str:
    """Where :func:`load_or_create_key` takes the key from, for people."""
    if environ.get(KEY_VARIABLE):
        return KEY_VARIABLE
    if directory := environ.get("CREDENTIALS_DIRECTORY"):
        credential = pathlib.Path(directory, CREDENTIAL)
        if credential.exists():
            return str(credential)
    return str(path)


@contextlib.contextmanager
def _readable(path: pathlib.Path) -> cabc.Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SealError(
            f"the secret key in {path} cannot be read: {error.strerror};"
            " give the file to this user (chown, and chmod 600), or set storage.key_file"
        ) from error


def _read(path: pathlib.Path) -> bytes:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise SealError(
                f"{path} has mode {mode:04o}: others may read the secret key. "
                f"If nobody has, say: chmod 600 {path}"
            )
        return _parse_bytes(file.read(1024), str(path))


def _create(path: pathlib.Path) -> bytes:
    """Write a new key and link it into place: whole, or not at all; the first one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    key = secrets.token_bytes(KEY_LENGTH)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(key.hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return _read(path)
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return key


def _parse_bytes(data: bytes, source: str) -> bytes:
    if len(data) == KEY_LENGTH:
        return data
    return _parse(data.decode("ascii", "replace"), source)


def _parse(text: str, source: str) -> bytes:
    text = text.strip()
    for decode in (bytes.fromhex, lambda value: base64.b64decode(value, validate=True)):
        try:
            key = decode(text)
        except (ValueError, binascii.Error):
            continue
        if len(key) == KEY_LENGTH:
            return key
    raise SealError(
        f"{source} does not hold a secret key of 32 bytes in hex or base64; put it back from your"
        " copy (without the right key every connection has to be paired again)"
    )


def _bound(connection: str, kind: str, key: str) -> bytes:
    """The authenticated place of a value; connection names hold no bar, kinds neither."""
    return f"{connection}|{kind}|{key}".encode()
