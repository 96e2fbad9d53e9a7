"""The figures of MemoryStorage: see :class:`storage.figures.Figures`."""

import bisect
import collections
import collections.abc as cabc
import datetime as dt
import math
import typing as t

import trio

from storage.api import SyncRun
from storage.figures import (
    QUARTER,
    UNSETTLED,
    SyncBucket,
    SyncCounts,
    SyncTotals,
    first_whole_quarter,
    on_quarters,
)
from storage.memory_timeline import MemoryTimeline

Sums: t.TypeAlias = list[int]  # total, processed, skipped, errors


class MemoryFigures(MemoryTimeline):
    """The part of MemoryStorage that counts."""

    async def record_sync(self, run: SyncRun) -> None:
        """See :meth:`storage.api.Storage.record_sync`."""
        await trio.lowlevel.checkpoint()
        self._connection(run.connection)
        at = self._clock() if run.at is None else run.at
        self._sync_runs.append((at, run))
        sums = self._sync_quarters[run.connection, math.floor(at / QUARTER)]
        _add(sums, _of(run))

    async def sync_buckets(
        self,
        edges: cabc.Sequence[dt.datetime],
        *,
        connection: str | None = None,
        by_connection: bool = False,
    ) -> list[SyncBucket]:
        """See :meth:`storage.figures.Figures.sync_buckets`."""
        await trio.lowlevel.checkpoint()
        quarters = on_quarters(edges)
        if quarters is None:
            told = [(at, run.connection, _of(run)) for at, run in self._sync_runs]
        else:
            told = [
                (float(quarter * QUARTER), name, sums)
                for (name, quarter), sums in self._sync_quarters.items()
            ]
        moments = [edge.timestamp() for edge in edges]
        found: dict[tuple[int, str], Sums] = collections.defaultdict(lambda: [0] * 4)
        for at, name, sums in told:
            number = bisect.bisect_right(moments, at) - 1
            if 0 <= number < len(moments) - 1 and connection in (None, name):
                _add(found[number, name if by_connection else ""], sums)
        return [
            SyncBucket(number=number, connection=name or None, counts=_counts(sums))
            for (number, name), sums in sorted(found.items())
        ]

    async def sync_totals(self) -> SyncTotals:
        """See :meth:`storage.figures.Figures.sync_totals`."""
        await trio.lowlevel.checkpoint()
        now = self._clock()
        day, whole = now - 96 * QUARTER, first_whole_quarter(now - 96 * QUARTER)
        hour_sums, day_sums = [0] * 4, [0] * 4
        for at, run in self._sync_runs:
            if at >= now - 4 * QUARTER:
                _add(hour_sums, _of(run))
            if day <= at < whole * QUARTER:
                _add(day_sums, _of(run))
        for (_name, quarter), sums in self._sync_quarters.items():
            if quarter >= whole:
                _add(day_sums, sums)
        return SyncTotals(hour=_counts(hour_sums), day=_counts(day_sums))

    async def outbox_unsettled(self) -> dict[str, int]:
        """See :meth:`storage.figures.Figures.outbox_unsettled`."""
        await trio.lowlevel.checkpoint()
        states = collections.Counter(row.state for row in self._outbox_rows(None))
        return {state: states[state] for state in UNSETTLED}

    async def database_size(self) -> int:
        """See :meth:`storage.figures.Figures.database_size`."""
        await trio.lowlevel.checkpoint()
        return 0


def _of(run: SyncRun) -> Sums:
    return [run.total, run.processed, run.skipped, run.errors]


def _add(sums: Sums, more: Sums) -> None:
    sums[:] = [mine + theirs for mine, theirs in zip(sums, more, strict=True)]


def _counts(sums: Sums) -> SyncCounts:
    total, processed, skipped, errors = sums
    return SyncCounts(total=total, processed=processed, skipped=skipped, errors=errors)
