"""The table of exports, in MemoryStorage: see :class:`storage.exports.ledger.ExportLedger`."""

import abc
import collections.abc as cabc
import itertools
import typing as t

import attrs
import trio

from storage.changes import Access, AccessKind, Viewer
from storage.exports.ledger import ExportRow
from storage.exports.model import Request
from storage.memory_state import utc


class MemoryExports(abc.ABC):
    """The part of MemoryStorage that keeps it."""

    _clock: cabc.Callable[[], float]

    def __init__(self) -> None:
        super().__init__()
        self._exports: dict[int, ExportRow] = {}
        self._export_numbers = itertools.count(1)

    async def begin_export(
        self, name: str, place: str, request: Request, by: Viewer, *, period: str | None = None
    ) -> ExportRow | None:
        """See :meth:`ExportLedger.begin_export`."""
        await trio.lowlevel.checkpoint()
        for each in self._exports.values():
            if each.name == name or (period is not None and each.period == period):
                return None
        now = utc(self._clock())
        row = ExportRow(
            id=next(self._export_numbers),
            name=name,
            period=period,
            place=place,
            request=request,
            state="running",
            attempts=1,
            counts={},
            bytes=0,
            error=None,
            started_at=now,
            updated_at=now,
            finished_at=None,
            removed_at=None,
        )
        self._exports[row.id] = row
        await self._record_export(row, by)
        return row

    async def begin_export_again(self, number: int, by: Viewer) -> ExportRow | None:
        """See :meth:`ExportLedger.begin_export_again`."""
        row = self._exports.get(number)
        if row is None or row.state == "done" or row.removed_at is not None:
            return None
        await self._record_export(row, by)
        again = {"state": "running", "attempts": row.attempts + 1}
        return await self._export_becomes(row, error=None, finished_at=None, **again)

    async def _record_export(self, row: ExportRow, by: Viewer) -> None:
        conversation = row.request.conversation
        access = Access(
            **attrs.asdict(by),
            what=AccessKind.EXPORT,
            query=row.name,
            connection=row.request.connection,
            conversations=() if conversation is None else (conversation,),
        )
        await self.record_access(access)

    async def export_progress(self, number: int, counts: cabc.Mapping[str, int]) -> None:
        """See :meth:`ExportLedger.export_progress`."""
        if (row := self._running_export(number)) is not None:
            await self._export_becomes(row, counts=dict(counts))

    async def finish_export(
        self, number: int, counts: cabc.Mapping[str, int], size: int
    ) -> ExportRow | None:
        """See :meth:`ExportLedger.finish_export`."""
        if (row := self._running_export(number)) is None:
            return None
        now = utc(self._clock())
        done = {"state": "done", "counts": dict(counts), "bytes": size, "finished_at": now}
        row = await self._export_becomes(row, **done)
        self._tell_export("export.finished", row)
        return row

    async def fail_export(self, number: int, error: str) -> ExportRow | None:
        """See :meth:`ExportLedger.fail_export`."""
        if (row := self._running_export(number)) is None:
            return None
        now = utc(self._clock())
        row = await self._export_becomes(row, state="failed", error=error, finished_at=now)
        self._tell_export("export.failed", row)
        return row

    async def exports(self, *, before: int | None = None, limit: int = 50) -> list[ExportRow]:
        """See :meth:`ExportLedger.exports`."""
        await trio.lowlevel.checkpoint()
        rows = sorted(self._exports.values(), key=lambda row: -row.id)
        return [row for row in rows if before is None or row.id < before][:limit]

    async def export(self, number: int) -> ExportRow | None:
        """See :meth:`ExportLedger.export`."""
        await trio.lowlevel.checkpoint()
        return self._exports.get(number)

    async def export_named(self, name: str) -> ExportRow | None:
        """See :meth:`ExportLedger.export_named`."""
        return next((row for row in await self.exports(limit=10**9) if row.name == name), None)

    async def running_exports(self) -> list[ExportRow]:
        """See :meth:`ExportLedger.running_exports`."""
        return [row for row in reversed(await self.exports(limit=10**9)) if row.state == "running"]

    async def scheduled_exports(self) -> list[ExportRow]:
        """See :meth:`ExportLedger.scheduled_exports`."""
        return [row for row in await self.exports(limit=10**9) if row.period is not None][:1000]

    async def export_removed(self, number: int) -> ExportRow | None:
        """See :meth:`ExportLedger.export_removed`."""
        row = self._exports.get(number)
        if row is None or row.state == "running" or row.removed_at is not None:
            return None
        return await self._export_becomes(row, removed_at=utc(self._clock()))

    def _running_export(self, number: int) -> ExportRow | None:
        row = self._exports.get(number)
        return row if row is not None and row.state == "running" else None

    async def _export_becomes(self, row: ExportRow, **changes: t.Any) -> ExportRow:
        await trio.lowlevel.checkpoint()
        row = attrs.evolve(row, updated_at=utc(self._clock()), **changes)
        self._exports[row.id] = row
        return row

    def _tell_export(self, type_: str, row: ExportRow) -> None:
        told = {
            "export_id": row.id,
            "name": row.name,
            "period": row.period,
            "form": row.request.form.value,
            "counts": row.counts,
            "bytes": row.bytes,
            "error": row.error,
        }
        self._tell(type_, None, **told)

    @abc.abstractmethod
    async def record_access(self, access: Access) -> int:
        """See :meth:`storage.changes.Changes.record_access`."""

    @abc.abstractmethod
    def _tell(self, type_: str, connection: str | None, **data: t.Any) -> int:
        """Append an event."""
