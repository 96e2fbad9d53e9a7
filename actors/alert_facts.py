"""What the alert rules look at: how everything is at one moment. Times are unix seconds."""

import typing as t

import attrs

from storage.alerts import Backlog, Severity

SEVERITIES: t.Final[tuple[Severity, ...]] = ("info", "warning", "critical")


@attrs.frozen(kw_only=True)
class ConnectionHealth:
    """One connection."""

    name: str
    state: str
    reason: str = ""
    sentence: str = ""
    since: float = 0.0
    deaf_since: float | None = None  # it seems not to hear since then
    deaf_why: str = ""
    quarantined: int = 0  # rows that are not resolved
    phone_seen_at: float | None = None  # None: not known


@attrs.frozen(kw_only=True)
class IncidentHealth:
    """Something that concerns many connections at once."""

    code: str  # "outage" or "outdated"
    since: float
    sentence: str
    connections: int


@attrs.frozen(kw_only=True)
class WriterHealth:
    """The writer."""

    depth: int = 0
    capacity: int = 1
    retrying: float = 0.0  # seconds for which it has been trying to write a batch
    stalled: float = 0.0  # seconds without any progress
    error: str = ""


@attrs.frozen(kw_only=True)
class DiskHealth:
    """A disk, by a directory on it."""

    path: str
    free: int  # bytes
    total: int


@attrs.frozen(kw_only=True)
class WebhookHealth:
    """A webhook."""

    name: str
    dead: int  # deliveries that were given up


@attrs.frozen(kw_only=True)
class ChannelHealth:
    """A channel of notifications."""

    name: str
    failing_since: float | None = None
    error: str = ""


@attrs.frozen(kw_only=True)
class ExportHealth:
    """An export of the schedule that failed, or is late."""

    name: str
    since: float
    error: str


@attrs.frozen(kw_only=True)
class StoredHealth:
    """What only the database knows."""

    backlogs: tuple[Backlog, ...] = ()
    media: int = 0  # files that wait to be fetched
    webhooks: tuple[WebhookHealth, ...] = ()
    channels: tuple[ChannelHealth, ...] = ()


@attrs.frozen(kw_only=True)
class Snapshot:
    """Everything at one moment. What is None could not be learned: nothing follows from it."""

    connections: tuple[ConnectionHealth, ...] = ()
    incidents: tuple[IncidentHealth, ...] = ()
    writer: WriterHealth = WriterHealth()
    database_error: str | None = None
    disks: tuple[DiskHealth, ...] = ()
    stored: StoredHealth | None = None
    exports: tuple[ExportHealth, ...] | None = None
