"""The one ASGI app: what the control socket offers."""

import typing as t

from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ASGIApp

from api.backend import Backend
from api.bounds import Bounds
from api.problems import HANDLERS
from api.routes_connections import connection_routes
from api.routes_conversations import conversation_routes
from api.routes_daemon import daemon_routes
from api.routes_gaps import gap_routes
from api.routes_history import history_routes
from api.routes_media import media_routes
from api.routes_outbox import outbox_routes
from api.routes_people import people_routes
from api.routes_quarantine import quarantine_routes
from api.routes_timeline import timeline_routes

__all__ = ["Backend", "build_app"]

MAX_BODY: t.Final = 64 * 1024  # bytes, where a route says nothing else


def build_app(backend: Backend) -> ASGIApp:
    """The app; requests are bounded in number, size and time."""
    app = Litestar(
        route_handlers=[
            *connection_routes(backend),
            *conversation_routes(backend),
            *outbox_routes(backend),
            *media_routes(backend),
            *people_routes(backend),
            *history_routes(backend),
            *gap_routes(backend),
            *timeline_routes(backend),
            *quarantine_routes(backend),
            *daemon_routes(backend),
        ],
        exception_handlers=HANDLERS,
        openapi_config=OpenAPIConfig(
            title="zapvisor",
            version=backend.version,
            path="/schema",
            render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        ),
        request_max_body_size=MAX_BODY,
        logging_config=None,
    )
    return Bounds(app)
