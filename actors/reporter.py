"""The service that makes the report of each day and queues it for the channels, once."""

import collections.abc as cabc
import datetime as dt
import typing as t

import structlog
import trio

from actors.errors import NoChannelError, NoReportError
from actors.patience import persist
from actors.report_days import Schedule
from actors.report_figures import ReportMaker
from actors.report_values import Report
from storage.api import Storage
from storage.notifications import (
    DEFAULT_LANGUAGE,
    Content,
    Notification,
    NotificationKind,
    Severity,
)

LOOK: t.Final = 300.0  # seconds; a clock that is set, or a machine that slept, is noticed that soon

log: structlog.stdlib.BoundLogger = structlog.get_logger("report")

Render: t.TypeAlias = cabc.Callable[[Report, str], Content]
"""A report in a language."""


class Reporter:
    """Reports by the schedule, and when it is asked to."""

    def __init__(
        self,
        storage: Storage,
        maker: ReportMaker,
        schedule: Schedule,
        render: Render,
        *,
        languages: cabc.Iterable[str],
        channels: cabc.Iterable[str],
        wall_clock: cabc.Callable[[], float],
        uniform: cabc.Callable[[], float],
    ) -> None:
        """``languages``: all that there are; ``channels``: those that take reports, by name."""
        self.channels = tuple(channels)
        self._storage = storage
        self._maker = maker
        self._schedule = schedule
        self._render = render
        self._languages = tuple(languages)
        self._wall_clock = wall_clock
        self._uniform = uniform

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Report each day when it is due, until cancelled."""
        task_status.started()
        while True:
            await persist(
                self._report_due,
                self._uniform,
                lambda error: log.warning("report.waits", error=str(error)),
            )
            now = self._wall_clock()
            await trio.sleep(min(LOOK, max(0.0, self._schedule.next_due(now) - now)))

    async def _report_due(self) -> None:
        last = await self._storage.last_report()
        day = self._schedule.due(self._wall_clock(), last)
        if day is None:
            return
        try:
            report = await self._maker.make(day, last)
        except NoReportError as error:
            log.debug("report.none", day=str(day), why=str(error))
            return
        told = self._notification(report, f"report:{day}")
        if await self._storage.save_report(day, report.zone, [told]):
            log.info("report.queued", day=str(day), channels=list(self.channels))

    async def make(self, day: dt.date | None = None) -> Report:
        """The report of a day, by default of the one before today.

        Raises:
            NoReportError, StorageUnavailableError: see :meth:`ReportMaker.make`.
        """
        return await self._maker.make(day)

    def mail(self, report: Report, language: str) -> Content:
        """The report as it is sent, in a language; KeyError: there is no such language."""
        return self._render(report, language)

    async def send(self, day: dt.date | None = None) -> Report:
        """Queue the report of a day now, whether it was sent before or not. That of the schedule
        is sent all the same.

        Raises:
            NoChannelError: there is no channel for it.
            NoReportError, StorageUnavailableError: see :meth:`ReportMaker.make`.
        """
        if not self.channels:
            raise NoChannelError
        report = await self._maker.make(day)
        key = f"report:{report.day}:asked:{self._wall_clock():.3f}"
        await self._storage.enqueue_notifications([self._notification(report, key)])
        log.info("report.queued", day=str(report.day), channels=list(self.channels))
        return report

    def _notification(self, report: Report, key: str) -> Notification:
        contents = {language: self._render(report, language) for language in self._languages}
        own = contents.pop(DEFAULT_LANGUAGE)
        return Notification(
            key=key,
            kind=NotificationKind.REPORT,
            severity=Severity.INFO,
            subject=own.subject,
            text=own.text,
            html=own.html,
            translations=contents,
            data={"day": str(report.day), "zone": report.zone},
            channels=self.channels,  # whatever else they want to be told at least
        )
