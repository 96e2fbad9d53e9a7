"""What the API asks of the service that reports."""

import datetime as dt
import typing as t

from actors.report_values import Report
from storage.notifications import Content


class ReportsPort(t.Protocol):
    """Reports of days, in the time zone of the configuration; see ``actors.reporter.Reporter``."""

    channels: tuple[str, ...]
    """Those that take reports."""

    async def make(self, day: dt.date | None = None) -> Report:
        """The report of a day, by default of the one before today.

        Raises:
            NoReportError: there can be none of that day.
        """
        ...

    def mail(self, report: Report, language: str) -> Content:
        """The report as it is sent."""
        ...

    async def send(self, day: dt.date | None = None) -> Report:
        """Queue the report of a day for the channels now.

        Raises:
            NoChannelError: there is no channel for it.
            NoReportError: there can be no report of that day.
        """
        ...
