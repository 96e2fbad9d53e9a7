"""The layers of a part: bytes, then perhaps zstd, then perhaps age; and back."""

import collections.abc as cabc
import contextlib
import io
import pathlib
import typing as t

import pyrage
import zstandard

from storage.errors import StorageRejectedError

LEVEL: t.Final = 6  # of zstd: where more time saves little
COMPRESSED: t.Final = ".zst"
ENCRYPTED: t.Final = ".age"
PIECE: t.Final = 256 * 1024  # bytes
_HEADER: t.Final = b"age-encryption.org/v1\n"

Recipients: t.TypeAlias = cabc.Sequence[t.Any]


class WrongKeyError(StorageRejectedError):
    """No identity that was given opens a part."""


def parse_recipients(texts: cabc.Iterable[str]) -> Recipients:
    """Keys to encrypt to: ``age1…``, or public keys of ssh.

    Raises:
        StorageRejectedError: one is none; secret keys are not repeated.
    """
    return [_recipient(text.strip()) for text in texts]


def _recipient(text: str) -> t.Any:
    if text.upper().startswith("AGE-SECRET-KEY") or "PRIVATE KEY" in text:
        raise StorageRejectedError(
            "that is a secret key, not a recipient: anybody who has seen it can read the exports;"
            " the recipient is its public part, which age-keygen -y prints (age1…)"
        )
    try:
        if text.startswith("ssh-"):
            return pyrage.ssh.Recipient.from_str(text)
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise StorageRejectedError(
            f'"{text[:20]}" is no recipient: age1… (from age-keygen), or a public key of ssh'
            ' ("ssh-ed25519 …" or "ssh-rsa …")'
        ) from error


def read_identities(path: pathlib.Path) -> list[t.Any]:
    """The secret keys in a file: lines of age-keygen, or one private key of ssh.

    Raises:
        StorageRejectedError: it cannot be read, or holds none.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageRejectedError(f"{path} cannot be read: {error.strerror}") from error
    try:
        if b"PRIVATE KEY" in content:
            return [pyrage.ssh.Identity.from_buffer(content)]
        lines = (line.strip() for line in content.decode().splitlines())
        found = [
            pyrage.x25519.Identity.from_str(line)
            for line in lines
            if line and not line.startswith("#")
        ]
    except (pyrage.IdentityError, ValueError) as error:
        raise StorageRejectedError(
            f"{path} holds no secret key that is known: a file of age-keygen, or a private key of"
            " ssh without a passphrase"
        ) from error
    if not found:
        raise StorageRejectedError(f"{path} holds no secret key")
    return found


class Packer:
    """Collects the bytes of a part in memory; :meth:`finish` gives what the file holds."""

    def __init__(self, *, compress: bool, recipients: Recipients) -> None:
        self.size = 0  # bytes that went in
        self._recipients = recipients
        self._kept = io.BytesIO()
        self._compressor: t.Any = None
        if compress:
            self._compressor = zstandard.ZstdCompressor(level=LEVEL).compressobj()

    def write(self, data: bytes) -> None:
        """Append."""
        self.size += len(data)
        self._kept.write(data if self._compressor is None else self._compressor.compress(data))

    def finish(self) -> bytes:
        """The whole part; the packer is of no use after that."""
        if self._compressor is not None:
            self._kept.write(self._compressor.flush())
        content = self._kept.getvalue()
        if not self._recipients:
            return content
        sealed: bytes = pyrage.encrypt(content, self._recipients)
        return sealed


class Stream(t.Protocol):
    """What bytes are read from."""

    def read(self, size: int = ..., /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


def encrypt_stream(source: Stream, target: t.IO[bytes], recipients: Recipients) -> None:
    """Encrypt all that the source has, piece by piece.

    Raises:
        Exception: what reading or writing raised, as it was.
    """
    watched = _Watched(source, target)
    with watched.errors():
        pyrage.encrypt_io(watched, watched, recipients)


class _Watched:
    """Remembers what failed, which the library turns into text."""

    def __init__(self, source: Stream, target: t.IO[bytes]) -> None:
        self._source = source
        self._target = target
        self._error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self._source.read(size)
        except BaseException as error:
            self._error = error
            raise

    def write(self, data: bytes) -> int:
        try:
            return self._target.write(data)
        except BaseException as error:
            self._error = error
            raise

    def flush(self) -> None:
        """The file is flushed by whoever has opened it."""

    @contextlib.contextmanager
    def errors(self) -> cabc.Iterator[None]:
        try:
            yield
        except BaseException as error:
            if self._error is not None:
                raise self._error from error
            raise


@contextlib.contextmanager
def unpacked(
    name: str, sealed: t.IO[bytes], identities: cabc.Sequence[t.Any], spool: t.IO[bytes]
) -> cabc.Iterator[t.IO[bytes]]:
    """The bytes of a part, a page or a file, by the endings of its name, out of ``sealed``.

    ``spool`` is an empty file of one's own: what was encrypted is decrypted into it first, so
    nothing of it is used before its last byte has proved to be whole.

    Raises:
        WrongKeyError: none of the identities opens it.
        StorageRejectedError: it is damaged.
    """
    source = sealed
    if name.endswith(ENCRYPTED):
        name = name.removesuffix(ENCRYPTED)
        _decrypt(name, sealed, identities, spool)
        spool.seek(0)
        source = spool
    if not name.endswith(COMPRESSED):
        yield source
        return
    reader = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)
    try:
        yield t.cast("t.IO[bytes]", reader)
    except zstandard.ZstdError as error:
        raise StorageRejectedError(f"{name} is damaged: {error}") from error


def _decrypt(
    name: str, sealed: t.IO[bytes], identities: cabc.Sequence[t.Any], spool: t.IO[bytes]
) -> None:
    if not identities:
        raise WrongKeyError(f"{name} is encrypted; give the file with your secret key: --identity")
    watched = _Watched(sealed, spool)
    try:
        with watched.errors():
            pyrage.decrypt_io(watched, watched, identities)
    except pyrage.DecryptError as error:
        if "No matching keys" in str(error):
            raise WrongKeyError(
                f"{name} was encrypted to other keys than the one that you gave"
            ) from error
        raise StorageRejectedError(f"{name} is damaged: {error}") from error
    except OSError as error:
        if error.errno is None:  # the library's own, of a cipher text that was cut or changed
            raise StorageRejectedError(f"{name} is damaged: {error}") from error
        raise


def is_encrypted(beginning: bytes) -> bool:
    """Whether a file begins as age's do."""
    return beginning.startswith(_HEADER)
