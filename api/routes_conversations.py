"""Conversations and their messages."""

import enum
import typing as t

from litestar import get, post
from litestar.params import FromPath, FromQuery

from api.backend import Backend, Before, Limit, required, storable, unknown
from api.requests import read_requests
from api.routes_outbox import enqueue
from api.views import ConversationView
from storage.api import ConversationRow
from storage.inbox import MessageDetail
from storage.queues import OutboxRow

READ_AT_ONCE: t.Final = 100  # the newest messages that receipts are sent for
_CONVERSATIONS: t.Final = "zapvisor conversations lists them"
_MESSAGES: t.Final = "zapvisor messages lists those of a conversation"


class ConversationStatus(enum.Enum):
    """The statuses to filter by."""

    WAITING = "waiting"
    OPEN = "open"
    CLOSED = "closed"


def conversation_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    fleet, storage = backend.fleet, backend.storage

    @get("/conversations", summary="Conversations, the most recently active first")
    async def conversations(
        status: FromQuery[ConversationStatus | None] = None,
        connection: FromQuery[str | None] = None,
        limit: Limit = 50,
    ) -> list[ConversationView]:
        if connection is not None:
            fleet.status(connection)
        rows = await storage.conversations(
            status=status.value if status else None, connection=connection, limit=limit
        )
        return [ConversationView.of(row) for row in rows]

    @post("/conversations/{number:int}/open", status_code=200, summary="waiting, closed → open")
    async def open_conversation(number: FromPath[int]) -> ConversationView:
        return _found(number, await storage.open_conversation(_stored(number)))

    @post("/conversations/{number:int}/close", status_code=200, summary="waiting, open → closed")
    async def close_conversation(number: FromPath[int]) -> ConversationView:
        return _found(number, await storage.close_conversation(_stored(number)))

    @get(
        "/conversations/{number:int}/messages",
        summary="The newest messages, or those before a message; oldest first",
    )
    async def messages(
        number: FromPath[int], before: Before = None, limit: Limit = 50
    ) -> list[MessageDetail]:
        found = await storage.conversation_messages(_stored(number), before=before, limit=limit)
        if not found and before is None:
            raise unknown("conversation", number, _CONVERSATIONS)
        return found

    @post(
        "/conversations/{number:int}/read",
        status_code=202,
        opt={"scope": "send"},
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

    @get("/messages/{number:int}", summary="One message, as it reads now and as it read before")
    async def message(number: FromPath[int]) -> MessageDetail:
        found = await storage.message(storable(number, "message", _MESSAGES))
        if found is None:
            raise unknown("message", number, _MESSAGES)
        return found

    return [conversations, open_conversation, close_conversation, messages, read, message]


def _stored(number: int) -> int:
    return storable(number, "conversation", _CONVERSATIONS)


def _found(number: int, row: ConversationRow | None) -> ConversationView:
    if row is None:
        raise unknown("conversation", number, _CONVERSATIONS)
    return ConversationView.of(row)
