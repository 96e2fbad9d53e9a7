"""The gap ledger: what connections missed, and whether it has come."""

import typing as t

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from api.backend import Backend, Before, Limit, storable, unknown
from api.pages import PAGED, AnyRequest, PageCursor, Pages
from storage.gaps import GapRow

By: t.TypeAlias = t.Annotated[str, QueryParameter(min_length=1, max_length=200)]

_GAPS: t.Final = "zapvisor gaps lists them"
_PAGES: t.Final = Pages[GapRow]("gaps", (int,), lambda row: (row.id,))


def gap_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    fleet, storage = backend.fleet, backend.storage

    async def page(
        request: AnyRequest, name: str | None, open_only: bool, place: int | None, limit: int
    ) -> Response[list[GapRow]]:
        rows = await storage.gaps(name, open_only=open_only, before=place, limit=limit + 1)
        return _PAGES.answer(request, rows, limit)

    @get(
        "/gaps",
        tags=["gaps"],
        summary="Outages and what became of their messages, newest first",
        response_headers=PAGED,
    )
    async def gaps(
        request: AnyRequest,
        open_only: FromQuery[bool] = False,
        before: Before = None,
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[GapRow]]:
        return await page(request, None, open_only, _PAGES.number(cursor, before), limit)

    @get(
        "/connections/{name:str}/gaps",
        tags=["gaps"],
        summary="Those of one connection",
        response_headers=PAGED,
    )
    async def connection_gaps(
        request: AnyRequest,
        name: FromPath[str],
        open_only: FromQuery[bool] = False,
        before: Before = None,
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[GapRow]]:
        fleet.status(name)
        return await page(request, name, open_only, _PAGES.number(cursor, before), limit)

    @post(
        "/gaps/{number:int}/accept",
        tags=["gaps"],
        status_code=200,
        summary="Close a gap as it is; what is missing stays counted, with who accepted it",
    )
    async def accept(number: FromPath[int], by: By = "operator") -> GapRow:
        row = await storage.accept_gap(storable(number, "gap", _GAPS), by)
        if row is None:
            raise unknown("gap", number, _GAPS)
        return row

    return [gaps, connection_gaps, accept]
