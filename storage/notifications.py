"""Notifications: what operators are told, queued with the change that it tells of.

A notification has a key; the same key is never queued twice. For each channel that takes it there
is a delivery, made in the same transaction (``sql/notifications.sql``: whoever changes something
in SQL calls ``enqueue_notifications`` there). A channel tells them in their order: it claims the
first one, sends it, and settles it. What was claimed and never settled, because the daemon died
in between, is sent again: nobody can know whether the channel took it.
"""

import collections.abc as cabc
import datetime as dt
import enum
import types
import typing as t

import attrs

DEFAULT_LANGUAGE: t.Final = "en"
TOO_OLD: t.Final = "it waited too long: what it tells is no longer news"
INTERRUPTED: t.Final = "the daemon ended while it was being sent; whether it arrived is not known"
CHANNEL_GONE: t.Final = "the channel is no longer in the configuration"


class NotificationKind(enum.Enum):
    """What a notification tells of."""

    ALERT = "alert"
    RECOVERY = "recovery"  # the end of an alert
    REPORT = "report"
    TEST = "test"


class Severity(enum.Enum):
    """How much it matters, the least first."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """The greater, the worse."""
        return list(Severity).index(self)


@attrs.frozen(kw_only=True)
class Content:
    """What people read, in one language."""

    subject: str
    text: str
    html: str | None = None


@attrs.frozen(kw_only=True)
class Notification:
    """Something to tell; its own content is English."""

    key: str  # what makes it this one, such as "alert:17:fired": never queued twice
    kind: NotificationKind
    severity: Severity = Severity.WARNING
    connection: str | None = None  # None: the whole daemon, or many connections
    concerned: tuple[str, ...] = ()
    """Many connections by name, if it is of no others; none: it is of the whole daemon."""
    subject: str
    text: str
    html: str | None = None
    translations: cabc.Mapping[str, Content] = types.MappingProxyType({})  # by language
    data: cabc.Mapping[str, t.Any] = types.MappingProxyType({})  # JSON, for programs
    channels: tuple[str, ...] | None = None
    """Only these, whatever else they take; None: all that take it."""
    told: tuple[str, ...] = ()
    """Channels that were sent it already, past the queue: it is recorded, not sent again."""

    @property
    def whom(self) -> tuple[str, ...]:
        """The connections that it is of; none: it is of the whole daemon."""
        return self.concerned if self.connection is None else (self.connection,)

    def content(self, language: str) -> Content:
        """In this language, else in English."""
        own = Content(subject=self.subject, text=self.text, html=self.html)
        return self.translations.get(language, own)


@attrs.frozen(kw_only=True)
class ChannelRule:
    """What a channel takes."""

    name: str
    kinds: frozenset[NotificationKind]
    severity: Severity = Severity.WARNING  # the least
    connections: frozenset[str] | None = None  # None: all

    def takes(self, notification: Notification) -> bool:
        """Whether a notification goes there."""
        if notification.channels is not None:
            return self.name in notification.channels
        return (
            notification.kind in self.kinds
            and notification.severity.rank >= self.severity.rank
            and (
                self.connections is None
                or not (whom := notification.whom)
                or not self.connections.isdisjoint(whom)
            )
        )


@attrs.frozen(kw_only=True)
class ClaimedNotification:
    """One that is being sent."""

    id: int
    attempt: int  # from 1
    created_at: dt.datetime
    notification: Notification


@attrs.frozen(kw_only=True)
class ChannelRow:
    """How far a channel has come."""

    name: str
    active: bool  # it is in the configuration
    sent: int
    failed: int  # attempts
    given_up: int
    sent_at: dt.datetime | None
    failed_at: dt.datetime | None
    failing_since: dt.datetime | None  # None: the newest attempt was well
    error: str | None  # of the newest failure
    pending: int  # all that is to be told still
    retrying: int  # of them, those that failed before
    oldest_at: dt.datetime | None  # since when the oldest of them waits
    next_attempt_at: dt.datetime | None  # of those that failed


class Notifications(t.Protocol):
    """The part of storage that keeps what is to be told."""

    async def enqueue_notifications(self, notifications: cabc.Sequence[Notification]) -> int:
        """Queue them for the channels that take them, in one transaction; how many are new. Those
        whose key is known change nothing."""
        ...

    async def set_channels(self, rules: cabc.Sequence[ChannelRule], *, stale_before: float) -> int:
        """Which channels there are from now on, when the daemon starts. What was being sent is due
        at once: whoever sent it is gone. What waits for other channels, and what is from before
        ``stale_before`` (unix seconds), is given up; how many."""
        ...

    async def claim_notification(self, channel: str, deadline: float) -> ClaimedNotification | None:
        """The next one to send, if it is due. It stays claimed until it is settled, at most
        until ``deadline`` (unix seconds)."""
        ...

    async def settle_notification(
        self,
        channel: str,
        claimed: ClaimedNotification,
        error: str | None = None,
        retry_at: float | None = None,
    ) -> None:
        """What came of it: sent (no error), to be tried again at ``retry_at`` (unix seconds), or
        given up (None). Saying it again changes nothing."""
        ...

    async def count_sent(self, channel: str, error: str | None = None) -> None:
        """Count what was sent, or failed, past the queue."""
        ...

    async def hurry_notifications(self, channel: str) -> None:
        """Have those tried at once that failed."""
        ...

    async def channels(self) -> list[ChannelRow]:
        """All channels that ever were, by name."""
        ...

    async def trim_notifications(self, before: float, limit: int) -> int:
        """Delete the oldest, those from before ``before`` (unix seconds), whatever became of
        them, at most ``limit``; how many went."""
        ...
