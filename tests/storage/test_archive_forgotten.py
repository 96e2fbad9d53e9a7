"""Imports of archives that are older than an order to forget, on PostgreSQL."""

import datetime as dt
import json
import typing as t

import pytest
from st_archive import AllFiles, archive_of, lines_of, put, read, records_of, stored
from st_helpers import (
    CUSTOMER,
    CUSTOMER_LID,
    DAY,
    GROUP,
    KEY,
    NOW,
    OTHER,
    Clock,
    Cluster,
    envelope,
    take,
)
from test_st_erasure import OTHERS, SECRET, dump, forget, left, plant
from test_st_retention import ALL, sweep

from storage import archive_import
from storage.api import ConversationRules, Lane, MediaFile, Verdict
from storage.archive_import import ImportCounts, import_records
from storage.archive_stones import StonesHere
from storage.changes import Viewer
from storage.errors import StorageRejectedError
from storage.exports.model import Request
from storage.maintenance import open_maintenance
from storage.postgres import PostgresStorage
from storage.queues import MediaResult, MediaState


async def put_here(
    dsn: str, archive: bytes, connection: str | None = None, stones: StonesHere | None = None
) -> ImportCounts:
    """Import as the program does, with the key of the database."""
    async with open_maintenance(dsn) as session:
        return await import_records(
            session,
            connection,
            records_of(archive),
            files=AllFiles(),
            forgotten=stones or StonesHere(KEY),
        )


@pytest.mark.parametrize("batch", [1, 1000])
async def test_a_forgotten_person_does_not_come_back(
    postgres: PostgresStorage,
    cluster: Cluster,
    clock: Clock,
    dsn: str,
    batch: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Export, forget, import: nothing of theirs is in any table, under whatever name of the
    connection; what others wrote is here."""
    monkeypatch.setattr(archive_import, "BATCH", batch)
    await plant(postgres)
    archive = await archive_of(dsn)
    assert SECRET.encode() in archive
    clock.now += DAY
    await forget(postgres)
    before = await dump(cluster, dsn)
    counts = await put_here(dsn, archive)
    assert counts.refused == 0, counts.refusals
    assert counts.forgotten > 5
    after = await dump(cluster, dsn)
    assert left(after) == []
    changed = {table for table in after if after[table] != before[table]}
    assert changed <= {"counters", "erased_blobs", "imported_conversations"}

    sales = b"".join(line for line in archive.splitlines(keepends=True) if b'"support"' not in line)
    for _time in range(2):
        counts = await put_here(dsn, sales, "old")
        assert counts.refused == 0, counts.refusals
        assert left(await dump(cluster, dsn)) == []
    texts = [
        each["text"]
        for each in await lines_of(dsn)
        if each.get("connection") == "old" and each.get("text")
    ]
    assert any(OTHERS in text for text in texts)
    async with PostgresStorage.open(dsn, key=KEY, clock=clock) as again:
        assert (await take(again, "P1", connection="old")).verdict is Verdict.FORGOTTEN


async def test_where_only_one_address_was_known(
    postgres: PostgresStorage, cluster: Cluster, clock: Clock, dsn: str
) -> None:
    """The archive tells the other one, and messages that are not here name the person."""
    await plant(postgres)
    archive = await archive_of(dsn)
    other = await cluster.create("migrated")
    clock.now += DAY
    async with PostgresStorage.open(other, key=KEY, clock=clock) as storage:
        await storage.ensure_connection("sales", ConversationRules())
        await take(storage, "P1", text=SECRET)
        await forget(storage)
    counts = await put_here(other, archive)
    assert counts.refused == 0, counts.refusals
    assert left(await dump(cluster, other)) == []
    async with PostgresStorage.open(other, key=KEY, clock=clock) as storage:
        outcome = await take(storage, "L1", chat=CUSTOMER_LID)
        assert outcome.verdict is Verdict.FORGOTTEN
    shown = {each["external_id"]: each for each in await lines_of(other) if "sent_at" in each}
    assert {"O1", "O2", "O3", "O4", "B1"} <= set(shown)
    assert shown["O3"]["erased"] == "forgotten"
    assert shown["O1"]["text"] == OTHERS


async def test_forgotten_while_an_import_goes_on(
    postgres: PostgresStorage, cluster: Cluster, clock: Clock, dsn: str
) -> None:
    """What was held against older tombstones is held against the new ones before it is stored."""
    await plant(postgres)
    archive = await archive_of(dsn)
    other = await cluster.create("migrated")
    stones = StonesHere(KEY)
    async with PostgresStorage.open(other, key=KEY, clock=clock) as storage:
        await storage.ensure_connection("sales", ConversationRules())
        await take(storage, "P1", text=SECRET)
        async with open_maintenance(other) as session:
            await stones.read(session)
        clock.now += DAY
        await forget(storage)
    counts = await put_here(other, archive, stones=stones)
    assert counts.refused == 0, counts.refusals
    assert left(await dump(cluster, other)) == []
    [row] = await cluster.sql(other, "SELECT count(*) AS files FROM erased_blobs")
    assert row["files"] == 1  # it was brought before the order was seen


async def test_an_export_of_the_person_names_them_no_more(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """What was asked for is forgotten; that of others stays."""
    await plant(postgres)
    for name, address in (("one", CUSTOMER), ("two", OTHER)):
        assert await postgres.begin_export(
            name, "/exports", Request(contact=address), Viewer(who="x")
        )
    await forget(postgres)
    assert left(await dump(cluster, dsn)) == []
    rows = {row.name: row.request.contact for row in await postgres.exports()}
    assert rows == {"one": "forgotten@removed", "two": OTHER}


async def test_without_the_key_nothing_is_imported(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """Nobody could tell who is forgotten. Where nobody was, no key is needed."""
    await plant(postgres)
    archive = await archive_of(dsn)
    await put_here(dsn, archive, stones=StonesHere(None))
    await forget(postgres)
    before = await dump(cluster, dsn)
    with pytest.raises(StorageRejectedError, match="without the secret key"):
        await put_here(dsn, archive, stones=StonesHere(None))
    assert await dump(cluster, dsn) == before


async def strip(postgres: PostgresStorage) -> None:
    """Old messages with all that can be stripped, stripped; an edit that came since; and somebody
    who was forgotten."""
    old = int(NOW) - 400 * DAY
    file = MediaFile(kind="image", name="a.png", size=3)
    await take(postgres, "OLD", sent_at=old, kind="image", media=file, mentions=(OTHER,))
    await take(postgres, "EDIT", sent_at=old, kind="edit", target_id="OLD", lane=Lane.SIDE)
    await take(postgres, "LOST", sent_at=old, kind="undecryptable", text=None, reason="no session")
    await take(postgres, "YOUNG")
    await take(postgres, "G1", chat=GROUP, sender=OTHER)
    await take(postgres, "G2", chat=GROUP, sender=CUSTOMER)
    await take(postgres, "O1", chat=OTHER)
    stored = MediaResult(state=MediaState.STORED, blob_sha256=b"b" * 32, blob_size=3)
    for job in await postgres.claim_media(5):
        assert await postgres.finish_media(job.connection, job.message_id, stored)


async def test_stripped_messages_export_import_export(
    postgres: PostgresStorage, cluster: Cluster, clock: Clock, dsn: str
) -> None:
    """Not a byte differs; those with somebody who was forgotten are not in it, and never the
    account's own."""
    await strip(postgres)
    assert await sweep(postgres, ALL) == (2, 1)
    await forget(postgres, OTHER)
    clock.now += DAY
    await take(postgres, "NEW", chat=OTHER, sent_at=int(clock.now))
    archive = await archive_of(dsn)
    lines = {each["external_id"]: each for each in await lines_of(dsn) if "sent_at" in each}
    assert set(lines) == {"OLD", "EDIT", "LOST", "YOUNG", "G2", "NEW"}
    assert (lines["OLD"]["erased"], lines["OLD"]["raw"]) == ("retention", "")
    assert lines["OLD"]["erased_at"] == lines["EDIT"]["erased_at"]
    assert b"removed" not in archive
    other = await cluster.create("migrated")
    for _time in range(2):
        counts = await put_here(other, archive)
        assert (counts.refused, counts.refusals) == (0, [])
        assert await archive_of(other) == archive
    assert (await put_here(dsn, archive)).stored.total() == 0
    assert await archive_of(dsn) == archive


async def test_the_archive_names_nobody_while_somebody_is_being_forgotten(
    postgres: PostgresStorage, dsn: str
) -> None:
    """From the order on; small pages do not end where one has nothing to show."""
    await strip(postgres)
    await postgres.begin_erasure(address=CUSTOMER, connection=None, by="x", version="1")
    found = await read(dsn, page=1)
    shown = [each.external_id for each in found if hasattr(each, "external_id")]
    assert shown == ["G1", "O1"]


async def test_what_is_stripped_here_stays_so(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """Messages, files, placeholders, and edits that are not here; a younger edit is taken."""
    await strip(postgres)
    for name, received in (("E2", -1), ("E3", 9 * DAY)):
        await take(postgres, name, kind="edit", target_id="OLD", lane=Lane.SIDE, text=f"new {name}")
        await cluster.sql(
            dsn,
            "UPDATE messages SET received_at = $1 WHERE external_id = $2",
            dt.datetime.fromtimestamp(NOW + received, dt.UTC),
            name,
        )
    archive = await archive_of(dsn)
    filled = archive.replace(b'"kind":"undecryptable"', b'"kind":"text"').replace(
        b'"state":"undecryptable"', b'"state":"stored","text":"a secret"'
    )
    await cluster.sql(dsn, "DELETE FROM messages WHERE external_id IN ('E2', 'E3')")
    await sweep(postgres, ALL)
    [lost] = await cluster.sql(dsn, "SELECT id FROM messages WHERE external_id = 'LOST'")
    await cluster.sql(
        dsn, "SELECT erase_messages(1, ARRAY[$1::bigint], 'retention', now())", lost["id"]
    )
    await cluster.sql(dsn, "DELETE FROM erased_blobs")
    before = await stored(cluster, dsn)
    counts = await put(dsn, filled)
    assert counts.refused == 0, counts.refusals
    assert (counts.stored["filled"], counts.stored["file"], counts.stored["message"]) == (0, 0, 2)
    after = await stored(cluster, dsn)
    assert after["media"] == before["media"] == []
    kept: dict[str, t.Any] = {row["external_id"]: row for row in map(json.loads, after["messages"])}
    assert {name: (kept[name]["text"], kept[name]["raw"]) for name in ("OLD", "EDIT", "LOST")} == {
        "OLD": (None, "\\x"),
        "EDIT": (None, "\\x"),
        "LOST": (None, "\\x"),
    }
    assert (kept["E2"]["text"], kept["E2"]["erased"]) == (None, "retention")
    assert (kept["E3"]["text"], kept["E3"]["erased"]) == ("new E3", None)
    assert len(await cluster.sql(dsn, "SELECT FROM erased_blobs")) == 1  # the file goes again


async def test_a_stripped_message_fills_no_placeholder(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """The phone may still have what this one waits for."""
    await take(postgres, "A1", sent_at=int(NOW) - 400 * DAY)
    await sweep(postgres, ALL)
    archive = await archive_of(dsn)
    other = await cluster.create("migrated")
    async with PostgresStorage.open(other, key=KEY) as storage:
        await storage.ensure_connection("sales", ConversationRules())
        await storage.apply([envelope("A1", kind="undecryptable", text=None, reason="no session")])
    counts = await put(other, archive)
    assert (counts.stored["filled"], counts.present("message")) == (0, 1)
    [row] = await cluster.sql(other, "SELECT state, erased FROM messages")
    assert (row["state"], row["erased"]) == ("undecryptable", None)
