"""Conversations and their messages."""

import collections.abc as cabc
import datetime as dt
import enum
import typing as t

from litestar import Response, get, post
from litestar.openapi.spec import Example
from litestar.params import FromPath, FromQuery, QueryParameter

from actors.drafts import BadRequestError
from api.addresses import contact_place
from api.auth import demand
from api.backend import Backend, Before, Limit, required, storable, unknown
from api.former import HISTORY, present, record
from api.pages import PAGED, AnyRequest, PageCursor, Pages
from api.ports_storage import StoragePort
from api.problems import ProblemError
from api.requests import read_requests
from api.routes_outbox import enqueue
from api.search import FILTERS, SEARCHED, SearchText, parse_query, search_headers
from api.views import ConversationView
from storage.api import ConversationRow
from storage.changes import AccessKind
from storage.errors import StorageRejectedError
from storage.inbox import MessageDetail
from storage.queues import OutboxRow
from storage.search import Filter

READ_AT_ONCE: t.Final = 100  # the newest messages that receipts are sent for
_CONVERSATIONS: t.Final = "zapvisor conversations lists them"
_MESSAGES: t.Final = "zapvisor messages lists those of a conversation"
_ONE_LIVE: t.Final = (
    "A chat has at most one live conversation (waiting or open): while another one is live, this"
    " is refused with 409 (urn:zapvisor:live-conversation), which names it."
)

Contact: t.TypeAlias = t.Annotated[
    str | None,
    QueryParameter(
        max_length=256,
        description="Of one person or group: a phone number, an address, or a contact's id.",
        examples=[Example(value="+55 11 99999-0001"), Example(value="120363000000000001@g.us")],
    ),
]

_PAGES: t.Final = Pages[ConversationRow](
    "conversations", (dt.datetime, int), lambda row: (row.last_message_at, row.id)
)
_MESSAGE_PAGES: t.Final = Pages[MessageDetail]("messages", (int,), lambda row: (row.id,))


class ConversationStatus(enum.Enum):
    """The statuses to filter by."""

    WAITING = "waiting"
    OPEN = "open"
    CLOSED = "closed"


def conversation_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    fleet, storage = backend.fleet, backend.storage

    async def check(number: int, row: ConversationRow | None) -> ConversationView:
        if row is None:
            raise unknown("conversation", number, _CONVERSATIONS)
        return ConversationView.of(row)

    @get(
        "/conversations",
        tags=["conversations"],
        summary="Conversations, the most recently active first",
        description=FILTERS
        + " Names are searched as well: those of the contact from whatever source, the subject of"
        " the group; all words have to be in one name, or in one message."
        " A conversation is in the time asked for when it was active at some moment of it.",
        response_headers=SEARCHED,
    )
    async def conversations(
        request: AnyRequest,
        status: FromQuery[ConversationStatus | None] = None,
        connection: FromQuery[str | None] = None,
        contact: Contact = None,
        words: SearchText = None,
        since: FromQuery[dt.datetime | None] = None,
        until: FromQuery[dt.datetime | None] = None,
        former: FromQuery[bool] = False,
        deleted: FromQuery[bool] = False,
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[ConversationView]]:
        if connection is not None:
            fleet.status(connection)
        number, address = contact_place(contact)
        wanted = Filter(
            connection=connection,
            status=status.value if status else None,
            contact=number,
            address=address,
            since=zoned("since", since),
            until=zoned("until", until),
            former=former,
            deleted=deleted,
        )
        before = t.cast("tuple[dt.datetime, int] | None", _PAGES.read(cursor))
        if former or deleted:
            demand(request.scope, HISTORY)
        asked = None if words is None else parse_query(words)
        found = await storage.find_conversations(
            wanted, query=asked, before=before, limit=limit + 1
        )
        if words is not None and (former or deleted):
            await record(
                storage,
                request.scope,
                AccessKind.SEARCH,
                query=words,
                connection=connection,
                conversations=tuple(row.id for row in found.rows[:limit]),
            )
        answer = _PAGES.answer(request, found.rows, limit, ConversationView.of)
        if asked is not None:
            answer.headers.update(await search_headers(storage, cut=found.cut))
        return answer

    @get("/conversations/{number:int}", tags=["conversations"], summary="One conversation")
    async def conversation(number: FromPath[int]) -> ConversationView:
        return await check(number, await storage.conversation(_stored(number)))

    @post(
        "/conversations/{number:int}/open",
        tags=["conversations"],
        status_code=200,
        summary="waiting, closed → open",
        description=_ONE_LIVE,
    )
    async def open_conversation(number: FromPath[int]) -> ConversationView:
        return await check(number, await _ordered(storage, number, storage.open_conversation))

    @post(
        "/conversations/{number:int}/close",
        tags=["conversations"],
        status_code=200,
        summary="waiting, open → closed",
    )
    async def close_conversation(number: FromPath[int]) -> ConversationView:
        return await check(number, await storage.close_conversation(_stored(number)))

    @post(
        "/conversations/{number:int}/reopen",
        tags=["conversations"],
        status_code=200,
        summary="closed → waiting; a live one stays as it is",
        description=_ONE_LIVE,
    )
    async def reopen_conversation(number: FromPath[int]) -> ConversationView:
        return await check(number, await _ordered(storage, number, storage.reopen_conversation))

    @get(
        "/conversations/{number:int}/messages",
        tags=["messages"],
        summary="The newest messages, or those before a message; oldest first",
        description="The next page has older messages.",
        response_headers=PAGED,
    )
    async def messages(
        request: AnyRequest,
        number: FromPath[int],
        before: Before = None,
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[MessageDetail]]:
        place = _MESSAGE_PAGES.number(cursor, before)
        found = await storage.conversation_messages(_stored(number), before=place, limit=limit + 1)
        if not found and place is None:
            raise unknown("conversation", number, _CONVERSATIONS)
        if not found and place and await storage.message(place) is None:
            raise unknown("message", place, "it became one with another; begin at the newest")
        page = await present(storage, found[-limit:])
        end = (page[0].id,) if len(found) > limit else None
        return _MESSAGE_PAGES.with_next(request, page, end)

    @post(
        "/conversations/{number:int}/read",
        tags=["conversations"],
        opt={"scope": "send"},
        status_code=202,
        summary="Queue read receipts for the newest messages of others",
    )
    async def read(number: FromPath[int]) -> list[OutboxRow]:
        actions = required(backend.actions, "connections that send")
        found = await storage.conversation_messages(_stored(number), limit=READ_AT_ONCE)
        if not found:
            raise unknown("conversation", number, _CONVERSATIONS)
        name = found[0].connection
        fleet.status(name)
        return [
            (await enqueue(backend, actions, name, key, request))[0]
            for key, request in read_requests(found)
        ]

    @get(
        "/messages/{number:int}",
        tags=["messages"],
        summary="One message, as it reads now",
        description="What it said before it was deleted or edited is left out (`withheld`), and of"
        " an edit or a vote in a poll what it says itself: see `/messages/{number}/history`.",
    )
    async def message(number: FromPath[int]) -> MessageDetail:
        found = await storage.message(storable(number, "message", _MESSAGES))
        if found is None:
            raise unknown("message", number, _MESSAGES)
        [shown] = await present(storage, [found])
        return shown

    return [
        conversations,
        conversation,
        open_conversation,
        close_conversation,
        reopen_conversation,
        messages,
        read,
        message,
    ]


def zoned(name: str, moment: dt.datetime | None) -> dt.datetime | None:
    """A moment of a filter, which has to say its zone.

    Raises:
        BadRequestError: it does not.
    """
    if moment is not None and moment.tzinfo is None:
        raise BadRequestError(f"{name}: say the zone, too, as in 2026-03-01T12:00:00Z")
    return moment


def _stored(number: int) -> int:
    return storable(number, "conversation", _CONVERSATIONS)


async def _ordered(
    storage: StoragePort,
    number: int,
    order: cabc.Callable[[int], cabc.Awaitable[ConversationRow | None]],
) -> ConversationRow | None:
    """Carry out what makes a conversation live; where another one is, name it.

    Raises:
        ProblemError: another one is.
    """
    try:
        return await order(_stored(number))
    except StorageRejectedError as error:
        live = await storage.live_conversation(number)
        if live is None or live == number:
            raise
        detail = (
            f"conversation {live} of the same chat is live, and a chat has at most one that is;"
            f" go on in that one, or close it first: zapvisor conversations close {live}"
        )
        raise ProblemError("live-conversation", 409, detail) from error
