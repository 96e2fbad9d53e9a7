"""The gap ledger: what connections missed, and whether it has come."""

import typing as t

from litestar import get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from api.backend import Backend, Before, Limit, storable, unknown
from storage.gaps import GapRow

By: t.TypeAlias = t.Annotated[str, QueryParameter(min_length=1, max_length=200)]

_GAPS: t.Final = "zapvisor gaps lists them"


def gap_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    fleet, storage = backend.fleet, backend.storage

    @get("/gaps", summary="Outages and what became of their messages, newest first")
    async def gaps(
        open_only: FromQuery[bool] = False, before: Before = None, limit: Limit = 50
    ) -> list[GapRow]:
        return await storage.gaps(None, open_only=open_only, before=before, limit=limit)

    @get("/connections/{name:str}/gaps", summary="Those of one connection")
    async def connection_gaps(
        name: FromPath[str],
        open_only: FromQuery[bool] = False,
        before: Before = None,
        limit: Limit = 50,
    ) -> list[GapRow]:
        fleet.status(name)
        return await storage.gaps(name, open_only=open_only, before=before, limit=limit)

    @post(
        "/gaps/{number:int}/accept",
        status_code=200,
        summary="Close a gap as it is; what is missing stays counted, with who accepted it",
    )
    async def accept(number: FromPath[int], by: By = "operator") -> GapRow:
        row = await storage.accept_gap(storable(number, "gap", _GAPS), by)
        if row is None:
            raise unknown("gap", number, _GAPS)
        return row

    return [gaps, connection_gaps, accept]
