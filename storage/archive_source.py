"""Reads the records of an archive out of files: one file of lines, or an export in a directory."""

import collections.abc as cabc
import contextlib
import functools
import io
import pathlib
import typing as t

import attrs
import trio

from storage.archive_codec import RecordError, load_line
from storage.archive_import import ImportGivenUpError, Placed
from storage.archive_records import FORMAT, VERSION, End, Header, decode_record
from storage.blobs import Blobs
from storage.errors import StorageRejectedError
from storage.exports.check import Export, open_export, open_file, open_part, verify
from storage.exports.form import blob_name
from storage.exports.model import Form
from storage.exports.sealing import ENCRYPTED

MAX_LINE: t.Final = 64 * 1024 * 1024  # bytes
PIECE: t.Final = 1024 * 1024  # bytes that are read in one go
LINES: t.Final = 500  # the same

Opener: t.TypeAlias = cabc.Callable[[], contextlib.AbstractContextManager[t.IO[bytes]]]


@attrs.frozen
class Part:
    """A file of lines, not open yet."""

    name: str  # for messages; empty: there is only this one
    open: Opener


class Source:
    """The records of an archive, in order; use :func:`open_source`."""

    def __init__(self, path: pathlib.Path, parts: cabc.Sequence[Part]) -> None:
        self._path = path
        self._parts = parts

    async def records(self) -> cabc.AsyncGenerator[Placed, None]:
        """All records, with those that cannot be read; close it when it is left early.

        Raises:
            StorageRejectedError: it is no archive, or none that this version can read; a part is
                damaged, or does not open.
            ImportGivenUpError: it was cut off.
        """
        state = _State(self._path)
        for part in self._parts:
            with contextlib.ExitStack() as stack:
                opened = await _blocking(stack.enter_context, part.open())
                file = stack.enter_context(_lines(opened))
                number = 0
                while lines := await _blocking(_take, file):
                    for placed in await _blocking(state.read, lines, part.name, number):
                        yield placed
                    number += len(lines)
        state.end()


def open_source(
    path: pathlib.Path,
    identities: cabc.Sequence[t.Any] = (),
    told: cabc.Callable[[str], None] = lambda _name: None,
) -> Source:
    """A file of lines, as it is or ``.zst``, ``.age`` or both; or an export, whose checksums are
    compared first: ``told`` hears of each file. ``identities``: secret keys of age. Blocks.

    Raises:
        StorageRejectedError: it is not there, no archive, or damaged.
    """
    if not path.is_dir():
        return Source(path, [Part("", functools.partial(open_file, path, identities))])
    export = open_export(path)
    form = export.manifest.start.request.form
    if form is not Form.JSONL:
        raise StorageRejectedError(
            f"{path} is an export for reading ({form.value}); only an archive (--format jsonl) can"
            " be imported"
        )
    _check(export, told)
    return Source(
        path,
        [
            Part(part.name, functools.partial(open_part, export, part, identities))
            for part in export.manifest.parts
        ],
    )


def _check(export: Export, told: cabc.Callable[[str], None]) -> None:
    report = verify(export, told)
    if report.good:
        return
    names = [f"{name} is damaged" for name in report.damaged]
    names += [f"{name} is missing" for name in report.missing]
    raise StorageRejectedError(
        f"{export.path} is not whole: {', '.join(names)}"
        f"{'' if report.bad == len(names) else f', and {report.bad - len(names)} more'};"
        " nothing was imported; use another copy"
    )


class ExportFiles:
    """Brings the files of messages to the store of files: see ``archive_import.Files``."""

    def __init__(
        self, blobs: Blobs, export: pathlib.Path | None, identities: cabc.Sequence[t.Any] = ()
    ) -> None:
        """``export``: the directory that may have them; None: only the store itself."""
        self._blobs = blobs
        self._export = export
        self._identities = identities
        self.brought = 0

    async def bring(self, sha256: bytes, size: int) -> bool:
        """Copy a file, unless it is there; False: it is nowhere, or is not what it should be.

        Raises:
            StorageUnavailableError: it cannot be stored; ``NoRoomError``: for want of room.
            StorageRejectedError: it does not open.
        """
        if await self._blobs.size(sha256) == size:
            return True
        if self._export is None:
            return False
        plain = self._export / blob_name(sha256)
        for path in (plain, plain.with_name(plain.name + ENCRYPTED)):
            if await _blocking(path.is_file):
                return await self._copy(path, sha256, size)
        return False

    async def _copy(self, path: pathlib.Path, sha256: bytes, size: int) -> bool:
        with contextlib.ExitStack() as stack:
            file = await _blocking(stack.enter_context, open_file(path, self._identities))
            async with self._blobs.writing() as writer:
                written = 0
                while written <= size and (piece := await _blocking(file.read, PIECE)):
                    written += len(piece)
                    await writer.write(piece)
                if written != size or writer.sha256 != sha256:
                    return False
                await writer.commit()
        self.brought += 1
        return True


# ---- lines


@contextlib.contextmanager
def _lines(file: t.IO[bytes]) -> cabc.Iterator[t.IO[bytes]]:
    """A file of which single lines can be read. What it is made of stays open."""
    reader = io.BufferedReader(_Raw(file), PIECE)
    try:
        yield t.cast("t.IO[bytes]", reader)
    finally:
        reader.detach()


class _Raw(io.RawIOBase):
    """The least that a buffer asks of a file."""

    def __init__(self, file: t.IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _take(file: t.IO[bytes]) -> list[bytes | None]:
    """The next lines; None for one that is too long."""
    lines: list[bytes | None] = []
    size = 0
    while len(lines) < LINES and size < PIECE:
        line = file.readline(MAX_LINE + 1)
        if not line:
            break
        size += len(line)
        if len(line) <= MAX_LINE:
            lines.append(line)
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(PIECE)
        lines.append(None)
    return lines


class _State:
    """What the order of lines must be: a header first, the end last."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._place = "its beginning"
        self._count = 0
        self._end: End | None = None

    def read(self, lines: cabc.Iterable[bytes | None], part: str, number: int) -> list[Placed]:
        """The records of the next lines; ``number`` of its part come before."""
        found = []
        for at, line in enumerate(lines, number + 1):
            self._place = f"{part}, line {at}" if part else f"line {at}"
            if self._count == 0:
                _check_header(self._path, line)
            record = _record(line)
            if self._end is not None:
                record = RecordError("it comes behind the end of the archive")
            elif isinstance(record, End):
                self._end = record
            else:
                self._count += 1
            if not isinstance(record, Header | End):
                found.append(Placed(self._place, record))
        return found

    def end(self) -> None:
        """There are no more lines.

        Raises:
            StorageRejectedError: there was none at all.
            ImportGivenUpError: some are missing.
        """
        if self._count == 0:
            raise StorageRejectedError(f"{self._path} is empty; it is no archive of zapvisor")
        if self._end is None:
            raise ImportGivenUpError(
                f"{self._path} was cut off: its last record is missing after {self._place}; what"
                " was there is stored; get all of it and import it again"
            )
        if self._end.records != self._count:
            raise ImportGivenUpError(
                f"{self._path} says that it has {self._end.records:,} records, and has"
                f" {self._count:,}; what was there is stored; get all of it and import it again"
            )


def _record(line: bytes | None) -> t.Any:
    if line is None:
        return RecordError(f"it is longer than {MAX_LINE // 2**20} MiB")
    try:
        return decode_record(line)
    except RecordError as error:
        return error


def _check_header(path: pathlib.Path, line: bytes | None) -> None:
    """Whether this is an archive that can be read, before anything in it is believed."""
    try:
        value = None if line is None else load_line(line)
    except RecordError:
        value = None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise StorageRejectedError(
            f'{path} is no archive of zapvisor: its first line does not say "format": "{FORMAT}"'
        )
    version = value.get("version")
    if version != VERSION:
        raise StorageRejectedError(
            f"{path} is an archive of version {version!r}; this zapvisor reads version {VERSION}:"
            " import it with the zapvisor that wrote it, or a newer one"
        )


_T = t.TypeVar("_T")


async def _blocking(work: cabc.Callable[..., _T], *arguments: t.Any) -> _T:
    return await trio.to_thread.run_sync(work, *arguments)
