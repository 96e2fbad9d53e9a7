"""The gap ledger in PostgreSQL: see :class:`storage.gaps.Gaps` for what each method promises; the
rules are in ``sql/gaps.sql``."""

import abc
import collections.abc as cabc
import datetime as dt
import typing as t

import attrs

from storage.gaps import PAGE, GapRow
from storage.prepare_gaps import accepting_name, not_acceptable

_INT64_MAX: t.Final = 2**63 - 1
_COLUMNS: t.Final = tuple(field.name for field in attrs.fields(GapRow))


class PostgresGaps(abc.ABC):
    """The part of PostgresStorage that shows the gap ledger."""

    _clock: cabc.Callable[[], float]

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    async def gaps(
        self,
        connection: str | None,
        *,
        open_only: bool = False,
        before: int | None = None,
        limit: int = 50,
    ) -> list[GapRow]:
        """See :meth:`storage.gaps.Gaps.gaps`."""
        before = None if before is None else max(0, min(before, _INT64_MAX))
        arguments = (connection, before, max(0, min(limit, PAGE)))
        if open_only:
            rows = await self._fetch("open_gaps", *arguments)
        else:
            rows = await self._fetch("gaps", *arguments)
        return [_row(row) for row in rows]

    async def accept_gap(self, gap_id: int, by: str) -> GapRow | None:
        """See :meth:`storage.gaps.Gaps.accept_gap`."""
        name = accepting_name(by)
        if not 0 < gap_id <= _INT64_MAX:
            return None
        now = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        accepted = await self._fetch("accept_gap", gap_id, name, now)
        rows = await self._fetch("gap", gap_id)
        if not rows:
            return None
        row = _row(rows[0])
        if not accepted:
            raise not_acceptable(row)
        return row

    async def forget_gaps(self, before: float, limit: int) -> int:
        """See :meth:`storage.gaps.Gaps.forget_gaps`."""
        moment = dt.datetime.fromtimestamp(before, dt.UTC)
        items = await self._fetch("forget_gap_items", moment, limit)
        gaps = await self._fetch("forget_gaps", moment, limit)
        return len(items) + len(gaps)

    async def gap_statistics(self) -> dict[str, int]:
        """See :meth:`storage.gaps.Gaps.gap_statistics`."""
        [counts] = await self._fetch("gap_statistics")
        return dict(counts)


def _row(row: cabc.Mapping[str, t.Any]) -> GapRow:
    return GapRow(**{name: row[name] for name in _COLUMNS})
