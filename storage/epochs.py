"""Whether the keys in a database are as new as what the phones and WhatsApp have seen of them.

Theory of operation. Signal sessions move on with every message. A database that is put back from a
backup, or from a snapshot, has sessions of the past: what they encrypt is thrown away by its
receivers as a repetition, under keys that were used before. Nothing in such a database tells; so
each has an id and an *epoch*, which grows while a daemon uses it, and a file in the data directory
remembers both. A database of the same id whose epoch is smaller than the remembered one is older.

The database goes first: an epoch is committed before the file has it, so a crash between the two
leaves the database ahead, which means nothing. The file never is ahead of the database that wrote
it. Without a file, or with that of another database, nothing can be said, and it is trusted.

An older database marks its connections (``stale_keys``), which stay parked until an operator
accepts it for each. Until the first is accepted, neither epoch nor file moves: the newer database
can be put back as if nothing had been. With the first, that one becomes the older. An older
database in which no phone was linked has no keys to mark; the same happens when one is.
"""

import datetime as dt
import json
import os
import pathlib
import typing as t

import attrs

from storage.crash_points import crash_point

FILE: t.Final = "epoch.json"
_LONGEST: t.Final = 4096  # bytes of the file


class EpochFileError(Exception):
    """The file cannot be read, or written; the text says why."""


@attrs.frozen(kw_only=True)
class Epoch:
    """How far a database has come."""

    database: str  # its id
    epoch: int


@attrs.frozen(kw_only=True)
class BegunEpoch(Epoch):
    """What the database says when a daemon begins to use it."""

    behind: bool  # it is older than what was remembered


@attrs.frozen(kw_only=True)
class StaleKeys:
    """A connection whose keys are older than what was seen of them."""

    connection: str
    found_at: dt.datetime
    accepted: bool  # they are being renewed


class Epochs(t.Protocol):
    """The part of storage that knows how new its keys are."""

    async def begin_epoch(self, remembered: Epoch | None) -> BegunEpoch:
        """A daemon begins to use the database, which is compared with what is remembered; if it
        is found to be older, its connections with keys are marked. Call it before any connection
        runs."""
        ...

    async def advance_epoch(self, remembered: Epoch | None) -> Epoch | None:
        """One step more, to be remembered; None: there are older keys that nobody accepted, or
        the database is older and has no keys yet."""
        ...

    async def stale_keys(self, connection: str | None = None) -> list[StaleKeys]:
        """The connections that are marked."""
        ...

    async def renew_keys(
        self, connection: str, device: bytes, own: t.Sequence[str], reason: str
    ) -> bool:
        """Accept that the keys of a connection are older, in one transaction: its sessions and own
        sender keys (of the Signal addresses ``own``) go, ``device`` is its new record, what waited
        to be sent becomes ``unknown`` for ``reason``. Identity and registration stay. False, and
        nothing changes: it is not marked.

        Nobody may use the keys meanwhile.
        """
        ...

    async def keys_renewed(self, connection: str) -> None:
        """The server has fresh prekeys: take the mark off a connection that was accepted."""
        ...


def read_epoch(directory: pathlib.Path) -> Epoch | None:
    """What the data directory remembers; None: nothing.

    Raises:
        EpochFileError: it cannot be read.
    """
    path = directory / FILE
    try:
        with path.open("rb") as file:
            facts = json.loads(file.read(_LONGEST))
        found = Epoch(database=facts["database"], epoch=facts["epoch"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EpochFileError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise EpochFileError(f"{path} is damaged") from error
    if not isinstance(found.database, str) or "\0" in found.database:
        raise EpochFileError(f"{path} is damaged")
    if type(found.epoch) is not int or not 0 <= found.epoch < 2**62:
        raise EpochFileError(f"{path} is damaged")
    return found


def write_epoch(directory: pathlib.Path, epoch: Epoch) -> None:
    """Remember it, on the disk when this returns; whole, or as before.

    Raises:
        EpochFileError: it cannot be written; what was remembered still is.
    """
    path = directory / FILE
    draft = directory / f".{FILE}.new"
    text = json.dumps({"database": epoch.database, "epoch": epoch.epoch}).encode() + b"\n"
    try:
        draft.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(draft, flags, 0o600), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        crash_point("epoch.synced")
        draft.rename(path)
        crash_point("epoch.renamed")
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise EpochFileError(f"{path} cannot be written: {error.strerror}") from error
