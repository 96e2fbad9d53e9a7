"""What connections did and when the daemon was alive: transitions, runs, and their forgetting."""

import datetime as dt
import typing as t

import attrs

DIED: t.Final = (
    "daemon_died",
    "the daemon was not running (it ended without a word)",
)
STOPPED: t.Final = ("shutdown", "the daemon stopped")
SETTLED_STATES: t.Final = ("stopped", "logged_out")
"""States that the end of the daemon does not change."""


@attrs.frozen(kw_only=True)
class Transition:
    """One change of a connection's state, as stored."""

    id: int  # grows with each
    at: dt.datetime
    previous: str
    state: str
    reason: str  # stable code
    sentence: str
    retry: int


class Timeline(t.Protocol):
    """The part of storage that remembers lives. Every method may raise
    ``StorageUnavailableError``."""

    async def begin_life(self) -> int:
        """The daemon begins to run; the number of this run. Call it before any connection runs.

        Connections that the last run left connected, or trying, get the transition which that run
        could not record: to ``stopped``, at the last moment at which it was surely alive.
        """
        ...

    async def mark_alive(self, life: int) -> None:
        """This run is alive now."""
        ...

    async def end_life(self, life: int) -> None:
        """This run ends in order: its transitions are recorded."""
        ...

    async def timeline(
        self, connection: str, *, after: int = 0, limit: int = 50
    ) -> list[Transition]:
        """Transitions with an id above ``after``, oldest first."""
        ...

    async def timeline_start(self, connection: str, since: dt.datetime) -> int:
        """The id of the transition that put the connection into the state in which it was at
        ``since``; 0: nothing was recorded before."""
        ...

    async def forget_events(self, before: float, limit: int) -> int:
        """Delete transitions, statistics and runs from before ``before`` (unix seconds), at most
        ``limit`` of each; how many went. The newest transition of a connection stays. Of statistics
        that are older than ``storage.figures.MINUTES_KEPT`` only quarters of an hour stay."""
        ...
