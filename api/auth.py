"""Who asks, and what they may: the one place that decides it.

The doorway of a listener finds out who asks, from a token or a cookie, and leaves the answer in
the ASGI scope; the guard of the app, which knows the route, compares it with the scope that the
route needs. A request that came through no doorway may nothing.
"""

import collections.abc as cabc
import http.cookies
import ipaddress
import typing as t
import urllib.parse

import attrs
import structlog
from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException, LitestarException, WebSocketException
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.auth_sessions import Sessions
from api.bounds import refuse, refuse_socket, short
from api.problems import ProblemError, problem
from api.tokens import NotReadyError, TokenError, TokenKeeper, allowed
from supervisor.crash import leaves

CONTROL: t.Final = "control"  # the scope of what only the control socket offers
NONE: t.Final = "none"  # the scope of what everybody may
SAFE: t.Final = frozenset({"GET", "HEAD", "OPTIONS"})
CHALLENGE: t.Final = 'Bearer realm="zapvisor"'

log: structlog.stdlib.BoundLogger = structlog.get_logger("api")

_REFUSAL: t.Final = "zapvisor.refusal"
_KEY: t.Final = "zapvisor.caller"
_COOKIE: t.Final = "zapvisor_session"


@attrs.frozen(kw_only=True)
class Caller:
    """Who asks."""

    name: str  # of the token; of the control socket its own
    scopes: frozenset[str]
    session: str | None = attrs.field(default=None, repr=False)  # the secret of a browser's cookie
    token_id: str | None = None


@attrs.frozen
class Denied:
    """Nobody whom we know; or somebody in a way that we do not take."""

    kind: str
    status: int
    detail: str


OPERATOR: t.Final = Caller(
    name="control socket", scopes=frozenset({"read", "operate", "send", "history", CONTROL})
)
STRANGER: t.Final = Denied(
    "unauthorized",
    401,
    'a token is needed: "Authorization: Bearer zv_…"; zapvisor token create makes one',
)


def caller(scope: Scope) -> Caller | Denied:
    """Who asks in this scope."""
    found: Caller | Denied = t.cast("t.Any", scope).get(_KEY, STRANGER)
    return found


def needed_scope(handler: BaseRouteHandler, scope: Scope) -> str:
    """The scope that a route asks for: its own word (``opt["scope"]``), else by the method."""
    return needed_scope_of(handler, scope["method"] if scope["type"] == ScopeType.HTTP else "GET")


def needed_scope_of(handler: BaseRouteHandler, method: str) -> str:
    """The same by the method; that of a WebSocket is GET."""
    own = handler.opt.get("scope")
    if own is not None:
        return str(own)
    return "read" if method in SAFE else "operate"


def guard(
    connection: ASGIConnection[t.Any, t.Any, t.Any, t.Any], handler: BaseRouteHandler
) -> None:
    """Let a request pass to its route, or not.

    Raises:
        ProblemError: 401 or 403; a WebSocket is closed with 4401 or 4403 instead.
    """
    needed = needed_scope(handler, connection.scope)
    if needed == NONE:
        return
    who = caller(connection.scope)
    if isinstance(who, Caller):
        if needed in who.scopes:
            return
        who = _missing(who, needed)
    if connection.scope["type"] == ScopeType.WEBSOCKET:
        raise WebSocketException(code=4000 + who.status, detail=who.detail)
    headers = {"WWW-Authenticate": CHALLENGE} if who.status == 401 else {}
    raise ProblemError(who.kind, who.status, who.detail, headers)


def allows(scope: Scope, needed: str) -> bool:
    """Whether who asks has a scope besides the one that the route needs."""
    who = caller(scope)
    return isinstance(who, Caller) and needed in who.scopes


def demand(scope: Scope, needed: str) -> None:
    """The same for what cannot be answered without.

    Raises:
        ProblemError: 403 that says what is missing.
    """
    who = caller(scope)
    if isinstance(who, Caller) and needed not in who.scopes:
        who = _missing(who, needed)
    if isinstance(who, Denied):
        raise ProblemError(who.kind, who.status, who.detail)


def _missing(who: Caller, needed: str) -> Denied:
    if needed == CONTROL:
        detail = "this is done on the control socket only, by the command line"
    else:
        detail = f"this needs the scope {needed}, which the token {who.name} does not have"
    return Denied("forbidden", 403, detail)


def cookie_name(scope: Scope) -> str:
    """The name of the session cookie; browsers do not keep cookies of ports apart."""
    server = scope.get("server")
    return _COOKIE if server is None else f"{_COOKIE}_{server[1]}"


class ControlDoorway:
    """The control socket: who can open it may everything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        t.cast("t.Any", scope)[_KEY] = OPERATOR
        await self._app(scope, receive, send)


class HttpDoorway:
    """HTTP: a token in ``Authorization``, or the cookie of a browser that has logged in."""

    def __init__(
        self,
        app: ASGIApp,
        keeper: TokenKeeper | None,
        sessions: Sessions,
        hosts: cabc.Iterable[str],
    ) -> None:
        self._app = app
        self._keeper = keeper
        self._sessions = sessions
        self._hosts = frozenset(host.lower() for host in hosts) | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = _headers(scope)
        host = headers.get("host")
        if host is not None and not self._is_ours(host):
            await _misdirected(scope, receive, send, host)
            return
        t.cast("t.Any", scope)[_KEY] = self._identify(scope, headers)
        await self._app(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        """Whether a request to that name may be meant for us. A page that has its own name lead
        here (DNS rebinding) sends that name; plain addresses cannot be made to lead anywhere."""
        name = _host_name(host)
        if name is None:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True

    def _identify(self, scope: Scope, headers: cabc.Mapping[str, str]) -> Caller | Denied:
        if self._keeper is None:
            return STRANGER
        try:
            if (given := headers.get("authorization")) is not None:
                kind, _space, text = given.partition(" ")
                if kind.lower() != "bearer":
                    return STRANGER
                row = self._keeper.check(text.strip())
                return Caller(name=row.name, scopes=allowed(row.scopes), token_id=row.id)
            secret = _cookie(headers.get("cookie", ""), cookie_name(scope))
            token_id = None if secret is None else self._sessions.find(secret)
            if token_id is None:
                return STRANGER
            if _changes(scope) and not same_origin(
                headers.get("origin", ""), headers.get("host", "")
            ):
                return Denied(
                    "cross-origin", 403, "a request with a cookie must come from a page of ours"
                )
            row = self._keeper.living(token_id)
        except TokenError as error:
            return Denied("unauthorized", 401, str(error))
        except NotReadyError:
            return Denied("starting", 503, "the daemon is starting and knows no tokens yet")
        return Caller(name=row.name, scopes=allowed(row.scopes), session=secret, token_id=row.id)


def _headers(scope: Scope) -> dict[str, str]:
    """Headers by name in lower case; of one that comes several times, the last."""
    return {
        name.decode("latin-1").lower(): value.decode("latin-1")
        for name, value in t.cast("t.Any", scope)["headers"]
    }


def _host_name(host: str) -> str | None:
    """The name in a Host header or an authority, without its port; None: it is malformed."""
    try:
        parts = urllib.parse.urlsplit(f"//{host}")
        _port = parts.port
    except ValueError:
        return None
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        return None
    return parts.hostname.rstrip(".") if parts.hostname else None


def _changes(scope: Scope) -> bool:
    return scope["type"] == ScopeType.WEBSOCKET or scope["method"] not in SAFE


def same_origin(origin: str, host: str) -> bool:
    """Whether the page is one of ours; a proxy may have taken off the TLS, so the scheme does not
    count."""
    scheme, _colon, origin = origin.lower().partition("://")
    default = ":443" if scheme == "https" else ":80"
    host = host.lower()
    return bool(host) and host.removesuffix(default) == origin.removesuffix(default)


def _cookie(header: str, name: str) -> str | None:
    try:
        found = http.cookies.SimpleCookie(header).get(name)
    except http.cookies.CookieError:
        return None
    return None if found is None else found.value


async def _misdirected(scope: Scope, receive: Receive, send: Send, host: str) -> None:
    shown = host if host.isprintable() and len(host) <= 100 else "that"
    detail = f"{shown} is no name of this daemon; http.hosts in its configuration lists more names"
    if scope["type"] == ScopeType.WEBSOCKET:
        await refuse_socket(receive, send, 4403, detail)
        return
    await refuse(send, problem("unknown-host", 421, detail))


async def note_refusal(error: Exception, scope: Scope) -> None:
    """Remember why the framework refuses a WebSocket: it calls a parameter that does not fit a
    fault of the server (4500). And log what is one, which it does not."""
    if scope["type"] != ScopeType.WEBSOCKET:
        return
    if not all(isinstance(each, LitestarException) for each in leaves(error)):
        where = f"WEBSOCKET {t.cast('t.Any', scope).get('path_template', 'none')}"
        log.error("api.failed", request=where, exc_info=error)
    if isinstance(error, HTTPException):
        extra = error.extra if isinstance(error.extra, list) else []
        parts = [f"{part.get('key')}: {part.get('message')}" for part in extra]
        why = "; ".join(parts) or error.detail
        t.cast("t.Any", scope)[_REFUSAL] = (4000 + error.status_code, why)


class TellingWebSockets:
    """A WebSocket that is refused is accepted first, or its client would never see why."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != ScopeType.WEBSOCKET:
            await self._app(scope, receive, send)
            return
        accepted = False

        async def tell(message: Message) -> None:
            nonlocal accepted
            if message["type"] == "websocket.close" and not accepted:
                accept: t.Any = {"type": "websocket.accept", "subprotocol": None, "headers": []}
                await send(accept)
                told = t.cast("t.Any", scope).get(_REFUSAL)
                message["code"], message["reason"] = told or (message["code"], message["reason"])
                if reason := message.get("reason"):
                    message["reason"] = short(reason)
            accepted = True
            await send(message)

        await self._app(scope, receive, tell)
