"""Files that appear whole or not at all, and what a full disk is called."""

import collections.abc as cabc
import contextlib
import errno
import hashlib
import os
import pathlib
import typing as t

from storage.errors import NoRoomError, StorageError, StorageUnavailableError
from storage.exports.model import UNFINISHED

PIECE: t.Final = 1024 * 1024  # bytes
_FULL: t.Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Growing:
    """A file that is being written, and the hash of what was."""

    def __init__(self, file: t.IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of what was written so far, hexadecimal."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> int:
        """Append."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """The end flushes."""


@contextlib.contextmanager
def appearing(path: pathlib.Path, shown: pathlib.Path | None = None) -> cabc.Iterator[Growing]:
    """Write a file of mode 0600, which has its name once the body ends well; in its folder a
    ``.part`` of that name is overwritten. The folder itself is not synced. Errors name ``shown``
    instead, if it is given.

    Raises:
        StorageUnavailableError: it cannot be written; ``NoRoomError``: for want of room.
    """
    draft = path.with_name(path.name + UNFINISHED)
    with told(shown or path):
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            with open(descriptor, "wb") as file:
                yield Growing(file)
                file.flush()
                os.fsync(descriptor)
            os.rename(draft, path)
        except Exception:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise


@contextlib.contextmanager
def told(path: pathlib.Path) -> cabc.Iterator[None]:
    """Errors of the system become ours, with the path.

    Raises:
        StorageUnavailableError: see above.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: pathlib.Path, error: OSError) -> StorageError:
    """The error that says so, and what is left."""
    if error.errno in _FULL:
        return NoRoomError(
            f"there is no room for {path}: {error.strerror}; older exports are as they were, and"
            " what is complete of this one is kept: make room, then resume it"
            " (zapvisor export --resume)"
        )
    return StorageUnavailableError(
        f"{path} cannot be written: {error.strerror or type(error).__name__}"
    )


def make_folder(path: pathlib.Path) -> None:
    """Make a directory of mode 0700 and those above it, where they are missing; those are
    synced."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    sync_folder(path.parent)


def sync_folder(path: pathlib.Path) -> None:
    """Put the names in a directory on the disk."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def facts_of(path: pathlib.Path) -> tuple[int, str] | None:
    """Size and SHA-256 of a file; None: there is none."""
    digest, size = hashlib.sha256(), 0
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
                size += len(piece)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return size, digest.hexdigest()
