"""What was deleted or changed, its former content, and who looked at that."""

import datetime as dt
import typing as t

import attrs
from litestar import Response, get
from litestar.params import FromPath, FromQuery, QueryParameter

from api.addresses import contact_place
from api.auth import CONTROL, demand
from api.backend import Backend, Before, Limit, storable, unknown
from api.former import HISTORY, record
from api.pages import PAGED, PageCursor, Pages
from api.problems import AnyRequest
from api.routes_conversations import Contact, zoned
from storage.changes import AccessKind, AccessRow, Change, ChangeFilter, ChangeKind
from storage.inbox import MessageDetail

Only: t.TypeAlias = t.Annotated[ChangeKind | None, QueryParameter(name="kind")]
OfMessage: t.TypeAlias = t.Annotated[int | None, QueryParameter(ge=1, le=2**63 - 1)]

_MESSAGES: t.Final = "zapvisor messages lists those of a conversation"
_CHANGES: t.Final = Pages[Change]("changes", (dt.datetime, int), lambda row: (row.at, row.change))
_ACCESSES: t.Final = Pages[AccessRow]("accesses", (int,), lambda row: (row.id,))


@attrs.frozen(kw_only=True)
class MessageHistory:
    """All that a message ever said, and who changed it when."""

    message: MessageDetail
    changes: tuple[Change, ...]
    """The oldest first; what was said is in the versions of the message."""


def change_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    fleet, storage = backend.fleet, backend.storage

    @get(
        "/changes",
        tags=["messages"],
        summary="What was deleted or edited: by whom and when, the newest first",
        description="With `content`, what each message said before the change: that needs the scope"
        " `history`, too, and every page of it is put on record.",
        response_headers=PAGED,
        opt={"problems": (403,)},
    )
    async def changes(
        request: AnyRequest,
        connection: FromQuery[str | None] = None,
        contact: Contact = None,
        only: Only = None,
        since: FromQuery[dt.datetime | None] = None,
        until: FromQuery[dt.datetime | None] = None,
        content: FromQuery[bool] = False,
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[Change]]:
        if content:
            demand(request.scope, HISTORY)
        if connection is not None:
            fleet.status(connection)
        number, address = contact_place(contact)
        wanted = ChangeFilter(
            connection=connection,
            contact=number,
            address=address,
            kind=only,
            since=zoned("since", since),
            until=zoned("until", until),
        )
        before = t.cast("tuple[dt.datetime, int] | None", _CHANGES.read(cursor))
        rows = await storage.changes(wanted, content=content, before=before, limit=limit + 1)
        if content and rows:
            shown = rows[:limit]
            await record(
                storage,
                request.scope,
                AccessKind.CHANGES,
                connection=connection,
                conversations=tuple(dict.fromkeys(row.conversation for row in shown)),
                messages=tuple(dict.fromkeys(row.message for row in shown)),
            )
        return _CHANGES.answer(request, rows, limit)

    @get(
        "/messages/{number:int}/history",
        tags=["messages"],
        opt={"scope": HISTORY},
        summary="All that a message ever said, and who changed it; put on record",
    )
    async def message_history(request: AnyRequest, number: FromPath[int]) -> MessageHistory:
        found = await storage.message(storable(number, "message", _MESSAGES))
        if found is None:
            raise unknown("message", number, _MESSAGES)
        changes = await storage.changes_of(number)
        await record(
            storage,
            request.scope,
            AccessKind.MESSAGE,
            connection=found.connection,
            conversations=(found.conversation,),
            messages=(found.id,),
        )
        return MessageHistory(message=found, changes=tuple(changes))

    @get(
        "/changes/accesses",
        tags=["messages"],
        opt={"scope": CONTROL},
        summary="Who looked at former content, the newest first",
        response_headers=PAGED,
    )
    async def accesses(
        request: AnyRequest,
        message: OfMessage = None,
        before: Before = None,
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[AccessRow]]:
        place = _ACCESSES.number(cursor, before)
        rows = await storage.history_accesses(message=message, before=place, limit=limit + 1)
        return _ACCESSES.answer(request, rows, limit)

    return [changes, message_history, accesses]
