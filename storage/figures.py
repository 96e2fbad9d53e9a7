"""Figures of what was taken in and of the database, cheap enough to be asked all the time."""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs

QUARTER: t.Final = 900  # seconds; days and hours of every time zone begin at one
MINUTES_KEPT: t.Final = 35 * 86_400.0  # seconds for which minutes are kept, and quarters longer


@attrs.frozen(kw_only=True)
class SyncCounts:
    """What was taken in: ``total`` is the sum of the others."""

    total: int = 0
    processed: int = 0  # stored, or recorded
    skipped: int = 0  # duplicates
    errors: int = 0  # cannot be read yet, or in quarantine

    def __add__(self, other: "SyncCounts") -> "SyncCounts":
        mine, theirs = attrs.astuple(self), attrs.astuple(other)
        names = (field.name for field in attrs.fields(SyncCounts))
        return SyncCounts(**dict(zip(names, map(int.__add__, mine, theirs), strict=True)))


@attrs.frozen(kw_only=True)
class SyncTotals:
    """What was taken in lately, by all connections together."""

    hour: SyncCounts = SyncCounts()  # the last 60 minutes
    day: SyncCounts = SyncCounts()  # the last 24 hours


@attrs.frozen(kw_only=True)
class SyncBucket:
    """What was taken in within one of several stretches of time."""

    number: int  # of the stretch, from 0
    connection: str | None  # None: all together
    counts: SyncCounts


class Figures(t.Protocol):
    """The part of storage that counts. Every method may raise ``StorageUnavailableError``."""

    async def sync_buckets(
        self,
        edges: cabc.Sequence[dt.datetime],
        *,
        connection: str | None = None,
        by_connection: bool = False,
    ) -> list[SyncBucket]:
        """Sums of sync statistics between each of the ``edges``, which ascend, and the next one;
        stretches in which nothing was taken in are left out. Edges that all lie on quarters of an
        hour are answered for as long as statistics are kept, others for ``MINUTES_KEPT``."""
        ...

    async def sync_totals(self) -> SyncTotals:
        """The last hour and the last day."""
        ...

    async def outbox_unsettled(self) -> dict[str, int]:
        """How many messages to send are ``queued``, ``sending``, ``unknown`` or ``failed``; the
        others left, and only their number grows."""
        ...

    async def database_size(self) -> int:
        """Bytes of the whole database."""
        ...


UNSETTLED: t.Final = ("queued", "sending", "unknown", "failed")


def on_quarters(edges: cabc.Sequence[dt.datetime]) -> list[int] | None:
    """The edges as numbers of quarters of an hour; None: they are not all such."""
    numbers = [divmod(edge.timestamp(), QUARTER) for edge in edges]
    return None if any(rest for _, rest in numbers) else [int(number) for number, _ in numbers]


def first_whole_quarter(since: float) -> int:
    """The number of the first quarter that does not begin before a moment (unix seconds)."""
    return -int(-since // QUARTER)
