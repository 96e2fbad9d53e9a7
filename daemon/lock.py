"""One daemon per data directory."""

import collections.abc as cabc
import contextlib
import fcntl
import os
from pathlib import Path

from daemon.errors import StartError


class HeldError(StartError):
    """Another daemon, or a command that works on its data, holds the data directory."""


@contextlib.contextmanager
def data_directory(path: Path) -> cabc.Iterator[None]:
    """Make the directory if need be, and hold it for this process alone.

    The system gives the hold up when the process ends, however it ends.

    Raises:
        HeldError: another daemon holds it.
        StartError: it cannot be made or written to.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(
            f"the data directory {path} cannot be used: {error.strerror};"
            " give it to this user, or set another daemon.data_dir"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
            who = f" (process {holder})" if holder else ""
            raise HeldError(
                f"another daemon{who} runs on the data directory {path};"
                " stop it, or set another daemon.data_dir"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
