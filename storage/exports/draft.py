"""An export that is being written: the directory ``NAME.part``, and its journal.

The journal is what makes it resumable. Files are written and synced first; then a line for each of
them, and one that says where to go on, are appended and synced. Whatever is found later without
such a line never happened, and is removed. The last step gives the directory its name, or, in S3,
puts the manifest there.
"""

import collections.abc as cabc
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import typing as t

import attrs

from storage.errors import StorageError, StorageRejectedError
from storage.exports.files import (
    Growing,
    appearing,
    facts_of,
    make_folder,
    sync_folder,
    told,
)
from storage.exports.model import (
    JOURNAL,
    LONGEST,
    MANIFEST,
    NOT_WHOLE,
    SUMS,
    UNFINISHED,
    FileFacts,
    Manifest,
    Start,
    check_export_name,
    safe_name,
)

END: t.Final = "end"
"""The cursor of an export that has all its content."""


class Shelf(t.Protocol):
    """A place elsewhere for the files of one export. Its methods block."""

    def put(self, name: str, path: pathlib.Path) -> None:
        """Put a file there, in place of any of that name."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file there; None: there is none."""
        ...

    @property
    def place(self) -> str:
        """For people."""
        ...


@attrs.frozen(kw_only=True)
class Progress:
    """How far an export is."""

    cursor: str | None = None  # where to go on; None: at the beginning
    counts: cabc.Mapping[str, int] = attrs.field(factory=dict)
    parts: int = 0
    files: int = 0
    size: int = 0  # bytes

    @classmethod
    def from_json(cls, facts: cabc.Mapping[str, t.Any]) -> t.Self:
        """What a commit in the journal says.

        Raises:
            LookupError, TypeError, ValueError: it is none.
        """
        return cls(
            cursor=str(facts["cursor"]),
            counts={str(kind): int(count) for kind, count in facts["counts"].items()},
            parts=int(facts["parts"]),
            files=int(facts["files"]),
            size=int(facts["size"]),
        )


class Draft:
    """Use :func:`begin` or :func:`resume`. All methods block; one thread at a time."""

    def __init__(
        self,
        directory: pathlib.Path,
        start: Start,
        journal: t.IO[bytes],
        shelf: Shelf | None,
        progress: Progress | None = None,
    ) -> None:
        self.start = start
        self.progress = progress or Progress()
        """What is committed."""
        self._directory = directory
        self._path = _draft_of(directory, start.name)
        self._journal = journal
        self._shelf = shelf
        self._pending: list[FileFacts] = []
        self._folders: set[pathlib.Path] = set()

    @property
    def place(self) -> str:
        """Where the export is, once it is complete."""
        return str(self._directory / self.start.name) if self._shelf is None else self._shelf.place

    @property
    def remote(self) -> bool:
        """Whether its files go elsewhere, which may take long."""
        return self._shelf is not None

    def close(self) -> None:
        """Let others resume it."""
        self._journal.close()

    def discard(self) -> None:
        """Delete all of it, on this machine.

        Raises:
            StorageUnavailableError: it cannot be deleted.
        """
        with told(self._path):
            shutil.rmtree(self._path)

    def has(self, name: str) -> bool:
        """Whether there is a file of that name already, in what is committed or since."""
        if (self._path / name).exists():
            return True
        return self._shelf is not None and self._shelf.size(name) is not None

    @contextlib.contextmanager
    def writing(self, name: str, *, part: bool = False) -> cabc.Iterator[Growing]:
        """Write one more file.

        Raises:
            StorageUnavailableError: it cannot be written.
        """
        path = self._path / safe_name(name)
        # Errors are stored and logged, and the names of pages are those of people.
        shown = path if path.parent == self._path else path.parent
        with told(shown):
            make_folder(path.parent)
        with appearing(path, shown) as file:
            yield file
        self._folders.add(path.parent)
        self._pending.append(FileFacts(name=name, size=file.size, sha256=file.sha256, part=part))

    def add(self, name: str, data: bytes, *, part: bool = False) -> None:
        """Write one more file, which is at hand."""
        with self.writing(name, part=part) as file:
            file.write(data)

    def commit(self, cursor: str, counts: cabc.Mapping[str, int]) -> None:
        """All files since the last commit stay, whatever happens; ``counts`` are those of all.

        Raises:
            StorageUnavailableError: that could not be made sure.
        """
        with told(self._path):
            for folder in self._folders:
                sync_folder(folder)
            if self._shelf is not None:
                for each in self._pending:
                    self._shelf.put(each.name, self._path / each.name)
            was = self.progress
            now = Progress(
                cursor=cursor,
                counts=dict(counts),
                parts=was.parts + sum(each.part for each in self._pending),
                files=was.files + len(self._pending),
                size=was.size + sum(each.size for each in self._pending),
            )
            lines = [*map(attrs.asdict, self._pending), {"commit": attrs.asdict(now)}]
            _append(self._journal, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            if self._shelf is not None:
                for each in self._pending:
                    (self._path / each.name).unlink()
        self.progress = now
        self._pending = []
        self._folders = set()

    def publish(self, finished_at: str) -> Manifest:
        """The export is complete and gets its name. Its content must be committed.

        Raises:
            StorageRejectedError: there is another one of that name by now.
            StorageUnavailableError: it cannot be done now.
        """
        if self._pending or self.progress.cursor != END:
            raise AssertionError("an export is published before its content is committed")
        parts = self._write_sums()
        found = facts_of(self._path / SUMS)
        if found is None:
            raise StorageRejectedError(f"{self._path / SUMS} is gone; is anybody else at work?")
        manifest = Manifest(
            start=self.start,
            finished_at=finished_at,
            counts=dict(self.progress.counts),
            files=self.progress.files,
            size=self.progress.size,
            sums_sha256=found[1],
            parts=tuple(parts),
        )
        with appearing(self._path / MANIFEST) as file:
            file.write(manifest.as_text())
        with told(self._path):
            sync_folder(self._path)
            if self._shelf is None:
                self._rename()
            else:
                self._shelf.put(SUMS, self._path / SUMS)
                self._shelf.put(MANIFEST, self._path / MANIFEST)
                shutil.rmtree(self._path)
        return manifest

    def _rename(self) -> None:
        target = self._directory / self.start.name
        if target.exists() or target.is_symlink():
            raise StorageRejectedError(
                f"{target} exists by now; nothing was overwritten, the export is in {self._path}"
            )
        self._path.rename(target)
        sync_folder(self._directory)
        (target / JOURNAL).unlink(missing_ok=True)

    def _write_sums(self) -> list[FileFacts]:
        """The list of checksums, as sha256sum writes it, out of the journal; the parts."""
        parts = []
        with appearing(self._path / SUMS) as file:
            for facts in _committed_files(self._path / JOURNAL):
                file.write(f"{facts.sha256}  {facts.name}\n".encode())
                if facts.part:
                    parts.append(facts)
        return parts


@contextlib.contextmanager
def begin(
    directory: pathlib.Path, start: Start, shelf: Shelf | None = None
) -> cabc.Iterator[Draft]:
    """A new export in a directory, which is made if it is missing.

    Raises:
        StorageRejectedError: there is one of that name already, complete or not.
        StorageUnavailableError: the directory cannot be written.
    """
    path = _draft_of(directory, check_export_name(start.name))
    target = directory / start.name
    if target.exists() or target.is_symlink():
        raise StorageRejectedError(f"{target} exists already; nothing was overwritten")
    with told(path):
        make_folder(directory)
        _clear_empty(path)
        try:
            path.mkdir(mode=0o700)
        except FileExistsError as error:
            raise StorageRejectedError(
                f"{path} is an export that was not finished; resume it (--resume), or delete it"
            ) from error
        journal = _open_journal(path, new=True)
        try:
            _append(journal, json.dumps(start.as_json()).encode() + b"\n")
            sync_folder(path)
            sync_folder(directory)
        except BaseException:
            journal.close()
            raise
    draft = Draft(directory, start, journal, shelf)
    try:
        yield draft
    finally:
        draft.close()


@contextlib.contextmanager
def resume(
    directory: pathlib.Path,
    name: str,
    shelf: cabc.Callable[[Start], Shelf | None] = lambda _start: None,
) -> cabc.Iterator[Draft]:
    """Go on with an export after its last complete part. What is there is verified; where a file
    is damaged, all is made again from before it.

    Raises:
        StorageRejectedError: there is none to go on with; or another process is at it.
        StorageUnavailableError: it cannot be read or written now.
    """
    path = _draft_of(directory, check_export_name(name))
    with told(path):
        journal = _open_journal(path, new=False)
        try:
            start = read_start(path)
            elsewhere = shelf(start)
            progress = _verify(path, journal, elsewhere)
        except BaseException:
            journal.close()
            raise
    draft = Draft(directory, start, journal, elsewhere, progress)
    try:
        yield draft
    finally:
        draft.close()


def unfinished(directory: pathlib.Path) -> list[str]:
    """The names of the exports in a directory that were begun and not finished, sorted."""
    found = directory.glob(f"*{UNFINISHED}/{JOURNAL}")
    names = sorted(path.parent.name.removesuffix(UNFINISHED) for path in found)
    return [name for name in names if _has_start(_draft_of(directory, name))]


def read_start(path: pathlib.Path) -> Start:
    """What the journal of a draft begins with.

    Raises:
        StorageRejectedError: it is damaged.
    """
    try:
        with (path / JOURNAL).open("rb") as file:
            return Start.from_json(json.loads(file.readline(LONGEST)))
    except (*NOT_WHOLE, FileNotFoundError) as error:
        raise StorageRejectedError(
            f"{path} holds nothing that could be resumed; delete it and begin anew"
        ) from error


def discard(directory: pathlib.Path, name: str) -> None:
    """Delete an export that was not finished.

    Raises:
        StorageRejectedError: there is none, or a process is at it.
    """
    path = _draft_of(directory, check_export_name(name))
    with told(path), _open_journal(path, new=False):
        shutil.rmtree(path)


def _draft_of(directory: pathlib.Path, name: str) -> pathlib.Path:
    return directory / (name + UNFINISHED)


def _has_start(path: pathlib.Path) -> bool:
    try:
        read_start(path)
    except StorageError:
        return False
    return True


def _clear_empty(path: pathlib.Path) -> None:
    """Remove a draft that was killed before it had begun."""
    if not path.is_dir() or _has_start(path):
        return
    if any(each.name != JOURNAL for each in path.iterdir()):
        return
    if (path / JOURNAL).exists():
        with _open_journal(path, new=False):
            shutil.rmtree(path)
    else:
        path.rmdir()


def _open_journal(path: pathlib.Path, *, new: bool) -> t.IO[bytes]:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_APPEND | (os.O_CREAT | os.O_EXCL if new else 0)
    try:
        descriptor = os.open(path / JOURNAL, flags, 0o600)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StorageRejectedError(f"{path} is no export that could be resumed") from error
    journal = open(descriptor, "r+b", buffering=0)  # noqa: SIM115 - it stays open
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        journal.close()
        raise StorageRejectedError(f"another process is writing {path}") from None
    except BaseException:
        journal.close()
        raise
    return t.cast("t.IO[bytes]", journal)


def _append(journal: t.IO[bytes], lines: bytes) -> None:
    """Write all of it, as far as there is room, and sync it."""
    left = memoryview(lines)
    while left:
        left = left[journal.write(left) :]
    os.fsync(journal.fileno())


@attrs.define
class _Mark:
    """A commit in a journal."""

    offset: int  # behind its line
    progress: Progress


def _lines(path: pathlib.Path) -> cabc.Iterator[tuple[int, FileFacts | Progress]]:
    """The whole lines of a journal behind the first, each with the offset behind it; they end with
    one that is none: it was torn by a crash, and nothing behind it was synced."""
    with path.open("rb") as file:
        offset = len(file.readline(LONGEST))
        while line := file.readline(LONGEST):
            offset += len(line)
            if not line.endswith(b"\n"):
                return
            try:
                yield offset, _fact(json.loads(line))
            except NOT_WHOLE:
                return


def _fact(line: dict[str, t.Any]) -> FileFacts | Progress:
    """A file that is complete, or how far all is."""
    if (commit := line.get("commit")) is not None:
        return Progress.from_json(commit)
    return FileFacts.from_json(line)


def _committed_files(path: pathlib.Path) -> cabc.Iterator[FileFacts]:
    return (fact for _offset, fact in _lines(path) if isinstance(fact, FileFacts))


def _verify(path: pathlib.Path, journal: t.IO[bytes], shelf: Shelf | None) -> Progress:
    """Compare the files with the journal; cut that off behind the last commit that holds, and
    remove what it does not name."""
    mark = _Mark(len(journal.readline(LONGEST)), Progress())
    names: set[str] = set()
    since: list[str] = []
    for offset, fact in _lines(path / JOURNAL):
        if isinstance(fact, Progress):
            mark = _Mark(offset, fact)
            names.update(since)
            since = []
        elif _holds(path, fact, shelf):
            since.append(fact.name)
        else:
            break
    journal.truncate(mark.offset)
    journal.seek(0, os.SEEK_END)
    os.fsync(journal.fileno())
    _remove_others(path, names if shelf is None else set())
    return mark.progress


def _holds(path: pathlib.Path, facts: FileFacts, shelf: Shelf | None) -> bool:
    if shelf is not None:
        return shelf.size(facts.name) == facts.size
    return facts_of(path / facts.name) == (facts.size, facts.sha256)


def _remove_others(path: pathlib.Path, names: cabc.Set[str]) -> None:
    for folder, _folders, files in os.walk(path):
        for file in files:
            found = pathlib.Path(folder, file)
            name = found.relative_to(path).as_posix()
            if name not in names and name != JOURNAL:
                found.unlink()
