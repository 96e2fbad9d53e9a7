"""The archive (docs/archive.md) as the stream of an export."""

import collections
import collections.abc as cabc
import functools

import trio

from storage.archive_reader import ArchiveFilter, ArchiveReader, Cursor, Page
from storage.archive_records import Header, Message, encode_record
from storage.exports.container import Block
from storage.exports.form import blob_name
from storage.exports.model import Start
from storage.maintenance import Maintenance


async def archive_blocks(
    session: Maintenance, start: Start, cursor: str | None
) -> cabc.AsyncGenerator[Block, None]:
    """Lines of records, a page each, behind a cursor."""
    request = start.request
    if cursor is None:
        place = Cursor(bounds=start.bounds, records=1)
        yield Block(data=encode_record(Header()), cursor=place.dump())
    else:
        place = Cursor.load(cursor)
    filters = ArchiveFilter(
        connections=() if request.connection is None else (request.connection,),
        contact=request.contact,
        conversation=request.conversation,
        since=request.since,
        until=request.until,
    )
    async for page in ArchiveReader(session, filters, cursor=place):
        yield await trio.to_thread.run_sync(functools.partial(_block, page, request.media))


def _block(page: Page, media: bool) -> Block:
    counts = collections.Counter(f"{each.record}s" for each in page.records)
    for alone in ("headers", "ends"):
        del counts[alone]
    counts["records"] = len(page.records)
    return Block(
        data=b"".join(map(encode_record, page.records)),
        cursor=page.cursor.dump(),
        counts=counts,
        files=tuple(_files(page)) if media else (),
    )


def _files(page: Page) -> cabc.Iterator[tuple[bytes, str]]:
    for record in page.records:
        if isinstance(record, Message) and record.media is not None:
            sha256 = record.media.blob_sha256
            if sha256 is not None and record.media.state == "stored":
                yield sha256, blob_name(sha256)
