"""What the tests of the archive share: a database with everything in it, and its lines."""

import collections.abc as cabc
import json
import typing as t

from st_content import existing
from st_helpers import (
    CUSTOMER,
    CUSTOMER_LID,
    DAY,
    GROUP,
    HOUR,
    NOW,
    OTHER,
    Clock,
    Cluster,
    envelope,
    take,
)

from storage.api import Envelope, Lane, MediaFile
from storage.archive_import import ImportCounts, import_records
from storage.archive_reader import ArchiveFilter, ArchiveReader
from storage.archive_records import Record, decode_record, encode_record
from storage.facts import (
    AddressPair,
    ChatSettings,
    ContactName,
    Delivery,
    DeliveryStatus,
    GroupMember,
    GroupSnapshot,
    Label,
    LabelLink,
    NameSource,
    PlaceholderVerdict,
)
from storage.maintenance import open_maintenance
from storage.postgres import PostgresStorage

Line: t.TypeAlias = dict[str, t.Any]


async def fill(storage: PostgresStorage, clock: Clock) -> None:
    """Two connections with one of everything that an archive has."""
    await take(storage, "A1", sender_name="Ana")
    await take(storage, "L1", chat=CUSTOMER_LID, sent_at=int(NOW) + 1)
    await take(storage, "mine", from_me=True, text=None, detail={"b": [1.5, None], "a": "é"})
    await take(
        storage, "picture", kind="image", media=MediaFile(kind="image", size=3, name="a.png")
    )
    await take(
        storage, "E1", kind="edit", target_id="A1", lane=Lane.SIDE, flags=("x",), mentions=(OTHER,)
    )
    await take(storage, "lost", chat=OTHER, kind="undecryptable", text=None, reason="no session")
    await take(storage, "G1", chat=GROUP, sender=CUSTOMER_LID)
    await take(storage, "G2", chat=GROUP, sender=OTHER, quoted_id="G1", quoted_author=CUSTOMER)
    await take(storage, "old", lane=Lane.HISTORY, sent_at=int(NOW) - 400 * DAY)
    rows = await storage.conversations(status=None, connection="sales", limit=10)
    for row in rows:
        await storage.close_conversation(row.id)
    clock.now += 2 * HOUR
    await take(storage, "again", chat=OTHER, sent_at=int(clock.now))  # reopens
    clock.now += 3 * DAY
    await take(storage, "new", sent_at=int(clock.now))  # opens another one
    await take(storage, "new-lid", chat=CUSTOMER_LID, sent_at=int(clock.now))
    await take(storage, "S1", connection="support", text="\ud800 \0 half")
    facts = (
        AddressPair(CUSTOMER, CUSTOMER_LID, "usync"),
        ContactName(address=CUSTOMER, source=NameSource.SAVED, name="Ana S.", at=NOW),
        Delivery(
            chat=CUSTOMER,
            direct=True,
            ids=("mine", "nothing"),
            recipient=CUSTOMER,
            status=DeliveryStatus.READ,
            at=NOW + 5.25,
        ),
        GroupSnapshot(
            group=GROUP, at=NOW, subject="família", members=(GroupMember(address=CUSTOMER),)
        ),
        ChatSettings(chat=CUSTOMER, direct=True, at=NOW, archived=True, muted_until=-1.0),
        Label(id="7", name="VIP", color=3, at=NOW),
        LabelLink(label="7", chat=CUSTOMER, direct=True, labelled=True, at=NOW),
        LabelLink(label="7", chat=OTHER, direct=True, message_id="lost", labelled=False, at=NOW),
        PlaceholderVerdict(
            chat=OTHER, direct=True, sender=OTHER, external_id="lost", verdict="gave_up"
        ),
    )
    await storage.apply([Envelope(connection="sales", facts=facts)])
    assert await existing(storage.contact("sales", CUSTOMER_LID))
    await storage.apply([envelope("late", connection="support", chat=GROUP)])


async def read(
    dsn: str,
    filters: ArchiveFilter | None = None,
    *,
    page: int = 1000,
) -> list[Record]:
    """All records of a database."""
    async with open_maintenance(dsn) as session:
        reader = ArchiveReader(session, filters, page=page)
        return [record async for found in reader for record in found.records]


async def archive_of(dsn: str, *, page: int = 1000) -> bytes:
    """The archive of a database, as a file."""
    return b"".join(map(encode_record, await read(dsn, page=page)))


async def lines_of(dsn: str, filters: ArchiveFilter | None = None) -> list[Line]:
    """The same as values of JSON."""
    return [json.loads(encode_record(record)) for record in await read(dsn, filters)]


async def put(dsn: str, archive: bytes, connection: str | None = None) -> ImportCounts:
    """Import an archive, whose files are all there."""
    async with open_maintenance(dsn) as session:
        return await import_records(session, connection, records_of(archive), files=AllFiles())


class Each:
    """Records one by one; no generator, so that nobody has to close it. ``before`` is called with
    the number of each."""

    def __init__(
        self,
        records: cabc.Iterable[t.Any],
        before: cabc.Callable[[int], None] = lambda _number: None,
    ) -> None:
        self._records = enumerate(records)
        self._before = before

    def __aiter__(self) -> t.Self:
        return self

    async def __anext__(self) -> t.Any:
        for number, record in self._records:
            self._before(number)
            return record
        raise StopAsyncIteration


def records_of(archive: bytes) -> Each:
    """The records of a file."""
    return Each(map(decode_record, archive.splitlines(keepends=True)))


class AllFiles:
    """Every file is there."""

    async def bring(self, sha256: bytes, size: int) -> bool:
        return True


_TABLES: t.Final = {
    "connections": "",
    "contacts": "WHERE merged_into IS NULL",
    "contact_addresses": "",
    "contact_names": "",
    "chats": "",
    "conversations": "",
    "messages": "",
    "media": "",
    "receipts": "",
    "groups": "",
    "group_members": "",
    "labels": "",
    "label_links": "",
    "chat_settings": "",
    "counters": "",
}
_OWN: t.Final = (  # numbers of the database, and what a worker knows
    *("id", "connection_id", "contact_id", "chat_id", "sender_id", "conversation_id"),
    *("message_id", "merged_into", "arrival", "arrivals", "merged", "wanted", "duplicates"),
    *("quarantined", "attempts", "claimed", "next_attempt_at"),
)


async def stored(cluster: Cluster, dsn: str) -> dict[str, list[str]]:
    """The rows of all tables that an archive is made of, whole but for numbers of the database."""
    found = {}
    for table, choice in _TABLES.items():
        own = [name for name in _OWN if (table, name) != ("label_links", "message_id")]
        rows = await cluster.sql(
            dsn,
            f"SELECT (to_jsonb(x) - $1::text[])::text FROM {table} x {choice}",
            own if table != "labels" else [name for name in own if name != "id"],
        )
        found[table] = sorted(row[0] for row in rows)
    return found
