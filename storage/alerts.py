"""Alerts as stored, who is not told of them, and the figures that their rules need.

An alert changes in steps, each with the next number. Storage applies a step once: its row, what
people are told of it and its event commit together, and saying it again changes nothing. So a
change whose outcome is unknown is simply stored again.
"""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs

from storage.notifications import Notification

Value: t.TypeAlias = str | int | float
Severity: t.TypeAlias = t.Literal["info", "warning", "critical"]
What: t.TypeAlias = t.Literal["fired", "repeated", "acknowledged", "resolved", "noted"]
"""What a change of an alert is; of all but ``noted`` there is an event."""


@attrs.frozen(kw_only=True)
class Alert:
    """One alert. Times are unix seconds."""

    key: str  # never the same twice
    rule: str
    severity: Severity
    of_connections: bool  # its subjects are names of connections
    subjects: tuple[str, ...] = ()  # whom it concerns now; once it is resolved, at the end
    others: int = 0  # more than are named
    cause: str = ""  # a stable code
    since: float  # the condition
    fired_at: float
    last_seen: float
    resolved_at: float | None = None
    acknowledged_at: float | None = None
    acknowledged_by: str | None = None
    notified_at: float | None = None  # the last time that people were told
    times: int = 0  # that they were told
    told: tuple[str, ...] = ()  # of which subjects
    step: int = 1
    detail: str = ""  # the daemon's own words
    facts: cabc.Mapping[str, Value] = attrs.field(factory=dict)
    sentence: str = ""  # for people, in English
    id: int | None = None  # once it is stored

    @property
    def connection(self) -> str | None:
        """The connection that it concerns, if that is one alone."""
        alone = self.of_connections and len(self.subjects) == 1 and not self.others
        return self.subjects[0] if alone else None

    @property
    def state(self) -> str:
        """firing, acknowledged or resolved."""
        if self.resolved_at is not None:
            return "resolved"
        return "firing" if self.acknowledged_at is None else "acknowledged"


@attrs.frozen(kw_only=True)
class AlertChange:
    """An alert after a change of it."""

    what: What
    alert: Alert
    notification: Notification | None = None


@attrs.frozen(kw_only=True)
class Silence:
    """Nobody is told of some alerts for a time."""

    id: int
    connection: str | None  # None: everything
    rule: str | None  # None: all
    why: str
    made_by: str
    begins_at: dt.datetime
    ends_at: dt.datetime

    def covers(self, rule: str, connection: str | None, at: dt.datetime) -> bool:
        """Whether an alert of a connection (None: of none) is silenced at a moment."""
        return (
            self.begins_at <= at < self.ends_at
            and self.rule in (None, rule)
            and self.connection in (None, connection)
        )


@attrs.frozen(kw_only=True)
class Backlog:
    """What waits, or went wrong, at one connection."""

    connection: str
    undecryptable: int = 0  # messages that have waited for their text for a while, up to 1000
    gaps: int = 0  # open although their outage has been over for a while
    missing: int = 0  # stanzas of these gaps that never came
    delivered: int = 0  # lately
    errors: int = 0  # of these


class Alerts(t.Protocol):
    """The part of storage that keeps alerts. Every method may raise
    ``StorageUnavailableError``."""

    async def save_alerts(self, changes: cabc.Sequence[AlertChange]) -> dict[str, int]:
        """Apply changes in their order, in one transaction; the ids of their alerts by key."""
        ...

    async def active_alerts(self) -> list[Alert]:
        """Those that are not resolved, the oldest first."""
        ...

    async def past_alerts(self, *, before: int | None = None, limit: int = 50) -> list[Alert]:
        """All of them, the newest first."""
        ...

    async def alert(self, alert_id: int) -> Alert | None:
        """One alert."""
        ...

    async def touch_alerts(self, keys: cabc.Sequence[str], at: float) -> None:
        """They still last at a moment (unix seconds)."""
        ...

    async def trim_alerts(self, before: float, limit: int) -> int:
        """Delete alerts that were resolved, and silences that ended, before ``before`` (unix
        seconds), at most ``limit`` of each; how many went."""
        ...

    async def add_silence(
        self, connection: str | None, rule: str | None, *, until: float, why: str, by: str
    ) -> Silence:
        """A silence from now until ``until`` (unix seconds)."""
        ...

    async def silences(self, *, since: float, limit: int = 200) -> list[Silence]:
        """Those that end after ``since`` (unix seconds), the newest first."""
        ...

    async def end_silence(self, silence_id: int) -> Silence | None:
        """End one now, unless it is over; how it is then. None: there is no such silence."""
        ...

    async def backlogs(
        self, *, undecryptable: float, gaps: float, delivered: float
    ) -> list[Backlog]:
        """Connections at which messages from before ``undecryptable`` cannot be read, gaps from
        before ``gaps`` are open, or errors happened since ``delivered`` (unix seconds)."""
        ...

    async def media_waiting(self) -> int:
        """Files that wait to be fetched, up to 100,000."""
        ...

    async def phone_signs(self) -> dict[str, float]:
        """When each connection's phone was last seen (unix seconds), as far as it is known."""
        ...

    async def note_phone_signs(self, signs: cabc.Mapping[str, float]) -> None:
        """Phones were seen (unix seconds); an older sign does not replace a newer one."""
        ...
