"""The stream of events: one for each change, with the change, in an order without holes."""

import itertools
import typing as t

import attrs
import pytest
import trio
from st_faults import session
from st_helpers import (
    CUSTOMER,
    CUSTOMER_LID,
    DAY,
    GROUP,
    HOUR,
    KEY,
    NOW,
    OTHER,
    Clock,
    Cluster,
    envelope,
    message,
    take,
)

from storage.api import ConnectionEvent, ConversationRules, Envelope, Lane, Storage
from storage.errors import CursorGoneError, StorageRejectedError
from storage.events import EVENT_TYPES, EventRow, expand_types
from storage.facts import Delivery, DeliveryStatus, OutboxStep
from storage.gaps import OutageBegan, QueueAnnounced, QueueDrained
from storage.postgres import PostgresStorage
from storage.queues import OutboxRequest

WAITING = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


async def events(storage: Storage, after: int = 0) -> list[EventRow]:
    """All behind a cursor, page by page."""
    found: list[EventRow] = []
    while True:
        page = await storage.events_after(after, limit=100)
        found += page.events
        if page.position == after:
            return found
        after = page.position


async def types(storage: Storage, after: int = 0) -> list[str]:
    return [event.type for event in await events(storage, after)]


async def newest(storage: Storage) -> int:
    return (await storage.event_range()).newest


async def test_a_message_opens_a_conversation(storage: Storage) -> None:
    """First that it was opened, then the message; with ids, without what it says."""
    outcome = await take(storage, "A1")
    opened, stored = await events(storage)
    assert (opened.type, opened.connection) == ("conversation.opened", "sales")
    assert opened.data == {
        "conversation_id": outcome.conversation_id,
        "chat": CUSTOMER,
        "status": "waiting",
        "previous": None,
        "merged_into": None,
    }
    assert (stored.type, stored.connection) == ("message.stored", "sales")
    assert stored.data == {
        "message_id": outcome.message_id,
        "conversation_id": outcome.conversation_id,
        "chat": CUSTOMER,
        "external_id": "A1",
        "kind": "text",
        "from_me": False,
        "sent_at": "2027-01-15T08:00:00.000000Z",
        "target_id": None,
        "verdict": "stored",
    }
    assert opened.id < stored.id


async def test_a_redelivery_is_no_event(storage: Storage) -> None:
    """Nor is a batch that is applied again, nor the second copy within one."""
    batch = [envelope("A1"), envelope("A2"), envelope("A1"), envelope("A1", connection="support")]
    await storage.apply(batch)
    first = await events(storage)
    assert [event.type for event in first].count("message.stored") == 3
    await storage.apply(batch)
    await take(storage, "A2")
    assert await events(storage) == first


async def test_nothing_of_a_batch_that_fails(storage: Storage) -> None:
    """The events of what was not committed are not there."""
    with pytest.raises(StorageRejectedError):
        await storage.apply([envelope("A1"), envelope("A2", connection="nobody")])
    assert await events(storage) == []


async def test_history_is_quiet(storage: Storage) -> None:
    """Until a message of it comes live, too: once."""
    old = message("H1", lane=Lane.HISTORY)
    reaction = message("H2", lane=Lane.SIDE, kind="reaction", target_id="H1")
    await storage.apply(
        [Envelope(connection="sales", message=each, quiet=True) for each in (old, reaction)]
    )
    assert await events(storage) == []
    await take(storage, "H1")
    assert await types(storage) == ["conversation.reopened", "message.stored"]
    await take(storage, "H1")
    assert len(await events(storage)) == 2
    both = Envelope(connection="sales", message=message("H3", lane=Lane.HISTORY), quiet=True)
    await storage.apply([both, envelope("H3")])
    assert (await types(storage))[2:] == ["message.stored"]


async def test_placeholders(storage: Storage) -> None:
    """Once when it does not open, however often it fails, and once when it does."""
    await take(storage, "A1", kind="undecryptable")
    await take(storage, "A1", kind="undecryptable")
    last = await newest(storage)
    outcome = await take(storage, "A1")
    assert await types(storage) == [
        "conversation.opened",
        "message.undecryptable",
        "message.recovered",
    ]
    [recovered] = await events(storage, last)
    assert recovered.data["message_id"] == outcome.message_id
    assert (recovered.data["kind"], recovered.data["verdict"]) == ("text", "stored")


async def test_edits_and_deletions_name_what_they_change(storage: Storage) -> None:
    """By the row, if it is there; by WhatsApp's id in any case."""
    one = await take(storage, "A1")
    two = await take(storage, "A2", from_me=True)
    last = await newest(storage)
    side = {"lane": Lane.SIDE}
    edit = await take(storage, "E1", kind="edit", target_id="A1", text="neu", **side)
    await take(storage, "R1", kind="revoke", target_id="A2", from_me=True, **side)
    await take(storage, "E2", kind="edit", target_id="LATER", **side)
    await take(storage, "X1", kind="reaction", target_id="A1", text="👍", **side)
    edited, deleted, unknown, reaction = await events(storage, last)
    assert [each.type for each in (edited, deleted, unknown, reaction)] == [
        "message.edited",
        "message.deleted",
        "message.edited",
        "message.stored",
    ]
    assert edited.data["message_id"] == one.message_id
    assert edited.data["change_id"] == edit.message_id
    assert edited.data["external_id"] == "A1"
    assert (deleted.data["message_id"], deleted.data["from_me"]) == (two.message_id, True)
    assert unknown.data["message_id"] is None
    assert (unknown.data["external_id"], unknown.data["conversation_id"]) == (
        "LATER",
        one.conversation_id,
    )
    assert (reaction.data["kind"], reaction.data["target_id"]) == ("reaction", "A1")


async def test_an_admin_deletes_in_a_group(storage: Storage) -> None:
    """The message of another member, who is named."""
    one = await take(storage, "G1", chat=GROUP, sender=OTHER)
    last = await newest(storage)
    await take(
        storage,
        "G2",
        chat=GROUP,
        sender=CUSTOMER,
        kind="revoke",
        target_id="G1",
        target_author=OTHER,
        lane=Lane.SIDE,
    )
    [deleted] = await events(storage, last)
    assert (deleted.type, deleted.data["message_id"]) == ("message.deleted", one.message_id)


async def test_an_encrypted_edit_is_told_when_it_is_opened(storage: Storage) -> None:
    """It has been stored as what it is; then it turns out to change a message."""
    one = await take(storage, "A1")
    sealed = await take(storage, "E1", kind="secret_encrypted", lane=Lane.SIDE)
    last = await newest(storage)
    assert sealed.message_id is not None
    opened = message("E1", kind="edit", text="neu", target_id="A1", lane=Lane.SIDE)
    for _again in range(2):
        await storage.rewrite("sales", sealed.message_id, opened, expected="secret_encrypted")
    [edited] = await events(storage, last)
    assert (edited.type, edited.data["message_id"]) == ("message.edited", one.message_id)


async def test_status_of_conversations(storage: Storage, clock: Clock) -> None:
    """What operators do, and what a message does to what they closed."""
    outcome = await take(storage, "A1")
    last = await newest(storage)
    number = outcome.conversation_id or 0
    await storage.open_conversation(number)
    await storage.open_conversation(number)
    await storage.close_conversation(number)
    await storage.close_conversation(number)
    clock.now = NOW + HOUR
    await take(storage, "A2", sent_at=int(NOW + HOUR))
    told = [
        (each.type, each.data.get("previous"), each.data.get("status"))
        for each in await events(storage, last)
    ]
    assert told == [
        ("conversation.status", "waiting", "open"),
        ("conversation.status", "open", "closed"),
        ("conversation.reopened", "closed", "waiting"),
        ("message.stored", None, None),
    ]


async def test_two_that_are_one(storage: Storage) -> None:
    """A conversation that goes into another one is told, and where."""
    one = await take(storage, "A1", chat=CUSTOMER)
    two = await take(storage, "B1", chat=CUSTOMER_LID, sender=CUSTOMER_LID)
    last = await newest(storage)
    await take(storage, "A2", chat=CUSTOMER, chat_alt=CUSTOMER_LID)
    closed, _stored = await events(storage, last)
    assert (closed.type, closed.data["status"]) == ("conversation.status", "closed")
    assert closed.data["conversation_id"] == two.conversation_id
    assert closed.data["merged_into"] == one.conversation_id


async def test_transitions_and_runs(storage: Storage) -> None:
    """Those of the daemon that died, too, which the next one records."""
    await storage.begin_life()
    await storage.record_event(
        ConnectionEvent(
            connection="sales",
            previous="syncing",
            state="online",
            reason="logged_in",
            sentence="logged in",
            at=NOW - 5,
        )
    )
    await storage.begin_life()
    started, online, died, again = await events(storage)
    assert (started.type, started.connection) == ("daemon.started", None)
    assert online.data == {
        "state": "online",
        "previous": "syncing",
        "reason": "logged_in",
        "sentence": "logged in",
        "retry": 0,
        "since": "2027-01-15T07:59:55.000000Z",
        "until": None,
    }
    assert (died.type, died.data["reason"]) == ("connection.state", "daemon_died")
    assert again.data["run"] > started.data["run"]


async def test_gaps(storage: Storage) -> None:
    """An outage begins, and ends when all has come or somebody accepts it."""

    async def step(gap: t.Any) -> None:
        await storage.apply([Envelope(connection="sales", gap=gap)])

    await step(OutageBegan(kind="ended", reason="network", at=NOW))
    await step(
        QueueAnnounced(login="L1", number=1, at=NOW + 9, horizon=NOW + 9, announced=1, messages=1)
    )
    drained = QueueDrained(login="L1", number=2, at=NOW + 10, others=0)
    await step(drained)
    await step(drained)
    [gap] = await storage.gaps("sales")
    await storage.accept_gap(gap.id, "ana")
    opened, closed = await events(storage)
    assert (opened.type, opened.data["gap_id"], opened.data["resolution"]) == (
        "gap.opened",
        gap.id,
        None,
    )
    assert closed.data == opened.data | {
        "to": "2027-01-15T08:00:10.000000Z",
        "missing": 1,
        "resolution": "accepted",
    }


async def test_the_outbox(storage: Storage) -> None:
    """Each state once, with the one before it."""
    request = OutboxRequest(kind="text", chat=CUSTOMER, body={"text": "olá"})
    for _again in range(2):
        row, _created = await storage.enqueue("sales", "K1", request, external_id="OUT1")
    step = OutboxStep(id=row.id, state="sending", at=NOW + 1)
    read = Delivery(
        ids=("OUT1",),
        chat=CUSTOMER,
        direct=True,
        recipient=CUSTOMER,
        status=DeliveryStatus.READ,
        at=NOW + 2,
    )
    for fact in (step, step, read):
        await storage.apply([Envelope(connection="sales", facts=(fact,))])
    told = await events(storage)
    assert {each.type for each in told} == {"outbox.state"}
    assert [(each.data["previous"], each.data["state"]) for each in told] == [
        (None, "queued"),
        ("queued", "sending"),
        ("sending", "read"),
    ]
    assert told[0].data == {
        "outbox_id": row.id,
        "external_id": "OUT1",
        "chat": CUSTOMER,
        "kind": "text",
        "state": "queued",
        "previous": None,
        "reason": None,
    }


async def test_the_quarantine(storage: Storage) -> None:
    """Once, however often it is delivered; a row that is stored after all is a message."""
    bad = envelope("Q1")
    for _again in range(2):
        await storage.quarantine(bad, "refused")
    [told] = await events(storage)
    [row] = await storage.quarantined("sales")
    assert (told.type, told.data["quarantine_id"]) == ("message.quarantined", row.id)
    await storage.resolve(attrs.evolve(bad, resolves=row.id))
    assert (await types(storage))[1:] == ["conversation.opened", "message.stored"]


async def test_filters(storage: Storage) -> None:
    """By connection and type; the position passes what does not fit."""
    for connection in ("sales", "support"):
        await take(storage, "A1", connection=connection)
    page = await storage.events_after(0, types=expand_types(["conversation.*"]))
    assert [each.connection for each in page.events] == ["sales", "support"]
    assert page.position == await newest(storage)
    page = await storage.events_after(0, connection="support", limit=1)
    assert [each.type for each in page.events] == ["conversation.opened"]
    assert page.position == page.events[0].id
    nothing = await storage.events_after(0, types=["gap.opened"])
    assert (nothing.events, nothing.position) == ((), await newest(storage))


def test_types_are_checked() -> None:
    """A group, all, one; anything else is an error that says what there is."""
    assert expand_types(["gap.*", "daemon.started"]) == {
        "gap.opened",
        "gap.closed",
        "daemon.started",
    }
    assert expand_types(["*"]) == set(EVENT_TYPES)
    for wrong in ("message", "msg.*", "", "*.stored", "message.*x"):
        with pytest.raises(ValueError, match=r"message\.stored"):
            expand_types([wrong])


async def test_old_events_go_and_their_cursors_with_them(storage: Storage) -> None:
    """Some at a time, the oldest first; whoever missed something hears it."""
    for number in range(5):
        await storage.append_event("incident.begun", None, {"number": number})
    rows = await events(storage)
    future = rows[-1].at.timestamp() + DAY
    assert await storage.trim_events(rows[0].at.timestamp() - DAY, 100) == 0
    assert await storage.trim_events(future, 2) == 2
    assert await events(storage) == rows[2:]
    page = await storage.events_after(rows[1].id)
    assert page.events == tuple(rows[2:])
    with pytest.raises(CursorGoneError) as gone:
        await storage.events_after(rows[0].id)
    assert (gone.value.oldest, gone.value.newest) == (rows[1].id, rows[4].id)
    with pytest.raises(CursorGoneError, match="another database"):
        await storage.events_after(rows[4].id + 1)
    assert await storage.trim_events(future, 100) == 3
    assert await storage.trim_events(future, 100) == 0
    found = await storage.event_range()
    assert (found.oldest, found.newest) == (rows[4].id, rows[4].id)
    assert (await storage.events_after(rows[4].id)).events == ()
    assert (await storage.events_after(0)).position == rows[4].id


async def test_no_reader_passes_an_event_that_comes_later(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """Whoever has an id but no COMMIT yet keeps the others from overtaking: they wait, so a
    cursor never stands above what is still to come."""
    await take(postgres, "A1")
    start = await newest(postgres)
    ids: list[int] = []

    async def write() -> None:
        ids.append(await postgres.append_event("daemon.started", None, {"by": "the fast one"}))

    async with trio.open_nursery() as nursery:
        slow = "SELECT put_event('daemon.started', NULL, '{}')"
        async with session(dsn, slow):
            nursery.start_soon(write)
            nursery.start_soon(take, postgres, "A2")
            with trio.fail_after(20):
                while len(await cluster.sql(dsn, WAITING)) < 2:
                    await trio.sleep(0.01)
            assert (ids, (await postgres.events_after(start)).events) == ([], ())
    first, *others = await events(postgres, start)
    assert first.data == {}
    assert sorted(each.type for each in others) == ["daemon.started", "message.stored"]


async def test_a_cursor_sees_all_that_many_write_at_once(dsn: str, clock: Clock) -> None:
    """Six sessions write, one batch at a time each, while a reader follows: it sees every event,
    once, in the order of ids."""
    async with PostgresStorage.open(dsn, key=KEY, pool_size=8, clock=clock) as storage:
        for name in ("sales", "support"):
            await storage.ensure_connection(name, ConversationRules())
        outcome = await take(storage, "A0")
        seen: list[int] = []
        finished = trio.Event()
        position = await newest(storage)
        start = position

        async def read() -> None:
            nonlocal position
            while True:
                over = finished.is_set()
                page = await storage.events_after(position, limit=7)
                seen.extend(event.id for event in page.events)
                if over and page.position == position:
                    return
                position = page.position

        async def batches() -> None:
            for number in range(25):
                await storage.apply([envelope(f"B{number}-{i}") for i in range(4)])

        async def orders() -> None:
            for _round in range(25):
                await storage.open_conversation(outcome.conversation_id or 0)
                await storage.close_conversation(outcome.conversation_id or 0)

        async def plain() -> None:
            for _round in range(25):
                await storage.append_event("incident.begun", None, {})

        async with trio.open_nursery() as readers:
            readers.start_soon(read)
            async with trio.open_nursery() as writers:
                for work in (batches, orders, plain, plain, plain, plain):
                    writers.start_soon(work)
            finished.set()
        everything = [event.id for event in await events(storage, start)]
        assert seen == everything
        assert len(everything) >= 200
        assert all(one < other for one, other in itertools.pairwise(seen))


async def test_a_deadlock_is_not_to_be_had(postgres: PostgresStorage, dsn: str) -> None:
    """The lock of the stream comes after all rows: whoever holds rows and wants it never waits
    for somebody who holds it and wants rows."""
    request = OutboxRequest(kind="text", chat=CUSTOMER, body={"text": "olá"})
    rows = [
        (await postgres.enqueue("sales", f"K{i}", request, external_id=f"OUT{i}"))[0]
        for i in range(4)
    ]

    async def move(state: str, at: float) -> None:
        facts = tuple(OutboxStep(id=row.id, state=state, at=NOW + at) for row in rows)
        await postgres.apply([Envelope(connection="sales", message=message("A"), facts=facts)])

    async with trio.open_nursery() as nursery:
        for at, state in enumerate(("sending", "sent", "delivered")):
            nursery.start_soon(move, state, at)
        for _round in range(8):
            nursery.start_soon(postgres.settle_interrupted, "sales")
    assert len(await events(postgres)) >= 10
