"""Files: up, to be sent; and down, as a message carries them."""

import collections.abc as cabc
import typing as t

from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery, HeaderParameter, QueryParameter
from litestar.response import Stream

from api.backend import Backend, Before, Limit, required, storable, unknown
from api.downloads import Part, UnsatisfiableRangeError, download_headers, wanted_part
from api.former import record
from api.pages import PAGED, AnyRequest, PageCursor, Pages
from api.problems import ProblemError
from api.views import FileView, MediaView
from storage.changes import AccessKind
from storage.queues import MediaRow, MediaState

MAX_UPLOAD: t.Final = 2 * 1024**3  # bytes; WhatsApp takes no larger document
_FILES: t.Final = "a store of files"
_GONE: t.Final = frozenset({MediaState.EXPIRED, MediaState.FAILED, MediaState.REMOVED})
_PAGES: t.Final = Pages[MediaRow]("media", (int,), lambda row: (row.message_id,))

Only: t.TypeAlias = t.Annotated[MediaState | None, QueryParameter(name="state")]
RangeHeader: t.TypeAlias = t.Annotated[
    str | None, HeaderParameter(name="Range", max_length=200, description="bytes=0-499, one part.")
]
IfRange: t.TypeAlias = t.Annotated[str | None, HeaderParameter(name="If-Range", max_length=200)]
IfNoneMatch: t.TypeAlias = t.Annotated[
    str | None, HeaderParameter(name="If-None-Match", max_length=1000)
]


def media_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    storage = backend.storage

    async def file_of(number: int) -> MediaRow:
        advice = "its message carries none, or there is no such message"
        row = await storage.media_file(storable(number, "file of message", advice))
        if row is None:
            raise unknown("file of message", number, advice)
        return row

    def view(row: MediaRow, gone: cabc.Container[int]) -> MediaView:
        found = MediaView.of(row)
        return found.withheld() if row.message_id in gone else found

    @post(
        "/media",
        tags=["media"],
        opt={"scope": "send"},
        status_code=201,
        request_max_body_size=MAX_UPLOAD,
        summary="Upload a file, as the body of the request; its hash is the file of a message",
    )
    async def upload(request: Request[t.Any, t.Any, t.Any]) -> FileView:
        blob = await required(backend.files, _FILES).put(request.stream())
        return FileView(sha256=blob.sha256.hex(), size=blob.size)

    @get(
        "/media",
        tags=["media"],
        summary="Files of messages and how far their fetching is, those of the newest first",
        response_headers=PAGED,
    )
    async def listed(
        request: AnyRequest,
        connection: FromQuery[str | None] = None,
        only: Only = None,
        before: Before = None,
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[MediaView]]:
        if connection is not None:
            backend.fleet.status(connection)
        place = _PAGES.number(cursor, before)
        state = None if only is None else only.value
        rows = await storage.media_list(connection, state=state, before=place, limit=limit + 1)
        gone = await storage.deleted_among([row.message_id for row in rows])
        return _PAGES.answer(request, rows, limit, lambda row: view(row, gone))

    @get(
        "/messages/{number:int}/media",
        tags=["media"],
        summary="The file of a message, once it is stored",
        description="Takes `Range` with one stretch of bytes (206, 416), `If-Range` and"
        " `If-None-Match` (304) with the ETag of the file, which is that of its content."
        " That of a message which was deleted needs the scope `history`, and is put on record.",
    )
    async def download(
        request: AnyRequest,
        number: FromPath[int],
        stretch: RangeHeader = None,
        if_range: IfRange = None,
        if_none_match: IfNoneMatch = None,
    ) -> Stream | Response[None]:
        row = await file_of(number)
        files = required(backend.files, _FILES)
        if number in await storage.deleted_among([number]):
            await record(
                storage,
                request.scope,
                AccessKind.MEDIA,
                connection=row.connection,
                messages=(number,),
            )
        if row.state != MediaState.STORED or row.blob_sha256 is None:
            raise _not_there(row)
        size = await files.size(row.blob_sha256)
        if size is None:
            detail = f"the file of message {number} is missing from the store"
            raise ProblemError("file-missing", 410, detail)
        headers = download_headers(row.kind, row.mimetype, row.name, size)
        headers |= {"accept-ranges": "bytes", "etag": f'"{row.blob_sha256.hex()}"'}
        if if_none_match is not None and headers["etag"] in if_none_match:
            del headers["content-length"], headers["content-type"]
            return Response(None, status_code=304, headers=headers)
        part = _part(stretch if if_range in (None, headers["etag"]) else None, size)
        media_type = headers.pop("content-type")
        if part is None:
            return Stream(files.open(row.blob_sha256), headers=headers, media_type=media_type)
        headers["content-length"] = str(part.end - part.start)
        headers["content-range"] = f"bytes {part.start}-{part.end - 1}/{size}"
        return Stream(
            files.open(row.blob_sha256, part.start, part.end),
            headers=headers,
            media_type=media_type,
            status_code=206,
        )

    @post(
        "/messages/{number:int}/media",
        tags=["media"],
        status_code=202,
        summary="Fetch the file of a message, even if it was left out or given up",
    )
    async def fetch(number: FromPath[int]) -> MediaView:
        row = await file_of(number)
        actions = required(backend.actions, "connections that fetch files")
        await actions.fetch_media(row.connection, row.message_id)
        return view(await file_of(number), await storage.deleted_among([number]))

    return [upload, listed, download, fetch]


def _not_there(row: MediaRow) -> ProblemError:
    reason = f": {row.error}" if row.error else ""
    detail = f"the file of message {row.message_id} is {row.state}{reason}"
    if row.state in _GONE:
        return ProblemError("file-gone", 410, detail)
    return ProblemError("file-not-stored", 409, detail)


def _part(header: str | None, size: int) -> Part | None:
    try:
        return wanted_part(header, size)
    except UnsatisfiableRangeError as error:
        detail = f"Range: {error}; ask for some of them"
        raise ProblemError(
            "no-such-range", 416, detail, headers={"content-range": f"bytes */{size}"}
        ) from error
