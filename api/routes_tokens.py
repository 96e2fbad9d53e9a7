"""Tokens, on the control socket alone: no token can make another."""

import datetime as dt
import re
import typing as t

import attrs
from litestar import delete, get, post
from litestar.params import FromPath, FromQuery, JSONBody

from actors.drafts import BadRequestError
from api.auth import CONTROL
from api.backend import required, unknown
from api.problems import ProblemError
from api.tokens import NAME, SCOPES, TakenNameError, TokenKeeper
from storage.errors import StorageUnavailableError
from storage.tokens import TokenRow

MAX_AGE: t.Final = 3650 * 86400.0  # seconds
_TOKENS: t.Final = "tokens"
_ADVICE: t.Final = "zapvisor token list shows them"


@attrs.frozen(kw_only=True)
class TokenRequest:
    """A token to make."""

    name: str  # 1 to 63 of a-z, 0-9, _, . and -
    scopes: tuple[str, ...]  # some of "read", "operate", "send", "history"
    expires_in: float | None = None  # seconds; null: it does not expire


@attrs.frozen(kw_only=True)
class TokenView:
    """A token, without what makes it one."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: dt.datetime
    expires_at: dt.datetime | None
    last_used_at: dt.datetime | None  # to the minute
    revoked_at: dt.datetime | None
    token: str | None = attrs.field(default=None, repr=False)
    """The token itself: only in the answer to its making, and never again."""


def token_routes(keeper: TokenKeeper | None, now: t.Callable[[], float]) -> list[t.Any]:
    """The routes of this module."""

    @post(
        "/tokens",
        status_code=201,
        tags=["session"],
        opt={"scope": CONTROL},
        summary="Make a token; the answer shows it for the only time",
    )
    async def create(data: JSONBody[TokenRequest]) -> TokenView:
        expires_at = _check(data, now())
        try:
            row, text = await required(keeper, _TOKENS).create(data.name, data.scopes, expires_at)
        except TakenNameError as error:
            raise ProblemError("name-taken", 409, str(error)) from error
        return _view(row, text)

    @get("/tokens", tags=["session"], opt={"scope": CONTROL}, summary="Tokens, the oldest first")
    async def tokens(revoked: FromQuery[bool] = False) -> list[TokenView]:
        rows = await required(keeper, _TOKENS).rows()
        return [_view(row) for row in rows if revoked or row.revoked_at is None]

    @delete(
        "/tokens/{which:str}",
        status_code=200,
        tags=["session"],
        opt={"scope": CONTROL},
        summary="Refuse a token from now on; by its name or its id",
    )
    async def revoke(which: FromPath[str]) -> TokenView:
        try:
            row = await required(keeper, _TOKENS).revoke(which)
        except StorageUnavailableError as error:
            detail = (
                f"{error}; a token that the daemon knows is refused from now on, but a restart"
                " before the database is back would forget that"
            )
            raise ProblemError("database-away", 503, detail) from error
        if row is None:
            raise unknown("token", which, _ADVICE)
        return _view(row)

    return [create, tokens, revoke]


def _check(wanted: TokenRequest, now: float) -> dt.datetime | None:
    """When the token is to expire."""
    if not re.fullmatch(NAME, wanted.name, re.ASCII):
        raise BadRequestError("name: 1 to 63 of a-z, 0-9, _, . and -, the first a letter or digit")
    if not wanted.scopes or not set(wanted.scopes) <= set(SCOPES):
        raise BadRequestError(f"scopes: at least one of {', '.join(SCOPES)}")
    if wanted.expires_in is None:
        return None
    if not 0 < wanted.expires_in <= MAX_AGE:
        raise BadRequestError("expires_in: seconds, up to ten years")
    return dt.datetime.fromtimestamp(now + wanted.expires_in, dt.UTC)


def _view(row: TokenRow, token: str | None = None) -> TokenView:
    return TokenView(
        id=row.id,
        name=row.name,
        scopes=row.scopes,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
        token=token,
    )
