"""The answers of the API, as they appear in JSON."""

import collections.abc as cabc
import datetime as dt
import enum
import typing as t

import attrs

from api.ports_connections import ConnectionFacts, IncidentFacts, PairingFacts
from storage.api import ConversationRow
from storage.figures import SyncCounts
from storage.inbox import shown_address
from storage.queues import HistoryOverview, MediaRow

T = t.TypeVar("T")


@attrs.frozen(kw_only=True)
class HistoryView:
    """The import of a connection's history in a line."""

    percent: int | None  # as the phone counts
    messages: int  # taken in
    waiting: int  # chunks
    failed: int  # chunks


@attrs.frozen(kw_only=True)
class DeafSuspicionView:
    """Pings are answered, but something suggests that messages do not arrive."""

    since: dt.datetime
    why: str


@attrs.frozen(kw_only=True)
class ConnectionView:
    """One connection, as ``zapvisor status`` shows it."""

    name: str
    state: str
    since: dt.datetime
    reason: str
    sentence: str
    retries: int
    paired: bool
    jid: str | None
    last_message_at: dt.datetime | None
    messages: int
    duplicates: int
    undecryptable: int
    quarantined: int
    in_flight: int
    next_attempt_in: float | None
    deaf: int = 0  # how often it was found not to hear, and reset, since the daemon started
    deaf_suspicion: DeafSuspicionView | None = None
    until: dt.datetime | None = None  # when a ban is over
    last_heartbeat_at: dt.datetime | None = None  # the last login or answered ping
    lag_seconds: float = 0.0  # how long the oldest stanza in hand has waited, its commit included
    logins: int = 0  # since the daemon started, as are the following
    ends: cabc.Mapping[str, int] = attrs.field(factory=dict)  # of its lives, by reason code
    processed: int = 0  # what its sockets delivered, by outcome
    skipped: int = 0
    errors: int = 0
    unrecorded: SyncCounts = attrs.field(factory=SyncCounts)
    """Of these, what the statistics in the database lack yet: the minute under way."""
    history: HistoryView | None = None  # None: none was offered, or the database is away

    @classmethod
    def of(cls, facts: ConnectionFacts, history: HistoryOverview | None = None) -> "ConnectionView":
        """The view of what the fleet says, and of what storage knows of its history."""
        view = _copied(cls, facts, leave_out=("history", "deaf_suspicion"))
        if (suspicion := facts.deaf_suspicion) is not None:
            view = attrs.evolve(view, deaf_suspicion=_copied(DeafSuspicionView, suspicion))
        if history is None:
            return view
        return attrs.evolve(view, history=_copied(HistoryView, history))


@attrs.frozen(kw_only=True)
class ConnectionDetail(ConnectionView):
    """One connection with what it is configured with."""

    origin: str  # "file" or "api"
    settings: dict[str, t.Any]
    """Its own; None: as for all."""
    effective: dict[str, t.Any]
    """What is in force."""


@attrs.frozen(kw_only=True)
class PairingView:
    """How far a pairing is; ``version`` is the ``after`` of the next question."""

    name: str
    version: int
    state: str
    qr: str | None = attrs.field(repr=False)
    code: str | None = attrs.field(repr=False)
    expires_in: float | None
    sentence: str

    @classmethod
    def of(cls, facts: PairingFacts) -> "PairingView":
        """The view of what the fleet says."""
        return _copied(cls, facts)


@attrs.frozen(kw_only=True)
class ConversationView:
    """One conversation in a list."""

    id: int
    connection: str
    chat: str
    title: str | None
    shown: str
    """The title; without one the phone number, ``+15550001111``, or ``lid:9000…`` while that is
    unknown; of a group its address."""
    status: str
    messages: int
    opened_at: dt.datetime
    last_message_at: dt.datetime
    closed_at: dt.datetime | None
    reopened: int
    possible_hole: bool  # messages may be missing: a gap is open, or one cannot be read yet

    @classmethod
    def of(cls, row: ConversationRow) -> "ConversationView":
        """The view of a stored row."""
        return _copied(cls, row, shown=row.title or shown_address((row.chat,)))


@attrs.frozen(kw_only=True)
class WriterView:
    """How the single writer keeps up."""

    depth: int  # mail waiting for it
    capacity: int
    batches: int
    envelopes: int
    last_commit_seconds: float
    retrying_seconds: float | None  # how long the database has been away, as the writer sees it
    last_error: str | None
    stalled_seconds: float = 0.0  # how long it has had work and made no progress


@attrs.frozen(kw_only=True)
class LoopView:
    """How late the event loop is: seconds from when a task should run until it does."""

    lag_seconds: float  # the last one
    lag_p99_seconds: float  # of the last minute
    lag_max_seconds: float  # of the last minute
    stalls: int  # how often it stood still for seconds, since the daemon started


@attrs.frozen(kw_only=True)
class DatabaseView:
    """Whether the database answers."""

    ping_seconds: float | None
    error: str | None


@attrs.frozen(kw_only=True)
class FileView:
    """A file that was uploaded, to be sent or not."""

    sha256: str  # hex: the ``file`` of a message
    size: int  # bytes


@attrs.frozen(kw_only=True)
class MediaView:
    """The file of a message, and how far its fetching is; what its sender claims is shown as it
    is."""

    connection: str
    message_id: int
    kind: str
    mimetype: str | None  # claimed
    name: str | None = attrs.field(repr=False)  # claimed
    size: int | None  # bytes, claimed
    state: str
    attempts: int
    next_attempt_at: dt.datetime | None
    sha256: str | None  # hex, of the stored file
    stored_size: int | None  # bytes
    error: str | None
    stored_at: dt.datetime | None

    @classmethod
    def of(cls, row: MediaRow) -> "MediaView":
        """The view of a stored row."""
        names = {field.name for field in attrs.fields(cls)} - {"sha256", "stored_size"}
        return cls(
            **{name: getattr(row, name) for name in names},
            sha256=None if row.blob_sha256 is None else row.blob_sha256.hex(),
            stored_size=row.blob_size,
        )

    def withheld(self) -> "MediaView":
        """The same of a message that was deleted: without what tells of its content."""
        return attrs.evolve(
            self, mimetype=None, name=None, size=None, sha256=None, stored_size=None, error=None
        )


@attrs.frozen(kw_only=True)
class OlderHistoryView:
    """Older messages of a chat were asked for."""

    connection: str
    chat: str
    count: int
    request_id: str


class Verdict(enum.Enum):
    """The health of the whole; the values of the exit code of ``zapvisor health``."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILING = "failing"


@attrs.frozen(kw_only=True)
class IncidentView:
    """What concerns many connections at once."""

    code: str  # "outage" or "outdated"
    since: dt.datetime
    sentence: str
    connections: int

    @classmethod
    def of(cls, facts: IncidentFacts) -> "IncidentView":
        """The view of what the fleet says."""
        return _copied(cls, facts)


@attrs.frozen(kw_only=True)
class HealthView:
    """The health of the whole, with the reasons for the verdict."""

    verdict: Verdict
    reasons: tuple[str, ...]
    connections: dict[str, int]  # by state
    statistics: dict[str, t.Any]
    writer: WriterView
    database: DatabaseView
    incidents: tuple[IncidentView, ...] = ()
    loop: LoopView | None = None  # None: nobody measures it


@attrs.frozen(kw_only=True)
class VersionView:
    """Which daemon answers."""

    version: str
    python: str
    pid: int
    started_at: dt.datetime


@attrs.frozen(kw_only=True)
class Problem:
    """An error, in the words of RFC 9457: what is wrong, where, and what to do."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    """The request that it happened to: ``urn:zapvisor:request:<id>``; the log has that id, too."""


def _copied(
    cls: cabc.Callable[..., T],
    source: object,
    leave_out: cabc.Collection[str] = (),
    **made: object,
) -> T:
    """The fields that a view shares with its source; ``made`` are those that it does not."""
    names = [field.name for field in attrs.fields(t.cast("type[attrs.AttrsInstance]", cls))]
    copied = {name: getattr(source, name) for name in names if name not in (*leave_out, *made)}
    return cls(**copied, **made)
