"""What could not be stored: to look at, and to be tried again."""

import datetime as dt
import typing as t

import attrs
from litestar import Response, get, post
from litestar.params import FromPath, FromQuery

from api.backend import Backend, Before, Limit, required, storable, unknown
from api.pages import PAGED, AnyRequest, PageCursor, Pages
from api.ports_storage import StoragePort
from storage.quarantine import QuarantinedStanza, QuarantineRow

ADVICE: t.Final = "zapvisor quarantine list shows them"
BINARY: t.Final = "application/octet-stream"
_PAGES: t.Final = Pages[QuarantineRow]("quarantine", (int,), lambda row: (row.id,))


@attrs.frozen(kw_only=True)
class QuarantineView:
    """One row, without a word of what it says."""

    id: int
    connection: str
    chat: str | None
    sender: str | None
    external_id: str | None
    error: str
    attempts: int
    received_at: dt.datetime
    last_attempt_at: dt.datetime
    stanza_bytes: int
    way_out: str  # message, stanza, none or resolved: see ``storage.quarantine``
    kind: str | None  # of the message; only where one row is asked for
    sent_at: int | None  # unix seconds, as claimed; likewise
    resolved_at: dt.datetime | None
    resolution: str | None
    message_id: int | None


def quarantine_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    storage = backend.storage

    @get(
        "/quarantine",
        tags=["quarantine"],
        summary="What could not be stored, the newest first",
        response_headers=PAGED,
    )
    async def listed(
        request: AnyRequest,
        connection: FromQuery[str | None] = None,
        resolved: FromQuery[bool] = False,
        before: Before = None,
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[QuarantineView]]:
        if connection is not None:
            backend.fleet.status(connection)
        place = _PAGES.number(cursor, before)
        rows = await storage.quarantined(
            connection, resolved=resolved, before=place, limit=limit + 1
        )
        return _PAGES.answer(request, rows, limit, _view)

    @get(
        "/quarantine/{number:int}", tags=["quarantine"], summary="One of them, without what it says"
    )
    async def one(number: FromPath[int]) -> QuarantineView:
        return _whole(await _found(storage, number))

    @get(
        "/quarantine/{number:int}/stanza",
        tags=["quarantine"],
        summary="Its bytes, as they came",
    )
    async def stanza(number: FromPath[int]) -> Response[bytes]:
        found = await _found(storage, number)
        return Response(found.stanza, media_type=BINARY)

    @post(
        "/quarantine/{number:int}/retry",
        tags=["quarantine"],
        status_code=200,
        summary="Try to store it once more; tells how it is afterwards",
    )
    async def retry(number: FromPath[int]) -> QuarantineView:
        restorer = required(backend.restorer, "a quarantine")
        row = await restorer.retry(storable(number, "quarantine row", ADVICE))
        if row is None:
            raise unknown("quarantine row", number, ADVICE)
        return _view(row)

    return [listed, one, stanza, retry]


async def _found(storage: StoragePort, number: int) -> QuarantinedStanza:
    found = await storage.quarantined_stanza(storable(number, "quarantine row", ADVICE))
    if found is None:
        raise unknown("quarantine row", number, ADVICE)
    return found


def _whole(found: QuarantinedStanza) -> QuarantineView:
    if found.message is None:
        return _view(found.row)
    return attrs.evolve(_view(found.row), kind=found.message.kind, sent_at=found.message.sent_at)


def _view(row: QuarantineRow) -> QuarantineView:
    names = {field.name for field in attrs.fields(QuarantineView)} - {"kind", "sent_at"}
    return QuarantineView(**{name: getattr(row, name) for name in names}, kind=None, sent_at=None)
