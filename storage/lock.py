"""One daemon per data directory: a lock that ends with the process that holds it."""

import contextlib
import fcntl
import os
import pathlib
import typing as t

from storage.errors import StorageLockedError

LOCK_NAME: t.Final = "storage.lock"


class DirectoryLock:
    """An exclusive ``flock`` on a file in ``directory``; nothing stale can be left behind."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._path = directory / LOCK_NAME
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock, at once.

        Raises:
            StorageLockedError: another process has it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            known = f" (process {holder})" if holder.isdigit() else ""
            raise StorageLockedError(
                f"another zapvisor daemon{known} is running on {self._path.parent}"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._file = descriptor

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held."""
        descriptor, self._file = self._file, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> t.Self:
        self.acquire()
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()


@contextlib.contextmanager
def locked(directory: pathlib.Path) -> t.Iterator[None]:
    """Hold ``directory``, which is made when missing.

    Raises:
        StorageLockedError: another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with DirectoryLock(directory):
        yield
