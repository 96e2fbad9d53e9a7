"""The one ASGI app: what the control socket offers."""

import collections.abc as cabc
import datetime as dt
import enum
import os
import platform
import typing as t

import attrs
import trio
from litestar import Litestar, Response, get, post
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.types import ASGIApp

from api.bounds import Bounds
from api.health import judge
from api.ports import FleetPort, StoragePort
from api.problems import HANDLERS, ProblemError
from api.views import (
    ConnectionView,
    ConversationView,
    DatabaseView,
    HealthView,
    PairingView,
    VersionView,
    WriterView,
)
from storage.api import ConversationRow
from storage.errors import StorageError

LONG_POLL: t.Final = 20.0  # seconds
DATABASE_DEADLINE: t.Final = 5.0  # seconds the health check waits for the database
MAX_BODY: t.Final = 64 * 1024  # bytes

Limit: t.TypeAlias = t.Annotated[int, QueryParameter(ge=1, le=200)]


class ConversationStatus(enum.Enum):
    """The statuses to filter by."""

    WAITING = "waiting"
    OPEN = "open"
    CLOSED = "closed"


@attrs.frozen(kw_only=True)
class Backend:
    """Everything the routes work on."""

    fleet: FleetPort
    storage: StoragePort
    writer: cabc.Callable[[], WriterView]
    version: str
    started_at: dt.datetime


def build_app(backend: Backend) -> ASGIApp:
    """The app; requests are bounded in number, size and time."""
    app = Litestar(
        route_handlers=[*_connection_routes(backend), *_data_routes(backend)],
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


def _connection_routes(backend: Backend) -> list[t.Any]:
    fleet = backend.fleet

    def view(name: str) -> ConnectionView:
        (facts,) = fleet.status(name)
        return ConnectionView.of(facts)

    @get("/status", summary="All connections")
    async def status() -> list[ConnectionView]:
        return [ConnectionView.of(facts) for facts in fleet.status()]

    @post("/connections/{name:str}/start", status_code=200, summary="Run a connection")
    async def start(name: FromPath[str]) -> ConnectionView:
        await fleet.start(name)
        return view(name)

    @post("/connections/{name:str}/stop", status_code=200, summary="Stop a connection")
    async def stop(name: FromPath[str]) -> ConnectionView:
        await fleet.stop(name)
        return view(name)

    @post("/connections/{name:str}/restart", status_code=200, summary="Stop, then run")
    async def restart(name: FromPath[str]) -> ConnectionView:
        await fleet.restart(name)
        return view(name)

    @post("/connections/{name:str}/pair", status_code=202, summary="Begin pairing")
    async def pair(name: FromPath[str], force: FromQuery[bool] = False) -> ConnectionView:
        await fleet.pair(name, force=force)
        return view(name)

    @get(
        "/connections/{name:str}/pairing",
        summary="Wait for news of a pairing; 204 when there are none in time",
    )
    async def pairing(
        name: FromPath[str],
        after: t.Annotated[int, QueryParameter(ge=0)] = 0,
        wait: t.Annotated[float, QueryParameter(ge=0, le=LONG_POLL)] = LONG_POLL,
    ) -> Response[PairingView | None]:
        fleet.status(name)
        with trio.move_on_after(wait):
            return Response(PairingView.of(await fleet.wait_pairing(name, after)))
        return Response(None, status_code=204)

    return [status, start, stop, restart, pair, pairing]


def _data_routes(backend: Backend) -> list[t.Any]:
    fleet, storage = backend.fleet, backend.storage

    @get("/health", summary="The verdict on the whole, and what it rests on")
    async def health() -> HealthView:
        database, statistics = await _ask_database(storage)
        return judge(fleet.status(), backend.writer(), database, statistics)

    @get("/conversations", summary="Conversations, the most recently active first")
    async def conversations(
        status: FromQuery[ConversationStatus | None] = None,
        connection: FromQuery[str | None] = None,
        limit: Limit = 50,
    ) -> list[ConversationView]:
        if connection is not None:
            fleet.status(connection)
        rows = await storage.conversations(
            status=status.value if status else None, connection=connection, limit=limit
        )
        return [ConversationView.of(row) for row in rows]

    @post("/conversations/{number:int}/open", status_code=200, summary="waiting, closed → open")
    async def open_conversation(number: FromPath[int]) -> ConversationView:
        row = await storage.open_conversation(_stored(number))
        return _found(number, row)

    @post("/conversations/{number:int}/close", status_code=200, summary="waiting, open → closed")
    async def close_conversation(number: FromPath[int]) -> ConversationView:
        row = await storage.close_conversation(_stored(number))
        return _found(number, row)

    @get("/events/{name:str}", summary="Transitions of a connection, newest first")
    async def events(name: FromPath[str], limit: Limit = 50) -> list[dict[str, t.Any]]:
        fleet.status(name)
        return await storage.events(name, limit)

    @get("/version", summary="Which daemon answers")
    async def version() -> VersionView:
        return VersionView(
            version=backend.version,
            python=platform.python_version(),
            pid=os.getpid(),
            started_at=backend.started_at,
        )

    return [health, conversations, open_conversation, close_conversation, events, version]


async def _ask_database(storage: StoragePort) -> tuple[DatabaseView, dict[str, t.Any]]:
    error = f"no answer within {DATABASE_DEADLINE:g} s"
    with trio.move_on_after(DATABASE_DEADLINE):
        try:
            seconds = await storage.ping()
            statistics = await storage.statistics()
        except StorageError as failure:
            error = str(failure)
        else:
            return DatabaseView(ping_seconds=seconds, error=None), statistics
    return DatabaseView(ping_seconds=None, error=error), {}


def _stored(number: int) -> int:
    """A number that the database can hold; anything else is no conversation's."""
    if not 0 < number < 2**63:
        raise _no_conversation(number)
    return number


def _found(number: int, row: ConversationRow | None) -> ConversationView:
    if row is None:
        raise _no_conversation(number)
    return ConversationView.of(row)


def _no_conversation(number: int) -> ProblemError:
    detail = f"there is no conversation {number}; zapvisor conversations lists them"
    return ProblemError("unknown-conversation", 404, detail)
