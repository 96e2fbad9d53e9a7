"""Files: up, to be sent; and down, as a message carries them."""

import typing as t

from litestar import Request, get, post
from litestar.params import FromPath
from litestar.response import Stream

from api.backend import Backend, required, storable, unknown
from api.downloads import download_headers
from api.problems import ProblemError
from api.views import FileView
from storage.queues import MediaRow, MediaState

MAX_UPLOAD: t.Final = 2 * 1024**3  # bytes; WhatsApp takes no larger document
_FILES: t.Final = "a store of files"
_GONE: t.Final = frozenset({MediaState.EXPIRED, MediaState.FAILED, MediaState.REMOVED})


def media_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    storage = backend.storage

    async def file_of(number: int) -> MediaRow:
        advice = "its message carries none, or there is no such message"
        row = await storage.media_file(storable(number, "file of message", advice))
        if row is None:
            raise unknown("file of message", number, advice)
        return row

    @post(
        "/media",
        status_code=201,
        request_max_body_size=MAX_UPLOAD,
        opt={"scope": "send"},
        summary="Upload a file, as the body of the request; its hash is the file of a message",
    )
    async def upload(request: Request[t.Any, t.Any, t.Any]) -> FileView:
        blob = await required(backend.files, _FILES).put(request.stream())
        return FileView(sha256=blob.sha256.hex(), size=blob.size)

    @get("/messages/{number:int}/media", summary="The file of a message, once it is stored")
    async def download(number: FromPath[int]) -> Stream:
        row = await file_of(number)
        files = required(backend.files, _FILES)
        if row.state != MediaState.STORED or row.blob_sha256 is None:
            raise _not_there(row)
        size = await files.size(row.blob_sha256)
        if size is None:
            detail = f"the file of message {number} is missing from the store"
            raise ProblemError("file-missing", 410, detail)
        headers = download_headers(row.kind, row.mimetype, row.name, size)
        media_type = headers.pop("content-type")
        return Stream(files.open(row.blob_sha256), headers=headers, media_type=media_type)

    @post(
        "/messages/{number:int}/media",
        status_code=202,
        summary="Fetch the file of a message, even if it was left out or given up",
    )
    async def fetch(number: FromPath[int]) -> MediaRow:
        row = await file_of(number)
        actions = required(backend.actions, "connections that fetch files")
        await actions.fetch_media(row.connection, row.message_id)
        return await file_of(number)

    return [upload, download, fetch]


def _not_there(row: MediaRow) -> ProblemError:
    reason = f": {row.error}" if row.error else ""
    detail = f"the file of message {row.message_id} is {row.state}{reason}"
    if row.state in _GONE:
        return ProblemError("file-gone", 410, detail)
    return ProblemError("file-not-stored", 409, detail)
