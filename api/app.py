"""The one ASGI app, as the control socket and HTTP offer it."""

import collections.abc as cabc
import time
import typing as t

import attrs
from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.types import ASGIApp

from api.answers import Answers
from api.auth import ControlDoorway, HttpDoorway, TellingWebSockets, guard, note_refusal
from api.auth_sessions import Sessions
from api.backend import Backend
from api.bounds import Bounds
from api.lasting import Lasting
from api.limits import RateLimit, Strangers
from api.metrics_requests import Timed
from api.openapi import openapi_config
from api.problems import HANDLERS
from api.routes_alerts import alert_routes
from api.routes_changes import change_routes
from api.routes_channels import channel_routes
from api.routes_connections import connection_routes
from api.routes_conversations import conversation_routes
from api.routes_daemon import daemon_routes
from api.routes_dashboard import dashboard_routes
from api.routes_erasure import erasure_routes
from api.routes_events import event_routes
from api.routes_exports import export_routes
from api.routes_gaps import gap_routes
from api.routes_health import health_routes
from api.routes_history import history_routes
from api.routes_import import import_routes
from api.routes_logs import log_routes
from api.routes_media import media_routes
from api.routes_metrics import metrics_routes
from api.routes_outbox import outbox_routes
from api.routes_pairing import pairing_routes
from api.routes_people import people_routes
from api.routes_quarantine import quarantine_routes
from api.routes_report import report_routes
from api.routes_search import search_routes
from api.routes_session import session_routes
from api.routes_statistics import statistics_routes
from api.routes_timeline import timeline_routes
from api.routes_tokens import token_routes
from api.routes_webhooks import webhook_routes
from api.tokens import TokenKeeper
from config.listeners import HttpConfig

__all__ = ["Apps", "Backend", "build_app", "build_apps"]

MAX_BODY: t.Final = 64 * 1024  # bytes, where a route says nothing else


@attrs.frozen
class Apps:
    """The app, once for each kind of listener."""

    app: Litestar
    """The app itself, behind both."""
    control: ASGIApp
    """For the control socket: everything is allowed."""
    http: ASGIApp
    """For HTTP: everybody needs a token."""


def build_app(backend: Backend) -> ASGIApp:
    """The app of the control socket alone."""
    return build_apps(backend, HttpConfig()).control


def build_apps(backend: Backend, config: HttpConfig) -> Apps:
    """The app; requests are bounded in number, size and time, for each listener by itself."""
    keeper = backend.tokens
    sessions = Sessions(time.monotonic)
    inner = _litestar(backend, config, keeper, sessions)
    app = TellingWebSockets(inner)
    limited = RateLimit(Strangers(app), config.rate_limit, time.monotonic)
    lasting = Lasting(limited, keeper, sessions)
    return Apps(
        app=inner,
        control=_bounded(ControlDoorway(app), backend),
        http=_bounded(HttpDoorway(lasting, keeper, sessions, config.hosts), backend),
    )


def _bounded(app: ASGIApp, backend: Backend) -> ASGIApp:
    return Answers(Timed(Bounds(app), backend.requests))


def _litestar(
    backend: Backend, config: HttpConfig, keeper: TokenKeeper | None, sessions: Sessions
) -> Litestar:
    return Litestar(
        route_handlers=[
            *connection_routes(backend),
            *pairing_routes(backend),
            *conversation_routes(backend),
            *search_routes(backend),
            *change_routes(backend),
            *outbox_routes(backend),
            *media_routes(backend),
            *people_routes(backend),
            *erasure_routes(backend),
            *history_routes(backend),
            *gap_routes(backend),
            *timeline_routes(backend),
            *quarantine_routes(backend),
            *log_routes(backend),
            *import_routes(backend),
            *event_routes(backend),
            *webhook_routes(backend),
            *alert_routes(backend),
            *channel_routes(backend),
            *export_routes(backend),
            *daemon_routes(backend),
            *session_routes(keeper, sessions),
            *token_routes(keeper, backend.wall_clock),
            *health_routes(backend),
            *metrics_routes(backend),
            *statistics_routes(backend),
            *report_routes(backend),
            *dashboard_routes(backend),
        ],
        guards=[guard],
        cors_config=_cors(config.cors_origins),
        exception_handlers=HANDLERS,
        after_exception=[note_refusal],
        openapi_config=openapi_config(backend.version),
        request_max_body_size=MAX_BODY,
        logging_config=None,
    )


def _cors(origins: cabc.Sequence[str]) -> CORSConfig | None:
    """What pages of other origins may do: use a token, never a cookie."""
    if not origins:
        return None
    return CORSConfig(
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "If-None-Match",
            "If-Range",
            "Last-Event-ID",
            "Range",
            "X-Request-ID",
        ],
        expose_headers=[
            "Accept-Ranges",
            "Content-Disposition",
            "Content-Range",
            "ETag",
            "Link",
            "Location",
            "Retry-After",
            "WWW-Authenticate",
            "X-Expires-In",
            "X-Next-Cursor",
            "X-Pairing-Version",
            "X-Request-ID",
        ],
    )
