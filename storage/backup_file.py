"""The file of a backup: an archive of pg_dump, with a manifest behind it.

So it is one file, which cannot be parted from what describes it, and ``pg_restore`` reads it, too.
It appears under its name whole or not at all; while it is written it is a hidden file beside it,
which a later backup to the same name takes away if its writer was killed.
"""

import collections.abc as cabc
import contextlib
import datetime as dt
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import re
import secrets
import typing as t

import attrs

from storage.errors import NoRoomError, StorageError, StorageRejectedError, StorageUnavailableError

FORMAT: t.Final = 2

_MARK: t.Final = b"ZVBACKUP"  # the end of the file; before it, the length of the manifest
_LENGTH: t.Final = 8  # bytes
_LONGEST: t.Final = 1024 * 1024  # bytes of a manifest
_PIECE: t.Final = 1024 * 1024
_FULL: t.Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@attrs.frozen(kw_only=True)
class Manifest:
    """What a backup holds. No secret is in it: not the key, not the address of the database."""

    version: str  # of zapvisor
    created_at: str  # ISO 8601, UTC
    schema: int  # the newest migration
    server: str  # PostgreSQL's version
    program: int  # pg_dump's major version
    rows: dict[str, int]  # of every table
    key: str | None  # fingerprint of the key that the credentials are sealed with, if known
    archive_bytes: int = 0
    sha256: str = ""  # of the archive, in hexadecimal digits
    format: int = FORMAT
    # Since format 2:
    digests: dict[str, str] = attrs.field(factory=dict)  # of every table: see storage.digests
    database_bytes: int = 0  # that it takes, once restored, about
    database: str | None = None  # its id: see storage.epochs
    epoch: int = 0
    keys_at: str | None = None  # when the newest of its keys was written; ISO 8601
    live: bool = True
    """A daemon was using it, or was killed while it did: its keys have moved on since."""

    @property
    def messages(self) -> int:
        """How many, placeholders included."""
        return self.rows.get("messages", 0)


class Draft:
    """A file that is being written; ``with Draft(path) as draft``, then :meth:`publish`."""

    def __init__(self, target: pathlib.Path) -> None:
        self.target = target
        self._path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        self.file: t.IO[bytes]

    def __enter__(self) -> t.Self:
        """Raises:
        StorageRejectedError: there is a file of that name, or it cannot be written there.
        """
        if self.target.exists() or self.target.is_symlink():
            raise StorageRejectedError(f"{self.target} exists already; nothing was overwritten")
        try:
            self._clear_away()
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            self.file = open(os.open(self._path, flags, 0o600), "w+b")
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX)
            except BaseException:
                self.__exit__()
                raise
        except OSError as error:
            raise cannot_write(self.target, error) from error
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(OSError):  # what a full disk did not take is of no use any more
            self.file.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def publish(self, manifest: Manifest) -> Manifest:
        """Put the manifest behind what was written, and give the file its name, for good.

        Returns the manifest with size and checksum. Takes as long as reading the file does.

        Raises:
            StorageRejectedError: there is a file of that name by now.
            StorageUnavailableError: it cannot be written.
        """
        try:
            size = self.file.seek(0, os.SEEK_END)
            manifest = attrs.evolve(manifest, archive_bytes=size, sha256=_digest(self.file, size))
            text = json.dumps(attrs.asdict(manifest), sort_keys=True).encode()
            self.file.seek(size)
            self.file.write(text + len(text).to_bytes(_LENGTH, "big") + _MARK)
            self.file.flush()
            os.fsync(self.file.fileno())
            self._name()
            _sync_directory(self.target.parent)
        except OSError as error:
            raise cannot_write(self.target, error) from error
        return manifest

    def _name(self) -> None:
        try:
            os.link(self._path, self.target)  # which never overwrites
        except FileExistsError:
            raise StorageRejectedError(
                f"{self.target} exists by now; nothing was overwritten"
            ) from None
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            self._path.rename(self.target)  # a file system without hard links

    def _clear_away(self) -> None:
        """Remove what killed backups to this name have left."""
        for path in self.target.parent.glob(f".{_literal(self.target.name)}.????????.part"):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its writer is gone
                    path.unlink()
                finally:
                    os.close(descriptor)


def read_manifest(path: pathlib.Path) -> Manifest:
    """What a backup says of itself; nothing of the archive is checked.

    Raises:
        StorageRejectedError: it is no backup, cut off, or from a later version.
    """
    with _opened(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LENGTH - len(_MARK)))
        tail = file.read()
        length = int.from_bytes(tail[:_LENGTH], "big")
        begin = size - len(tail) - length
        if tail[_LENGTH:] != _MARK or length > _LONGEST or begin < 0:
            raise StorageRejectedError(
                f"{path} is no backup of zapvisor, or its end is missing: a copy was cut off"
            )
        file.seek(begin)
        text = file.read(length)
    try:
        facts = json.loads(text)
        if facts["format"] > FORMAT:
            raise StorageRejectedError(
                f"{path} was made by zapvisor {facts['version']}, whose backups this version"
                " cannot read"
            )
        manifest = Manifest(**facts)
        good = all(_is_count(name, rows) for name, rows in manifest.rows.items())
        good = good and all(map(_is_digest, manifest.digests.values()))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StorageRejectedError(f"the manifest of {path} is damaged") from error
    if not good or manifest.archive_bytes != begin:
        raise StorageRejectedError(f"the manifest of {path} does not belong to it")
    return manifest


def _is_count(table: str, rows: object) -> bool:
    """Whether a table can be called so, and have so many rows."""
    return bool(table.encode()) and "\0" not in table and type(rows) is int and rows >= 0


def _is_digest(digest: object) -> bool:
    return isinstance(digest, str) and digest.removeprefix("-").isdecimal()


def verify(path: pathlib.Path, manifest: Manifest) -> None:
    """Read the whole archive, and compare its checksum.

    Raises:
        StorageRejectedError: it is not what was written.
    """
    with _opened(path) as file:
        if _digest(file, manifest.archive_bytes) != manifest.sha256:
            raise StorageRejectedError(
                f"{path} is damaged: its checksum is not the one it was written with"
            )


def created_now(now: dt.datetime) -> str:
    """A moment, as the manifest has it."""
    return now.astimezone(dt.UTC).isoformat(timespec="seconds")


def cannot_write(path: pathlib.Path, error: OSError) -> StorageError:
    """The error that says so."""
    if error.errno in _FULL:
        return NoRoomError(f"there is no room for {path}: {error.strerror}; nothing was kept")
    return StorageUnavailableError(f"{path} cannot be written: {error.strerror}")


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> cabc.Iterator[t.IO[bytes]]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise StorageRejectedError(f"{path} cannot be read: {error.strerror}") from error


def _digest(file: t.IO[bytes], size: int) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0 and (piece := file.read(min(_PIECE, size))):
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()


def _literal(name: str) -> str:
    """A name as a pattern for itself."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _sync_directory(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
