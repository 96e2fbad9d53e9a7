"""The stream of events in PostgreSQL: see :class:`storage.events.EventStream` for what each method
promises; the order is explained in ``sql/events.sql``."""

import abc
import collections.abc as cabc
import datetime as dt
import json
import typing as t

from storage.events import (
    PAGE,
    SCAN,
    STUCK,
    Consumer,
    Delivery,
    DeliveryCounts,
    DeliveryFailure,
    EventPage,
    EventRange,
    EventRow,
    check_cursor,
)
from storage.queues import FARTHEST

_INT64_MAX: t.Final = 2**63 - 1


class PostgresEvents(abc.ABC):
    """The part of PostgresStorage that tells what happened."""

    _clock: cabc.Callable[[], float]

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    async def events_after(
        self,
        after: int,
        *,
        limit: int = PAGE,
        connection: str | None = None,
        types: cabc.Collection[str] | None = None,
    ) -> EventPage:
        """See :meth:`storage.events.EventStream.events_after`."""
        limit = max(1, min(limit, PAGE))
        wanted = None if types is None else sorted(types)
        cursor = max(0, min(after, _INT64_MAX))
        rows = await self._fetch("events_after", cursor, SCAN, limit, connection, wanted)
        forgotten, newest, position = rows[0][:3]
        check_cursor(after, EventRange(forgotten, max(forgotten, newest or 0)))
        events = tuple(_event(row) for row in rows if row["id"] is not None)
        if len(events) == limit:
            position = events[-1].id
        return EventPage(events, max(after, forgotten) if position is None else position)

    async def event_range(self) -> EventRange:
        """See :meth:`storage.events.EventStream.event_range`."""
        [[oldest, newest]] = await self._fetch("event_range")
        return EventRange(oldest, newest)

    async def append_event(
        self, type_: str, connection: str | None, data: cabc.Mapping[str, t.Any]
    ) -> int:
        """See :meth:`storage.events.EventStream.append_event`."""
        [[event_id]] = await self._fetch("append_event", type_, connection, json.dumps(data))
        return int(event_id)

    async def trim_events(self, before: float, limit: int) -> int:
        """See :meth:`storage.events.EventStream.trim_events`."""
        rows = await self._fetch("trim_events", _moment(before), limit)
        return int(rows[0][0]) if rows else 0

    async def follow(self, consumer: str) -> Consumer:
        """See :meth:`storage.events.EventStream.follow`."""
        [row] = await self._fetch("follow", consumer)
        return Consumer(**row)

    async def consumers(self) -> list[Consumer]:
        """See :meth:`storage.events.EventStream.consumers`."""
        return [Consumer(**row) for row in await self._fetch("consumers")]

    async def advance(
        self, consumer: str, position: int, *, delivered: int = 0, lost: int = 0
    ) -> None:
        """See :meth:`storage.events.EventStream.advance`."""
        await self._fetch("advance", consumer, position, delivered, lost, self._moment_now())

    async def rewind(self, consumer: str, position: int) -> None:
        """See :meth:`storage.events.EventStream.rewind`."""
        check_cursor(position, await self.event_range())
        await self._fetch("rewind", consumer, position)

    async def pause_consumer(self, consumer: str, reason: str | None) -> None:
        """See :meth:`storage.events.EventStream.pause_consumer`."""
        await self._fetch("pause_consumer", consumer, reason)

    async def take_deliveries(
        self,
        consumer: str,
        *,
        types: cabc.Collection[str] | None,
        connections: cabc.Collection[str] | None,
        limit: int,
    ) -> int:
        """See :meth:`storage.events.EventStream.take_deliveries`."""
        chosen = [None if each is None else sorted(each) for each in (types, connections)]
        rows = await self._fetch("take_deliveries", consumer, *chosen, SCAN, limit, STUCK)
        return int(rows[0][0]) if rows else 0

    async def due_deliveries(
        self, consumer: str, *, busy: cabc.Collection[str], lanes: int, per_lane: int
    ) -> list[Delivery]:
        """See :meth:`storage.events.EventStream.due_deliveries`."""
        now = self._clock()
        moments = (_moment(now), _moment(now + FARTHEST))
        rows = await self._fetch(
            "due_deliveries", consumer, *moments, sorted(busy), lanes, per_lane
        )
        return [_delivery(row) for row in rows]

    async def settle_deliveries(
        self,
        consumer: str,
        delivered: cabc.Sequence[int],
        failure: DeliveryFailure | None = None,
        *,
        lost: cabc.Sequence[int] = (),
    ) -> None:
        """See :meth:`storage.events.EventStream.settle_deliveries`."""
        failed: tuple[t.Any, ...] = (None,) * 4
        if failure is not None:
            retry_at = None if failure.retry_at is None else _moment(failure.retry_at)
            failed = (failure.event_id, failure.status, failure.error, retry_at)
        now = self._moment_now()
        await self._fetch("settle_deliveries", consumer, [*delivered], [*lost], now, *failed)

    async def deliveries(
        self, consumer: str, *, state: str | None = None, after: int = 0, limit: int = 50
    ) -> list[Delivery]:
        """See :meth:`storage.events.EventStream.deliveries`."""
        rows = await self._fetch("deliveries", consumer, state, after, limit)
        return [_delivery(row) for row in rows]

    async def delivery_counts(self, consumer: str) -> DeliveryCounts:
        """See :meth:`storage.events.EventStream.delivery_counts`."""
        [row] = await self._fetch("delivery_counts", consumer)
        return DeliveryCounts(**row)

    async def redeliver(self, consumer: str, event_id: int | None = None) -> int:
        """See :meth:`storage.events.EventStream.redeliver`."""
        if event_id is None:
            return len(await self._fetch("redeliver_dead", consumer))
        if not 0 < event_id <= _INT64_MAX:
            return 0
        return len(await self._fetch("redeliver_event", consumer, event_id))

    def _moment_now(self) -> dt.datetime:
        return _moment(self._clock())


def _event(row: t.Any) -> EventRow:
    return EventRow(
        id=row["id"],
        type=row["type"],
        at=row["at"],
        connection=row["connection"],
        data=json.loads(row["data"]),
    )


def _delivery(row: t.Any) -> Delivery:
    return Delivery(
        event_id=row["event_id"],
        lane=row["lane"],
        state=row["state"],
        attempts=row["attempts"],
        next_attempt_at=row["next_attempt_at"],
        last_attempt_at=row["last_attempt_at"],
        status=row["status"],
        error=row["error"],
        event=None if row["id"] is None else _event(row),
    )


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
