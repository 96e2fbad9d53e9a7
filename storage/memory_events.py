"""The stream of events of MemoryStorage: the rules of ``sql/events.sql``, where each change tells
of itself; and who follows it."""

import abc
import collections.abc as cabc
import datetime as dt
import itertools
import json
import typing as t

import attrs
import trio

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


class MemoryEvents(abc.ABC):
    """The part of MemoryStorage that tells what happened."""

    _clock: cabc.Callable[[], float]

    def __init__(self) -> None:
        super().__init__()
        self._stream: dict[int, EventRow] = {}
        self._stream_ids = itertools.count(1)
        self._forgotten = 0
        self._consumers: dict[str, Consumer] = {}
        self._deliveries: dict[str, dict[int, Delivery]] = {}

    def _tell(self, type_: str, connection: str | None, **data: t.Any) -> int:
        """Append an event; its data as JSON would give it back."""
        event_id = next(self._stream_ids)
        self._stream[event_id] = EventRow(
            id=event_id,
            type=type_,
            at=_time(self._clock()),
            connection=connection,
            data=json.loads(json.dumps(data)),
        )
        return event_id

    async def events_after(
        self,
        after: int,
        *,
        limit: int = PAGE,
        connection: str | None = None,
        types: cabc.Collection[str] | None = None,
    ) -> EventPage:
        """See :meth:`storage.events.EventStream.events_after`."""
        await trio.lowlevel.checkpoint()
        limit = max(1, min(limit, PAGE))
        check_cursor(after, self._range())
        page = self._behind(after, SCAN)
        found = [
            event
            for event in page
            if connection in (None, event.connection) and (types is None or event.type in types)
        ][:limit]
        if len(found) == limit:
            return EventPage(tuple(found), found[-1].id)
        return EventPage(tuple(found), page[-1].id if page else max(after, self._forgotten))

    def _behind(self, after: int, limit: int) -> list[EventRow]:
        return [event for event_id, event in self._stream.items() if event_id > after][:limit]

    def _range(self) -> EventRange:
        return EventRange(self._forgotten, max(self._stream, default=self._forgotten))

    async def event_range(self) -> EventRange:
        """See :meth:`storage.events.EventStream.event_range`."""
        await trio.lowlevel.checkpoint()
        return self._range()

    async def append_event(
        self, type_: str, connection: str | None, data: cabc.Mapping[str, t.Any]
    ) -> int:
        """See :meth:`storage.events.EventStream.append_event`."""
        await trio.lowlevel.checkpoint()
        return self._tell(type_, connection, **data)

    async def trim_events(self, before: float, limit: int) -> int:
        """See :meth:`storage.events.EventStream.trim_events`."""
        await trio.lowlevel.checkpoint()
        old = [event.id for event in self._behind(0, limit) if event.at < _time(before)]
        for event_id in old:
            del self._stream[event_id]
            for name, deliveries in self._deliveries.items():
                if deliveries.pop(event_id, None) is not None:
                    self._count(name, lost=1)
        self._forgotten = max([self._forgotten, *old])
        return len(old)

    async def follow(self, consumer: str) -> Consumer:
        """See :meth:`storage.events.EventStream.follow`."""
        await trio.lowlevel.checkpoint()
        return self._consumers.setdefault(
            consumer,
            Consumer(
                name=consumer,
                position=self._range().newest,
                paused=None,
                delivered=0,
                lost=0,
                succeeded_at=None,
                error=None,
                failed_at=None,
            ),
        )

    async def consumers(self) -> list[Consumer]:
        """See :meth:`storage.events.EventStream.consumers`."""
        await trio.lowlevel.checkpoint()
        return [self._consumers[name] for name in sorted(self._consumers)]

    async def advance(
        self, consumer: str, position: int, *, delivered: int = 0, lost: int = 0
    ) -> None:
        """See :meth:`storage.events.EventStream.advance`."""
        await trio.lowlevel.checkpoint()
        known = self._consumers[consumer].position
        self._count(consumer, delivered=delivered, lost=lost, position=max(known, position))

    def _count(self, name: str, *, delivered: int = 0, lost: int = 0, **changes: t.Any) -> None:
        row = self._consumers[name]
        if delivered:
            changes["succeeded_at"] = _time(self._clock())
        changes |= {"delivered": row.delivered + delivered, "lost": row.lost + lost}
        self._consumers[name] = attrs.evolve(row, **changes)

    async def rewind(self, consumer: str, position: int) -> None:
        """See :meth:`storage.events.EventStream.rewind`."""
        await trio.lowlevel.checkpoint()
        check_cursor(position, self._range())
        known = self._consumers[consumer].position
        self._count(consumer, position=min(known, position))

    async def pause_consumer(self, consumer: str, reason: str | None) -> None:
        """See :meth:`storage.events.EventStream.pause_consumer`."""
        await trio.lowlevel.checkpoint()
        self._count(consumer, paused=reason)

    async def take_deliveries(
        self,
        consumer: str,
        *,
        types: cabc.Collection[str] | None,
        connections: cabc.Collection[str] | None,
        limit: int,
    ) -> int:
        """See :meth:`storage.events.EventStream.take_deliveries`."""
        await trio.lowlevel.checkpoint()
        if consumer not in self._consumers:
            return 0
        own = self._deliveries.setdefault(consumer, {})
        known = self._consumers[consumer].position
        waiting = [each for each in own.values() if each.state == "pending"]
        failing = {each.lane for each in waiting if each.attempts}
        going = sum(each.lane not in failing for each in waiting)
        room = max(0, min(limit - going, STUCK * limit - len(waiting)))
        page = self._behind(max(known, self._forgotten), min(SCAN, room))
        for event in page:
            fits = (types is None or event.type in types) and (
                connections is None or event.connection is None or event.connection in connections
            )
            if fits and (event.id not in own or own[event.id].state == "dead"):
                own[event.id] = _delivery(event)
        position = page[-1].id if page else max(known, self._forgotten)
        self._count(consumer, lost=int(known < self._forgotten), position=position)
        return len(page)

    async def due_deliveries(
        self, consumer: str, *, busy: cabc.Collection[str], lanes: int, per_lane: int
    ) -> list[Delivery]:
        """See :meth:`storage.events.EventStream.due_deliveries`."""
        await trio.lowlevel.checkpoint()
        now = _time(self._clock())
        own = self._pending(consumer)
        heads: dict[str, Delivery] = {}
        for each in own:
            heads.setdefault(each.lane, each)
        due = [
            each.lane
            for each in heads.values()
            if each.lane not in busy and (each.next_attempt_at or now) <= now
        ]
        return [
            attrs.evolve(each, event=self._stream.get(each.event_id))
            for lane in due[:lanes]
            for each in [each for each in own if each.lane == lane][:per_lane]
        ]

    def _pending(self, consumer: str) -> list[Delivery]:
        own = self._deliveries.get(consumer, {})
        return [each for _id, each in sorted(own.items()) if each.state == "pending"]

    async def settle_deliveries(
        self,
        consumer: str,
        delivered: cabc.Sequence[int],
        failure: DeliveryFailure | None = None,
        *,
        lost: cabc.Sequence[int] = (),
    ) -> None:
        """See :meth:`storage.events.EventStream.settle_deliveries`."""
        await trio.lowlevel.checkpoint()
        own = self._deliveries.setdefault(consumer, {})
        waiting = {each.event_id for each in self._pending(consumer)}
        gone = [[own.pop(i) for i in ids if i in waiting] for ids in (delivered, lost)]
        self._count(consumer, delivered=len(gone[0]), lost=len(gone[1]))
        if failure is None:
            return
        now = _time(self._clock())
        self._count(consumer, error=failure.error, failed_at=now)
        if (known := own.get(failure.event_id)) is not None:
            own[failure.event_id] = attrs.evolve(
                known,
                attempts=known.attempts + 1,
                last_attempt_at=now,
                status=failure.status,
                error=failure.error,
                next_attempt_at=None if failure.retry_at is None else _time(failure.retry_at),
                state="dead" if failure.retry_at is None else "pending",
            )

    async def deliveries(
        self, consumer: str, *, state: str | None = None, after: int = 0, limit: int = 50
    ) -> list[Delivery]:
        """See :meth:`storage.events.EventStream.deliveries`."""
        await trio.lowlevel.checkpoint()
        return [
            attrs.evolve(each, event=self._stream.get(each.event_id))
            for event_id, each in sorted(self._deliveries.get(consumer, {}).items())
            if event_id > after and state in (None, each.state)
        ][:limit]

    async def delivery_counts(self, consumer: str) -> DeliveryCounts:
        """See :meth:`storage.events.EventStream.delivery_counts`."""
        await trio.lowlevel.checkpoint()
        waiting = self._pending(consumer)
        heads: dict[str, dt.datetime | None] = {}
        for each in waiting:
            heads.setdefault(each.lane, each.next_attempt_at)
        moments = [at for at in heads.values() if at is not None]
        return DeliveryCounts(
            pending=len(waiting),
            dead=len(self._deliveries.get(consumer, {})) - len(waiting),
            retrying=sum(each.attempts > 0 for each in waiting),
            next_attempt_at=min(moments) if moments and len(moments) == len(heads) else None,
        )

    async def redeliver(self, consumer: str, event_id: int | None = None) -> int:
        """See :meth:`storage.events.EventStream.redeliver`."""
        await trio.lowlevel.checkpoint()
        own = self._deliveries.setdefault(consumer, {})
        if event_id is None:
            chosen = [each.event_id for each in own.values() if each.state == "dead"]
        else:
            chosen = [event_id] if event_id in self._stream else []
        for each in chosen:
            known = own.get(each) or _delivery(self._stream[each])
            own[each] = attrs.evolve(known, state="pending", attempts=0, next_attempt_at=None)
        return len(chosen)


def event_time(seconds: float | None) -> str | None:
    """As ``event_time`` of PostgreSQL writes it."""
    return None if seconds is None else f"{_time(seconds):%Y-%m-%dT%H:%M:%S.%fZ}"


def _delivery(event: EventRow) -> Delivery:
    return Delivery(
        event_id=event.id,
        lane=event.connection or "",
        state="pending",
        attempts=0,
        next_attempt_at=None,
        last_attempt_at=None,
        status=None,
        error=None,
    )


def _time(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
