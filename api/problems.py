"""Errors as problem details (RFC 9457): what is wrong, where, and what to do."""

import collections.abc as cabc
import http
import typing as t

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from actors.adoption import NotAdoptedError
from actors.drafts import BadRequestError
from actors.errors import (
    AlreadyPairedError,
    NoChannelError,
    NoReportError,
    StillRunningError,
    UnknownConnectionError,
)
from actors.history import NoHistoryError
from actors.line import NotOnlineError
from actors.recovery import NoDeviceError, NotStaleError
from actors.restoring import NoWayOutError, SlowRetryError
from api.request_id import current_request
from api.views import Problem
from storage.errors import StorageRejectedError, StorageUnavailableError
from whatsapp.iq.core import IqError

log: structlog.stdlib.BoundLogger = structlog.get_logger("api")

MEDIA_TYPE: t.Final = "application/problem+json"
AnyRequest: t.TypeAlias = Request[t.Any, t.Any, t.Any]


class ProblemError(Exception):
    """Answers the request with a problem."""

    def __init__(
        self, kind: str, status: int, detail: str, headers: cabc.Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.problem = problem(kind, status, detail)
        self.headers = dict(headers or {})


def problem(kind: str, status: int, detail: str) -> Problem:
    """Describe a problem; ``kind`` is the stable part, for programs."""
    request_id = current_request.get()
    return Problem(
        type=f"urn:zapvisor:{kind}",
        title=http.HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=None if request_id is None else f"urn:zapvisor:request:{request_id}",
    )


def _answer(what: Problem, headers: cabc.Mapping[str, str] | None = None) -> Response[Problem]:
    return Response(what, status_code=what.status, media_type=MEDIA_TYPE, headers=headers)


def _known(
    kind: str, status: int, advice: str = ""
) -> cabc.Callable[[AnyRequest, Exception], Response[Problem]]:
    def handle(_request: AnyRequest, error: Exception) -> Response[Problem]:
        return _answer(problem(kind, status, f"{error}{advice}"))

    return handle


def _from_problem(_request: AnyRequest, error: ProblemError) -> Response[Problem]:
    return _answer(error.problem, error.headers)


def _from_http(request: AnyRequest, error: HTTPException) -> Response[Problem]:
    """Errors of the framework itself: no such route, a parameter that does not fit, too large."""
    where = f"{request.method} {request.url.path}"
    if error.status_code == http.HTTPStatus.NOT_FOUND:
        detail = f"nothing answers {where}; GET /schema/openapi.json lists what does"
    else:
        detail = f"{where}: {error.detail}"
    if isinstance(error.extra, list):
        parts = (f"{part.get('key', 'value')}: {part.get('message', part)}" for part in error.extra)
        detail = f"{detail} ({'; '.join(parts)})"
    return _answer(problem("request", error.status_code, detail))


def _unexpected(request: AnyRequest, error: Exception) -> Response[Problem]:
    where = f"{request.method} {request.url.path}"
    log.error("api.failed", request=where, exc_info=error)
    detail = f"{where} failed inside the daemon ({type(error).__name__}); its log tells more"
    return _answer(problem("internal", 500, detail))


HANDLERS: t.Final[ExceptionHandlersMap] = {
    UnknownConnectionError: _known("unknown-connection", 404),
    AlreadyPairedError: _known("already-paired", 409),
    StillRunningError: _known("still-running", 409),
    NotAdoptedError: _known("refused", 500),
    NotOnlineError: _known("not-online", 409),
    NoHistoryError: _known("no-history", 404),
    NoReportError: _known("no-report", 404),
    NoChannelError: _known("no-channel", 409),
    NoWayOutError: _known("no-way-out", 409),
    NotStaleError: _known("not-stale", 409),
    NoDeviceError: _known("not-paired", 409),
    SlowRetryError: _known("under-way", 504),
    BadRequestError: _known("bad-request", 422),
    IqError: _known("whatsapp-refused", 502),
    StorageRejectedError: _known("refused", 409),
    StorageUnavailableError: _known(
        "database-away", 503, "; messages wait at WhatsApp until the database is back"
    ),
    ProblemError: _from_problem,
    HTTPException: _from_http,
    Exception: _unexpected,
}
