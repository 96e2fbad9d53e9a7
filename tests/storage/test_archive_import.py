"""Putting an archive back: the same bytes again, and nothing twice."""

import collections.abc as cabc
import datetime as dt
import hashlib
import itertools
import typing as t

import attrs
import pytest
import trio
from st_archive import AllFiles, Each, archive_of, fill, put, read, records_of, stored
from st_helpers import (
    CUSTOMER,
    CUSTOMER_LID,
    DAY,
    HOUR,
    KEY,
    NOW,
    OTHER,
    Clock,
    Cluster,
    envelope,
    take,
)

from storage import archive_import
from storage.api import ConversationRules, Lane, MediaFile
from storage.archive_codec import RecordError
from storage.archive_import import ImportCounts, ImportGivenUpError, Placed, import_records
from storage.archive_records import Address, Chat, Connection, Contact, Message, Name, Record
from storage.maintenance import open_maintenance
from storage.postgres import PostgresStorage


async def test_what_is_imported_reads_the_same(
    postgres: PostgresStorage, cluster: Cluster, clock: Clock, dsn: str
) -> None:
    """Export, import where nothing is, export: not a byte differs, nor after a second time."""
    await fill(postgres, clock)
    archive = await archive_of(dsn)
    other = await cluster.create("migrated")
    counts = await put(other, archive)
    assert counts.refused == 0, counts.refusals
    assert await archive_of(other) == archive
    assert await stored(cluster, other) == await stored(cluster, dsn)  # nothing is left out
    again = await put(other, archive)
    assert again.stored.total() == 0
    assert again.refused == 0
    assert await archive_of(other) == archive


async def counted(cluster: Cluster, dsn: str) -> None:
    """The counts that are kept are those of the rows."""
    rows = await cluster.sql(
        dsn,
        """SELECT c.connection_id, c.arrivals, c.messages, c.undecryptable, c.waiting, c.opened,
            c.closed, c.merged,
            (SELECT count(*) FROM messages m WHERE m.connection_id = c.connection_id
                AND m.state = 'stored') AS complete,
            (SELECT count(*) FROM messages m WHERE m.connection_id = c.connection_id) AS all_rows,
            (SELECT coalesce(max(arrival), 0) FROM messages m
                WHERE m.connection_id = c.connection_id) AS last_arrival,
            (SELECT count(*) FROM conversations v WHERE v.connection_id = c.connection_id
                AND v.merged_into IS NULL) AS conversations
        FROM counters c""",
    )
    for row in rows:
        assert row["messages"] == row["complete"]
        assert row["messages"] + row["undecryptable"] == row["all_rows"]
        assert row["last_arrival"] <= row["arrivals"]
        assert row["waiting"] + row["opened"] + row["closed"] == row["conversations"]
    wrong = await cluster.sql(
        dsn,
        """SELECT v.id FROM conversations v WHERE v.messages <> (
            SELECT count(*) FROM messages m
            WHERE m.connection_id = v.connection_id AND m.conversation_id = v.id)""",
    )
    assert wrong == []


async def placed(postgres: PostgresStorage) -> dict[str, tuple[int, str]]:
    """The conversation and its status, by message."""
    found = {}
    for row in await postgres.conversations(status=None, connection="sales", limit=100):
        for message in await postgres.conversation_messages(row.id, limit=100):
            found[message.external_id] = (row.id, row.status)
    return found


async def test_a_living_database_keeps_what_it_has(
    postgres: PostgresStorage, cluster: Cluster, clock: Clock, dsn: str
) -> None:
    """Messages that overlap stay where they are, the others find their place; no status changes,
    no conversation is left empty, and the stream of events tells nothing."""
    other = await cluster.create("migrated")
    async with PostgresStorage.open(other, key=KEY, clock=clock) as archived:
        await archived.ensure_connection("sales", ConversationRules())
        for name, hours in [("A1", 0), ("A2", 1), ("B1", 50), ("B2", 51), ("C1", 120)]:
            clock.now = NOW + hours * HOUR
            outcome = await take(archived, name, sent_at=int(clock.now))
            if name in ("A2", "B2"):
                assert outcome.conversation_id is not None
                await archived.close_conversation(outcome.conversation_id)
        archive = await archive_of(other)
    # Here the phone told all of it as history, but for two messages; since then they have written.
    for name, hours in [("A1", 0), ("B1", 50), ("C1", 120)]:
        sent_at = int(NOW) + hours * HOUR
        await take(postgres, name, sent_at=sent_at, lane=Lane.HISTORY)
    clock.now = NOW + 500 * HOUR
    live = await take(postgres, "D1", sent_at=int(clock.now))
    before = await placed(postgres)
    told = (await postgres.event_range()).newest

    counts = await put(dsn, archive)

    after = await placed(postgres)
    assert {name: after[name] for name in before} == before
    assert after["D1"] == (live.conversation_id, "waiting")
    assert set(after) == {"A1", "A2", "B1", "B2", "C1", "D1"}
    assert after["A2"] == after["A1"]  # the archive's conversation began when that of here did
    assert after["B2"] not in before.values()  # one of its own
    assert after["B2"][1] == "closed"
    assert (counts.stored["message"], counts.present("message")) == (2, 3)
    assert counts.emptied == 1  # that of C1
    assert (await postgres.event_range()).newest == told
    await counted(cluster, dsn)
    assert (await put(dsn, archive)).stored["message"] == 0
    assert await placed(postgres) == after


async def test_a_chat_has_one_live_conversation(
    postgres: PostgresStorage, cluster: Cluster, clock: Clock, dsn: str
) -> None:
    """What waits in the archive is closed where the chat has a live conversation, or a later one;
    else it waits."""
    other = await cluster.create("migrated")
    async with PostgresStorage.open(other, key=KEY, clock=clock) as archived:
        await archived.ensure_connection("sales", ConversationRules())
        for chat in (CUSTOMER, OTHER, "15550003333@s.whatsapp.net"):
            await take(archived, "A1", chat=chat)
        archive = await archive_of(other)
    clock.now += 2 * DAY
    await take(postgres, "B1", sent_at=int(clock.now))
    done = await take(postgres, "B2", chat=OTHER, sent_at=int(clock.now))
    assert done.conversation_id is not None
    await postgres.close_conversation(done.conversation_id)
    told = (await postgres.event_range()).newest
    await put(dsn, archive)
    rows = await postgres.conversations(status=None, connection="sales", limit=10)
    shown = sorted((row.chat, row.status, row.messages) for row in rows)
    assert shown == [
        (CUSTOMER, "closed", 1),
        (CUSTOMER, "waiting", 1),
        (OTHER, "closed", 1),
        (OTHER, "closed", 1),
        ("15550003333@s.whatsapp.net", "waiting", 1),
    ]
    assert (await postgres.event_range()).newest == told
    await counted(cluster, dsn)


async def test_old_conversations_do_not_stand_in_the_way(
    postgres: PostgresStorage, cluster: Cluster, clock: Clock, dsn: str
) -> None:
    """After an import the customer's next message reopens the newest conversation, not the one
    that was stored last."""
    other = await cluster.create("migrated")
    async with PostgresStorage.open(other, key=KEY, clock=clock) as archived:
        await archived.ensure_connection("sales", ConversationRules())
        old = await take(archived, "A1", sent_at=int(NOW) - 300 * DAY)
        assert old.conversation_id is not None
        await archived.close_conversation(old.conversation_id)
        archive = await archive_of(other)
    mine = await take(postgres, "B1")
    assert mine.conversation_id is not None
    await postgres.close_conversation(mine.conversation_id)
    await put(dsn, archive.replace(b'"closed_at":"2027', b'"closed_at":"2026'))
    clock.now += HOUR
    again = await take(postgres, "B2", sent_at=int(clock.now))
    assert again.reopened
    assert again.conversation_id == mine.conversation_id


async def test_a_placeholder_gets_its_message(
    postgres: PostgresStorage, cluster: Cluster, clock: Clock, dsn: str
) -> None:
    """A message that could not be read here, and could there; the reverse changes nothing."""
    other = await cluster.create("migrated")
    async with PostgresStorage.open(other, key=KEY, clock=clock) as archived:
        await archived.ensure_connection("sales", ConversationRules())
        await take(archived, "A1", text="readable")
        await take(archived, "A2", kind="undecryptable", text=None, reason="no session")
        archive = await archive_of(other)
    await take(postgres, "A1", kind="undecryptable", text=None, reason="no session")
    await take(postgres, "A2", text="mine")
    counts = await put(dsn, archive)
    assert counts.stored["filled"] == 1
    rows = await cluster.sql(dsn, "SELECT external_id, state, text FROM messages ORDER BY 1")
    assert [tuple(row) for row in rows] == [
        ("A1", "stored", "readable"),
        ("A2", "stored", "mine"),
    ]
    await counted(cluster, dsn)


async def test_people_become_one_as_the_archive_knows(
    postgres: PostgresStorage, cluster: Cluster, clock: Clock, dsn: str
) -> None:
    """Two contacts here that are one there are one, with the messages of both; it can be undone,
    and a pair that was told apart here stays apart."""
    other = await cluster.create("migrated")
    async with PostgresStorage.open(other, key=KEY, clock=clock) as archived:
        await archived.ensure_connection("sales", ConversationRules())
        await take(archived, "A1", chat=CUSTOMER_LID, chat_alt=CUSTOMER, sender_alt=CUSTOMER)
        archive = await archive_of(other)
    await take(postgres, "B1", chat=CUSTOMER)
    await take(postgres, "B2", chat=CUSTOMER_LID)
    await put(dsn, archive)
    [merge] = await postgres.merges("sales")
    assert merge.source == "import"
    assert set(await placed(postgres)) == {"A1", "B1", "B2"}
    await counted(cluster, dsn)
    await postgres.unmerge(merge.id)
    await put(dsn, archive)
    assert [row.undone_at is None for row in await postgres.merges("sales")] == [False]


async def test_messages_without_a_conversation_are_placed_by_their_time(
    postgres: PostgresStorage, cluster: Cluster, clock: Clock, dsn: str
) -> None:
    """Like those of the history: in the conversation that had begun by then, or in a closed one."""
    live = await take(postgres, "B1")

    def records() -> cabc.Iterator[Record]:
        at = dt.datetime.fromtimestamp(NOW, dt.UTC)
        common: dict[str, t.Any] = {"connection": "sales", "chat_kind": "direct"}
        for chat in (CUSTOMER, OTHER):
            yield Contact(
                connection="sales",
                is_self=False,
                created_at=at,
                addresses=(Address(address=chat, created_at=at),),
                names=(Name(address=chat, source="push", name="Ana", at=at),),
            )
            yield Chat(connection="sales", kind="direct", address=chat, created_at=at)
            for number in range(3):
                yield Message(
                    chat=chat,
                    sender=chat if number else None,
                    from_me=not number,
                    external_id=f"T{number}",
                    kind="text",
                    state="stored",
                    lane="history",
                    remote_timestamp=int(NOW) + number,
                    sent_at=at + dt.timedelta(seconds=number),
                    received_at=at,
                    retries=0,
                    text="olá",
                    raw=b"",
                    **common,
                )

    for _time in range(2):
        async with open_maintenance(dsn) as session:
            counts = await import_records(session, "sales", Each(records()))
        assert counts.refused == 0, counts.refusals
    rows = await postgres.conversations(status=None, connection="sales", limit=10)
    assert {(row.chat, row.status, row.messages) for row in rows} == {
        (CUSTOMER, "waiting", 4),
        (OTHER, "closed", 3),
    }
    assert (await placed(postgres))["B1"] == (live.conversation_id, "waiting")
    await counted(cluster, dsn)


class StopHereError(Exception):
    """The power went."""


async def test_an_import_that_was_ended_anywhere_can_be_run_again(
    postgres: PostgresStorage,
    cluster: Cluster,
    clock: Clock,
    dsn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ended behind each batch in turn, or cancelled within one, and run again: the same bytes."""
    await fill(postgres, clock)
    archive = await archive_of(dsn)
    monkeypatch.setattr(archive_import, "BATCH", 3)
    other = await cluster.create("migrated")
    ends = 0
    while ends >= 0:
        batches = itertools.count()

        def progress(_counts: ImportCounts, batches: t.Any = batches, last: int = ends) -> None:
            if next(batches) == last:
                raise StopHereError

        async with open_maintenance(other) as session:
            try:
                await import_records(
                    session, None, records_of(archive), files=AllFiles(), progress=progress
                )
            except StopHereError:
                ends += 1
            else:
                ends = -1
        await counted(cluster, other)
    assert await archive_of(other) == archive

    other = await cluster.create("migrated")
    count = len(archive.splitlines())
    for last in range(0, count, 5):

        def cancel(number: int, last: int = last) -> None:
            if number == last:
                scope.cancel()

        async with open_maintenance(other) as session:
            with trio.CancelScope() as scope:
                await import_records(session, None, Each(await read(dsn), cancel), files=AllFiles())
        await counted(cluster, other)
    await put(other, archive)
    assert await archive_of(other) == archive


async def test_what_cannot_be_stored_is_told_and_the_rest_is_stored(
    postgres: PostgresStorage, clock: Clock, dsn: str, cluster: Cluster
) -> None:
    """Records that the database refuses, that name what is unknown, or contradict themselves."""
    await fill(postgres, clock)
    found = await read(dsn)
    bad: list[Record] = []
    for record in found:
        bad.append(record)
        if isinstance(record, Message) and record.external_id in ("A1", "G1"):
            bad.append(attrs.evolve(record, chat="nowhere@g.us", chat_kind="group"))
            bad.append(attrs.evolve(record, external_id="x", sender="nobody@lid"))
            bad.append(attrs.evolve(record, external_id="y", text="a\0b"))
            bad.append(attrs.evolve(record, external_id="z", kind="undecryptable"))
    other = await cluster.create("migrated")

    async with open_maintenance(other) as session:
        counts = await import_records(session, None, Each(bad), files=AllFiles())
    assert counts.refused == 8
    assert len({place for place, _why in counts.refusals}) == 8
    whys = [why for _place, why in sorted(counts.refusals)]
    assert sum("is not known" in why for why in whys) == 4
    assert sum("state does not go with kind" in why for why in whys) == 2
    assert not any("a\0b" in why for why in whys)
    assert await read(other) == found


async def test_no_connection_of_any_name(
    postgres: PostgresStorage, clock: Clock, dsn: str, cluster: Cluster
) -> None:
    """Neither of a record that a program made, nor for all of them: it is part of file names."""
    await fill(postgres, clock)
    found = [each for each in await read(dsn) if isinstance(each, Connection)]
    other = await cluster.create("migrated")
    async with open_maintenance(other) as session:
        bad = Each([attrs.evolve(found[0], connection=".."), found[1]])
        counts = await import_records(session, None, bad)
        assert counts.refused == 1
        assert "no name that a connection can have" in counts.refusals[0][1]
        with pytest.raises(RecordError, match="no name that a connection can have"):
            await import_records(session, "../x", Each(found))
    names = await cluster.sql(other, "SELECT name FROM connections")
    assert [name for (name,) in names] == [found[1].connection]


async def test_too_much_that_is_wrong_ends_the_import(
    postgres: PostgresStorage, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand bad records are no accident; it says where it stopped."""
    monkeypatch.setattr(archive_import, "MAX_REFUSED", 5)

    bad = [Placed(f"line {number}", RecordError("it is not JSON")) for number in range(9)]
    async with open_maintenance(dsn) as session:
        with pytest.raises(ImportGivenUpError, match=r"line 0 \(it is not JSON\).*line 4"):
            await import_records(session, None, Each(bad))


async def test_files_that_are_nowhere_count_as_removed(
    postgres: PostgresStorage, cluster: Cluster, clock: Clock, dsn: str
) -> None:
    """Without the file's bytes its message says that it was there; with them it has it again."""
    await with_picture(postgres, cluster, dsn)
    archive = await archive_of(dsn)
    other = await cluster.create("migrated")
    async with open_maintenance(other) as session:
        counts = await import_records(session, None, records_of(archive))
    assert counts.files_missing == 1
    [[state]] = await cluster.sql(other, "SELECT state FROM media")
    assert state == "removed"
    counts = await put(other, archive)
    assert counts.stored["file"] == 1
    assert await archive_of(other) == archive


async def with_picture(postgres: PostgresStorage, cluster: Cluster, dsn: str) -> None:
    await take(postgres, "P1", kind="image", media=MediaFile(kind="image", size=3))
    await cluster.sql(
        dsn,
        "UPDATE media SET state = 'stored', blob_size = 3, stored_at = now(), blob_sha256 = $1",
        hashlib.sha256(b"png").digest(),
    )


async def test_live_messages_and_an_import_do_not_get_in_each_others_way(
    postgres: PostgresStorage, cluster: Cluster, clock: Clock, dsn: str
) -> None:
    """The writer commits into the same chats while an archive is stored: all is there, once."""
    other = await cluster.create("migrated")
    async with PostgresStorage.open(other, key=KEY, clock=clock) as archived:
        await archived.ensure_connection("sales", ConversationRules())
        batch = [
            envelope(f"A{number}", chat=chat) for number in range(300) for chat in (CUSTOMER, OTHER)
        ]
        await archived.apply(batch)
        archive = await archive_of(other)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, dsn, archive)
        for number in range(100, 400):
            await take(postgres, f"A{number}", chat=CUSTOMER)
    await put(dsn, archive)
    rows = await cluster.sql(
        dsn,
        """SELECT k.address, count(*) AS rows, count(DISTINCT m.external_id) AS ids
        FROM messages m JOIN chats k ON k.id = m.chat_id GROUP BY 1""",
    )
    assert {tuple(row) for row in rows} == {(CUSTOMER, 400, 400), (OTHER, 300, 300)}
    await counted(cluster, dsn)
