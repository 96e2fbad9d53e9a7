"""How often durations were how long."""

import bisect
import typing as t

import attrs

COMMIT_BOUNDS: t.Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    30.0,
)
"""Seconds: of a commit."""


@attrs.define
class Histogram:
    """Counts observations by the first of its ``bounds`` that they do not exceed."""

    bounds: tuple[float, ...]
    total: float = 0.0
    counts: list[int] = attrs.field(init=False)
    """One more than there are bounds: the last one counts what exceeds all of them."""

    def __attrs_post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Take a value into account."""
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value
