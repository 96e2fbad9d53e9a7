"""The control socket's place in the file system."""

import collections.abc as cabc
import contextlib
import errno
import grp
import os
import socket
import stat
import typing as t
from pathlib import Path

from api.errors import ControlSocketError

MODE: t.Final = 0o660
BACKLOG: t.Final = 64
_FRESH: t.Final = ".new"
MAX_PATH: t.Final = 107 - len(_FRESH)  # bytes; what sockaddr_un holds
_PROBE_TIMEOUT: t.Final = 2.0  # seconds


@contextlib.contextmanager
def control_socket(path: Path, mode: int = MODE, group: str = "") -> cabc.Iterator[socket.socket]:
    """A listening unix socket that appears at ``path`` complete: with its mode, and answering.

    ``group``: whom it belongs to besides its user; empty: that user's own group.

    What a dead daemon left behind is replaced. Leaving the context removes the socket file,
    unless somebody else's has taken the place.

    Raises:
        ControlSocketError: the path is too long, taken by a daemon that answers or by something
            that is no socket, or not writable; or the group is unknown, or not ours to give.
    """
    group_id = _group_id(group) if group else None
    length = len(os.fsencode(path))
    if length > MAX_PATH:
        raise ControlSocketError(
            f"the path of the control socket is {length} bytes long and the system allows"
            f" {MAX_PATH}: {path}; set a shorter one in the configuration"
        )
    _check_free(path)
    fresh = path.with_name(path.name + _FRESH)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.closing(listener):
        try:
            fresh.unlink(missing_ok=True)
            listener.bind(os.fspath(fresh))
            if group_id is not None:
                _give(fresh, group_id, group)
            fresh.chmod(mode)
            listener.listen(BACKLOG)
            inode = fresh.stat().st_ino
            fresh.rename(path)
        except OSError as error:
            raise ControlSocketError(
                f"the control socket cannot be made at {path}: {error.strerror};"
                " check that the directory exists and may be written to"
            ) from error
        listener.setblocking(False)
        try:
            yield listener
        finally:
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == inode:
                    path.unlink()


def _group_id(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise ControlSocketError(
            f"this system has no group {group!r}; correct control.group, or make it with:"
            f" groupadd {group}"
        ) from error


def _give(path: Path, group_id: int, group: str) -> None:
    try:
        os.chown(path, -1, group_id)
    except PermissionError as error:
        path.unlink()
        raise ControlSocketError(
            f"the control socket cannot be given to the group {group}, for this user is no member"
            " of it; add the user to the group, or correct control.group"
        ) from error


def _check_free(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing is there, or making the socket fails with the better message
    if not stat.S_ISSOCK(mode):
        raise ControlSocketError(
            f"{path} is no socket; move it away, or set another path for the control socket"
        )
    if is_answered(path):
        raise ControlSocketError(f"a daemon answers at {path} already; zapvisor status asks it")


def is_answered(path: Path) -> bool:
    """Whether somebody listens at ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT)
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            # A full backlog and a refusal for lack of rights both mean that somebody is there.
            return isinstance(error, TimeoutError) or error.errno in (
                errno.EAGAIN,
                errno.EACCES,
                errno.EPERM,
            )
        return True
