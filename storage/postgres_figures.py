"""Figures in PostgreSQL: see :class:`storage.figures.Figures`."""

import abc
import collections.abc as cabc
import datetime as dt
import typing as t

from storage.figures import (
    QUARTER,
    UNSETTLED,
    SyncBucket,
    SyncCounts,
    SyncTotals,
    first_whole_quarter,
    on_quarters,
)


class PostgresFigures(abc.ABC):
    """The part of PostgresStorage that counts."""

    _clock: cabc.Callable[[], float]

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    async def sync_buckets(
        self,
        edges: cabc.Sequence[dt.datetime],
        *,
        connection: str | None = None,
        by_connection: bool = False,
    ) -> list[SyncBucket]:
        """See :meth:`storage.figures.Figures.sync_buckets`."""
        quarters = on_quarters(edges)
        if quarters is None:
            rows = await self._fetch("sync_by_minute", list(edges), connection, by_connection)
        else:
            rows = await self._fetch("sync_by_quarter", quarters, connection, by_connection)
        return [
            SyncBucket(number=row["number"] - 1, connection=row["connection"], counts=_counts(row))
            for row in rows
        ]

    async def sync_totals(self) -> SyncTotals:
        """See :meth:`storage.figures.Figures.sync_totals`."""
        now = self._clock()
        rows = await self._fetch(
            "sync_totals",
            _moment(now - 4 * QUARTER),
            _moment(now - 96 * QUARTER),
            first_whole_quarter(now - 96 * QUARTER),
        )
        return SyncTotals(**{row["span"]: _counts(row) for row in rows})

    async def outbox_unsettled(self) -> dict[str, int]:
        """See :meth:`storage.figures.Figures.outbox_unsettled`."""
        counts = dict(await self._fetch("count_outbox"))
        return {state: counts.get(state, 0) for state in UNSETTLED}

    async def database_size(self) -> int:
        """See :meth:`storage.figures.Figures.database_size`."""
        [[size]] = await self._fetch("database_size")
        return int(size)


def _counts(row: t.Any) -> SyncCounts:
    names = ("total", "processed", "skipped", "errors")
    return SyncCounts(**{name: row[name] for name in names})


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
