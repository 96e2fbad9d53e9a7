"""The reports of MemoryStorage: see :class:`storage.reports.Reports`.

What a service needs in virtual time: messages, transitions, and the days that were reported. First
answers, gaps and files are counted by PostgreSQL alone.
"""

import bisect
import collections
import collections.abc as cabc
import datetime as dt

import trio

from storage.api import Lane
from storage.memory_notifications import MemoryNotifications
from storage.memory_state import Connection, utc
from storage.notifications import Notification
from storage.reports import DayCounts, MessageCounts, ReportTransition, WaitingCount


class MemoryReports(MemoryNotifications):
    """The part of MemoryStorage that daily reports need."""

    _connections: dict[str, Connection]

    def __init__(self) -> None:
        super().__init__()
        self._reported: set[dt.date] = set()

    async def report_counts(
        self, begin: dt.datetime, end: dt.datetime, hours: cabc.Sequence[dt.datetime]
    ) -> DayCounts:
        """See :meth:`storage.reports.Reports.report_counts`; messages only."""
        await trio.lowlevel.checkpoint()
        received: collections.Counter[tuple[str, int]] = collections.Counter()
        sent: collections.Counter[tuple[str, int]] = collections.Counter()
        unread: collections.Counter[tuple[str, int]] = collections.Counter()
        for connection in self._connections.values():
            for message in connection.rows.values():
                at = utc(message.content.sent_at)
                if not (begin <= at < end and message.content.lane is Lane.LIVE):
                    continue
                place = (connection.name, bisect.bisect_right(hours, at) - 1)
                (sent if message.content.from_me else received)[place] += 1
                unread[place] += message.placeholder
        return DayCounts(
            messages=tuple(
                MessageCounts(
                    connection=name,
                    hour=hour,
                    received=received[name, hour],
                    sent=sent[name, hour],
                    undecryptable=unread[name, hour],
                    files=0,
                    bytes=0,
                    failed=0,
                )
                for name, hour in sorted(received.keys() | sent.keys())
            ),
            responses=(),
            conversations=(),
            gaps=(),
        )

    async def report_transitions(
        self, begin: dt.datetime, end: dt.datetime
    ) -> list[ReportTransition]:
        """See :meth:`storage.reports.Reports.report_transitions`; from the first one on."""
        await trio.lowlevel.checkpoint()
        return [
            ReportTransition(
                connection=connection.name,
                at=utc(each.at),
                state=each.event.state,
                reason=each.event.reason,
            )
            for connection in self._connections.values()
            for each in connection.events
            if utc(each.at) < end
        ]

    async def report_waiting(self) -> list[WaitingCount]:
        """See :meth:`storage.reports.Reports.report_waiting`."""
        await trio.lowlevel.checkpoint()
        waiting = {
            connection.name: [
                utc(each.opened_at)
                for chat in connection.chats.values()
                for each in chat.conversations
                if each.status == "waiting"
            ]
            for connection in self._connections.values()
        }
        return [
            WaitingCount(connection=name, waiting=len(since), since=min(since))
            for name, since in sorted(waiting.items())
            if since
        ]

    async def report_connections(self) -> dict[str, dt.datetime]:
        """See :meth:`storage.reports.Reports.report_connections`."""
        await trio.lowlevel.checkpoint()
        return {each.name: utc(each.created_at) for each in self._connections.values()}

    async def save_report(
        self, day: dt.date, zone: str, notifications: cabc.Sequence[Notification]
    ) -> bool:
        """See :meth:`storage.reports.Reports.save_report`."""
        await trio.lowlevel.checkpoint()
        if day in self._reported:
            return False
        self._reported.add(day)
        self.queue_notifications(notifications)
        return True

    async def last_report(self) -> dt.date | None:
        """See :meth:`storage.reports.Reports.last_report`."""
        await trio.lowlevel.checkpoint()
        return max(self._reported, default=None)
