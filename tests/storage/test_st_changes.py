"""What was deleted or changed, and who looked at it."""

import datetime as dt
import typing as t

import pytest
from st_helpers import ACCOUNT, CUSTOMER, GROUP, NOW, OTHER, Clock, Cluster, envelope, take

from storage.api import ChatKind, Lane, MediaFile, Storage
from storage.changes import Access, AccessKind, ChangeFilter, ChangeKind
from storage.errors import StorageRejectedError
from storage.postgres import PostgresStorage
from storage.queues import OutboxRequest

T0 = int(NOW)
DAY = 86_400.0


def side(external_id: str, kind: str, target: str, **fields: t.Any) -> t.Any:
    return envelope(external_id, kind=kind, lane=Lane.SIDE, target_id=target, **fields)


async def changed(storage: Storage) -> None:
    """A1 edited twice, A2 (a picture) deleted, G1 of a group deleted by an admin; and changes that
    do not count: by a stranger, and of a message that is not here."""
    group = {"chat": GROUP, "chat_kind": ChatKind.GROUP}
    photo = MediaFile(kind="image", mimetype="image/jpeg", name="praia.jpg")
    await storage.apply(
        [
            envelope("A1", text="um", sent_at=T0),
            envelope("A2", kind="image", text="praia", media=photo, sent_at=T0 + 1),
            envelope("G1", text="grupo", sent_at=T0 + 2, **group),
            side("E2", "edit", "A1", text="três", sent_at=T0 + 9),
            side("E1", "edit", "A1", text="dois", sent_at=T0 + 5),
            side("R1", "revoke", "A2", sent_at=T0 + 6),
            side(
                "R2", "revoke", "G1", sender=OTHER, target_author=CUSTOMER, sent_at=T0 + 7, **group
            ),
            side("X1", "revoke", "G1", sender=OTHER, sent_at=T0 + 8, **group),
            side("X2", "edit", "gone", text="nada", sent_at=T0 + 8),
        ]
    )


async def test_changes_newest_first(storage: Storage) -> None:
    """With who did it to what, and what was said before only if that is asked for."""
    await changed(storage)
    rows = await storage.changes(ChangeFilter())
    assert [(row.kind, row.external_id, row.former) for row in rows] == [
        ("edited", "A1", None),
        ("deleted", "G1", None),
        ("deleted", "A2", None),
        ("edited", "A1", None),
    ]
    told = await storage.changes(ChangeFilter(), content=True)
    assert [row.former for row in told] == ["dois", "grupo", "praia", "um"]
    by_admin, picture = told[1], told[2]
    assert (by_admin.by.addresses, by_admin.author.addresses) == ((OTHER,), (CUSTOMER,))
    assert (picture.has_file, picture.message_kind, by_admin.has_file) == (True, "image", False)
    assert picture.at == dt.datetime.fromtimestamp(T0 + 6, dt.UTC)
    assert repr(told).count("praia") == 0


async def test_filters_and_pages(storage: Storage) -> None:
    """By kind, connection, chat and time; a page goes on where the last one ended."""
    await changed(storage)

    async def ids(**wanted: t.Any) -> list[str]:
        return [row.external_id for row in await storage.changes(ChangeFilter(**wanted))]

    assert await ids(kind=ChangeKind.DELETED) == ["G1", "A2"]
    assert await ids(kind=ChangeKind.EDITED) == ["A1", "A1"]
    assert await ids(connection="support") == []
    assert await ids(address=GROUP) == ["G1"]
    assert await ids(address=CUSTOMER) == ["A1", "A2", "A1"]
    moment = dt.datetime.fromtimestamp(T0 + 6, dt.UTC)
    assert await ids(since=moment) == ["A1", "G1", "A2"]
    assert await ids(until=moment) == ["A1"]
    seen: list[str] = []
    before = None
    while page := await storage.changes(ChangeFilter(), before=before, limit=1):
        before = (page[0].at, page[0].change)
        seen.append(page[0].external_id)
    assert seen == ["A1", "G1", "A2", "A1"]


async def test_changes_of_one_message(storage: Storage) -> None:
    """The oldest first; of nobody's message none."""
    await changed(storage)
    [newest, *_rest] = await storage.changes(ChangeFilter())
    found = await storage.changes_of(newest.message)
    assert [(row.kind, row.at.timestamp() - T0) for row in found] == [("edited", 5), ("edited", 9)]
    for number in (0, -1, 10**9, 2**63):
        assert await storage.changes_of(number) == []


async def test_deleted_among(storage: Storage) -> None:
    """Only those that are deleted, whatever else is asked for."""
    await changed(storage)
    rows = await storage.changes(ChangeFilter())
    deleted = {row.message for row in rows if row.kind == "deleted"}
    numbers = [*{row.message for row in rows}, 0, -5, 2**70, 10**9]
    assert await storage.deleted_among(numbers) == deleted
    assert await storage.deleted_among([]) == frozenset()


async def test_outbox_of_what_was_changed_since(storage: Storage) -> None:
    """The rows whose text is no longer the message's: of all edits only the newest is."""
    bodies = {"O1": "um", "O2": "dois", "O3": "fica"}
    numbers = {}
    for name, text in bodies.items():
        request = OutboxRequest(kind="text", chat=CUSTOMER, body={"text": text})
        row, _created = await storage.enqueue("sales", name, request, external_id=name)
        numbers[name] = row.id
    for name, target in (("E1", "O1"), ("E2", "O1")):
        request = OutboxRequest(kind="edit", chat=CUSTOMER, body={"target": target, "text": name})
        row, _created = await storage.enqueue("sales", name, request, external_id=name)
        numbers[name] = row.id
    own = {"from_me": True, "sender": ACCOUNT}
    await storage.apply([envelope(name, **own, sent_at=T0) for name in bodies])
    assert await storage.outdated_outbox(numbers.values()) == frozenset()
    await storage.apply(
        [
            side("E1", "edit", "O1", **own, text="E1", sent_at=T0 + 1),
            side("E2", "edit", "O1", **own, text="E2", sent_at=T0 + 2),
            side("R1", "revoke", "O2", **own, sent_at=T0 + 3),
        ]
    )
    expected = {numbers[name] for name in ("O1", "O2", "E1")}
    assert await storage.outdated_outbox(numbers.values()) == expected


async def test_accesses_are_kept(storage: Storage, clock: Clock) -> None:
    """As they were recorded, the newest first, by message; until their time is over."""
    first = Access(who="crm", token_id="0" * 12, what=AccessKind.MESSAGE, messages=(7,))
    second = Access(
        who="control socket",
        uid=1000,
        what=AccessKind.SEARCH,
        query="pedido",
        messages=(7, 8),
        conversations=(1,),
        request_id="abc",
    )
    await storage.record_access(first)
    clock.now += DAY
    await storage.record_access(second)
    rows = await storage.history_accesses()
    assert [(row.who, row.uid, row.what, row.messages) for row in rows] == [
        ("control socket", 1000, "search", (7, 8)),
        ("crm", None, "message", (7,)),
    ]
    assert (rows[0].query, rows[0].request_id) == ("pedido", "abc")
    assert [row.id for row in await storage.history_accesses(message=8)] == [rows[0].id]
    assert await storage.history_accesses(message=2**63) == []
    assert await storage.history_accesses(before=rows[1].id) == []
    assert len(await storage.history_accesses(limit=1)) == 1


async def test_accesses_are_only_added(
    postgres: PostgresStorage, cluster: Cluster, dsn: str, clock: Clock
) -> None:
    """No row is changed, none is deleted before its age, not even by who may do everything."""
    now = dt.datetime.now(dt.UTC).timestamp()
    clock.now = now - 31 * DAY
    await postgres.record_access(Access(who="old", what=AccessKind.MESSAGE))
    clock.now = now
    await postgres.record_access(Access(who="new", what=AccessKind.MESSAGE))
    for statement in (
        "UPDATE history_accesses SET who = 'nobody'",
        "DELETE FROM history_accesses WHERE who = 'new'",
        "TRUNCATE history_accesses",
    ):
        with pytest.raises(Exception, match="are not changed, nor deleted"):
            await cluster.sql(dsn, statement)
    with pytest.raises(StorageRejectedError):
        await postgres.forget_accesses(clock.now + 1, 9)
    aged = await postgres.forget_accesses(clock.now - 30 * DAY, 9)
    assert [row.who for row in await postgres.history_accesses()] == ["new"]
    assert aged == 1


async def test_the_list_needs_no_scan(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """The newest changes come off an index of changes alone."""
    await take(postgres, "A1")
    plan = await cluster.sql(
        f"{dsn}&enable_seqscan=off",
        "EXPLAIN SELECT id FROM messages"
        " WHERE kind IN ('edit', 'revoke') ORDER BY sent_at DESC, id DESC LIMIT 50",
    )
    assert "messages_changes" in str(plan)
