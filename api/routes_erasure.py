"""Forgetting a person, and what rules of retention remove."""

import datetime as dt
import typing as t

import attrs
from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from actors.drafts import BadRequestError
from actors.retention import SHORT_RULE, Preview
from api.addresses import contact_place
from api.auth import CONTROL
from api.backend import Backend, Before, Limit, required, storable, unknown
from api.pages import PAGED, AnyRequest, PageCursor, Pages
from storage.erasure import UNERASED, Erasure, RetentionRun, Subject

By: t.TypeAlias = t.Annotated[str, QueryParameter(min_length=1, max_length=200)]

PREVIEW_TIME: t.Final = 25.0  # seconds
MAX_BY: t.Final = 200  # characters
_ERASER: t.Final = "anybody who erases"
_ERASURES: t.Final = "zapvisor forget --list shows them"
_PEOPLE: t.Final = "zapvisor contacts lists them; one that became another is gone"
_PAGES: t.Final = Pages[Erasure]("erasures", (int,), lambda row: (row.id,))


@attrs.frozen(kw_only=True)
class ErasureRequest:
    """Whom to forget."""

    contact: str = attrs.field(repr=False)  # its id, a phone number, or an address
    connection: str | None = None  # null: on all connections
    by: str = "operator"  # who answers for it; kept
    dry_run: bool = False  # only tell who that is


@attrs.frozen(kw_only=True)
class ErasureView:
    """An order to forget a person. There is nothing personal in it."""

    id: int
    state: str  # "under way" or "done"
    requested_at: dt.datetime
    finished_at: dt.datetime | None
    requested_by: str
    program: str
    connections: tuple[str, ...]
    subject: tuple[str, ...]
    """HMAC-SHA-256 of each address, in hexadecimal, under a key derived from the secret key."""
    phase: str  # how far it is
    erased: dict[str, int]  # rows so far, by kind
    not_erased: tuple[str, ...]  # what the program cannot reach

    @classmethod
    def of(cls, row: Erasure) -> "ErasureView":
        """The same as stored."""
        return cls(
            id=row.id,
            state="under way" if row.finished_at is None else "done",
            requested_at=row.requested_at,
            finished_at=row.finished_at,
            requested_by=row.requested_by,
            program=f"zapvisor {row.version}",
            connections=row.connections,
            subject=row.subject,
            phase=row.phase,
            erased=dict(sorted(row.counts.items())),
            not_erased=UNERASED,
        )


@attrs.frozen(kw_only=True)
class RuleView:
    """A rule of retention."""

    rule: str
    after: float  # seconds since a message was sent
    short: bool  # so short that it is warned of


@attrs.frozen(kw_only=True)
class RetentionView:
    """The rules, and what they have removed."""

    rules: tuple[RuleView, ...]
    removed: tuple[RetentionRun, ...]  # the newest first


@attrs.frozen(kw_only=True)
class PreviewView:
    """What the rules of retention would remove now."""

    rows: tuple[Preview, ...]
    complete: bool  # false: there was not enough time to look at every message


def erasure_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    fleet, storage = backend.fleet, backend.storage

    async def begin(
        contact: int | None, address: str | None, connection: str | None, by: str
    ) -> Erasure | None:
        if connection is not None:
            fleet.status(connection)
        eraser = required(backend.eraser, _ERASER)
        return await eraser.forget(contact=contact, address=address, connection=connection, by=by)

    @post(
        "/contacts/{number:int}/forget",
        tags=["contacts"],
        status_code=202,
        opt={"scope": CONTROL},
        summary="Erase a person, by contact: everywhere, for good",
        description="The answer comes at once; `GET /erasures/{number}` tells how far it is.",
    )
    async def forget_contact(
        number: FromPath[int], connection: FromQuery[str | None] = None, by: By = "operator"
    ) -> ErasureView:
        row = await begin(storable(number, "contact", _PEOPLE), None, connection, by)
        if row is None:
            raise unknown("contact", number, _PEOPLE)
        return ErasureView.of(row)

    @post(
        "/erasures",
        tags=["contacts"],
        status_code=202,
        opt={"scope": CONTROL, "problems": (404,)},
        summary="Erase a person, by id, phone number or address; or only tell who that is",
    )
    async def forget(data: JSONBody[ErasureRequest]) -> ErasureView | Subject:
        contact, address = contact_place(data.contact)
        if not 0 < len(data.by) <= MAX_BY:
            raise BadRequestError(f"by: 1 to {MAX_BY} characters")
        if data.connection is not None:
            fleet.status(data.connection)
        eraser = required(backend.eraser, _ERASER)
        place: dict[str, t.Any] = {"contact": contact, "address": None}
        subject = None
        if contact is not None:
            subject = await eraser.subject(**place, connection=data.connection)
        if subject is None and address is not None:
            place = {"contact": None, "address": address}
            subject = await eraser.subject(**place, connection=data.connection)
        if subject is None:
            raise unknown("contact", "of that id, number or address", _PEOPLE)
        if data.dry_run:
            return subject
        row = await begin(**place, connection=data.connection, by=data.by)
        if row is None:
            raise unknown("contact", "of that id, number or address", _PEOPLE)
        return ErasureView.of(row)

    @get(
        "/erasures",
        tags=["contacts"],
        summary="Orders to forget a person, the newest first",
        response_headers=PAGED,
    )
    async def erasures(
        request: AnyRequest, before: Before = None, limit: Limit = 50, cursor: PageCursor = None
    ) -> Response[list[ErasureView]]:
        rows = await storage.erasures(before=_PAGES.number(cursor, before), limit=limit + 1)
        page: Response[list[Erasure]] = _PAGES.answer(request, rows, limit)
        return Response([ErasureView.of(row) for row in page.content], headers=page.headers)

    @get("/erasures/{number:int}", tags=["contacts"], summary="One of them")
    async def erasure(number: FromPath[int]) -> ErasureView:
        row = await storage.erasure(storable(number, "erasure", _ERASURES))
        if row is None:
            raise unknown("erasure", number, _ERASURES)
        return ErasureView.of(row)

    @get("/retention", tags=["daemon"], summary="Rules of retention, and what they have removed")
    async def retention(limit: Limit = 50) -> RetentionView:
        keeper = required(backend.retention, _ERASER)
        rules = tuple(
            RuleView(rule=each.text, after=each.after, short=each.after < SHORT_RULE)
            for each in keeper.rules
        )
        return RetentionView(rules=rules, removed=tuple(await keeper.runs(limit)))

    @get(
        "/retention/preview",
        tags=["daemon"],
        opt={"scope": "operate"},
        summary="What the rules of retention would remove now; it looks at every message",
    )
    async def preview() -> PreviewView:
        rows, complete = await required(backend.retention, _ERASER).preview(PREVIEW_TIME)
        return PreviewView(rows=tuple(rows), complete=complete)

    return [forget_contact, forget, erasures, erasure, retention, preview]
