"""Everything the routes work on, and the parameters that several of them take."""

import collections.abc as cabc
import datetime as dt
import time
import typing as t

import attrs
from litestar.params import QueryParameter
from prometheus_client.registry import Collector

from api.figures import FigureReader
from api.metrics_requests import RequestTimes
from api.ports_alerts import AlertsPort
from api.ports_channels import ChannelsPort
from api.ports_connections import ActionsPort, FleetPort
from api.ports_daemon import HistogramPort, RegistrarPort, ReloadPort, ReprocessPort, RestorerPort
from api.ports_erasure import EraserPort, RetentionPort
from api.ports_events import EventsPort, WebhooksPort
from api.ports_exports import ExportsPort
from api.ports_logs import LogsPort
from api.ports_report import ReportsPort
from api.ports_storage import FilesPort, StoragePort
from api.problems import ProblemError
from api.tokens import TokenKeeper
from api.views import LoopView, WriterView

Limit: t.TypeAlias = t.Annotated[int, QueryParameter(ge=1, le=200)]
Cursor: t.TypeAlias = t.Annotated[int, QueryParameter(ge=0, le=2**63 - 1)]
Before: t.TypeAlias = t.Annotated[int | None, QueryParameter(ge=0, le=2**63 - 1)]
Wait: t.TypeAlias = t.Annotated[float, QueryParameter(ge=0, le=20.0)]

LONG_POLL: t.Final = 20.0  # seconds

P = t.TypeVar("P")


@attrs.frozen(kw_only=True)
class Backend:
    """Everything the routes work on. A part that is None is not there: its routes say so."""

    fleet: FleetPort
    storage: StoragePort
    writer: cabc.Callable[[], WriterView]
    version: str
    started_at: dt.datetime
    actions: ActionsPort | None = None
    files: FilesPort | None = None
    reprocess: ReprocessPort | None = None
    loop: cabc.Callable[[], LoopView] | None = None
    restorer: RestorerPort | None = None
    reloader: ReloadPort | None = None
    tokens: TokenKeeper | None = None
    http_trouble: cabc.Callable[[], str | None] = lambda: None
    """Why nobody is served over HTTP, although that is wanted."""
    part_troubles: cabc.Callable[[], cabc.Sequence[str]] = tuple
    """What is wrong with the parts of the API itself."""
    figures: FigureReader = attrs.Factory(lambda self: FigureReader(self.storage), takes_self=True)
    """The stored part of health; somebody has to run it."""
    commits: HistogramPort | None = None  # how long the writer's took
    requests: RequestTimes = attrs.field(factory=RequestTimes)
    collectors: tuple[Collector, ...] = ()
    """More metrics, of parts that have some of their own."""
    data_place: str | None = None  # of the places whose disks ``figures`` looks at
    media_place: str | None = None
    logs: LogsPort | None = None
    events: EventsPort | None = None
    webhooks: WebhooksPort | None = None
    channels: ChannelsPort | None = None
    registrar: RegistrarPort | None = None
    reports: ReportsPort | None = None
    alerts: AlertsPort | None = None
    eraser: EraserPort | None = None
    retention: RetentionPort | None = None
    exports: ExportsPort | None = None
    wall_clock: cabc.Callable[[], float] = time.time  # noqa: TID251 - the edge; unix seconds


def required(part: P | None, what: str) -> P:
    """A part of the backend that a route cannot do without.

    Raises:
        ProblemError: it is not there.
    """
    if part is None:
        raise ProblemError("unavailable", 503, f"this daemon runs without {what}")
    return part


def unknown(what: str, number: object, advice: str) -> ProblemError:
    """The problem of a thing that there is not."""
    kind = f"unknown-{what.replace(' ', '-')}"
    return ProblemError(kind, 404, f"there is no {what} {number}; {advice}")


def storable(number: int, what: str, advice: str) -> int:
    """A number that the database can hold; anything else is nobody's.

    Raises:
        ProblemError: it is nobody's.
    """
    if not 0 < number < 2**63:
        raise unknown(what, number, advice)
    return number
