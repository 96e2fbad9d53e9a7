"""``zapvisor import`` of the text of WhatsApp's "export chat", as history."""

import collections.abc as cabc
import contextlib
import datetime as dt
import functools
import itertools
import time
import typing as t
import zoneinfo
from pathlib import Path

import attrs
import trio

from actors.drafts import BadRequestError
from api.addresses import bare_address
from config.model import Config
from daemon.database import Reached, reach
from daemon.errors import UsageError
from daemon.export_wiring import media_blobs
from daemon.importing import BESIDE, Progress, facts_of, make_ready, stones_here
from daemon.owner import acting_as_owner
from daemon.run import one_line_errors
from storage.archive_import import ImportCounts, Placed, import_records
from storage.archive_source import ExportFiles
from storage.blobs import Blobs
from storage.errors import StorageRejectedError
from storage.exports.chat_files import MAX_FILE, ChatFile, base_name, open_chat
from storage.exports.whatsapp_records import (
    ChatFacts,
    MessageMaker,
    StoredFile,
    chat_records,
    check_senders,
)
from storage.exports.whatsapp_text import DateOrder, Line, Survey, in_zone, read_lines

LINES: t.Final = 500  # messages that are read at once
PIECE: t.Final = 256 * 1024  # bytes
MAX_SENDERS: t.Final = 10_000


@attrs.frozen(kw_only=True)
class ChatOptions:
    """What the file does not tell."""

    path: Path
    connection: str
    chat: str  # a phone number or an address
    me: str = attrs.field(repr=False)
    people: tuple[str, ...] = attrs.field(default=(), repr=False)  # "NAME=+55…"
    date_order: str | None = None
    zone: str
    everything: bool = False
    """Also what is newer than the first message that is stored of the chat."""
    progress: Progress = lambda _text: None


def run_chat_import(config: Config, options: ChatOptions) -> dict[str, t.Any]:
    """Store the messages of a chat; what became of them.

    Raises:
        CommandError: it cannot be done; says what is missing.
    """
    facts = _facts(options)
    with one_line_errors(), open_chat(options.path) as chat:
        order = _order(chat, options)
        senders = check_senders(facts, _senders(chat, order))

        async def run() -> tuple[ImportCounts, MessageMaker]:
            async with reach(config) as reached:
                await make_ready(config, reached)
                return await _import(config, reached, chat, order, facts, senders, options)

        with acting_as_owner(config.data_dir):
            counts, maker = trio.run(run, strict_exception_groups=True)
    return facts_of(counts) | {"path": str(options.path), "chat": attrs.asdict(maker.counts)}


def _facts(options: ChatOptions) -> ChatFacts:
    people = {}
    for each in options.people:
        name, equals, number = each.rpartition("=")
        if not equals or not name.strip():
            raise UsageError(f'--person {each!r}: write it like "Ana Lima=+55 11 99999-0000"')
        people[name.strip()] = _address(number, "--person")
    return ChatFacts(
        connection=options.connection,
        chat=_address(options.chat, "--chat"),
        me=options.me,
        people=people,
    )


def _address(text: str, option: str) -> str:
    try:
        return bare_address(text)
    except BadRequestError as error:
        raise UsageError(f"{option}: {error}") from error


def _order(chat: ChatFile, options: ChatOptions) -> DateOrder:
    survey = Survey()
    with chat.lines() as lines:
        for line in lines:
            survey.see(line)
    return survey.order(None if options.date_order is None else DateOrder(options.date_order))


def _senders(chat: ChatFile, order: DateOrder) -> list[str]:
    """All who wrote, and have something to keep."""
    found: dict[str, None] = {}
    with chat.lines() as lines:
        for line in read_lines(lines, order):
            if line.sender is not None and not line.deleted:
                found[line.sender] = None
            if len(found) > MAX_SENDERS:
                raise StorageRejectedError(f"more than {MAX_SENDERS:,} people write in this chat")
    return list(found)


async def _import(
    config: Config,
    reached: Reached,
    chat: ChatFile,
    order: DateOrder,
    facts: ChatFacts,
    senders: cabc.Mapping[str, str | None],
    options: ChatOptions,
) -> tuple[ImportCounts, MessageMaker]:
    session = reached.session
    [scope] = await session.fetch("export_scope", facts.connection, None, None)
    if not scope["connection"]:
        raise StorageRejectedError(
            f"there is no connection {facts.connection}; zapvisor status lists them"
        )
    before: dt.datetime | None = None
    if not options.everything:
        rows = await session.fetch("oldest_message", facts.connection, facts.chat)
        before = rows[0]["sent_at"] if rows else None
    blobs = media_blobs(config)
    await blobs.prepare()
    stones = stones_here(config)
    await stones.read(session)
    maker = MessageMaker(facts, senders)
    known: dict[str, StoredFile] = {}
    now = dt.datetime.fromtimestamp(int(time.time()), dt.UTC)  # noqa: TID251 - the edge

    async def records() -> cabc.AsyncGenerator[Placed, None]:
        for record in chat_records(facts, senders, now):
            yield Placed("the chat", record)
        with chat.lines() as lines:
            parsed = in_zone(read_lines(lines, order), zoneinfo.ZoneInfo(options.zone))
            take = functools.partial(_take, parsed)
            while some := await trio.to_thread.run_sync(take):
                for at, line in some:
                    if before is not None and at >= before:
                        maker.counts.later += 1
                        continue
                    author = senders.get(line.sender or "")
                    people = (author, facts.chat if facts.direct else None)
                    if stones.of(facts.connection).forgets(
                        facts.connection, people, at.timestamp()
                    ):
                        line = attrs.evolve(line, attachment=None)  # which is not needed
                    file = await _stored(chat, blobs, line, known)
                    if (message := maker.make(at, line, now, file)) is not None:
                        yield Placed(f"line {line.number}", message)

    async with contextlib.aclosing(records()) as found:
        counts = await import_records(
            session,
            None,
            found,
            files=ExportFiles(blobs, None),
            forgotten=stones,
            share=BESIDE if reached.running or not config.storage.embedded else 1.0,
            progress=lambda counts: options.progress(f"{counts.read.total():,} records"),
        )
    return counts, maker


def _take(parsed: cabc.Iterator[tuple[dt.datetime, Line]]) -> list[tuple[dt.datetime, Line]]:
    return list(itertools.islice(parsed, LINES))


async def _stored(
    chat: ChatFile, blobs: Blobs, line: Line, known: dict[str, StoredFile]
) -> StoredFile | None:
    """The file of a line, brought to where files are kept; None: it is not to be had. ``known``:
    those that are there already, by name, so that many lines do not unpack one again and again."""
    if line.attachment is None or line.sender is None:
        return None
    name = base_name(line.attachment)
    if name in known:
        return known[name]
    with chat.attachment(name) as file:
        if file is None:
            return None
        size = 0
        async with blobs.writing() as writer:
            while piece := await trio.to_thread.run_sync(file.read, PIECE):
                size += len(piece)
                if size > MAX_FILE:
                    return None
                await writer.write(piece)
            blob = await writer.commit()
    known[name] = StoredFile(blob.sha256, blob.size)
    return known[name]
