"""What the tests of exports share."""

import collections.abc as cabc
import contextlib
import io
import pathlib
import tarfile
import typing as t

import attrs

from storage.blobs import Blobs, LocalBlobs
from storage.exports.check import Export, open_export, open_file, open_part, sums
from storage.exports.draft import Draft, Shelf, begin, resume
from storage.exports.model import Form, Manifest, Request, Start
from storage.exports.run import Means, newest_of, write_export
from storage.maintenance import open_maintenance

FINISHED: t.Final = "2027-01-15T08:01:00+00:00"


def start_of(form: Form = Form.JSONL, *, name: str = "first", **request: t.Any) -> Start:
    """The beginning of an export, of everything unless told otherwise."""
    return Start(
        name=name,
        request=Request(form=form, **request),
        bounds=(10**6, 10**6, 10**6, 10**6),
        created_at="2027-01-15T08:00:00+00:00",
        program="1.2.3",
    )


@attrs.frozen
class Exporting:
    """Exports out of one database."""

    dsn: str
    blobs: Blobs
    directory: pathlib.Path

    async def write(
        self,
        form: Form = Form.JSONL,
        *,
        name: str = "first",
        shelf: Shelf | None = None,
        **request: t.Any,
    ) -> Manifest:
        """A whole one."""
        async with open_maintenance(self.dsn) as session:
            start = attrs.evolve(
                start_of(form, name=name, **request), bounds=await newest_of(session)
            )
            with begin(self.directory, start, shelf) as draft:
                return await write_export(draft, Means(session=session, blobs=self.blobs), finished)

    async def resume(self, name: str = "first", shelf: Shelf | None = None) -> Manifest:
        """The rest of one."""
        async with open_maintenance(self.dsn) as session:
            with resume(self.directory, name, lambda _start: shelf) as draft:
                return await self.go_on(session, draft)

    async def go_on(self, session: t.Any, draft: Draft) -> Manifest:
        """The rest of a draft."""
        return await write_export(draft, Means(session=session, blobs=self.blobs), finished)

    def opened(self, name: str = "first") -> Export:
        """One that is complete."""
        return open_export(self.directory / name)

    def stream(self, identities: cabc.Sequence[t.Any] = (), name: str = "first") -> bytes:
        """All parts of a stream, one after another."""
        export, read = self.opened(name), []
        for part in export.manifest.parts:
            with open_part(export, part, identities) as file:
                read.append(file.read())
        return b"".join(read)

    def pages(self, identities: cabc.Sequence[t.Any] = (), name: str = "first") -> dict[str, bytes]:
        """All files that are no files of messages, by name; those in archives by their own."""
        export = self.opened(name)
        found: dict[str, bytes] = {}
        for each, _sha256 in sums(export):
            if each.startswith("media/"):
                continue
            with open_file(export.path / each, identities) as file:
                content = file.read()
            if ".tar" not in each:
                found[each] = content
                continue
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                for member in archive:
                    extracted = archive.extractfile(member)
                    assert extracted is not None
                    found[member.name] = extracted.read()
        return found


def finished() -> str:
    return FINISHED


@contextlib.contextmanager
def blobs_in(directory: pathlib.Path) -> cabc.Iterator[LocalBlobs]:
    """A blob store in a directory."""
    yield LocalBlobs(directory)
