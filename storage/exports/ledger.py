"""The table of exports: what was asked for, and what became of it."""

import abc
import collections.abc as cabc
import datetime as dt
import json
import typing as t

import attrs

from storage.changes import Viewer
from storage.exports.model import Request


@attrs.frozen(kw_only=True)
class ExportRow:
    """One export."""

    id: int
    name: str
    period: str | None  # of the schedule: its day; None: somebody asked for it
    place: str  # the directory that it is in, or s3://bucket/prefix
    request: Request
    state: str  # "running", "done" or "failed"
    attempts: int
    counts: dict[str, int]  # what is written, by kind
    bytes: int
    error: str | None  # of the newest attempt
    started_at: dt.datetime
    updated_at: dt.datetime
    finished_at: dt.datetime | None
    removed_at: dt.datetime | None  # its files were deleted

    @property
    def path(self) -> str:
        """Where it is, or will be."""
        return f"{self.place}/{self.name}"


class ExportLedger(t.Protocol):
    """The part of storage that keeps it; raises as ``Storage`` does. Times are unix seconds.

    An export holds former content: who begins it is put on record (``storage.changes``) in the
    same transaction.
    """

    async def begin_export(
        self, name: str, place: str, request: Request, by: Viewer, *, period: str | None = None
    ) -> ExportRow | None:
        """An export begins; None if there is one of that name, or of that period, already."""
        ...

    async def begin_export_again(self, number: int, by: Viewer) -> ExportRow | None:
        """One that failed, or whose process died, goes on; None if it is complete or gone."""
        ...

    async def export_progress(self, number: int, counts: cabc.Mapping[str, int]) -> None:
        """It is so far."""
        ...

    async def finish_export(
        self, number: int, counts: cabc.Mapping[str, int], size: int
    ) -> ExportRow | None:
        """It is complete; makes the event ``export.finished``. None if it does not run."""
        ...

    async def fail_export(self, number: int, error: str) -> ExportRow | None:
        """It has failed; makes the event ``export.failed``. None if it does not run."""
        ...

    async def exports(self, *, before: int | None = None, limit: int = 50) -> list[ExportRow]:
        """The newest first, with ids below ``before``."""
        ...

    async def export(self, number: int) -> ExportRow | None:
        """One; None: there is none."""
        ...

    async def export_named(self, name: str) -> ExportRow | None:
        """One by its name; None: there is none."""
        ...

    async def running_exports(self) -> list[ExportRow]:
        """Those that are being written, or whose process died; the oldest first."""
        ...

    async def scheduled_exports(self) -> list[ExportRow]:
        """Those of the schedule; the newest first, 1000 at most."""
        ...

    async def export_removed(self, number: int) -> ExportRow | None:
        """Its files are deleted; None if it runs, or they are already."""
        ...


class SqlLedger(abc.ABC):
    """The ledger by its named statements, whoever runs them."""

    _clock: cabc.Callable[[], float]

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    @abc.abstractmethod
    async def _write(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named statement that is not to be cancelled half way."""

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock(), dt.UTC)

    async def begin_export(
        self, name: str, place: str, request: Request, by: Viewer, *, period: str | None = None
    ) -> ExportRow | None:
        """See :meth:`ExportLedger.begin_export`."""
        asked = json.dumps(request.as_json())
        facts = (name, period, place, asked, self._now(), *_viewer(by))
        return _one(await self._write("begin_export", *facts))

    async def begin_export_again(self, number: int, by: Viewer) -> ExportRow | None:
        """See :meth:`ExportLedger.begin_export_again`."""
        return _one(await self._write("begin_export_again", number, self._now(), *_viewer(by)))

    async def export_progress(self, number: int, counts: cabc.Mapping[str, int]) -> None:
        """See :meth:`ExportLedger.export_progress`."""
        await self._write("export_progress", number, json.dumps(dict(counts)), self._now())

    async def finish_export(
        self, number: int, counts: cabc.Mapping[str, int], size: int
    ) -> ExportRow | None:
        """See :meth:`ExportLedger.finish_export`."""
        written = json.dumps(dict(counts))
        return _one(await self._write("finish_export", number, written, size, self._now()))

    async def fail_export(self, number: int, error: str) -> ExportRow | None:
        """See :meth:`ExportLedger.fail_export`."""
        return _one(await self._write("fail_export", number, error, self._now()))

    async def exports(self, *, before: int | None = None, limit: int = 50) -> list[ExportRow]:
        """See :meth:`ExportLedger.exports`."""
        return [_row(each) for each in await self._fetch("list_exports", before, limit)]

    async def export(self, number: int) -> ExportRow | None:
        """See :meth:`ExportLedger.export`."""
        return _one(await self._fetch("one_export", number))

    async def export_named(self, name: str) -> ExportRow | None:
        """See :meth:`ExportLedger.export_named`."""
        return _one(await self._fetch("export_named", name))

    async def running_exports(self) -> list[ExportRow]:
        """See :meth:`ExportLedger.running_exports`."""
        return [_row(each) for each in await self._fetch("running_exports")]

    async def scheduled_exports(self) -> list[ExportRow]:
        """See :meth:`ExportLedger.scheduled_exports`."""
        return [_row(each) for each in await self._fetch("scheduled_exports")]

    async def export_removed(self, number: int) -> ExportRow | None:
        """See :meth:`ExportLedger.export_removed`."""
        return _one(await self._write("export_removed", number, self._now()))


def _viewer(by: Viewer) -> tuple[str, str | None, int | None, str | None]:
    return by.who, by.token_id, by.uid, by.request_id


def _one(rows: list[t.Any]) -> ExportRow | None:
    return _row(rows[0]) if rows else None


def _row(row: t.Any) -> ExportRow:
    return ExportRow(
        id=row["id"],
        name=row["name"],
        period=row["period"],
        place=row["place"],
        request=Request.from_json(json.loads(row["request"])),
        state=row["state"],
        attempts=row["attempts"],
        counts=json.loads(row["counts"]),
        bytes=row["bytes"],
        error=row["error"],
        started_at=row["started_at"],
        updated_at=row["updated_at"],
        finished_at=row["finished_at"],
        removed_at=row["removed_at"],
    )
