"""Who may change what lies at a path: we alone, or others, too, of whom nothing is believed."""

import os
import pathlib
import stat
import typing as t

from storage.errors import StorageRejectedError

OTHERS: t.Final = 0o022  # mode bits by which others than the owner may write
ROOT: t.Final = 0


def is_ours(status: os.stat_result) -> bool:
    """Root's or our own, and nobody else may write it."""
    return status.st_uid in (ROOT, os.geteuid()) and not status.st_mode & OTHERS


def check_own_directory(path: pathlib.Path) -> None:
    """Refuse what is not a directory that we made, and that we alone may write.

    Raises:
        StorageRejectedError: says what it is instead.
    """
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        why = "it is no directory"
    elif status.st_uid != os.geteuid():
        why = f"it belongs to user {status.st_uid}"
    elif status.st_mode & OTHERS:
        why = "others may write it"
    else:
        return
    raise StorageRejectedError(
        f"{path} is not of our making ({why}), and is left alone: look what it is, and take it away"
    )


def check_way(directory: pathlib.Path, *, trusted: int | None = None) -> None:
    """Refuse a directory whose entries, or those on the way to it, others can exchange: whoever
    can gets what is put there.

    ``directory`` is resolved. Sticky directories keep each one's entries from the others. Root,
    who has the most to lose, trusts ``trusted`` besides itself, and no group; everybody else has
    chosen the groups.

    Raises:
        StorageRejectedError: names who can.
    """
    for step in (directory, *directory.parents):
        status = step.stat()
        who = None
        if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            who = "everybody"
        elif os.geteuid() == ROOT:
            who = _besides_root(status, trusted)
        if who is not None:
            raise StorageRejectedError(
                f"{who} may exchange what is in {step}; name a directory where only you may:"
                " --scratch DIRECTORY"
            )


def _besides_root(status: os.stat_result, trusted: int | None) -> str | None:
    if status.st_uid not in (ROOT, trusted):
        return f"user {status.st_uid}"
    shared = status.st_mode & stat.S_IWGRP and not status.st_mode & stat.S_ISVTX
    return f"group {status.st_gid}" if shared and status.st_gid != ROOT else None
