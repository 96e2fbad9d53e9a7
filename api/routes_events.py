"""The stream of events: pages, a WebSocket, server-sent events."""

import collections.abc as cabc
import contextlib
import json
import re
import typing as t

import attrs
import trio
from litestar import Response, get, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream
from litestar.types import Receive, Scope, Send

from actors.drafts import BadRequestError
from actors.event_hub import SlowClientError, TooManyClientsError
from actors.webhook_post import envelope_json
from api.backend import Backend, Before, Limit, required
from api.bounds import short
from api.pages import next_page
from api.ports_events import EventClient, EventsPort
from api.problems import AnyRequest, ProblemError
from api.sockets import AnySocket
from storage.errors import CursorGoneError
from storage.events import EVENT_TYPES, EventRow, check_cursor, expand_types

SLOW: t.Final = 4008
BAD_REQUEST: t.Final = 4400
GONE: t.Final = 4410
FULL: t.Final = 4429
FLOOD: t.Final = 1008
"""Codes with which a WebSocket is closed."""

HEARTBEAT: t.Final = 15.0  # seconds between two comments of a quiet stream
MESSAGES: t.Final = 100  # that a client may send, which nobody reads
ROUNDS: t.Final = 25  # stretches of the stream that one request looks through, at most

Types: t.TypeAlias = t.Annotated[
    str | None,
    QueryParameter(
        description="Only these, with commas between them: " + ", ".join(EVENT_TYPES)
        + ", or groups such as `message.*`."
    ),
]  # fmt: skip
After: t.TypeAlias = t.Annotated[
    int, QueryParameter(ge=0, le=2**63 - 1, description="The id of the last event that you have.")
]
_NOBODY: t.Final = "the fan-out of events"


@attrs.frozen(kw_only=True)
class CursorView:
    """Where the stream ends now."""

    id: int
    oldest: int
    """The oldest cursor that can be used."""


def event_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    storage = backend.storage

    @get(
        "/events",
        tags=["events"],
        summary="What happened, oldest first",
        description="`X-Next-Cursor` is the `after` of the next page, also when this page is"
        " empty. Ids grow in the order in which events become visible, so a reader that goes on"
        " from there misses nothing. 410: events behind the cursor were deleted for their age;"
        " the problem names the oldest cursor that there is.",
        opt={"problems": (410,)},
    )
    async def events(
        request: AnyRequest,
        after: After = 0,
        limit: Limit = 50,
        connection: FromQuery[str | None] = None,
        types: Types = None,
    ) -> Response[list[EventRow]]:
        wanted = _types(types)
        found: list[EventRow] = []
        position = after
        for _round in range(ROUNDS):
            try:
                page = await storage.events_after(
                    position, limit=limit - len(found), connection=connection, types=wanted
                )
            except CursorGoneError as error:
                raise _gone(error) from error
            found += page.events
            moved, position = page.position != position, page.position
            if not moved or len(found) == limit:
                break
        return Response(found, headers=next_page(request, "after", str(position)))

    @get("/events/cursor", tags=["events"], summary="The id of the newest event")
    async def cursor() -> CursorView:
        found = await storage.event_range()
        return CursorView(id=found.newest, oldest=found.oldest)

    @get(
        "/events/sse",
        tags=["events"],
        media_type="text/event-stream",
        opt={"problems": (410,)},
        summary="The same as server-sent events, from a cursor or from now on",
        description="The cursor is `after` or the header `Last-Event-ID`. A client that does not"
        " keep up is disconnected and can come back with its cursor.",
    )
    async def sse(
        request: AnyRequest,
        after: Before = None,
        connection: FromQuery[str | None] = None,
        types: Types = None,
    ) -> Stream:
        hub = required(backend.events, _NOBODY)
        wanted = _types(types)
        begin = _last_event(request.headers.get("last-event-id"), after)
        if not hub.has_room():
            raise ProblemError("busy", 503, "too many clients follow the events (events.clients)")
        if begin is not None and hub.view().error is None:
            with trio.move_on_after(HEARTBEAT):
                try:
                    check_cursor(begin, await storage.event_range())
                except CursorGoneError as error:
                    raise _gone(error) from error
        return _ClosedStream(
            _sse(hub, begin, connection, wanted),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @websocket("/events/ws")
    async def ws(socket: AnySocket) -> None:
        """One JSON text frame per event; what the client sends is not read."""
        await socket.accept()
        try:
            hub = required(backend.events, _NOBODY)
            query = socket.query_params
            after = _cursor("after", query.get("after"))
            wanted = _types(query.get("types"))
            with hub.client(after, connection=query.get("connection"), types=wanted) as client:
                await _serve(socket, client)
        except (BadRequestError, ProblemError) as error:
            await _close(socket, BAD_REQUEST, str(error))
        except TooManyClientsError as error:
            await _close(socket, FULL, str(error))

    return [events, cursor, sse, ws]


async def _serve(socket: AnySocket, client: EventClient) -> None:
    """Send until one of both has enough."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_listen, socket, nursery.cancel_scope)
        try:
            while True:
                for event in await client.next(HEARTBEAT):
                    await socket.send_data(envelope_json(event))
        except SlowClientError as error:
            await _close(socket, SLOW, str(error))
        except CursorGoneError as error:
            await _close(socket, GONE, f"oldest={error.oldest} newest={error.newest}")
        except WebSocketDisconnect:
            pass
        nursery.cancel_scope.cancel()


async def _listen(socket: AnySocket, over: trio.CancelScope) -> None:
    """Notice that the client leaves, or talks too much."""
    for _message in range(MESSAGES):
        if (await socket.receive())["type"] == "websocket.disconnect":
            over.cancel()
            return
    await _close(socket, FLOOD, "events go one way only")
    over.cancel()


async def _close(socket: AnySocket, code: int, reason: str) -> None:
    await socket.send({"type": "websocket.close", "code": code, "reason": short(reason)})


class _ClosedStream(Stream):
    """A stream whose generator is closed with it: it holds a client's place."""

    def to_asgi_response(self, *args: t.Any, **options: t.Any) -> t.Any:
        """The response, and the end of the generator after it."""
        response = super().to_asgi_response(*args, **options)

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            async with contextlib.aclosing(t.cast("t.Any", self.iterator)):
                await response(scope, receive, send)

        return respond


async def _sse(
    hub: EventsPort,
    after: int | None,
    connection: str | None,
    types: cabc.Collection[str] | None,
) -> cabc.AsyncIterator[str]:
    yield "retry: 2000\n\n"
    try:
        with hub.client(after, connection=connection, types=types) as client:
            while True:
                found = await client.next(HEARTBEAT)
                for event in found:
                    yield f"id: {event.id}\nevent: {event.type}\ndata: {envelope_json(event)}\n\n"
                if not found:
                    yield ":\n\n"
    except (SlowClientError, TooManyClientsError) as error:
        yield f"event: dropped\ndata: {json.dumps({'detail': str(error)})}\n\n"
    except CursorGoneError as error:
        told = {"detail": str(error), "oldest": error.oldest, "newest": error.newest}
        yield f"event: gone\ndata: {json.dumps(told)}\n\n"


def _types(written: str | None) -> frozenset[str] | None:
    if not written:
        return None
    try:
        return expand_types(part.strip() for part in written.split(","))
    except ValueError as error:
        raise BadRequestError(f"types: {error}") from error


def _last_event(header: str | None, after: int | None) -> int | None:
    return _cursor("Last-Event-ID", header) if header else after


def _cursor(what: str, written: str | None) -> int | None:
    if written is None or written == "":
        return None
    if not re.fullmatch("[0-9]{1,19}", written) or int(written) >= 2**63:
        raise BadRequestError(f"{what}: the id of an event, such as 1234")
    return int(written)


def _gone(error: CursorGoneError) -> ProblemError:
    return ProblemError("cursor-gone", 410, f"{error}; GET /events/cursor tells them")
