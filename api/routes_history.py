"""History: how far its import is, and asking for more of it."""

import typing as t

import attrs
from litestar import get, post
from litestar.params import FromPath, JSONBody

from actors.drafts import BadRequestError
from api.addresses import bare_address
from api.backend import Backend, required
from api.views import OlderHistoryView
from storage.queues import HistoryProgress

MAX_OLDER: t.Final = 500  # messages asked for at once


@attrs.frozen(kw_only=True)
class OlderRequest:
    """The chat whose older messages are wanted."""

    chat: str
    count: int = 50


def history_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    fleet, storage = backend.fleet, backend.storage

    @get("/connections/{name:str}/history", summary="How far the import of the history is")
    async def history(name: FromPath[str]) -> HistoryProgress:
        fleet.status(name)
        return await storage.history_progress(name)

    @post(
        "/connections/{name:str}/history",
        status_code=202,
        summary="Ask the phone for older messages of a chat; they come as history",
    )
    async def older(name: FromPath[str], data: JSONBody[OlderRequest]) -> OlderHistoryView:
        fleet.status(name)
        actions = required(backend.actions, "connections that send")
        if not 1 <= data.count <= MAX_OLDER:
            raise BadRequestError(f"count: between 1 and {MAX_OLDER} messages can be asked for")
        chat = bare_address(data.chat)
        request = await actions.older_history(name, chat, data.count)
        return OlderHistoryView(connection=name, chat=chat, count=data.count, request_id=request)

    @post(
        "/connections/{name:str}/history/retry",
        status_code=200,
        summary="Import chunks that failed again, from where they stopped",
    )
    async def retry(name: FromPath[str]) -> HistoryProgress:
        fleet.status(name)
        if await storage.history_retry(name) and backend.actions is not None:
            backend.actions.history_changed(name)
        return await storage.history_progress(name)

    return [history, older, retry]
