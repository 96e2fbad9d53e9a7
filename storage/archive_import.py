"""Stores the records of an archive, batch by batch, beside whatever else is going on.

A batch is one transaction and may be stored twice, so whoever was interrupted begins again. The
database does the rest: see ``sql/import.sql``. Files come before the messages that name them.
"""

import collections
import collections.abc as cabc
import json
import typing as t

import attrs
import trio

from storage.archive_codec import CONNECTION, RecordError, shape_of
from storage.archive_records import (
    Connection,
    Conversation,
    ConversationMerged,
    End,
    Header,
    Media,
    Message,
    Record,
    check_record,
)
from storage.archive_sieve import ArchiveSieve
from storage.archive_stones import StonesHere
from storage.errors import StorageError, StorageRejectedError
from storage.maintenance import Maintenance

BATCH: t.Final = 1_000  # records
BATCH_BESIDE: t.Final = 200  # the same, when the writer may wait for the end of each
BATCH_BYTES: t.Final = 4 * 1024 * 1024  # of texts and raw bytes
MAX_REFUSED: t.Final = 1_000
"""Records that may be refused before the import gives up: that is not an accident any more."""
SHOWN: t.Final = 20  # refused ones that are kept with their reasons


class ImportGivenUpError(StorageError):
    """Too much of it cannot be stored, or it ends too early; what was stored before stays."""


@attrs.frozen
class Placed:
    """A record, or what is wrong with it, and where it stands."""

    place: str  # such as "line 12"
    record: Record | RecordError


class Files(t.Protocol):
    """Where the files of messages are to go."""

    async def bring(self, sha256: bytes, size: int) -> bool:
        """Have a file where the database's files are; False: there is none to be had.

        Raises:
            StorageUnavailableError: it cannot be stored, such as for want of room.
        """
        ...


class NoFiles:
    """Nothing is known of files: those that were stored count as removed."""

    async def bring(self, sha256: bytes, size: int) -> bool:
        """None."""
        return False


@attrs.define(kw_only=True)
class ImportCounts:
    """What became of the records, by kind."""

    read: collections.Counter[str] = attrs.field(factory=collections.Counter)
    stored: collections.Counter[str] = attrs.field(factory=collections.Counter)
    """New ones, and changed ones of what replaces something; "filled": placeholders that got their
    message; "file": files that came to messages which were here."""
    refused: int = 0
    refusals: list[tuple[str, str]] = attrs.field(factory=list)
    """The first of them: where, and why."""
    forgotten: int = 0  # records of people whom this database was told to forget
    files_missing: int = 0  # that were stored once, and are nowhere now
    emptied: int = 0
    """Conversations that were not needed, as their messages were here in others."""

    def present(self, kind: str) -> int:
        """Records of a kind that were here already."""
        return self.read[kind] - self.stored[kind]

    def refuse(self, place: str, reason: str) -> None:
        """One more that cannot be stored.

        Raises:
            ImportGivenUpError: that are too many.
        """
        self.refused += 1
        if len(self.refusals) < SHOWN:
            self.refusals.append((place, reason))
        if self.refused >= MAX_REFUSED:
            raise ImportGivenUpError(
                f"{self.refused:,} records cannot be stored, the first of them"
                f" {self.refusals[0][0]} ({self.refusals[0][1]}); what was stored until {place}"
                " stays"
            )


async def import_records(
    session: Maintenance,
    connection: str | None,
    records: cabc.AsyncIterable[Record | Placed],
    *,
    files: Files | None = None,
    forgotten: StonesHere | None = None,
    share: float = 1.0,
    progress: cabc.Callable[[ImportCounts], None] = lambda _counts: None,
) -> ImportCounts:
    """Store records; those that are here already change nothing.

    ``connection``: store all under this name, not under their own. A ``Connection`` record makes
    one that is not there. Contacts come before their chats, these before conversations and
    messages; messages that name no conversation take their place like those of the history.
    ``forgotten``: whose records are left out; without it nobody may be forgotten.
    ``share``: of the time that the database may work for this; the rest are pauses for others,
    between smaller batches. ``progress`` hears of each batch.

    Cancelled, or ended by an error, it leaves whole batches; it may simply be done again.

    Raises:
        RecordError: ``connection`` cannot name one.
        ImportGivenUpError: too many records cannot be stored.
        StorageRejectedError: the database is not ready for it, or nobody can tell who is forgotten.
        StorageUnavailableError: the database, or the disk for files, fails.
    """
    if connection is not None:
        CONNECTION.decode(connection, "connection")
    stones = forgotten or StonesHere(None)
    importer = _Importer(session, files or NoFiles(), stones, share, progress)
    await importer.begin()
    size = BATCH if share >= 1 else BATCH_BESIDE
    batch = _Batch("")
    number = 0
    async for each in records:
        number += 1
        placed = each if isinstance(each, Placed) else Placed(f"record {number}", each)
        record = placed.record
        if isinstance(record, Header | End):
            continue
        try:
            if isinstance(record, RecordError):
                raise record
            check_record(record)
        except RecordError as error:
            importer.counts.refuse(placed.place, str(error))
            continue
        name = record.connection if connection is None else connection
        if name != batch.connection or batch.is_full(size):
            await importer.store(batch)
            batch = _Batch(name)
        for kept in importer.sifted(name, record):
            batch.add(Placed(placed.place, kept))
    await importer.store(batch)
    await importer.finish()
    return importer.counts


class _Batch:
    """Records of one connection."""

    def __init__(self, connection: str, items: cabc.Iterable[Placed] = ()) -> None:
        self.connection = connection
        self.items: list[Placed] = []
        self._size = 0
        for item in items:
            self.add(item)

    def is_full(self, size: int) -> bool:
        return len(self.items) >= size or self._size >= BATCH_BYTES

    def add(self, item: Placed) -> None:
        self.items.append(item)
        if isinstance(item.record, Message):
            self._size += len(item.record.raw) + len(item.record.text or "")

    def sift(self, sifted: cabc.Callable[[str, Record], list[Record]]) -> list[bytes]:
        """Hold the records against others who are forgotten; the files that are not needed."""
        before, self.items = self.items, []
        for item in before:
            record = t.cast("Record", item.record)  # the others were refused
            self.items += [Placed(item.place, kept) for kept in sifted(self.connection, record)]
        kept_files = set(_files(self.items))
        return [each for each in _files(before) if each not in kept_files]

    def halves(self) -> tuple["_Batch", "_Batch"]:
        middle = len(self.items) // 2
        return (
            _Batch(self.connection, self.items[:middle]),
            _Batch(self.connection, self.items[middle:]),
        )


class _Importer:
    def __init__(
        self,
        session: Maintenance,
        files: Files,
        stones: StonesHere,
        share: float,
        progress: cabc.Callable[[ImportCounts], None],
    ) -> None:
        self.counts = ImportCounts()
        self._session = session
        self._files = files
        self._stones = stones
        self._sieve = ArchiveSieve(stones.stones)
        self._share = share
        self._progress = progress
        self._connections: dict[str, None] = {}  # in their order

    async def begin(self) -> None:
        """Know who is forgotten."""
        if self._stones.state is None:
            await self._stones.read(self._session)

    def sifted(self, name: str, record: Record) -> list[Record]:
        """What is to be stored of a record, and of those that were held back until now."""
        self._stones.of(name)
        kept = self._sieve.take(name, record)
        self.counts.forgotten = self._sieve.left_out.total()
        return kept

    async def store(self, batch: _Batch) -> None:
        """Store a batch, and leave the database to others for a while."""
        if not batch.items:
            return
        for number, item in enumerate(batch.items):
            if isinstance(item.record, Message) and item.record.media is not None:
                media = await self._bring(item.record.media)
                batch.items[number] = Placed(item.place, attrs.evolve(item.record, media=media))
        self._connections[batch.connection] = None
        began = trio.current_time()
        await self._write(batch)
        await self._note()
        took = trio.current_time() - began
        self._progress(self.counts)
        await trio.sleep(took * (1 - self._share) / self._share)

    async def _bring(self, media: Media) -> Media:
        """The file of a message as it is here after its bytes were looked for."""
        if media.state != "stored" or media.blob_sha256 is None or media.blob_size is None:
            return media
        if await self._files.bring(media.blob_sha256, media.blob_size):
            return media
        self.counts.files_missing += 1
        return attrs.evolve(media, state="removed")

    async def _write(self, batch: _Batch) -> None:
        """A batch that is refused is halved until the record at fault is alone."""
        try:
            answer = await self._send(batch)
        except StorageRejectedError as error:
            if len(batch.items) > 1:
                for half in batch.halves():
                    await self._write(half)
                return
            self.counts.refuse(batch.items[0].place, str(error))
            return
        self.counts.read.update(_kind(item) for item in batch.items)
        self.counts.stored.update(answer["made"])
        for number in answer["refused"]:
            item = batch.items[number]
            self.counts.read[_kind(item)] -= 1
            self.counts.refuse(item.place, _UNKNOWN)

    async def _send(self, batch: _Batch) -> dict[str, t.Any]:
        """Have a batch stored, once it holds nothing of those who are forgotten by then."""
        while True:
            [row] = await self._session.fetch(
                "import_batch", batch.connection, *_encode(batch), self._stones.state
            )
            answer: dict[str, t.Any] = json.loads(row[0])
            if "stale" not in answer:
                return answer
            await self._note()
            await self._stones.read(self._session)
            self._stones.of(batch.connection)
            self._sieve.renew()
            lost = batch.sift(self.sifted)
            if lost:
                await self._session.fetch("import_files_lost", lost)

    async def _note(self) -> None:
        if (notes := self._sieve.take_notes()) is not None:
            await self._stones.note(self._session, notes)

    async def finish(self) -> None:
        """Tidy up what turned out not to be needed."""
        await self._note()
        for name in self._connections:
            [row] = await self._session.fetch("finish_import", name)
            self.counts.emptied += row[0]


_UNKNOWN: t.Final = "its chat or its author is not known: the record of it must come before"


def _files(items: cabc.Iterable[Placed]) -> cabc.Iterator[bytes]:
    for item in items:
        media = item.record.media if isinstance(item.record, Message) else None
        if media is not None and media.state == "stored" and media.blob_sha256 is not None:
            yield media.blob_sha256


def _kind(item: Placed) -> str:
    return str(getattr(item.record, "record", ""))


def _encode(batch: _Batch) -> tuple[str, list[str | None], list[bytes]]:
    """The arguments of the statement: records by kind, and apart from them texts and raw bytes."""
    document: dict[str, t.Any] = {}
    texts: list[str | None] = []
    raws: list[bytes] = []
    for number, item in enumerate(batch.items):
        record = t.cast("Record", item.record)  # the others were refused
        value = shape_of(t.cast("type", type(record))).encode(record)
        match record:
            case Connection():
                document["connection"] = value
                continue
            case Message():
                texts.append(value.pop("text", None))
                raws.append(record.raw)
                del value["raw"]
                value |= value.pop("conversation", {}) | {"at": number}
                value["n"] = len(raws)
            case ConversationMerged():
                into = value.pop("into")
                value |= value.pop("key")
                value |= {"into_opened_at": into["opened_at"], "into_nth": into["nth"]}
                value["n"] = number
            case Conversation():
                value |= value.pop("key") | {"n": number}
            case _:
                value["n"] = number
        document.setdefault(record.record, []).append(value)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")), texts, raws
