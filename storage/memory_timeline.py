"""The timeline of MemoryStorage: see :class:`storage.timeline.Timeline`."""

import collections
import collections.abc as cabc
import datetime as dt
import itertools

import attrs
import trio

from storage.api import ConnectionEvent, SyncRun
from storage.figures import MINUTES_KEPT, QUARTER
from storage.memory_events import event_time
from storage.memory_inbox import MemoryInbox
from storage.memory_state import Connection, StoredEvent, utc
from storage.timeline import DIED, SETTLED_STATES, STOPPED, Transition


@attrs.define
class _Life:
    alive_at: float
    ended: bool = False


class MemoryTimeline(MemoryInbox):
    """The part of MemoryStorage that remembers lives."""

    def __init__(self, clock: cabc.Callable[[], float]) -> None:
        super().__init__(clock)
        self._lives: dict[int, _Life] = {}
        self._event_ids = itertools.count(1)
        self._sync_runs: list[tuple[float, SyncRun]] = []
        self._sync_quarters: dict[tuple[str, int], list[int]] = collections.defaultdict(
            lambda: [0, 0, 0, 0]
        )
        """Sums by connection and quarter of an hour."""

    async def begin_life(self) -> int:
        """See :meth:`storage.timeline.Timeline.begin_life`."""
        await trio.lowlevel.checkpoint()
        now = self._clock()
        last = self._lives[max(self._lives)] if self._lives else None
        for connection in self._connections.values():
            self._end_of_life(connection, last, now)
        life = max(self._lives, default=0) + 1
        self._lives[life] = _Life(now)
        self._tell("daemon.started", None, run=life)
        return life

    def _end_of_life(self, connection: Connection, last: _Life | None, now: float) -> None:
        if not connection.events or connection.events[-1].event.state in SETTLED_STATES:
            return
        newest = connection.events[-1]
        ended = connection.last_message_at if last is None else last.alive_at
        reason, sentence = STOPPED if last is not None and last.ended else DIED
        self._append_event(
            ConnectionEvent(
                connection=connection.name,
                previous=newest.event.state,
                state="stopped",
                reason=reason,
                sentence=sentence,
                retry=newest.event.retry,
                at=max(newest.at, min(now, newest.at if ended is None else ended)),
            )
        )

    def _append_event(self, event: ConnectionEvent) -> None:
        at = self._clock() if event.at is None else event.at
        self._connection(event.connection).events.append(
            StoredEvent(next(self._event_ids), at, event)
        )
        self._tell(
            "connection.state",
            event.connection,
            state=event.state,
            previous=event.previous,
            reason=event.reason,
            sentence=event.sentence,
            retry=event.retry,
            since=event_time(at),
            until=event_time(event.until),
        )

    def _alive_at(self, connection: Connection) -> dt.datetime | None:
        """Until when it was surely online."""
        events = connection.events
        online = [number for number, each in enumerate(events) if each.event.state == "online"]
        if not online:
            return None
        after = events[online[-1] + 1 :]
        if after:
            return utc(after[0].at)
        last = self._lives[max(self._lives)].alive_at if self._lives else 0.0
        return utc(max(events[online[-1]].at, last))

    async def mark_alive(self, life: int) -> None:
        """See :meth:`storage.timeline.Timeline.mark_alive`."""
        await trio.lowlevel.checkpoint()
        self._mark(life)

    async def end_life(self, life: int) -> None:
        """See :meth:`storage.timeline.Timeline.end_life`."""
        await trio.lowlevel.checkpoint()
        self._mark(life)
        self._lives[life].ended = True

    def _mark(self, life: int) -> None:
        row = self._lives[life]
        row.alive_at = max(row.alive_at, self._clock())

    async def timeline(
        self, connection: str, *, after: int = 0, limit: int = 50
    ) -> list[Transition]:
        """See :meth:`storage.timeline.Timeline.timeline`."""
        await trio.lowlevel.checkpoint()
        found = [each for each in self._events_of(connection) if each.id > after][:limit]
        return [
            Transition(
                id=each.id,
                at=utc(each.at),
                previous=each.event.previous,
                state=each.event.state,
                reason=each.event.reason,
                sentence=each.event.sentence,
                retry=each.event.retry,
            )
            for each in found
        ]

    async def timeline_start(self, connection: str, since: dt.datetime) -> int:
        """See :meth:`storage.timeline.Timeline.timeline_start`."""
        await trio.lowlevel.checkpoint()
        events = self._events_of(connection)
        moment = since.timestamp()
        first = min((each.id for each in events if each.at >= moment), default=None)
        return max((each.id for each in events if first is None or each.id < first), default=0)

    async def forget_events(self, before: float, limit: int) -> int:
        """See :meth:`storage.timeline.Timeline.forget_events`."""
        await trio.lowlevel.checkpoint()
        old_events = [
            (connection, each)
            for connection in self._connections.values()
            for each in connection.events[:-1]
            if each.at < before
        ][:limit]
        for connection, each in old_events:
            connection.events.remove(each)
        oldest = max(before, self._clock() - MINUTES_KEPT)
        old_runs = [run for run in self._sync_runs if run[0] < oldest][:limit]
        for run in old_runs:
            self._sync_runs.remove(run)
        old_quarters = [each for each in self._sync_quarters if each[1] < before // QUARTER][:limit]
        for quarter in old_quarters:
            del self._sync_quarters[quarter]
        newest = max(self._lives, default=0)
        old_lives = [
            life
            for life, row in sorted(self._lives.items())
            if row.alive_at < before and life < newest
        ][:limit]
        for life in old_lives:
            del self._lives[life]
        return len(old_events) + len(old_runs) + len(old_quarters) + len(old_lives)

    def _events_of(self, connection: str) -> list[StoredEvent]:
        known = self._connections.get(connection)
        return [] if known is None else known.events
