"""What storage can fail with."""

import collections.abc as cabc
import contextlib


class StorageError(Exception):
    """Base of the storage errors."""


class StorageUnavailableError(StorageError):
    """The database cannot be reached or is not ready: the same call may succeed later."""

    def __init__(self, text: str, *, state: str = "") -> None:
        super().__init__(text)
        self.state = state
        """The SQLSTATE, if the server itself answered."""


class StorageBrokenError(StorageUnavailableError):
    """It stays unavailable until an operator acts: a table is missing, say. The text tells."""


class NoRoomError(StorageUnavailableError):
    """The disk, or the quota of its user, is full."""


class StorageRejectedError(StorageError):
    """The database refused the data or the statement: the same call fails again."""


class StorageLockedError(StorageError):
    """Another daemon holds the data directory, or the database."""


class SealError(StorageError):
    """A sealed record does not open: wrong key, or the row was altered."""


@contextlib.contextmanager
def sole_error() -> cabc.Iterator[None]:
    """An error that comes out of nurseries all alone comes out as itself, without its groups."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is group:
            raise
        raise error from error.__cause__


class CursorGoneError(StorageError):
    """Events behind a cursor were deleted for their age, or it belongs to another database."""

    def __init__(self, cursor: int, oldest: int, newest: int) -> None:
        if cursor < oldest:
            what = f"events behind {cursor} were deleted for their age"
        else:
            what = f"there is no event {cursor} yet: that cursor is of another database"
        super().__init__(f"{what}; the cursors from {oldest} to {newest} can be used")
        self.cursor = cursor
        self.oldest = oldest
        self.newest = newest
