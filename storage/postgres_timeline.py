"""The timeline in PostgreSQL: see :class:`storage.timeline.Timeline`."""

import abc
import collections.abc as cabc
import datetime as dt
import typing as t

from storage.figures import MINUTES_KEPT, QUARTER
from storage.timeline import Transition


class PostgresTimeline(abc.ABC):
    """The part of PostgresStorage that remembers lives."""

    _clock: cabc.Callable[[], float]

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    async def begin_life(self) -> int:
        """See :meth:`storage.timeline.Timeline.begin_life`."""
        [[life]] = await self._fetch("begin_life", _moment(self._clock()))
        return int(life)

    async def mark_alive(self, life: int) -> None:
        """See :meth:`storage.timeline.Timeline.mark_alive`."""
        await self._fetch("mark_alive", life, _moment(self._clock()))

    async def end_life(self, life: int) -> None:
        """See :meth:`storage.timeline.Timeline.end_life`."""
        await self._fetch("end_life", life, _moment(self._clock()))

    async def timeline(
        self, connection: str, *, after: int = 0, limit: int = 50
    ) -> list[Transition]:
        """See :meth:`storage.timeline.Timeline.timeline`."""
        rows = await self._fetch("timeline", connection, after, limit)
        return [Transition(**row) for row in rows]

    async def timeline_start(self, connection: str, since: dt.datetime) -> int:
        """See :meth:`storage.timeline.Timeline.timeline_start`."""
        rows = await self._fetch("timeline_start", connection, since)
        return int(rows[0][0])

    async def forget_events(self, before: float, limit: int) -> int:
        """See :meth:`storage.timeline.Timeline.forget_events`."""
        moment = _moment(before)
        minutes = _moment(max(before, self._clock() - MINUTES_KEPT))
        gone = [
            await self._fetch("forget_events", moment, limit),
            await self._fetch("forget_sync", minutes, limit),
            await self._fetch("forget_quarters", int(before // QUARTER), limit),
            await self._fetch("forget_lives", moment, limit),
            await self._fetch("forget_conversation_quarters", int(before // QUARTER), limit),
            await self._fetch("forget_reports", moment, limit),
        ]
        return sum(len(rows) for rows in gone)


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
