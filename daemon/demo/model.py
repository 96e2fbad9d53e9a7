"""What a demo is asked for, what it shows while it runs, and what it ends with."""

import collections.abc as cabc
import typing as t
from pathlib import Path

import attrs

from api.views import ConnectionView

DEFAULT_SECONDS: t.Final = 60.0
DEFAULT_RATE: t.Final = 60.0  # texts per second
NAMES: t.Final = ("sales", "support", "billing", "shipping", "returns")


@attrs.frozen(kw_only=True)
class DemoOptions:
    """What the command line asks for."""

    seconds: float = DEFAULT_SECONDS  # of writing
    connections: int = 5
    rate: float = DEFAULT_RATE  # 0: as fast as they are taken in
    seed: int | None = None
    data_dir: Path | None = None  # kept; None: a temporary one
    drain: float = 60.0  # seconds for everything to settle after the writing

    @property
    def names(self) -> tuple[str, ...]:
        """The connections' names."""
        more = (f"line-{number + 1}" for number in range(len(NAMES), self.connections))
        return (*NAMES[: self.connections], *more)


@attrs.frozen(kw_only=True)
class Progress:
    """One look at a running demo."""

    phase: str
    seconds: float  # since the first text
    written: int  # messages offered to connections, each of them counted
    stored: int
    duplicates: int
    reopened: int
    restarts: int
    rate: float  # stored per second, of late
    connections: cabc.Sequence[ConnectionView] = ()


@attrs.frozen(kw_only=True)
class Summary:
    """The last line of a demo."""

    offered: int
    stored: int
    duplicates_offered: int
    duplicates_skipped: int
    lost: int
    stored_twice: int
    unexpected: int
    conversations: int
    reopened: int
    restarts: int
    seconds: float
    messages_per_second: float

    @property
    def succeeded(self) -> bool:
        """Whether ledger and database agree, and there was something to agree on."""
        return self.stored > 0 and not (self.lost or self.stored_twice or self.unexpected)


Show: t.TypeAlias = cabc.Callable[[Progress], None]
