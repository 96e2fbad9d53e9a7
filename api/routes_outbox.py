"""Sending: what is queued, what becomes of it, and what leaves without a trace."""

import enum
import secrets
import typing as t

import attrs
from litestar import Response, get, post
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter

from api.addresses import bare_address
from api.backend import Backend, Before, Limit, required, storable, unknown
from api.former import present_outbox
from api.pages import PAGED, AnyRequest, PageCursor, Pages
from api.ports_connections import ActionsPort
from api.requests import outbox_request
from storage.queues import OutboxRequest, OutboxRow, OutboxState

MAX_MESSAGE: t.Final = 512 * 1024  # bytes of JSON
_ADVICE: t.Final = "zapvisor outbox lists them"
_SENDERS: t.Final = "connections that send"
_PAGES: t.Final = Pages[OutboxRow]("outbox", (int,), lambda row: (row.id,))

Only: t.TypeAlias = t.Annotated[OutboxState | None, QueryParameter(name="state")]


class Typing(enum.Enum):
    """What is shown in a chat."""

    COMPOSING = "composing"
    RECORDING = "recording"
    PAUSED = "paused"


@attrs.frozen(kw_only=True)
class TypingRequest:
    """Where to show that somebody types, records, or has stopped."""

    to: str
    state: Typing = Typing.COMPOSING


async def enqueue(
    backend: Backend, actions: ActionsPort, name: str, key: str, request: OutboxRequest
) -> tuple[OutboxRow, bool]:
    """Queue a request durably, and wake whoever sends it."""
    row, created = await backend.storage.enqueue(
        name, key, request, external_id=actions.message_id(name)
    )
    if created:
        actions.outbox_changed(name)
    return row, created


def outbox_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    fleet, storage = backend.fleet, backend.storage

    @post(
        "/connections/{name:str}/messages",
        status_code=202,
        request_max_body_size=MAX_MESSAGE,
        opt={"scope": "send", "answers": {200: "The key was used before: what became of it"}},
        summary="Queue a message; 200 and the row of the first time for a key that was used",
    )
    async def send(
        name: FromPath[str],
        data: JSONBody[dict[str, t.Any]],
        key: t.Annotated[
            str | None, HeaderParameter(name="Idempotency-Key", min_length=1, max_length=512)
        ] = None,
    ) -> Response[OutboxRow]:
        fleet.status(name)
        actions = required(backend.actions, _SENDERS)
        request = await outbox_request(backend, name, data)
        row, created = await enqueue(
            backend, actions, name, key or f"api-{secrets.token_hex(16)}", request
        )
        return Response(row, status_code=202 if created else 200)

    @post(
        "/connections/{name:str}/typing",
        status_code=204,
        opt={"scope": "send"},
        summary="Show that somebody types, records, or has stopped",
    )
    async def typing(name: FromPath[str], data: JSONBody[TypingRequest]) -> None:
        fleet.status(name)
        actions = required(backend.actions, _SENDERS)
        await actions.typing(name, bare_address(data.to), data.state.value)

    async def page(
        request: AnyRequest,
        name: str | None,
        only: OutboxState | None,
        place: int | None,
        limit: int,
    ) -> Response[list[OutboxRow]]:
        state = None if only is None else only.value
        rows = await storage.outbox_list(name, state=state, before=place, limit=limit + 1)
        return _PAGES.answer(request, await present_outbox(storage, rows), limit)

    @get(
        "/outbox",
        tags=["outbox"],
        summary="What was to be sent, newest first",
        response_headers=PAGED,
    )
    async def outbox(
        request: AnyRequest,
        only: Only = None,
        before: Before = None,
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[OutboxRow]]:
        return await page(request, None, only, _PAGES.number(cursor, before), limit)

    @get(
        "/connections/{name:str}/outbox",
        tags=["outbox"],
        summary="The same of one connection",
        response_headers=PAGED,
    )
    async def outbox_of(
        request: AnyRequest,
        name: FromPath[str],
        only: Only = None,
        before: Before = None,
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[OutboxRow]]:
        fleet.status(name)
        return await page(request, name, only, _PAGES.number(cursor, before), limit)

    @get("/outbox/{number:int}", tags=["outbox"], summary="One message to send")
    async def outbox_row(number: FromPath[int]) -> OutboxRow:
        row = await storage.outbox_row(None, storable(number, "outbox message", _ADVICE))
        if row is None:
            raise unknown("outbox message", number, _ADVICE)
        [shown] = await present_outbox(storage, [row])
        return shown

    @post(
        "/outbox/{number:int}/retry",
        status_code=202,
        opt={"scope": "send"},
        summary="unknown → queued: it may reach its recipient twice",
    )
    async def retry(number: FromPath[int]) -> OutboxRow:
        row = await storage.outbox_retry(None, storable(number, "outbox message", _ADVICE))
        if row is None:
            raise unknown("outbox message", number, _ADVICE)
        if backend.actions is not None:
            backend.actions.outbox_changed(row.connection)
        [shown] = await present_outbox(storage, [row])
        return shown

    return [send, typing, outbox, outbox_of, outbox_row, retry]
