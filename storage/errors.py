"""What storage can fail with."""


class StorageError(Exception):
    """Base of the storage errors."""


class StorageUnavailableError(StorageError):
    """The database cannot be reached or is not ready: the same call may succeed later."""


class StorageRejectedError(StorageError):
    """The database refused the data or the statement: the same call fails again."""


class StorageLockedError(StorageError):
    """Another daemon holds the data directory."""


class SealError(StorageError):
    """A sealed record does not open: wrong key, or the row was altered."""
