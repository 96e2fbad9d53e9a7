"""The service that writes exports: those of the schedule, and those that somebody asks for.

It works from the rows of the table: what a row says is begun gets finished, across restarts, one
export at a time. It reads the database with a session of its own, page by page, and pauses in
between for as long as it reads, so nobody else notices.
"""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs
import structlog
import trio

from actors.export_schedule import Schedule, Trouble, expired, retry_at, trouble_of
from storage.changes import Viewer
from storage.errors import StorageError, StorageRejectedError, StorageUnavailableError
from storage.exports.ledger import ExportLedger, ExportRow
from storage.exports.model import Manifest, Request, check_export_name
from storage.exports.sealing import parse_recipients

LOOK: t.Final = 60.0  # seconds between two looks at the clock
TELL: t.Final = 5.0  # seconds after which the table hears how far an export is
LONGEST_PAUSE: t.Final = 0.5  # seconds between two pages
WAITING: t.Final = 20  # exports that may wait
SCHEDULE: t.Final = Viewer(who="schedule")  # on record

log: structlog.stdlib.BoundLogger = structlog.get_logger("export")


class ExportsBusyError(Exception):
    """Too many exports wait already."""


class ExportRunsError(Exception):
    """The export is being written, and cannot be deleted."""


class Worker(t.Protocol):
    """Carries out a row: see ``storage.exports.work.ExportWorker``."""

    def s3_place(self) -> str:
        """The place of exports in S3."""
        ...

    async def write(
        self,
        row: ExportRow,
        *,
        previous: str | None = None,
        told: cabc.Callable[[cabc.Mapping[str, int]], None] = ...,
    ) -> Manifest:
        """Write what is missing."""
        ...

    async def remove(self, row: ExportRow) -> None:
        """Delete its files."""
        ...


@attrs.define(kw_only=True)
class ExporterView:
    """How exports are, since the daemon started."""

    running: int | None = None  # the id of the one that is being written
    counts: dict[str, int] = attrs.field(factory=dict)  # what is written of it
    finished: int = 0
    failed: int = 0
    removed: int = 0
    finished_at: float | None = None  # unix seconds, of the newest complete one


class Pauses:
    """Between two pages: as long as the page took."""

    def __init__(self) -> None:
        self._last: float | None = None

    async def __call__(self) -> None:
        """Pause."""
        now = trio.current_time()
        took = 0.0 if self._last is None else now - self._last
        await trio.sleep(min(took, LONGEST_PAUSE))
        self._last = trio.current_time()


class Exporter:
    """See the module."""

    def __init__(
        self,
        ledger: ExportLedger,
        worker: Worker,
        *,
        wall_clock: cabc.Callable[[], float],
        deleting_clock: cabc.Callable[[], float],
        directory: str,
        schedule: Schedule | None = None,
    ) -> None:
        """``directory``: of exports for which none is named; absolute."""
        self.directory = directory
        self._ledger = ledger
        self._worker = worker
        self._wall_clock = wall_clock
        self._deleting_clock = deleting_clock
        self._schedule = schedule
        self._view = ExporterView()
        self._wake = trio.Event()
        self._taken: set[dt.date] = set()
        self._rows: list[ExportRow] | None = None
        """Those of the schedule, as they were read last."""

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Work until cancelled; an export that is cut off is finished by the next run."""
        task_status.started()
        while True:
            self._wake = trio.Event()
            try:
                await self._round()
            except StorageError as error:
                log.warning("export.waits", error=str(error))
            with trio.move_on_after(LOOK):
                await self._wake.wait()

    def view(self) -> ExporterView:
        """How it is now."""
        return attrs.evolve(self._view, counts=dict(self._view.counts))

    def troubles(self, late: float) -> list[Trouble] | None:
        """What is wrong with the exports of the schedule; None: that is not known yet. ``late``:
        seconds that one may take after it is due."""
        if self._schedule is None:
            return []
        if self._rows is None:
            return None
        found = trouble_of(self._schedule, self._rows, self._wall_clock(), late=late)
        return [] if found is None else [found]

    async def exports(self, *, before: int | None = None, limit: int = 50) -> list[ExportRow]:
        """The newest first, with ids below ``before``."""
        return await self._ledger.exports(before=before, limit=limit)

    async def export(self, number: int) -> ExportRow | None:
        """One; None: there is none."""
        return await self._ledger.export(number)

    async def begin(
        self,
        request: Request,
        name: str,
        by: Viewer,
        *,
        s3: bool = False,
        directory: str | None = None,
    ) -> ExportRow:
        """Ask for an export, which puts that on record; it is written as soon as those before it
        are.

        Raises:
            StorageRejectedError: there is one of that name, or it cannot be written like that.
            ExportsBusyError: too many wait.
        """
        check_export_name(name)
        parse_recipients(request.recipients)
        if len(await self._ledger.running_exports()) >= WAITING:
            raise ExportsBusyError(f"{WAITING} exports wait already; try again when one is done")
        place = self._worker.s3_place() if s3 else directory or self.directory
        row = await self._ledger.begin_export(name, place, request, by)
        if row is None:
            raise StorageRejectedError(
                f"there is an export {name} already; zapvisor exports lists them"
            )
        self._wake.set()
        return row

    async def again(self, number: int, by: Viewer) -> ExportRow | None:
        """Go on with one that failed; None: there is none to go on with."""
        row = await self._ledger.begin_export_again(number, by)
        self._wake.set()
        return row

    async def remove(self, number: int) -> ExportRow | None:
        """Delete the files of an export, whatever is there of it; None: there is no such row.

        Raises:
            ExportRunsError: it is being written.
            StorageError: they cannot be deleted.
        """
        row = await self._ledger.export(number)
        if row is None or row.removed_at is not None:
            return row
        if row.state == "running":
            raise ExportRunsError(f"the export {row.name} is being written; it cannot be deleted")
        await self._worker.remove(row)
        return await self._ledger.export_removed(number)

    async def _round(self) -> None:
        for row in await self._ledger.running_exports():
            await self._write(row)
        if self._schedule is None:
            return
        await self._scheduled(self._schedule)
        await self._expire(self._schedule)

    async def _scheduled(self, schedule: Schedule) -> None:
        rows = self._rows = await self._ledger.scheduled_exports()
        now = self._wall_clock()
        for row in reversed(rows):
            again_at = retry_at(row)
            if again_at is not None and again_at <= now:
                again = await self._ledger.begin_export_again(row.id, SCHEDULE)
                if again is not None:
                    await self._write(again)
        for day in schedule.due(now, rows):
            begun = await self._ledger.begin_export(
                schedule.name(day),
                schedule.place,
                schedule.request_of(day),
                SCHEDULE,
                period=schedule.key(day),
            )
            if begun is not None:
                await self._write(begun)
            elif day not in self._taken:  # somebody gave another export that name
                self._taken.add(day)
                log.warning("export.name_taken", export=schedule.name(day))

    async def _write(self, row: ExportRow) -> None:
        self._view.running, self._view.counts = row.id, {}
        log.info("export.begun", export=row.name, form=row.request.form.value, place=row.place)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell_progress, row)
                previous = await self._previous(row)
                manifest = await self._worker.write(row, previous=previous, told=self._hear)
                nursery.cancel_scope.cancel()
        except* StorageError as group:
            await self._fail(row, str(_sole(group)))
        except* Exception as group:  # a defect; one of the schedule is tried again
            log.error("export.crashed", export=row.name, exc_info=group)
            await self._fail(row, f"{type(_sole(group)).__name__}; the daemon's log tells more")
        else:
            await self._ledger.finish_export(row.id, manifest.counts, manifest.size)
            self._view.finished += 1
            self._view.finished_at = self._wall_clock()
            log.info("export.finished", export=row.name, bytes=manifest.size, **_numbers(manifest))
        finally:
            self._view.running, self._view.counts = None, {}

    async def _fail(self, row: ExportRow, error: str) -> None:
        self._view.failed += 1
        log.error("export.failed", export=row.name, error=error)
        await self._ledger.fail_export(row.id, error)

    def _hear(self, counts: cabc.Mapping[str, int]) -> None:
        self._view.counts = dict(counts)

    async def _tell_progress(self, row: ExportRow) -> t.NoReturn:
        while True:
            await trio.sleep(TELL)
            try:
                await self._ledger.export_progress(row.id, self._view.counts)
            except StorageUnavailableError as error:  # the next one tells more
                log.debug("export.progress_untold", error=str(error))

    async def _previous(self, row: ExportRow) -> str | None:
        if row.period is None:
            return None
        for each in await self._ledger.scheduled_exports():
            if each.state == "done" and each.removed_at is None and each.id < row.id:
                return each.name
        return None

    async def _expire(self, schedule: Schedule) -> None:
        rows = self._rows = await self._ledger.scheduled_exports()
        now = self._deleting_clock()
        for row in expired(rows, now, keep=schedule.keep, keep_count=schedule.keep_count):
            try:
                await self._worker.remove(row)
            except StorageRejectedError as error:  # somebody put another one there
                log.error("export.not_removed", export=row.name, error=str(error))
                continue
            await self._ledger.export_removed(row.id)
            self._view.removed += 1
            log.info("export.removed", export=row.name)


def _numbers(manifest: Manifest) -> dict[str, int]:
    return {"messages": manifest.counts.get("messages", 0), "files": manifest.files}


def _sole(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
