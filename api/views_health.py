"""The answers of the health and statistics routes, as they appear in JSON."""

import datetime as dt
import typing as t

import attrs

from actors.channel_views import ChannelView
from actors.event_views import EventsView, NatsView, WebhookView
from api.views import ConnectionView, DatabaseView, IncidentView, LoopView, Verdict, WriterView


@attrs.frozen(kw_only=True)
class DiskView:
    """How full the disk of a directory is."""

    path: str
    free_bytes: int  # for this daemon
    total_bytes: int


@attrs.frozen(kw_only=True)
class SyncView:
    """Deliveries of WhatsApp, each once: ``total`` is the sum of the others. Not every one holds a
    message to store: the phone's own notices and exchanges of keys are deliveries, too. And what
    is stored did not all come so: messages of the history and those that were sent are no
    deliveries, and an error that is read later on is a second one."""

    total: int
    processed: int  # stored, or acted upon where there is nothing to store
    skipped: int  # duplicates
    errors: int  # cannot be read yet, or in quarantine


@attrs.frozen(kw_only=True)
class SyncTotalsView:
    """What was delivered to all connections lately."""

    hour: SyncView  # the last 60 minutes
    day: SyncView  # the last 24 hours


@attrs.frozen(kw_only=True)
class MessagesView:
    """All that is stored, however it came."""

    stored: int  # messages in the database; edits, deletions and reactions are such, too
    duplicates: int  # skipped
    undecryptable: int  # placeholders that wait for their message
    quarantined: int  # rows that are not resolved


@attrs.frozen(kw_only=True)
class SizedDatabaseView(DatabaseView):
    """Whether the database answers, and how large it is."""

    size_bytes: int | None


@attrs.frozen(kw_only=True)
class ReloadView:
    """The last reload of the configuration."""

    at: dt.datetime
    ok: bool
    problems: tuple[str, ...]
    restart: tuple[str, ...]  # keys whose new values wait for a restart of the daemon


@attrs.frozen(kw_only=True)
class SearchView:
    """How far the index of words is."""

    waiting: int  # messages that cannot be found by their words yet; 10,000: that many or more


@attrs.frozen(kw_only=True)
class DetailedHealthView:
    """Everything that health rests on. What comes from the database is null while it does not
    answer; it may be a few seconds old."""

    verdict: Verdict
    reasons: tuple[str, ...]  # of a verdict that is not ``ok``
    version: str
    started_at: dt.datetime
    now: dt.datetime
    connections: tuple[ConnectionView, ...]
    states: dict[str, int]  # how many connections are in each
    messages: MessagesView | None
    sync: SyncTotalsView | None
    conversations: dict[str, int] | None  # waiting, open, closed
    reopened: int | None  # how often messages reopened conversations
    gaps: dict[str, int] | None
    quarantine: int | None  # rows that are not resolved
    outbox: dict[str, int] | None  # queued, sending, unknown, failed
    writer: WriterView
    loop: LoopView | None
    database: SizedDatabaseView
    disk: DiskView | None  # of the data directory
    media_disk: DiskView | None  # of the files of messages
    incidents: tuple[IncidentView, ...]
    reload: ReloadView | None  # None: none since the daemon started
    events: EventsView | None  # those who follow the events live
    webhooks: tuple[WebhookView, ...] | None
    nats: NatsView | None  # None: events are not published there
    channels: tuple[ChannelView, ...] | None  # that carry notifications
    search: SearchView | None


@attrs.frozen(kw_only=True)
class LiveView:
    """The event loop turns."""

    alive: bool = True


@attrs.frozen(kw_only=True)
class ReadyView:
    """Whether the daemon serves: its database answers and its writer gets on."""

    ready: bool
    reasons: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class PointView:
    """Deliveries from ``at`` on, for one step."""

    at: dt.datetime
    connection: str | None  # None: all together
    total: int
    processed: int
    skipped: int
    errors: int


def counts_of(counts: t.Any) -> SyncView:
    """The view of ``storage.figures.SyncCounts``."""
    return SyncView(
        total=counts.total,
        processed=counts.processed,
        skipped=counts.skipped,
        errors=counts.errors,
    )
