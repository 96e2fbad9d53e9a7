"""What every request and every answer has: an id, a line in the log, headers that protect."""

import re
import secrets
import time
import typing as t

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.request_id import current_request

HEADER: t.Final = "x-request-id"
PROTECTION: t.Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Headers of every answer that does not say something else itself."""

_ID: t.Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")

log: structlog.stdlib.BoundLogger = structlog.get_logger("api")


class Answers:
    """Wraps an app. A request may bring its id along, in ``X-Request-ID``; else it is given one.
    The id is in the answer, in problems, and in all that is logged for the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request_id = _given_id(scope) or secrets.token_hex(8)
        token = current_request.set(request_id)
        began, status = time.perf_counter(), 0

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add(message, request_id)
            elif message["type"] == "websocket.close":
                status = message["code"]
            await send(message)

        try:
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                try:
                    await self._app(scope, receive, tell)
                finally:
                    log.debug(
                        "http.request",
                        method=scope["method"] if scope["type"] == ScopeType.HTTP else "WEBSOCKET",
                        # Not the path itself: it may hold an address.
                        route=t.cast("t.Any", scope).get("path_template", "none"),
                        status=status,
                        ms=round((time.perf_counter() - began) * 1000, 1),
                    )
        finally:
            current_request.reset(token)


def _given_id(scope: Scope) -> str | None:
    headers: t.Any = t.cast("t.Any", scope)["headers"]
    for name, value in headers:
        if name.lower() == HEADER.encode() and _ID.fullmatch(value):
            return str(value.decode())
    return None


def _add(message: t.Any, request_id: str) -> None:
    headers = list(message["headers"])
    there = {name.lower() for name, _value in headers}
    headers += [each for each in PROTECTION if each[0] not in there]
    headers.append((HEADER.encode(), request_id.encode()))
    message["headers"] = headers
