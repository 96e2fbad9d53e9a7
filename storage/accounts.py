"""Whom the embedded database runs as: never root, and only where that user may go."""

import os
import pathlib
import pwd
import typing as t

import attrs

from storage.errors import StorageRejectedError

CANDIDATES: t.Final = ("postgres", "nobody")


@attrs.frozen
class Account:
    """A user of the system."""

    name: str
    uid: int
    gid: int


def current_account() -> Account:
    """The user we are; initdb needs it to have a name.

    Raises:
        StorageRejectedError: the user id has no entry in the system's user list.
    """
    return _by_uid(os.geteuid())


def unprivileged_account() -> Account:
    """The user in whose name root runs the database.

    Raises:
        StorageRejectedError: the system knows none of the candidates.
    """
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise StorageRejectedError(
        "PostgreSQL does not run as root, and there is no user postgres or nobody to run it as"
    )


def owner(path: pathlib.Path) -> Account:
    """The user who owns ``path``."""
    return _by_uid(path.stat().st_uid)


def reachable(path: pathlib.Path, account: Account) -> bool:
    """Whether ``account`` may pass through every directory above ``path``, and enter or run it.

    Judged by mode bits for owner, main group and others.
    """
    path = path.resolve()
    return all(_may_execute(step, account) for step in (path, *path.parents))


def _may_execute(path: pathlib.Path, account: Account) -> bool:
    status = path.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & 0o100)
    if status.st_gid == account.gid:
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)


def _by_uid(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise StorageRejectedError(
            f"user id {uid} has no entry in the system's user list, which PostgreSQL's initdb "
            "needs: add one, or set storage.dsn to a server of your own"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
