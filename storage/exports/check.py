"""Reading an export that is complete: its manifest, its checksums, its parts."""

import collections.abc as cabc
import contextlib
import hashlib
import pathlib
import re
import shutil
import tempfile
import typing as t

import attrs

from storage.errors import StorageRejectedError
from storage.exports.files import facts_of, told
from storage.exports.model import (
    LONGEST,
    MANIFEST,
    SUMS,
    UNFINISHED,
    FileFacts,
    Manifest,
    safe_name,
)
from storage.exports.sealing import unpacked

SHOWN: t.Final = 20  # damaged files that an error lists
_SUM: t.Final = re.compile(r"([0-9a-f]{64})  ([^\n]+)\n")


@attrs.frozen(kw_only=True)
class Export:
    """One that was opened; nothing of its parts is read yet."""

    path: pathlib.Path
    manifest: Manifest


@attrs.frozen(kw_only=True)
class Verification:
    """What verifying found."""

    files: int = 0
    size: int = 0  # bytes
    damaged: tuple[str, ...] = ()  # the first of them
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()  # there, and not in the list: not of this export
    bad: int = 0  # damaged and missing ones, all

    @property
    def good(self) -> bool:
        """Whether all is as it was written."""
        return self.bad == 0


def open_export(path: pathlib.Path) -> Export:
    """An export in a directory.

    Raises:
        StorageRejectedError: it is none, not complete, or of a later version; its manifest or
            list of checksums is damaged.
    """
    if path.name.endswith(UNFINISHED):
        raise StorageRejectedError(
            f"{path} is an export that was not finished; resume it: zapvisor export --resume"
        )
    manifest = Manifest.from_text(_small(path / MANIFEST, path), path / MANIFEST)
    found = facts_of(path / SUMS)
    if found is None or found[1] != manifest.sums_sha256:
        raise StorageRejectedError(
            f"{path / SUMS} is not the one that belongs to the manifest; the export is damaged:"
            " use another copy"
        )
    return Export(path=path, manifest=manifest)


def verify(
    export: Export, told_of: cabc.Callable[[str], None] = lambda _name: None
) -> Verification:
    """Read every file of an export and compare its checksum; ``told_of`` hears of each before it
    is read. No key is needed.

    Raises:
        StorageRejectedError: the list of checksums cannot be read.
    """
    files = size = bad = 0
    damaged: list[str] = []
    missing: list[str] = []
    known: set[bytes] = set()  # hashes of names: there may be millions
    for name, sha256 in sums(export):
        told_of(name)
        known.add(_short(name))
        with told(export.path / name):
            found = facts_of(export.path / name)
        files += 1
        if found is None or found[1] != sha256:
            bad += 1
            bucket = missing if found is None else damaged
            if len(bucket) < SHOWN:
                bucket.append(name)
        size += 0 if found is None else found[0]
    extra = _extra(export.path, known)
    return Verification(
        files=files,
        size=size,
        damaged=tuple(damaged),
        missing=tuple(missing),
        extra=tuple(extra),
        bad=bad,
    )


def sums(export: Export) -> cabc.Iterator[tuple[str, str]]:
    """Name and SHA-256 of each file.

    Raises:
        StorageRejectedError: a line is none.
    """
    path = export.path / SUMS
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            match = _SUM.fullmatch(line)
            try:
                if match is None:
                    raise ValueError("no checksum and name")
                yield safe_name(match[2]), match[1]
            except ValueError as error:
                raise StorageRejectedError(f"{path}, line {number}: {error}") from error


@contextlib.contextmanager
def open_part(
    export: Export, part: FileFacts, identities: cabc.Sequence[t.Any] = ()
) -> cabc.Iterator[t.IO[bytes]]:
    """The bytes of a part of the stream, decrypted and decompressed, once its checksum has proved
    to be right. Needs room for a part in the directory for temporary files if it is encrypted.

    Raises:
        WrongKeyError: none of the identities opens it.
        StorageRejectedError: it is missing or damaged.
    """
    path = export.path / part.name
    found = facts_of(path)
    if found is None:
        raise StorageRejectedError(f"{path} is missing; use another copy of the export")
    if found != (part.size, part.sha256):
        raise StorageRejectedError(
            f"{path} is damaged: its checksum is not the one in the manifest; nothing of it was"
            " read"
        )
    with open_file(path, identities) as file:
        yield file


@contextlib.contextmanager
def open_file(
    path: pathlib.Path, identities: cabc.Sequence[t.Any] = ()
) -> cabc.Iterator[t.IO[bytes]]:
    """The bytes of any file, decrypted and decompressed by the endings of its name.

    Raises:
        WrongKeyError: none of the identities opens it.
        StorageRejectedError: it cannot be read.
    """
    try:
        sealed = path.open("rb")
    except OSError as error:
        raise StorageRejectedError(f"{path} cannot be read: {error.strerror}") from error
    with (
        sealed,
        tempfile.TemporaryFile() as spool,
        unpacked(str(path), sealed, identities, t.cast("t.IO[bytes]", spool)) as file,
    ):
        yield file


def remove(path: pathlib.Path, name: str) -> None:
    """Delete a complete export; ``name`` must be the one in its manifest. The manifest goes first,
    so what is left of it after a crash is no export.

    Raises:
        StorageRejectedError: it is not that export; nothing was deleted.
        StorageUnavailableError: it cannot be deleted.
    """
    manifest = Manifest.from_text(_small(path / MANIFEST, path), path / MANIFEST)
    if manifest.start.name != name:
        raise StorageRejectedError(
            f"{path} holds the export {manifest.start.name}, not {name}; it was not deleted"
        )
    with told(path):
        (path / MANIFEST).unlink()
        shutil.rmtree(path)


def _small(path: pathlib.Path, export: pathlib.Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST + 1)
    except OSError as error:
        raise StorageRejectedError(
            f"{export} is no export of zapvisor: {path.name} cannot be read ({error.strerror})"
        ) from error
    if len(text) > LONGEST:
        raise StorageRejectedError(f"{path} is too large to be a manifest")
    return text


def _extra(path: pathlib.Path, known: cabc.Set[bytes]) -> list[str]:
    found: list[str] = []
    for each in path.rglob("*"):
        name = each.relative_to(path).as_posix()
        if each.is_dir() or name in (MANIFEST, SUMS) or _short(name) in known:
            continue
        found.append(name)
        if len(found) == SHOWN:
            break
    return sorted(found)


def _short(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=12).digest()
