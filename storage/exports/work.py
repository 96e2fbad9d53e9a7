"""Carries out the rows of the table of exports: writes what they ask for, or deletes it."""

import collections.abc as cabc
import contextlib
import datetime as dt
import functools
import io
import pathlib
import typing as t

import attrs
import trio

from storage.blobs import Blobs, S3Settings
from storage.errors import StorageRejectedError
from storage.exports import check
from storage.exports.draft import Draft, begin, discard, resume, unfinished
from storage.exports.ledger import ExportRow
from storage.exports.model import LONGEST, MANIFEST, Manifest, Start
from storage.exports.run import Means, newest_of, write_export
from storage.exports.sealing import parse_recipients
from storage.maintenance import Maintenance

if t.TYPE_CHECKING:
    from storage.exports.shelf_s3 import S3Shelf

S3: t.Final = "s3://"

Counts: t.TypeAlias = cabc.Mapping[str, int]
OpenSession: t.TypeAlias = cabc.Callable[[], contextlib.AbstractAsyncContextManager[Maintenance]]


@attrs.frozen(kw_only=True)
class ExportWorker:
    """See the module. One export at a time."""

    open_session: OpenSession
    """A session of its own on the database."""
    blobs: Blobs
    spool: pathlib.Path  # for files on their way to S3
    s3: S3Settings | None
    program: str  # version of zapvisor
    wall_clock: cabc.Callable[[], float]
    breathe: cabc.Callable[[], cabc.Awaitable[None]] = trio.lowlevel.checkpoint
    """Awaited between two pages."""

    def s3_place(self) -> str:
        """The place of exports in S3.

        Raises:
            StorageRejectedError: none is configured.
        """
        if self.s3 is None:
            raise StorageRejectedError("no S3 store is configured for exports; see [export]")
        return f"{S3}{self.s3.bucket}" + (f"/{self.s3.prefix}" if self.s3.prefix else "")

    async def write(
        self,
        row: ExportRow,
        *,
        previous: str | None = None,
        told: cabc.Callable[[Counts], None] = lambda _counts: None,
    ) -> Manifest:
        """Write the export of a row, or what is missing of it.

        Raises:
            StorageRejectedError: it can never be written like that.
            StorageUnavailableError: it cannot be now; what is complete is kept.
        """
        parse_recipients(row.request.recipients)
        if (found := await _blocking(functools.partial(self._finished, row))) is not None:
            return found
        async with self.open_session() as session, self._draft(row, previous, session) as draft:
            means = Means(session=session, blobs=self.blobs, breathe=self.breathe, told=told)
            return await write_export(draft, means, self._now)

    async def remove(self, row: ExportRow) -> None:
        """Delete the files of an export, complete or not; fine when there are none.

        Raises:
            StorageRejectedError: what lies there is another one.
            StorageUnavailableError: they cannot be deleted now.
        """
        await _blocking(functools.partial(self._remove, row))

    @contextlib.asynccontextmanager
    async def _draft(
        self, row: ExportRow, previous: str | None, session: Maintenance
    ) -> cabc.AsyncIterator[Draft]:
        directory = self._directory(row)
        there = await _blocking(functools.partial(unfinished, directory))
        if row.name in there:
            opened = resume(directory, row.name, lambda _start: self._shelf(row))
        else:
            start = Start(
                name=row.name,
                request=row.request,
                bounds=await newest_of(session),
                created_at=self._now(),
                program=self.program,
                previous=previous,
            )
            opened = begin(directory, start, self._shelf(row))
        draft = await _blocking(opened.__enter__)
        try:
            if draft.start.request != row.request:
                raise StorageRejectedError(
                    f"the export {row.name} that was begun there asks for something else; delete"
                    " it, or give this one another name"
                )
            yield draft
        except StorageRejectedError:
            if draft.progress.cursor is None:  # nothing of it is worth keeping
                await _blocking(draft.discard)
            raise
        finally:
            draft.close()

    def _finished(self, row: ExportRow) -> Manifest | None:
        """The manifest, if the export is complete and only its row does not say so."""
        if (shelf := self._shelf(row)) is not None:
            where, text = f"{row.path}/{MANIFEST}", io.BytesIO()
            if (shelf.size(MANIFEST) or 0) > LONGEST:
                raise StorageRejectedError(f"{where} is too large to be a manifest")
            if not shelf.read(MANIFEST, text):
                return None
            manifest = Manifest.from_text(text.getvalue(), where)
        else:
            path = self._directory(row) / row.name
            if not path.exists():
                return None
            manifest = check.open_export(path).manifest
        if manifest.start.request != row.request or manifest.start.name != row.name:
            raise StorageRejectedError(f"{row.path} exists already; nothing was overwritten")
        return manifest

    def _remove(self, row: ExportRow) -> None:
        if row.name in unfinished(self._directory(row)):
            discard(self._directory(row), row.name)
        if (shelf := self._shelf(row)) is not None:
            shelf.remove()
        elif (path := self._directory(row) / row.name).exists():
            check.remove(path, row.name)

    def _directory(self, row: ExportRow) -> pathlib.Path:
        """Of the draft."""
        return self.spool if row.place.startswith(S3) else pathlib.Path(row.place)

    def _shelf(self, row: ExportRow) -> "S3Shelf | None":
        if not row.place.startswith(S3):
            return None
        if self.s3 is None or row.place != self.s3_place():
            raise StorageRejectedError(
                f"the export {row.name} is in {row.place}, which is not configured (any more);"
                " see [export]"
            )
        from storage.exports.shelf_s3 import S3Shelf  # only who uses S3 loads its library

        return S3Shelf(self.s3, row.name)

    def _now(self) -> str:
        return dt.datetime.fromtimestamp(self.wall_clock(), dt.UTC).isoformat()


_T = t.TypeVar("_T")


async def _blocking(work: cabc.Callable[[], _T]) -> _T:
    return await trio.to_thread.run_sync(work)
