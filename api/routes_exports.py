"""Exports as files: what there is, a new one, going on with one, deleting one."""

import datetime as dt
import typing as t
import zoneinfo

import attrs
from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody

from actors.drafts import BadRequestError
from actors.exporter import ExportRunsError, ExportsBusyError
from api.addresses import bare_address
from api.auth import CONTROL, Caller, caller
from api.backend import Backend, Before, Limit, required, storable, unknown
from api.former import viewer
from api.pages import PAGED, AnyRequest, PageCursor, Pages
from api.ports_exports import ExportsPort
from api.problems import ProblemError
from storage.exports.ledger import ExportRow
from storage.exports.model import Form, Request, time_text

_LIST: t.Final = "zapvisor exports lists them"
_PAGES: t.Final = Pages[ExportRow]("exports", (int,), lambda row: (row.id,))
MAX_RECIPIENTS: t.Final = 20


@attrs.frozen(kw_only=True)
class ExportView:
    """One export."""

    id: int
    name: str
    period: str | None  # of the schedule; null: somebody asked for it
    path: str  # where it is, or will be
    form: str
    connection: str | None
    contact: str | None
    conversation: int | None
    since: str | None
    until: str | None
    compress: bool
    recipients: list[str]
    media: bool
    state: str  # "running", "done", "failed"
    attempts: int
    counts: dict[str, int]
    bytes: int
    error: str | None
    started_at: dt.datetime
    updated_at: dt.datetime
    finished_at: dt.datetime | None
    removed_at: dt.datetime | None  # its files were deleted

    @classmethod
    def of(cls, row: ExportRow, live: t.Mapping[str, int] | None = None) -> "ExportView":
        """A row; ``live``: newer counts."""
        request = row.request
        return cls(
            id=row.id,
            name=row.name,
            period=row.period,
            path=row.path,
            form=request.form.value,
            connection=request.connection,
            contact=request.contact,
            conversation=request.conversation,
            since=time_text(request.since),
            until=time_text(request.until),
            compress=request.compress,
            recipients=list(request.recipients),
            media=request.media,
            state=row.state,
            attempts=row.attempts,
            counts=dict(live) if live else row.counts,
            bytes=row.bytes,
            error=row.error,
            started_at=row.started_at,
            updated_at=row.updated_at,
            finished_at=row.finished_at,
            removed_at=row.removed_at,
        )


@attrs.frozen(kw_only=True)
class ExportOrder:
    """What an export is to hold. Without limits it holds everything."""

    form: t.Literal["jsonl", "html", "csv", "whatsapp", "whatsapp-ios"] = "jsonl"
    connection: str | None = None
    contact: str | None = None  # a phone number or an address
    conversation: int | None = None
    from_day: dt.date | None = None
    to_day: dt.date | None = None  # inclusive
    timezone: str = "UTC"  # of the days, and of times that people read
    compress: bool | None = None  # null: only the archive (jsonl)
    recipients: list[str] = attrs.field(factory=list)  # keys of age or ssh to encrypt to
    media: bool = False
    name: str | None = None  # null: made of the form and the time
    s3: bool = False
    directory: str | None = None  # absolute; on the control socket only


def export_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""

    def service() -> ExportsPort:
        return required(backend.exports, "exports")

    def view_of(row: ExportRow) -> ExportView:
        live = service().view()
        return ExportView.of(row, live.counts if live.running == row.id else None)

    @get(
        "/exports",
        tags=["exports"],
        summary="Exports as files, the newest first",
        response_headers=PAGED,
    )
    async def exports(
        request: AnyRequest, before: Before = None, limit: Limit = 50, cursor: PageCursor = None
    ) -> Response[list[ExportView]]:
        place = _PAGES.number(cursor, before)
        rows = await service().exports(before=place, limit=limit + 1)
        return _PAGES.answer(request, rows, limit, view_of)

    @get("/exports/{number:int}", tags=["exports"], summary="One export, and how far it is")
    async def export(number: FromPath[int]) -> ExportView:
        row = await service().export(storable(number, "export", _LIST))
        if row is None:
            raise unknown("export", number, _LIST)
        return view_of(row)

    @post(
        "/exports",
        tags=["exports"],
        status_code=202,
        summary="Begin an export; the daemon writes it, one at a time",
        description="It is written to the directory of `[export]`, or to its S3 store. Another"
        " directory can be named on the control socket only. It holds what messages said before"
        " they were deleted or edited: that needs the scope `history`, too, and is put on record.",
    )
    async def begin(request: AnyRequest, data: JSONBody[ExportOrder]) -> ExportView:
        by, who = viewer(request.scope), caller(request.scope)
        if data.directory is not None and not (isinstance(who, Caller) and CONTROL in who.scopes):
            raise ProblemError(
                "forbidden", 403, "a directory is named on the control socket only: zapvisor export"
            )
        if data.directory is not None and not data.directory.startswith("/"):
            raise BadRequestError("directory: it has to be absolute")
        wanted = request_of(data)
        name = data.name or name_of(wanted, backend.wall_clock())
        try:
            row = await service().begin(wanted, name, by, s3=data.s3, directory=data.directory)
        except ExportsBusyError as error:
            raise ProblemError("exports-busy", 409, str(error)) from error
        return view_of(row)

    @post(
        "/exports/{number:int}/resume",
        tags=["exports"],
        status_code=202,
        summary="Go on with an export that failed, after its last complete part",
        description="The scope `history` is needed, too, as for a new one.",
    )
    async def resume(request: AnyRequest, number: FromPath[int]) -> ExportView:
        by = viewer(request.scope)
        row = await service().again(storable(number, "export", _LIST), by)
        if row is None:
            if await service().export(number) is None:
                raise unknown("export", number, _LIST)
            raise ProblemError(
                "export-complete", 409, f"the export {number} is complete or deleted"
            )
        return view_of(row)

    @delete(
        "/exports/{number:int}",
        tags=["exports"],
        status_code=200,
        summary="Delete the files of an export; its row stays",
    )
    async def remove(number: FromPath[int]) -> ExportView:
        try:
            row = await service().remove(storable(number, "export", _LIST))
        except ExportRunsError as error:
            raise ProblemError("export-runs", 409, str(error)) from error
        if row is None:
            raise unknown("export", number, _LIST)
        return view_of(row)

    return [exports, export, begin, resume, remove]


def request_of(order: ExportOrder) -> Request:
    """What is asked for.

    Raises:
        BadRequestError: something in it is wrong.
    """
    try:
        zone = zoneinfo.ZoneInfo(order.timezone)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise BadRequestError(
            f"timezone: this system knows none of the name {order.timezone[:64]!r}; write it like"
            " America/Sao_Paulo"
        ) from error
    if order.from_day and order.to_day and order.to_day < order.from_day:
        raise BadRequestError("to_day is before from_day")
    if len(order.recipients) > MAX_RECIPIENTS:
        raise BadRequestError(f"recipients: at most {MAX_RECIPIENTS}")
    if order.conversation is not None and not 0 < order.conversation < 2**63:
        raise BadRequestError("conversation: there is none of that number")
    form = Form(order.form)
    return Request(
        form=form,
        connection=order.connection,
        contact=None if order.contact is None else bare_address(order.contact),
        conversation=order.conversation,
        since=_midnight("from_day", order.from_day, zone),
        until=_midnight("to_day", order.to_day, zone, days=1),
        zone=order.timezone,
        compress=(form is Form.JSONL) if order.compress is None else order.compress,
        recipients=tuple(order.recipients),
        media=order.media,
    )


def _midnight(
    parameter: str, day: dt.date | None, zone: dt.tzinfo, *, days: int = 0
) -> dt.datetime | None:
    """The beginning of a day, or of the one so many days later."""
    if day is None:
        return None
    try:
        begun = dt.datetime.combine(day + dt.timedelta(days=days), dt.time(), zone)
        return begun.astimezone(dt.UTC)
    except OverflowError as error:
        raise BadRequestError(f"{parameter}: {day.isoformat()} cannot be used") from error


def name_of(request: Request, now: float) -> str:
    """What an export is called that nobody has named; ``now`` in unix seconds."""
    at = dt.datetime.fromtimestamp(now, dt.UTC)
    return f"zapvisor-{request.form.value}-{at:%Y%m%dT%H%M%SZ}"
