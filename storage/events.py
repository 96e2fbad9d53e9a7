"""The stream of events: what happened, in the order in which it became visible, and who follows.

A change writes its event in its own transaction (``sql/events.sql``), so there is one exactly when
the change is there. Ids grow in the order in which events become visible to readers: whoever
remembers the id of the last one that it saw has missed none below it. Ids have gaps.
"""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs

from storage.errors import CursorGoneError

MESSAGE_TYPES: t.Final = (
    "message.stored",
    "message.edited",
    "message.deleted",
    "message.undecryptable",
    "message.recovered",
    "message.quarantined",
)
EVENT_TYPES: t.Final = (
    "connection.state",
    *MESSAGE_TYPES,
    "conversation.opened",
    "conversation.reopened",
    "conversation.status",
    "gap.opened",
    "gap.closed",
    "outbox.state",
    "daemon.started",
    "incident.begun",
    "incident.ended",
    "alert.fired",
    "alert.repeated",
    "alert.acknowledged",
    "alert.resolved",
    "export.finished",
    "export.failed",
)
SCAN: t.Final = 2_000  # events that one page looks at, at most
PAGE: t.Final = 500  # events in a page, at most
STUCK: t.Final = 20  # times the deliveries that may wait, where those of failing lanes count, too


@attrs.frozen(kw_only=True)
class EventRow:
    """One event."""

    id: int
    type: str
    at: dt.datetime  # when it was recorded, by the database's clock
    connection: str | None  # None: it concerns the whole daemon
    data: dict[str, t.Any]


@attrs.frozen
class EventPage:
    """Events in their order; all events up to ``position`` have been looked at."""

    events: tuple[EventRow, ...]
    position: int


@attrs.frozen
class EventRange:
    """The cursors that there are: ``oldest`` comes before the first event that is kept."""

    oldest: int
    newest: int


@attrs.frozen(kw_only=True)
class Consumer:
    """Somebody who follows the stream and must miss nothing."""

    name: str
    position: int  # all events up to this one are taken care of
    paused: str | None = None  # why; None: it is not
    delivered: int = 0
    lost: int = 0  # single events, or stretches of them, that were deleted before their delivery
    succeeded_at: dt.datetime | None = None
    error: str | None = None  # of the newest failure
    failed_at: dt.datetime | None = None


@attrs.frozen(kw_only=True)
class Delivery:
    """An event on its way to a webhook."""

    event_id: int
    lane: str  # the connection, or ""
    state: str  # "pending" or "dead"
    attempts: int
    next_attempt_at: dt.datetime | None  # None: at once
    last_attempt_at: dt.datetime | None
    status: int | None  # of the newest answer; None: there was none
    error: str | None
    event: EventRow | None = None  # None: it was deleted for its age


@attrs.frozen(kw_only=True)
class DeliveryFailure:
    """An attempt that failed; ``retry_at`` (unix seconds) None: it was the last."""

    event_id: int
    status: int | None
    error: str
    retry_at: float | None


@attrs.frozen(kw_only=True)
class DeliveryCounts:
    """What waits at a webhook."""

    pending: int
    dead: int
    retrying: int  # of the pending ones, those that failed before
    next_attempt_at: dt.datetime | None
    """When the first lane is due; None: one is at once, or nothing is pending."""


class EventStream(t.Protocol):
    """The part of storage that tells what happened."""

    async def events_after(
        self,
        after: int,
        *,
        limit: int = PAGE,
        connection: str | None = None,
        types: cabc.Collection[str] | None = None,
    ) -> EventPage:
        """The next events behind the cursor; a page that is short, or empty, may still be
        followed by others when its position moved.

        Raises:
            CursorGoneError: events behind it were deleted, or it is of another database.
        """
        ...

    async def event_range(self) -> EventRange:
        """From where to where the stream can be read now."""
        ...

    async def append_event(
        self, type_: str, connection: str | None, data: cabc.Mapping[str, t.Any]
    ) -> int:
        """Tell of something that is no row of its own; the id."""
        ...

    async def trim_events(self, before: float, limit: int) -> int:
        """Delete the oldest events, those from before ``before`` (unix seconds), at most
        ``limit``; how many went. What waits at webhooks of them goes, too."""
        ...

    async def follow(self, consumer: str) -> Consumer:
        """A consumer by its name; a new one starts behind the newest event."""
        ...

    async def consumers(self) -> list[Consumer]:
        """All that ever followed, by name."""
        ...

    async def advance(
        self, consumer: str, position: int, *, delivered: int = 0, lost: int = 0
    ) -> None:
        """All up to ``position`` is taken care of; the counts are added."""
        ...

    async def rewind(self, consumer: str, position: int) -> None:
        """Have it read again from behind ``position``; never forward.

        Raises:
            CursorGoneError: see :meth:`events_after`.
        """
        ...

    async def pause_consumer(self, consumer: str, reason: str | None) -> None:
        """Remember that it is paused, and why; None: go on."""
        ...

    async def take_deliveries(
        self,
        consumer: str,
        *,
        types: cabc.Collection[str] | None,
        connections: cabc.Collection[str] | None,
        limit: int,
    ) -> int:
        """Make deliveries of the next events that fit, while fewer than ``limit`` wait in lanes
        that do not fail, and fewer than ``STUCK`` times that in all, and move the position past
        those that were looked at; how many were looked at.

        Events that were deleted before are counted as lost.
        """
        ...

    async def due_deliveries(
        self, consumer: str, *, busy: cabc.Collection[str], lanes: int, per_lane: int
    ) -> list[Delivery]:
        """The first deliveries of lanes whose first one is due, in order within each lane; those
        of ``busy`` lanes left aside."""
        ...

    async def settle_deliveries(
        self,
        consumer: str,
        delivered: cabc.Sequence[int],
        failure: DeliveryFailure | None = None,
        *,
        lost: cabc.Sequence[int] = (),
    ) -> None:
        """What became of some of them: delivered and lost ones go and are counted."""
        ...

    async def deliveries(
        self, consumer: str, *, state: str | None = None, after: int = 0, limit: int = 50
    ) -> list[Delivery]:
        """Deliveries with their events, the oldest first."""
        ...

    async def delivery_counts(self, consumer: str) -> DeliveryCounts:
        """How many wait and how many are dead."""
        ...

    async def redeliver(self, consumer: str, event_id: int | None = None) -> int:
        """Have one event delivered, whatever became of it before, or all dead ones (None); how
        many that are. 0: there is no such event."""
        ...


def expand_types(patterns: cabc.Iterable[str]) -> frozenset[str]:
    """The types that patterns such as ``message.*`` mean.

    Raises:
        ValueError: one means none; says which, and what there is.
    """
    found: set[str] = set()
    for pattern in patterns:
        prefix = pattern[:-1] if pattern.endswith(".*") else None
        meant = {
            name
            for name in EVENT_TYPES
            if pattern in ("*", name) or (prefix is not None and name.startswith(prefix))
        }
        if not meant:
            raise ValueError(
                f"{pattern!r} is no type of event; there are {', '.join(EVENT_TYPES)},"
                " and groups of them such as 'message.*'"
            )
        found |= meant
    return frozenset(found)


def check_cursor(cursor: int, known: EventRange) -> None:
    """Zero stands for the oldest event that is kept.

    Raises:
        CursorGoneError: the cursor cannot be used.
    """
    if cursor != 0 and not known.oldest <= cursor <= known.newest:
        raise CursorGoneError(cursor, known.oldest, known.newest)
