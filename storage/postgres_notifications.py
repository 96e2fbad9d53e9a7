"""Notifications in PostgreSQL: see :class:`storage.notifications.Notifications` for what each
method promises."""

import abc
import collections.abc as cabc
import datetime as dt
import json
import typing as t

from storage.identity import clean_text
from storage.notifications import (
    CHANNEL_GONE,
    INTERRUPTED,
    TOO_OLD,
    ChannelRow,
    ChannelRule,
    ClaimedNotification,
    Content,
    Notification,
    NotificationKind,
    Severity,
)
from storage.prepare_notifications import encode_notifications
from storage.queues import FARTHEST


class PostgresNotifications(abc.ABC):
    """The part of PostgresStorage that keeps what is to be told."""

    _clock: cabc.Callable[[], float]

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    async def enqueue_notifications(self, notifications: cabc.Sequence[Notification]) -> int:
        """See :meth:`storage.notifications.Notifications.enqueue_notifications`."""
        encoded = encode_notifications(notifications)
        return len(await self._fetch("enqueue_notifications", encoded))

    async def set_channels(self, rules: cabc.Sequence[ChannelRule], *, stale_before: float) -> int:
        """See :meth:`storage.notifications.Notifications.set_channels`."""
        wanted = [
            {
                "name": rule.name,
                "kinds": sorted(kind.value for kind in rule.kinds),
                "severity": rule.severity.value,
                "connections": None if rule.connections is None else sorted(rule.connections),
            }
            for rule in rules
        ]
        await self._fetch("set_channels", json.dumps(wanted))
        await self._fetch("release_notifications", INTERRUPTED)
        moment = _moment(stale_before)
        [[gone]] = await self._fetch("abandon_notifications", moment, TOO_OLD, CHANNEL_GONE)
        return int(gone)

    async def claim_notification(self, channel: str, deadline: float) -> ClaimedNotification | None:
        """See :meth:`storage.notifications.Notifications.claim_notification`."""
        now = self._clock()
        moments = (_moment(now), _moment(now + FARTHEST), _moment(deadline))
        rows = await self._fetch("claim_notification", channel, *moments)
        return _claimed(rows[0]) if rows else None

    async def settle_notification(
        self,
        channel: str,
        claimed: ClaimedNotification,
        error: str | None = None,
        retry_at: float | None = None,
    ) -> None:
        """See :meth:`storage.notifications.Notifications.settle_notification`."""
        await self._fetch(
            "settle_notification",
            channel,
            claimed.id,
            claimed.attempt,
            None if error is None else clean_text(error),
            None if error is None or retry_at is None else _moment(retry_at),
            _moment(self._clock()),
        )

    async def count_sent(self, channel: str, error: str | None = None) -> None:
        """See :meth:`storage.notifications.Notifications.count_sent`."""
        said = None if error is None else clean_text(error)
        await self._fetch("count_sent", channel, said, _moment(self._clock()))

    async def hurry_notifications(self, channel: str) -> None:
        """See :meth:`storage.notifications.Notifications.hurry_notifications`."""
        await self._fetch("hurry_notifications", channel)

    async def channels(self) -> list[ChannelRow]:
        """See :meth:`storage.notifications.Notifications.channels`."""
        return [ChannelRow(**row) for row in await self._fetch("channels")]

    async def trim_notifications(self, before: float, limit: int) -> int:
        """See :meth:`storage.notifications.Notifications.trim_notifications`."""
        [[gone]] = await self._fetch("trim_notifications", _moment(before), limit)
        return int(gone)


def _claimed(row: t.Any) -> ClaimedNotification:
    notification = Notification(
        key=row["key"],
        kind=NotificationKind(row["kind"]),
        severity=Severity(row["severity"]),
        connection=row["connection"],
        subject=row["subject"],
        text=row["text"],
        html=row["html"],
        translations={
            language: Content(**content)
            for language, content in json.loads(row["translations"]).items()
        },
        data=json.loads(row["data"]),
    )
    return ClaimedNotification(
        id=row["id"],
        attempt=row["attempts"],
        created_at=row["created_at"],
        notification=notification,
    )


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
