"""Health: whether the daemon lives, whether it serves, and how everything is."""

import collections
import datetime as dt
import typing as t

import attrs
from litestar import Response, get

from actors.event_views import EventsView, NatsView
from api.backend import Backend
from api.figures import Reading
from api.health import judge, unready
from api.health_channels import channel_troubles
from api.health_events import event_troubles, with_newest
from api.views import ConnectionView, DatabaseView, HealthView, IncidentView
from api.views_health import (
    DetailedHealthView,
    DiskView,
    LiveView,
    MessagesView,
    ReadyView,
    ReloadView,
    SearchView,
    SizedDatabaseView,
    SyncTotalsView,
    counts_of,
)
from storage.figures import SyncCounts

PUBLIC: t.Final[dict[str, t.Any]] = {"scope": "none"}


def health_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""

    @get(
        "/health/live",
        tags=["health"],
        summary="Whether the daemon's event loop turns",
        description="200 as long as anything answers, also while the daemon waits for its"
        " database at start. For a supervisor that restarts what hangs.",
        opt=PUBLIC,
    )
    async def live() -> LiveView:
        return LiveView()

    @get(
        "/health/ready",
        tags=["health"],
        summary="Whether the daemon serves; 503 with the reasons while it does not",
        description="Ready: the database answers and the writer gets on. The state of connections"
        " makes no difference. Answers within 5 seconds.",
        opt=PUBLIC | {"answers": {503: "It does not, and why"}},
    )
    async def ready() -> Response[ReadyView]:
        reading = await backend.figures.reading()
        reasons = tuple(unready(backend.writer(), reading.error))
        status = 503 if reasons else 200
        return Response(ReadyView(ready=not reasons, reasons=reasons), status_code=status)

    @get(
        "/health/detailed",
        tags=["health"],
        summary="Everything that health rests on: connections, writer, database, disk, counts",
        description="Always 200: the verdict is in the answer. What comes from the database is at"
        " most a few seconds old, and null while the database does not answer. Answers within 5"
        " seconds.",
    )
    async def detailed() -> DetailedHealthView:
        return detailed_health(backend, await backend.figures.reading())

    @get("/health", tags=["health"], summary="The verdict on the whole, in short")
    async def health() -> HealthView:
        return judged(backend, await backend.figures.reading())

    @get(
        "/incidents",
        tags=["health"],
        summary="What concerns many connections at once, just now",
    )
    async def incidents() -> list[IncidentView]:
        return [IncidentView.of(each) for each in backend.fleet.incidents()]

    return [live, ready, detailed, health, incidents]


def judged(backend: Backend, reading: Reading) -> HealthView:
    """The verdict on what the daemon knows of itself and on a reading of the database."""
    stored = reading.stored
    return judge(
        backend.fleet.status(),
        backend.writer(),
        DatabaseView(
            ping_seconds=None if stored is None else stored.ping_seconds, error=reading.error
        ),
        {} if stored is None else stored.statistics,
        None if backend.loop is None else backend.loop(),
        backend.fleet.incidents(),
        disks=reading.disks,
        http_trouble=backend.http_trouble(),
        part_troubles=backend.part_troubles(),
        reload_problems=() if (last := last_reload(backend)) is None else last.problems,
        event_troubles=()  # while nobody can read the database, that is told once
        if stored is None
        else event_troubles(
            events_view(backend, reading), nats_view(backend, reading), stored.webhooks
        ),
        channel_troubles=()
        if stored is None
        else channel_troubles(stored.channels, backend.wall_clock()),
    )


def events_view(backend: Backend, reading: Reading) -> EventsView | None:
    """How the fan-out is, with the newest event there is, also while nobody follows."""
    if backend.events is None:
        return None
    view, stored = backend.events.view(), reading.stored
    known = [view.newest, None if stored is None else stored.newest_event]
    newest = max((number for number in known if number is not None), default=None)
    return attrs.evolve(view, newest=newest)


def nats_view(backend: Backend, reading: Reading) -> NatsView | None:
    """How publishing to NATS is; None: it is not wanted."""
    if backend.events is None or (view := backend.events.nats()) is None:
        return None
    return with_newest(view, None if reading.stored is None else reading.stored.newest_event)


def detailed_health(backend: Backend, reading: Reading) -> DetailedHealthView:
    """The same with all that it rests on."""
    short, stored = judged(backend, reading), reading.stored
    connections = tuple(ConnectionView.of(facts) for facts in backend.fleet.status())
    under_way = sum((each.unrecorded for each in connections), SyncCounts())
    statistics = None if stored is None else stored.statistics
    return DetailedHealthView(
        verdict=short.verdict,
        reasons=short.reasons,
        version=backend.version,
        started_at=backend.started_at,
        now=dt.datetime.fromtimestamp(backend.wall_clock(), dt.UTC),
        connections=connections,
        states=dict(collections.Counter(each.state for each in connections)),
        messages=None if statistics is None else _messages(statistics),
        sync=None
        if stored is None
        else SyncTotalsView(
            hour=counts_of(stored.sync.hour + under_way), day=counts_of(stored.sync.day + under_way)
        ),
        conversations=None if statistics is None else statistics["conversations"],
        reopened=None if statistics is None else statistics["reopened"],
        gaps=None if statistics is None else statistics["gaps"],
        quarantine=None if statistics is None else statistics["quarantined"],
        outbox=None if stored is None else stored.outbox,
        writer=short.writer,
        loop=short.loop,
        database=SizedDatabaseView(
            ping_seconds=short.database.ping_seconds,
            error=short.database.error,
            size_bytes=None if stored is None else stored.size_bytes,
        ),
        disk=_disk(reading, backend.data_place),
        media_disk=_disk(reading, backend.media_place),
        incidents=short.incidents,
        reload=last_reload(backend),
        events=events_view(backend, reading),
        webhooks=None if stored is None else stored.webhooks,
        nats=nats_view(backend, reading),
        channels=None if stored is None else stored.channels,
        search=None if stored is None else SearchView(waiting=stored.search_waiting),
    )


def last_reload(backend: Backend) -> ReloadView | None:
    """The last reload, if there was any."""
    if backend.reloader is None or (last := backend.reloader.last) is None:
        return None
    at, facts = last
    return ReloadView(
        at=dt.datetime.fromtimestamp(at, dt.UTC),
        ok=not facts.problems,
        **{name: getattr(facts, name) for name in ("problems", "restart")},
    )


def _messages(statistics: dict[str, t.Any]) -> MessagesView:
    names = [field.name for field in attrs.fields(MessagesView) if field.name != "stored"]
    return MessagesView(stored=statistics["messages"], **{name: statistics[name] for name in names})


def _disk(reading: Reading, place: str | None) -> DiskView | None:
    return next((disk for disk in reading.disks if disk.path == place), None)
