"""Proves a backup: restores it into a cluster of its own, and compares what is there then.

Its SQL runs there without any power: whoever may have written the file could run nothing else.
The cluster lies in a directory of a fixed name, so that one that a killed run has left is found
and taken away by the next; it is deleted whatever happens otherwise.
"""

import collections.abc as cabc
import contextlib
import os
import pathlib
import shutil
import time
import typing as t

import attrs
import trio

from storage.backup import SCHEMA, put_back
from storage.backup_file import Manifest
from storage.digests import Difference, differences, digest_tables
from storage.embedded import EmbeddedPostgres
from storage.errors import (
    NoRoomError,
    SealError,
    StorageLockedError,
    StorageRejectedError,
    StorageUnavailableError,
)
from storage.maintenance import Maintenance, open_maintenance
from storage.seal import Sealer, fingerprint
from storage.trust import check_own_directory, check_way

NAME: t.Final = "verify-scratch"
ROLE: t.Final = "zapvisor_verify"  # as whom a backup is put into the scratch cluster
BASE: t.Final = 128 * 1024**2  # bytes of a cluster with nothing in it, and to spare
LOG: t.Final = 1024**3  # bytes that the server's log of changes takes at most, about
CLEARING: t.Final = 60.0  # seconds for what is left to end and go
OLD_RATIO: t.Final = 8  # how much larger a database is than its archive, where that is not said


@attrs.frozen(kw_only=True)
class Credentials:
    """Whether the keys in a backup open."""

    devices: int  # connections with keys
    failed: tuple[str, ...] = ()  # those whose keys do not open
    unknown_because: str | None = None
    """Why that could not be tried; None: it was."""


@attrs.frozen(kw_only=True)
class Verdict:
    """What came of a test."""

    tables: int
    rows: int
    differences: tuple[Difference, ...]
    compared_content: bool  # or, of a backup of an older version, the counts alone
    credentials: Credentials
    seconds: float

    @property
    def intact(self) -> bool:
        """Everything is as it was, as far as that could be told."""
        return not self.differences and not self.credentials.failed


def room_needed(manifest: Manifest) -> int:
    """Bytes that a test takes on the disk, about."""
    return room_for(manifest.database_bytes or manifest.archive_bytes * OLD_RATIO)


def room_for(size: int) -> int:
    """The same of a database that takes so many bytes."""
    return BASE + size + size // 10 + min(size, LOG)


def check_room(directory: pathlib.Path, needed: int) -> None:
    """Raises:
    NoRoomError: there is not enough; says where, and what else can be done.
    """
    place = directory
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise NoRoomError(
            f"the test needs about {needed / 1024**2:,.0f} MiB on the disk of {place}, and"
            f" {free / 1024**2:,.0f} MiB are free; name another place: --scratch DIRECTORY"
        )


async def verify_backup(
    archive: t.IO[bytes], manifest: Manifest, directory: pathlib.Path, key: bytes | str
) -> Verdict:
    """Restore a backup below ``directory``, and compare it with its manifest. ``key``: that of
    here, or why there is none.

    Raises:
        StorageRejectedError: the programs here cannot do it; the backup cannot be restored; or
            others could change the directory.
        StorageLockedError: another test is under way there.
        StorageUnavailableError: no room; or the cluster fails.
    """
    began = time.monotonic()
    directory = await trio.to_thread.run_sync(_place, directory)
    scratch = directory / NAME
    try:
        await _clear(scratch)
    except StorageLockedError as error:
        raise StorageLockedError(f"another test is under way in {scratch}: {error}") from error
    try:
        check_room(directory, room_needed(manifest))
        async with (
            _cluster(scratch, manifest) as server,
            _powerless(server) as session,
        ):
            await _restore(session, archive, manifest)
            async with session.frozen():
                found = await digest_tables(session)
                credentials = await _credentials(session, manifest, key)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLEARING):
            await _clear(scratch)
            await trio.to_thread.run_sync(shutil.rmtree, scratch)
    return Verdict(
        tables=len(found),
        rows=sum(each.rows for each in found.values()),
        differences=tuple(differences(manifest.rows, manifest.digests, found)),
        compared_content=bool(manifest.digests),
        credentials=credentials,
        seconds=time.monotonic() - began,
    )


@contextlib.asynccontextmanager
async def _cluster(
    scratch: pathlib.Path, manifest: Manifest
) -> cabc.AsyncIterator[EmbeddedPostgres]:
    """A new one that can read the backup."""
    server = EmbeddedPostgres(scratch, temporary=True, durable=False, at_least=manifest.program)
    try:
        await server.start()
    except StorageRejectedError as error:
        raise StorageRejectedError(
            f"the backup was written by pg_dump {manifest.program}, and cannot be tested here:"
            f" {error}"
        ) from error
    try:
        yield server
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def _powerless(server: EmbeddedPostgres) -> cabc.AsyncIterator[Maintenance]:
    """A session as a role that may do nothing but fill this database: a backup is SQL, and as the
    superuser it could run programs. What it leaves there, such as views, works for whoever
    reads the tables, so nobody else is to."""
    async with open_maintenance(server.dsn) as session:
        await session.run(f"CREATE ROLE {ROLE} LOGIN")
        await session.run(f"GRANT CREATE ON SCHEMA {SCHEMA} TO {ROLE}")
    async with open_maintenance(server.dsn_of(ROLE)) as session:
        yield session


async def _clear(scratch: pathlib.Path) -> None:
    """An empty directory: what a test that was killed, or has ended, has left is taken away.

    Raises:
        StorageRejectedError: somebody else made what is there.
    """
    mode = 0o700 if os.geteuid() else 0o711  # for the user of the database to pass through
    try:
        await trio.Path(scratch).mkdir(mode=mode)
    except FileExistsError:
        check_own_directory(scratch)
        await EmbeddedPostgres(scratch, temporary=True).discard()


def _place(directory: pathlib.Path) -> pathlib.Path:
    """Where a test may work, without a link on the way that could come to lead elsewhere."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory = directory.resolve(strict=True)
    except OSError as error:
        raise StorageRejectedError(f"cannot test in {directory}: {error.strerror}") from error
    check_way(directory)
    return directory


async def _restore(session: Maintenance, archive: t.IO[bytes], manifest: Manifest) -> None:
    try:
        await put_back(session, archive, attrs.evolve(manifest, rows={}))  # those are compared
    except StorageUnavailableError as error:
        text = str(error).removeprefix("nothing was changed: ")
        if "No space left" in text:
            raise NoRoomError(f"the disk ran full during the test: {text}") from error
        raise StorageRejectedError(f"the backup cannot be restored: {text}") from error


async def _credentials(session: Maintenance, manifest: Manifest, key: bytes | str) -> Credentials:
    rows = await session.fetch("sealed_devices")
    if isinstance(key, str):
        return Credentials(devices=len(rows), unknown_because=key)
    if manifest.key is not None and fingerprint(key) != manifest.key:
        because = f"they belong to the key {manifest.key}, and the one here is {fingerprint(key)}"
        return Credentials(devices=len(rows), unknown_because=because)
    sealer, failed = Sealer(key), []
    for row in rows:
        try:
            sealer.open(row["name"], "device", "", row["sealed"])
        except SealError:
            failed.append(row["name"])
    return Credentials(devices=len(rows), failed=tuple(failed))
