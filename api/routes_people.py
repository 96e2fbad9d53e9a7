"""Contacts, their merges, and groups."""

import typing as t

from litestar import get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from actors.drafts import BadRequestError
from api.addresses import bare_address
from api.backend import Backend, Cursor, Limit, storable, unknown
from storage.inbox import ContactDetail, GroupDetail, MergeRow

Search: t.TypeAlias = t.Annotated[str | None, QueryParameter(name="query", max_length=256)]

_MERGES: t.Final = "GET /contacts/merges lists them"
_GROUPS: t.Final = "zapvisor groups lists them"


def people_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    fleet, storage = backend.fleet, backend.storage

    def check(connection: str | None) -> None:
        if connection is not None:
            fleet.status(connection)

    @get("/contacts", summary="Contacts by id, after the one where the last page ended")
    async def contacts(
        connection: FromQuery[str | None] = None,
        search: Search = None,
        after: Cursor = 0,
        limit: Limit = 50,
    ) -> list[ContactDetail]:
        check(connection)
        return await storage.contacts(connection, query=search or None, after=after, limit=limit)

    @get("/contacts/merges", summary="Contacts that were found to be one, newest first")
    async def merges(connection: FromQuery[str | None] = None, limit: Limit = 50) -> list[MergeRow]:
        check(connection)
        return await storage.merges(connection, limit=limit)

    @post(
        "/contacts/merges/{number:int}/undo",
        status_code=200,
        summary="Make them two contacts again",
    )
    async def undo_merge(number: FromPath[int]) -> MergeRow:
        row = await storage.unmerge(storable(number, "merge", _MERGES))
        if row is None:
            raise unknown("merge", number, _MERGES)
        return row

    @get(
        "/groups",
        summary="Groups by address; of one connection after the one where the last page ended",
    )
    async def groups(
        connection: FromQuery[str | None] = None,
        after: FromQuery[str] = "",
        limit: Limit = 50,
    ) -> list[GroupDetail]:
        check(connection)
        if connection is not None:
            return await storage.groups(connection, after=after, limit=limit)
        if after:
            raise BadRequestError("after goes with connection: groups are paged for each by itself")
        found: list[GroupDetail] = []
        for name in fleet.names:
            if len(found) < limit:
                found += await storage.groups(name, limit=limit - len(found))
        return found

    @get("/connections/{name:str}/groups/{address:str}", summary="A group with its members")
    async def group(name: FromPath[str], address: FromPath[str]) -> GroupDetail:
        fleet.status(name)
        row = await storage.group(name, bare_address(address))
        if row is None:
            raise unknown("group", address, _GROUPS)
        return row

    return [contacts, merges, undo_merge, groups, group]
