"""What a daily report counts, and which days were reported."""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs

from storage.notifications import Notification


@attrs.frozen(kw_only=True)
class MessageCounts:
    """Live messages and their files, of one connection in one hour; by when they were sent."""

    connection: str
    hour: int  # from 0, of the hours that were asked for
    received: int
    sent: int
    undecryptable: int  # of both: still without their content
    files: int  # that are stored, or were and had their time
    bytes: int  # of these files
    failed: int  # files that could not be had


@attrs.frozen(kw_only=True)
class ResponseCounts:
    """First answers to customers; seconds between the customer's message and the team's."""

    connection: str | None  # None: all together
    conversations: int  # whose first customer message is of that day
    answered: int
    median: float | None  # of those answered; None: none was
    ninetieth: float | None  # nine of ten waited no longer


@attrs.frozen(kw_only=True)
class ConversationCounts:
    """What became of conversations; by when it did, and for opened ones by the first message."""

    connection: str
    opened: int
    reopened: int
    closed: int


@attrs.frozen(kw_only=True)
class WaitingCount:
    """Conversations that wait now."""

    connection: str
    waiting: int
    since: dt.datetime | None  # the first of them


@attrs.frozen(kw_only=True)
class GapCounts:
    """Gaps that began within a day, as they are counted by now."""

    connection: str
    gaps: int
    announced: int
    missing: int  # nobody has accepted
    open: int


@attrs.frozen(kw_only=True)
class ReportTransition:
    """One change of a connection's state."""

    connection: str
    at: dt.datetime
    state: str
    reason: str


@attrs.frozen(kw_only=True)
class DayCounts:
    """All of it, for a stretch of time."""

    messages: tuple[MessageCounts, ...]
    responses: tuple[ResponseCounts, ...]
    conversations: tuple[ConversationCounts, ...]
    gaps: tuple[GapCounts, ...]


class Reports(t.Protocol):
    """The part of storage that daily reports need. Every method may raise
    ``StorageUnavailableError``."""

    async def report_counts(
        self, begin: dt.datetime, end: dt.datetime, hours: cabc.Sequence[dt.datetime]
    ) -> DayCounts:
        """What happened from ``begin`` on and before ``end``. ``hours``: when each begins, the
        first with ``begin``. Conversations are counted in whole quarters of an hour."""
        ...

    async def report_transitions(
        self, begin: dt.datetime, end: dt.datetime
    ) -> list[ReportTransition]:
        """What decides the states of all connections in that time: the transitions in it, each
        connection's in the order in which they were recorded, after those that tell its state at
        the beginning."""
        ...

    async def report_waiting(self) -> list[WaitingCount]:
        """Which connections have conversations that wait, now."""
        ...

    async def report_connections(self) -> dict[str, dt.datetime]:
        """Since when there is each connection, those included that left the configuration."""
        ...

    async def save_report(
        self, day: dt.date, zone: str, notifications: cabc.Sequence[Notification]
    ) -> bool:
        """Record that a day is reported, and queue that, in one transaction; False: it was
        before, and nothing is queued."""
        ...

    async def last_report(self) -> dt.date | None:
        """The newest day that was reported; None: there was none."""
        ...
