"""Logging in with a browser: a token goes in, a cookie comes out."""

import typing as t

import attrs
from litestar import Response, delete, get, post
from litestar.datastructures import Cookie
from litestar.params import JSONBody

from api.auth import Caller, Denied, caller, cookie_name, same_origin
from api.auth_sessions import IDLE, Sessions
from api.backend import required
from api.problems import AnyRequest, ProblemError
from api.tokens import NotReadyError, TokenError, TokenKeeper, allowed

PUBLIC: t.Final[dict[str, t.Any]] = {"scope": "none"}
_TOKENS: t.Final = "tokens"


@attrs.frozen
class Login:
    """A token, as ``zapvisor token create`` showed it."""

    token: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class SessionView:
    """Who is logged in, and what they may."""

    name: str  # of the token
    scopes: tuple[str, ...]  # with what they imply


def session_routes(keeper: TokenKeeper | None, sessions: Sessions) -> list[t.Any]:
    """The routes of this module."""

    @post(
        "/session",
        status_code=200,
        tags=["session"],
        opt=PUBLIC | {"problems": (401, 403)},
        summary="Log a browser in: the cookie that is set stands for the token",
    )
    async def log_in(request: AnyRequest, data: JSONBody[Login]) -> Response[SessionView]:
        _no_other_page(request)
        try:
            row = required(keeper, _TOKENS).check(data.token.strip())
        except TokenError as error:
            raise ProblemError("unauthorized", 401, str(error)) from error
        except NotReadyError as error:
            raise ProblemError("starting", 503, "the daemon is starting") from error
        scopes = tuple(sorted(allowed(row.scopes)))
        cookie = _cookie(request, sessions.open(row.id), int(IDLE))
        return Response(SessionView(name=row.name, scopes=scopes), cookies=[cookie])

    @get(
        "/session",
        tags=["session"],
        opt=PUBLIC | {"problems": (401, 403)},
        summary="Who is logged in",
    )
    async def who(request: AnyRequest) -> SessionView:
        found = caller(request.scope)
        if isinstance(found, Denied):
            raise ProblemError(found.kind, found.status, found.detail)
        return SessionView(name=found.name, scopes=tuple(sorted(found.scopes)))

    @delete(
        "/session",
        status_code=204,
        tags=["session"],
        opt=PUBLIC | {"problems": (403,)},
        summary="Log the browser out",
    )
    async def log_out(request: AnyRequest) -> Response[None]:
        found = caller(request.scope)
        if isinstance(found, Denied) and found.status == 403:
            raise ProblemError(found.kind, found.status, found.detail)
        if isinstance(found, Caller) and found.session is not None:
            sessions.close(found.session)
        return Response(None, status_code=204, cookies=[_cookie(request, "", 0)])

    return [log_in, who, log_out]


def _no_other_page(request: AnyRequest) -> None:
    """Nobody is logged in by a page of somebody else."""
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if origin is not None and not same_origin(origin, host):
        raise ProblemError("cross-origin", 403, "log in from a page of this daemon")


def _cookie(request: AnyRequest, value: str, max_age: int) -> Cookie:
    """``Secure`` where the browser came by TLS: a proxy takes it off, and only the origin of the
    page tells. Not known before the login, so a script that sends none gets a cookie without."""
    return Cookie(
        key=cookie_name(request.scope),
        value=value,
        max_age=max_age,
        path="/",
        httponly=True,
        secure=request.headers.get("origin", "").lower().startswith("https://"),
        samesite="strict",
    )
