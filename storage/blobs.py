"""Files of any size under the SHA-256 of their content, on disk or in S3.

A blob is there whole or not at all: it is written to a temporary file first and appears under
its address only by ``commit``, durably. The same content is kept once. Blobs are not encrypted
at rest; the directory is readable by the daemon's user alone.
"""

import collections.abc as cabc
import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import pathlib
import secrets
import typing as t

import attrs
import trio

from storage.crash_points import crash_point
from storage.errors import NoRoomError, StorageError, StorageUnavailableError

PIECE: t.Final = 256 * 1024  # bytes handed to the disk, or out of it, at once
HASH_LENGTH: t.Final = 32

_TEMPORARY: t.Final = "tmp"

T = t.TypeVar("T")


class BlobMissingError(StorageError):
    """There is no such blob."""

    def __init__(self, sha256: bytes) -> None:
        super().__init__(f"there is no blob {sha256.hex()}")
        self.sha256 = sha256


@attrs.frozen
class Blob:
    """What was stored."""

    sha256: bytes  # 32
    size: int  # bytes


class BlobWriter(t.Protocol):
    """A blob being written."""

    @property
    def sha256(self) -> bytes:
        """Of what was written so far."""
        ...

    async def write(self, data: bytes) -> None:
        """Append.

        Raises:
            StorageUnavailableError: no room, or the disk fails; only leaving is possible then.
        """
        ...

    async def commit(self) -> Blob:
        """Make it visible; once this returns it survives a crash. Call it at most once.

        Cancellation leaves open whether the blob is there; it is whole if it is.

        Raises:
            StorageUnavailableError: it could not be stored now.
        """
        ...


class Blobs(t.Protocol):
    """A store of blobs. Every method may raise ``StorageUnavailableError``."""

    async def prepare(self) -> int:
        """Make what is missing, and remove temporary files whose writer has died; how many."""
        ...

    def writing(self) -> contextlib.AbstractAsyncContextManager[BlobWriter]:
        """Write a blob; leaving without ``commit`` leaves no trace."""
        ...

    async def size(self, sha256: bytes) -> int | None:
        """Bytes of a blob; None: it is not there."""
        ...

    async def read(self, sha256: bytes, start: int, length: int) -> bytes:
        """The bytes from ``start``, which lies inside the blob; fewer than ``length`` at its end.

        Raises:
            BlobMissingError: it is not there.
        """
        ...

    async def delete(self, sha256: bytes) -> None:
        """Remove a blob; fine when it is not there."""
        ...

    def path(self, sha256: bytes) -> pathlib.Path | None:
        """Where the blob is (or would be) on the disk; None for stores elsewhere."""
        ...

    async def try_room(self, size: int) -> None:
        """Write so many bytes, and leave no trace.

        Raises:
            NoRoomError: there is no room for them.
        """
        async with self.writing() as writer:
            for written in range(0, size, PIECE):
                await writer.write(bytes(min(PIECE, size - written)))

    async def put(self, chunks: cabc.AsyncIterable[bytes]) -> Blob:
        """Store what the iterator yields; if it raises, nothing is stored."""
        async with self.writing() as writer:
            async for chunk in chunks:
                await writer.write(chunk)
            return await writer.commit()

    def open(
        self, sha256: bytes, start: int = 0, end: int | None = None
    ) -> cabc.AsyncIterator[bytes]:
        """The bytes from ``start`` up to ``end`` (its end when None), in pieces.

        Nothing is held open between the pieces: it may be abandoned at any time. A blob that is
        not there, or not any more, raises ``BlobMissingError`` from the iterator.
        """
        return _Pieces(self, sha256, start, end)


class _Pieces:
    """Reads a blob piece by piece; no generator, so that nobody has to close it."""

    def __init__(self, blobs: Blobs, sha256: bytes, start: int, end: int | None) -> None:
        self._blobs = blobs
        self._sha256 = sha256
        self._next = start
        self._wanted_end = end
        self._end: int | None = None  # once the size is known

    def __aiter__(self) -> t.Self:
        return self

    async def __anext__(self) -> bytes:
        if self._end is None:
            if (size := await self._blobs.size(self._sha256)) is None:
                raise BlobMissingError(self._sha256)
            self._end = size if self._wanted_end is None else min(self._wanted_end, size)
        if self._next >= self._end:
            raise StopAsyncIteration
        length = min(PIECE, self._end - self._next)
        if not (piece := await self._blobs.read(self._sha256, self._next, length)):
            raise BlobMissingError(self._sha256)
        self._next += len(piece)
        return piece


class LocalBlobs(Blobs):
    """Blobs in a directory: ``ab/cd/abcd…``; folders 0700, files 0600."""

    def __init__(self, directory: pathlib.Path) -> None:
        """``directory`` is made by ``prepare``; several processes may share it."""
        self._directory = directory
        self._temporary = directory / _TEMPORARY

    async def prepare(self) -> int:
        """See :meth:`Blobs.prepare`."""
        return await in_thread(functools.partial(make_temporary, self._temporary))

    @contextlib.asynccontextmanager
    async def writing(self) -> cabc.AsyncIterator[BlobWriter]:
        """See :meth:`Blobs.writing`."""
        async with spooling(self._temporary) as spool:
            yield _LocalWriter(spool, self)

    async def size(self, sha256: bytes) -> int | None:
        """See :meth:`Blobs.size`."""
        return await in_thread(functools.partial(_size_of, self.path(sha256)))

    async def read(self, sha256: bytes, start: int, length: int) -> bytes:
        """See :meth:`Blobs.read`."""

        def read() -> bytes | None:
            try:
                with open(path, "rb", buffering=0) as file:
                    return os.pread(file.fileno(), length, start)
            except FileNotFoundError:
                return None

        path = self.path(sha256)
        if (data := await in_thread(read)) is None:
            raise BlobMissingError(sha256)
        return data

    async def delete(self, sha256: bytes) -> None:
        """See :meth:`Blobs.delete`."""
        await in_thread(functools.partial(self.path(sha256).unlink, missing_ok=True))

    def path(self, sha256: bytes) -> pathlib.Path:
        """See :meth:`Blobs.path`."""
        return self._directory / address_of(sha256)

    def publish(self, spool: "Spool") -> None:
        """Move a finished temporary file to its address, durably. Blocks."""
        spool.sync()
        crash_point("media.synced")
        target = self.path(spool.sha256)
        folders = (target.parent.parent, target.parent)
        for folder in folders:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
        if _size_of(target) != spool.size:  # else it is there already, and stays as it is
            spool.path.rename(target)
            crash_point("media.renamed")
        for folder in (*reversed(folders), self._directory):
            _sync_folder(folder)


class _LocalWriter:
    def __init__(self, spool: "Spool", blobs: LocalBlobs) -> None:
        self._spool = spool
        self._blobs = blobs

    @property
    def sha256(self) -> bytes:
        return self._spool.sha256

    async def write(self, data: bytes) -> None:
        await self._spool.write(data)

    async def commit(self) -> Blob:
        await self._spool.flush()
        await in_thread(functools.partial(self._blobs.publish, self._spool))
        return Blob(self._spool.sha256, self._spool.size)


# ---- parts for every store


class Spool:
    """A temporary file that is being written, and the hash of what was written.

    It is locked for as long as its writer lives, so that others can tell what was left behind.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        """Make the file. Blocks."""
        self.path = directory / secrets.token_hex(16)
        self.size = 0
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except OSError:
            self.discard()
            raise
        self._hash = hashlib.sha256()
        self._held: list[bytes] = []
        self._held_size = 0

    @property
    def sha256(self) -> bytes:
        """Of everything written so far."""
        return self._hash.digest()

    async def write(self, data: bytes) -> None:
        """Append; what is small is held back for a moment."""
        self._hash.update(data)
        self.size += len(data)
        self._held.append(data)
        self._held_size += len(data)
        if self._held_size >= PIECE:
            await self.flush()

    async def flush(self) -> None:
        """Hand everything to the system."""
        data, self._held, self._held_size = b"".join(self._held), [], 0
        if data:
            await in_thread(functools.partial(self._write_all, data))

    async def read(self, start: int, length: int) -> bytes:
        """A part of what was flushed."""
        return await in_thread(functools.partial(os.pread, self._file, length, start))

    def sync(self) -> None:
        """Have everything on the disk. Blocks."""
        os.fsync(self._file)

    def discard(self) -> None:
        """Close and forget it, unless it was moved to its address. Blocks."""
        self.path.unlink(missing_ok=True)
        os.close(self._file)

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]


@contextlib.asynccontextmanager
async def spooling(directory: pathlib.Path) -> cabc.AsyncIterator[Spool]:
    """A temporary file that is gone afterwards, unless it was moved."""
    spool = await in_thread(functools.partial(Spool, directory))
    try:
        yield spool
    finally:
        with trio.CancelScope(shield=True):  # two system calls
            await in_thread(spool.discard)


def make_temporary(directory: pathlib.Path) -> int:
    """Make the directory of temporary files, and empty it of those whose writer has died; how
    many those were. Blocks."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return sum(_remove_if_orphaned(path) for path in directory.iterdir() if path.is_file())


def address_of(sha256: bytes) -> str:
    """The relative path of a blob."""
    if len(sha256) != HASH_LENGTH:
        raise ValueError(f"{len(sha256)} bytes are no SHA-256")
    name = sha256.hex()
    return f"{name[:2]}/{name[2:4]}/{name}"


async def in_thread(work: cabc.Callable[[], T]) -> T:
    """Run what blocks for a moment; the system's errors become ours.

    Raises:
        StorageUnavailableError: the system refused; ``NoRoomError``: for want of room.
    """
    try:
        return await trio.to_thread.run_sync(work)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoomError("no room left for files") from error
        reason = error.strerror or str(error)
        raise StorageUnavailableError(f"the files cannot be reached: {reason}") from error


def _remove_if_orphaned(path: pathlib.Path) -> bool:
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        path.unlink(missing_ok=True)
        return True
    finally:
        os.close(file)


def _size_of(path: pathlib.Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _sync_folder(path: pathlib.Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# ---- choosing one


@attrs.frozen(kw_only=True)
class S3Settings:
    """A bucket, at AWS or any server that speaks the same."""

    bucket: str
    prefix: str = ""  # of all keys
    endpoint: str = ""  # URL; empty: AWS
    region: str = ""
    access_key: str = attrs.field(default="", repr=False)
    """Empty: AWS's own environment variables and instance roles."""
    secret_key: str = attrs.field(default="", repr=False)
    ca_file: pathlib.Path | None = None  # more certificates to trust


def open_blobs(directory: pathlib.Path, s3: S3Settings | None = None) -> Blobs:
    """The store that is configured; call ``prepare`` before anything else.

    With a bucket the directory only holds files on their way there.
    """
    if s3 is None:
        return LocalBlobs(directory)
    from storage.blobs_s3 import S3Blobs  # only who uses S3 loads its library

    return S3Blobs(s3, directory)
