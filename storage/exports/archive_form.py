"""The archive (docs/archive.md) as the stream of an export."""

import collections.abc as cabc

from storage.errors import StorageRejectedError
from storage.exports.container import Block
from storage.exports.model import Start
from storage.exports.rows import Session


async def archive_blocks(
    session: Session, start: Start, cursor: str | None
) -> cabc.AsyncIterator[Block]:
    """Lines of records, behind a cursor."""
    del session, start, cursor
    raise StorageRejectedError("not there yet")
    yield
