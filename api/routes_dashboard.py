"""The dashboard: one page, and the files that it loads. Nothing here needs a login."""

import typing as t

from litestar import Response, get
from litestar.params import FromPath

from api.backend import Backend
from api.dashboard_files import DashboardFiles, StaticFile, load_dashboard
from api.problems import AnyRequest, ProblemError

__all__ = ["POLICY", "dashboard_routes"]


POLICY: t.Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: t.Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
FOR_EVER: t.Final = "public, max-age=31536000, immutable"
ASK_AGAIN: t.Final = "no-cache"


def dashboard_routes(_backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    dashboard = load_dashboard()
    common: dict[str, t.Any] = {
        "opt": {"scope": "none"},
        "tags": ["dashboard"],
        "include_in_schema": False,  # for browsers alone: what is in it is no interface
    }

    @get("/", summary="Leads to the dashboard", status_code=307, **common)
    async def root() -> Response[None]:
        return _moved("dashboard/")

    @get(
        "/dashboard",
        summary="The dashboard's page",
        media_type="text/html",
        **common,
    )
    async def page(request: AnyRequest) -> Response[bytes | None]:
        if not request.scope["raw_path"].partition(b"?")[0].endswith(b"/"):
            return _moved("dashboard/")
        return _answer(request, dashboard.page, ASK_AGAIN)

    @get(
        "/dashboard/{version:str}/{name:path}",
        summary="A file of the dashboard",
        **common,
    )
    async def file(
        request: AnyRequest, version: FromPath[str], name: FromPath[str]
    ) -> Response[bytes | None]:
        return _answer(request, _found(dashboard, version, name), FOR_EVER)

    return [root, page, file]


def _found(dashboard: DashboardFiles, version: str, name: str) -> StaticFile:
    found = dashboard.files.get(name.removeprefix("/")) if version == dashboard.version else None
    if found is None:
        detail = "the dashboard has no such file (any more); load its page again"
        raise ProblemError("unknown-file", 404, detail)
    return found


def _moved(where: str) -> Response[t.Any]:
    """To a place relative to the path that was asked for, so that a proxy may put all of this
    anywhere."""
    return Response(None, status_code=307, headers={"location": where, **HEADERS})


def _answer(request: AnyRequest, file: StaticFile, caching: str) -> Response[bytes | None]:
    headers = {"etag": file.etag, "cache-control": caching, **HEADERS}
    known = request.headers.get("if-none-match", "")
    if file.etag in {each.strip().removeprefix("W/") for each in known.split(",")}:
        return Response(None, status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
