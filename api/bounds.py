"""No client can take more than its share: a ceiling on requests under way, a deadline on each.

Files take as long as they take, but they have to move: there the deadline is that of the next
piece, and an hour for the whole.
"""

import collections.abc as cabc
import json
import typing as t

import attrs
import trio
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from litestar.utils import normalize_path

from api.problems import MEDIA_TYPE, problem
from api.views import Problem

MAX_REQUESTS: t.Final = 64
MAX_SOCKETS: t.Final = 500
DEADLINE: t.Final = 30.0  # seconds; longer than the longest poll
FILE_DEADLINE: t.Final = 3600.0  # seconds
MAX_LOGINS: t.Final = 8
LIVE: t.Final = "/health/live"
PROBES: t.Final = frozenset({LIVE, "/health/ready"})
"""Answered however many requests are under way, and however often they are asked: whoever asks
would take "later" for a sign of a sick daemon. They cost next to nothing: all who ask share one
reading of the database."""
LOGIN: t.Final = "/session"  # open to strangers, who could wait there with half a request
HEALTH: t.Final = ("/health", "/metrics")  # the beginnings of paths with a ceiling of their own
FILES: t.Final = "/media"  # the end of the paths under which files go up and down
STREAMS: t.Final = ("/events/sse",)
"""They last for as long as their clients like, as WebSockets do."""


class Bounds:
    """Wraps an app: 503 at once above the ceiling, 504 after the deadline. WebSockets and
    streams have a ceiling of their own (1013, "try again later") and no deadline. Health has one of
    its own, too: when requests pile up at a database that hangs, somebody will want to know why.
    And so has the login, which takes no place from those who are in."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_requests: int = MAX_REQUESTS,
        max_sockets: int = MAX_SOCKETS,
        deadline: float = DEADLINE,
    ) -> None:
        self._app = app
        self._limiter = trio.CapacityLimiter(max_requests)
        self._health = trio.CapacityLimiter(max_requests)
        self._logins = trio.CapacityLimiter(MAX_LOGINS)
        self._sockets = trio.CapacityLimiter(max_sockets)
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        is_socket = scope["type"] == ScopeType.WEBSOCKET
        if not is_socket and route_of(scope) in PROBES:
            await self._serve(scope, receive, send)
            return
        lasts = streams(scope)
        limiter = self._sockets if lasts else self._limiter_of(route_of(scope))
        request = object()
        try:
            limiter.acquire_on_behalf_of_nowait(request)
        except trio.WouldBlock:
            detail = f"{limiter.total_tokens} are under way; try again in a moment"
            if is_socket:
                await refuse_socket(receive, send, 1013, detail)
            else:
                await refuse(send, problem("busy", 503, detail), {"retry-after": "1"})
            return
        try:
            await (self._app if lasts else self._serve)(scope, receive, send)
        finally:
            limiter.release_on_behalf_of(request)

    def _limiter_of(self, route: str) -> trio.CapacityLimiter:
        if route == LOGIN:
            return self._logins
        return self._health if route.startswith(HEALTH) else self._limiter

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        latest = trio.current_time() + FILE_DEADLINE
        moves = moves_a_file(scope)

        with trio.move_on_after(self._deadline) as late:

            def extend() -> None:
                if moves:
                    late.deadline = min(trio.current_time() + self._deadline, latest)

            async def take() -> t.Any:
                message = await receive()
                extend()
                return message

            async def watch(message: Message) -> None:
                nonlocal started
                started = True
                await send(message)
                extend()

            await self._app(scope, take, watch)
        if late.cancelled_caught and not started:
            detail = f"{scope['path']} took longer than {self._deadline:g} s and was given up"
            await refuse(send, problem("too-slow", 504, detail))


def route_of(scope: Scope) -> str:
    """The path as the router reads it: without slashes that make no difference."""
    return normalize_path(scope["path"])


def streams(scope: Scope) -> bool:
    """Whether it lasts for as long as its client likes."""
    return scope["type"] == ScopeType.WEBSOCKET or route_of(scope) in STREAMS


def moves_a_file(scope: Scope) -> bool:
    """Whether it lasts for as long as a file takes."""
    return scope["type"] != ScopeType.WEBSOCKET and route_of(scope).endswith(FILES)


async def refuse(send: Send, what: Problem, headers: cabc.Mapping[str, str] | None = None) -> None:
    """Answer a request with a problem."""
    body = json.dumps(attrs.asdict(what)).encode()
    lines = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    lines += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": what.status, "headers": lines})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def refuse_socket(receive: Receive, send: Send, code: int, reason: str) -> None:
    """Refuse a WebSocket so that its client sees why: it has to be accepted for that."""
    await receive()
    accept: t.Any = {"type": "websocket.accept", "subprotocol": None, "headers": []}
    await send(accept)
    close: t.Any = {"type": "websocket.close", "code": code, "reason": short(reason)}
    await send(close)


def short(reason: str) -> str:
    """As much of a reason as the closing frame of a WebSocket holds: 123 bytes."""
    return reason.encode()[:123].decode(errors="ignore")
