"""Writes an export from beginning to end, or from where it stopped."""

import collections.abc as cabc
import contextlib
import functools
import typing as t

import attrs
import trio

from storage.blobs import BlobMissingError, Blobs
from storage.exports.archive_form import archive_blocks
from storage.exports.container import Block, Container
from storage.exports.csv_form import CsvForm
from storage.exports.draft import END, Draft
from storage.exports.form import ReadableForm, read_cursor
from storage.exports.html_form import HtmlForm
from storage.exports.model import Form, Manifest, Start
from storage.exports.rows import Place, Session, check_scope, conversations, stretches
from storage.exports.text_form import TextForm
from storage.maintenance import Maintenance

INDEX_PAGE: t.Final = 200  # conversations

T = t.TypeVar("T")


@attrs.frozen(kw_only=True)
class Means:
    """What an export works with."""

    session: Maintenance
    blobs: Blobs
    breathe: cabc.Callable[[], cabc.Awaitable[None]] = trio.lowlevel.checkpoint
    """Called between two pages: leaves time to everybody else."""
    told: cabc.Callable[[cabc.Mapping[str, int]], None] = lambda _counts: None
    """Hears now and then how many are written."""


async def write_export(draft: Draft, means: Means, finished_at: cabc.Callable[[], str]) -> Manifest:
    """Write all that is missing, and give the export its name.

    Cancelled, or after an error, the draft can be resumed.

    Raises:
        StorageRejectedError: a filter names what is not there, or a recipient is none.
        StorageUnavailableError: the database or the disk fails.
    """
    if draft.progress.cursor != END:
        await check_scope(means.session, draft.start)
        await _content(draft, means)
    return await _blocking(functools.partial(draft.publish, finished_at()), abandon=draft.remote)


async def newest_of(session: Maintenance) -> tuple[int, int, int, int]:
    """The bounds of an export that begins now."""
    found = await session.fetch_one("archive_bounds")
    first, second, third, fourth = found.values()
    return first, second, third, fourth


async def _content(draft: Draft, means: Means) -> None:
    start, cursor = draft.start, draft.progress.cursor
    if start.request.form is Form.JSONL:
        container = Container(draft)
        blocks = archive_blocks(means.session, start, cursor)
    else:
        form = _form(start, cursor)
        container = Container(draft, header=form.header)
        blocks = _readable_blocks(means.session, start, form, cursor)
    async with contextlib.aclosing(blocks):
        async for block in blocks:
            for sha256, name in block.files:
                await _copy(container, means.blobs, sha256, name)
            await _blocking(functools.partial(container.put, block), abandon=draft.remote)
            means.told(container.counts)
            await means.breathe()
    await _blocking(container.end, abandon=draft.remote)


def _form(start: Start, cursor: str | None) -> ReadableForm:
    request = start.request
    _place, state = read_cursor(cursor)
    match request.form:
        case Form.CSV:
            return CsvForm(request.zone, media=request.media)
        case Form.HTML:
            return HtmlForm(request.zone, media=request.media, state=state)
        case Form.WHATSAPP | Form.WHATSAPP_IOS:
            ios = request.form is Form.WHATSAPP_IOS
            return TextForm(request.zone, ios=ios, media=request.media, state=state)
        case Form.JSONL:
            raise AssertionError("an archive is no readable form")
        case other:
            t.assert_never(other)


async def _readable_blocks(
    session: Session, start: Start, form: ReadableForm, cursor: str | None
) -> cabc.AsyncGenerator[Block, None]:
    place, state = read_cursor(cursor)
    number = state.get("index")
    if number is None:
        async with contextlib.aclosing(stretches(session, start, place)) as found:
            async for stretch in found:
                for block in await _blocking(functools.partial(_all, form.take, stretch)):
                    yield block
        for block in form.end():
            yield block
        place, number = Place(), 1
    while True:
        rows = await conversations(session, start, place, limit=INDEX_PAGE + 1)
        page, more = rows[:INDEX_PAGE], len(rows) > INDEX_PAGE
        if not page and number > 1:
            return
        blocks = await _blocking(functools.partial(_all, form.index, page, number, more))
        for block in blocks:
            yield block
        if not blocks or not more:
            return
        place, number = page[-1].done, number + 1


async def _copy(container: Container, blobs: Blobs, sha256: bytes, name: str) -> None:
    """Take a file of a message over, unless it is there; one that is gone is counted."""
    if await _blocking(functools.partial(container.has, name)):
        return
    size = await blobs.size(sha256)
    if size is None:
        container.count("files_missing")
        return
    source = _BlobStream(blobs, sha256, size)
    try:
        await _blocking(functools.partial(container.copy, name, source))
    except BlobMissingError:  # deleted meanwhile
        container.count("files_missing")


class _BlobStream:
    """Reads a blob from a thread, through the event loop."""

    def __init__(self, blobs: Blobs, sha256: bytes, size: int) -> None:
        self._blobs = blobs
        self._sha256 = sha256
        self._size = size
        self._next = 0
        self._kept = b""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; asks for more at once than it is asked for."""
        if not self._kept and self._next < self._size:
            self._kept = trio.from_thread.run(
                self._blobs.read, self._sha256, self._next, min(1 << 18, self._size - self._next)
            )
            if not self._kept:
                raise BlobMissingError(self._sha256)
            self._next += len(self._kept)
        if size < 0:
            size = len(self._kept)
        piece, self._kept = self._kept[:size], self._kept[size:]
        return piece


def _all(make: cabc.Callable[..., cabc.Iterator[Block]], *arguments: t.Any) -> list[Block]:
    return list(make(*arguments))


async def _blocking(work: cabc.Callable[[], T], *, abandon: bool = False) -> T:
    """``abandon``: when cancelled, leave it to end in its thread; it records nothing then."""
    return await trio.to_thread.run_sync(work, abandon_on_cancel=abandon)
