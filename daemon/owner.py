"""Working in the name of the user to whom the data belongs, when root gives the command."""

import collections.abc as cabc
import contextlib
import os
from pathlib import Path


@contextlib.contextmanager
def acting_as_owner(directory: Path) -> cabc.Iterator[None]:
    """Be the owner of a directory, if we are root and it has another owner; root again afterwards.

    So nothing that a command makes there is root's, which the daemon could not use. Programs that
    are started meanwhile are that user's for good.
    """
    status = directory.stat() if directory.exists() else None
    if status is None or os.geteuid() != 0 or status.st_uid == 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([status.st_gid])
    os.setresgid(status.st_gid, status.st_gid, 0)
    os.setresuid(status.st_uid, status.st_uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)
