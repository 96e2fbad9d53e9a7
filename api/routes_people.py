"""Contacts, their merges, and groups."""

import typing as t

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from actors.drafts import BadRequestError
from api.addresses import bare_address
from api.backend import Backend, Before, Cursor, Limit, storable, unknown
from api.pages import PAGED, AnyRequest, PageCursor, Pages
from storage.inbox import ContactDetail, GroupDetail, MergeRow

Search: t.TypeAlias = t.Annotated[str | None, QueryParameter(name="query", max_length=256)]

_MERGES: t.Final = "GET /contacts/merges lists them"
_GROUPS: t.Final = "zapvisor groups lists them"
_PEOPLE: t.Final = "zapvisor contacts lists them; one that became another is gone"

_CONTACTS: t.Final = Pages[ContactDetail]("contacts", (int,), lambda row: (row.id,))
_MERGE_PAGES: t.Final = Pages[MergeRow]("merges", (int,), lambda row: (row.id,))
_GROUP_PAGES: t.Final = Pages[GroupDetail](
    "groups", (str, str), lambda row: (row.connection, row.address)
)


def people_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    fleet, storage = backend.fleet, backend.storage

    def check(connection: str | None) -> None:
        if connection is not None:
            fleet.status(connection)

    @get(
        "/contacts",
        tags=["contacts"],
        summary="Contacts by id, after the one where the last page ended",
        response_headers=PAGED,
    )
    async def contacts(
        request: AnyRequest,
        connection: FromQuery[str | None] = None,
        search: Search = None,
        after: Cursor = 0,
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[ContactDetail]]:
        check(connection)
        place = _CONTACTS.number(cursor, after) or 0
        rows = await storage.contacts(
            connection, query=search or None, after=place, limit=limit + 1
        )
        return _CONTACTS.answer(request, rows, limit)

    @get("/contacts/{number:int}", tags=["contacts"], summary="One contact, by id")
    async def contact(number: FromPath[int]) -> ContactDetail:
        row = await storage.contact_by_id(storable(number, "contact", _PEOPLE))
        if row is None:
            raise unknown("contact", number, _PEOPLE)
        return row

    @get(
        "/contacts/merges",
        tags=["contacts"],
        summary="Contacts that were found to be one, newest first",
        response_headers=PAGED,
    )
    async def merges(
        request: AnyRequest,
        connection: FromQuery[str | None] = None,
        before: Before = None,
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[MergeRow]]:
        check(connection)
        place = _MERGE_PAGES.number(cursor, before)
        rows = await storage.merges(connection, before=place, limit=limit + 1)
        return _MERGE_PAGES.answer(request, rows, limit)

    @post(
        "/contacts/merges/{number:int}/undo",
        tags=["contacts"],
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
        tags=["contacts"],
        summary="Groups by connection and address",
        description="`after`, an address, goes with `connection`.",
        response_headers=PAGED,
    )
    async def groups(
        request: AnyRequest,
        connection: FromQuery[str | None] = None,
        after: FromQuery[str] = "",
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[GroupDetail]]:
        check(connection)
        if after and connection is None:
            raise BadRequestError("after goes with connection; a cursor needs none")
        name, address = _GROUP_PAGES.read(cursor, after) or (connection or "", after)
        names = (connection,) if connection is not None else sorted(fleet.names)
        found: list[GroupDetail] = []
        for each in names:
            if each >= t.cast("str", name) and len(found) <= limit:
                start = t.cast("str", address) if each == name else ""
                found += await storage.groups(each, after=start, limit=limit + 1 - len(found))
        return _GROUP_PAGES.answer(request, found, limit)

    @get(
        "/connections/{name:str}/groups/{address:str}",
        tags=["contacts"],
        summary="A group with its members",
    )
    async def group(name: FromPath[str], address: FromPath[str]) -> GroupDetail:
        fleet.status(name)
        row = await storage.group(name, bare_address(address))
        if row is None:
            raise unknown("group", address, _GROUPS)
        return row

    return [contacts, contact, merges, undo_merge, groups, group]
