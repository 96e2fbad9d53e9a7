"""Reports in PostgreSQL: see :class:`storage.reports.Reports`."""

import abc
import collections.abc as cabc
import datetime as dt
import typing as t

from storage.figures import QUARTER
from storage.notifications import Notification
from storage.prepare_notifications import encode_notifications
from storage.reports import (
    ConversationCounts,
    DayCounts,
    GapCounts,
    MessageCounts,
    ReportTransition,
    ResponseCounts,
    WaitingCount,
)

PAGE: t.Final = 5000  # transitions read at once


class PostgresReports(abc.ABC):
    """The part of PostgresStorage that daily reports need."""

    _clock: cabc.Callable[[], float]

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    async def report_counts(
        self, begin: dt.datetime, end: dt.datetime, hours: cabc.Sequence[dt.datetime]
    ) -> DayCounts:
        """See :meth:`storage.reports.Reports.report_counts`."""
        messages = await self._fetch("report_messages", begin, end, list(hours))
        responses = await self._fetch("report_responses", begin, end)
        quarters = (int(begin.timestamp() // QUARTER), int(-(-end.timestamp() // QUARTER)))
        conversations = await self._fetch("report_conversations", *quarters)
        gaps = await self._fetch("report_gaps", begin, end)
        return DayCounts(
            messages=tuple(MessageCounts(**{**row, "hour": row["hour"] - 1}) for row in messages),
            responses=tuple(ResponseCounts(**row) for row in responses if row["conversations"]),
            conversations=tuple(ConversationCounts(**row) for row in conversations),
            gaps=tuple(GapCounts(**row) for row in gaps),
        )

    async def report_transitions(
        self, begin: dt.datetime, end: dt.datetime
    ) -> list[ReportTransition]:
        """See :meth:`storage.reports.Reports.report_transitions`."""
        found: list[ReportTransition] = []
        place = (0, 0)
        while rows := await self._fetch("report_transitions", begin, end, *place, PAGE):
            found += [
                ReportTransition(
                    connection=row["connection"],
                    at=row["at"],
                    state=row["state"],
                    reason=row["reason"],
                )
                for row in rows
            ]
            place = (rows[-1]["connection_id"], rows[-1]["id"])
        return found

    async def report_waiting(self) -> list[WaitingCount]:
        """See :meth:`storage.reports.Reports.report_waiting`."""
        return [WaitingCount(**row) for row in await self._fetch("report_waiting")]

    async def report_connections(self) -> dict[str, dt.datetime]:
        """See :meth:`storage.reports.Reports.report_connections`."""
        return dict(await self._fetch("report_connections"))

    async def save_report(
        self, day: dt.date, zone: str, notifications: cabc.Sequence[Notification]
    ) -> bool:
        """See :meth:`storage.reports.Reports.save_report`."""
        now = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        told = encode_notifications(notifications)
        [[made]] = await self._fetch("save_report", day, zone, now, told)
        return bool(made)

    async def last_report(self) -> dt.date | None:
        """See :meth:`storage.reports.Reports.last_report`."""
        [[day]] = await self._fetch("last_report")
        return t.cast("dt.date | None", day)
