"""The fake agrees with PostgreSQL on anything that can happen to a few messages."""

import itertools
import typing as t

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from st_content import content
from st_helpers import (
    CUSTOMER,
    CUSTOMER_LID,
    GROUP,
    HOUR,
    KEY,
    NOW,
    OTHER,
    Clock,
    Cluster,
    message,
)

from storage.api import (
    ConversationRow,
    ConversationRules,
    Envelope,
    Lane,
    MediaFile,
    Outcome,
    RecordChange,
    RecordKind,
    ReopenFrom,
    Storage,
    Verdict,
    handled_key,
)
from storage.errors import StorageRejectedError
from storage.facts import (
    AddressPair,
    ChatSettings,
    ContactName,
    Delivery,
    DeliveryStatus,
    GroupChange,
    GroupMember,
    GroupSnapshot,
    NameSource,
    PlaceholderVerdict,
)
from storage.memory import MemoryStorage
from storage.postgres import PostgresStorage

CHATS = (
    {"chat": CUSTOMER, "sender": CUSTOMER},
    {"chat": CUSTOMER_LID, "sender": CUSTOMER_LID},
    {
        "chat": CUSTOMER_LID,
        "sender": CUSTOMER_LID,
        "chat_alt": CUSTOMER,
        "sender_alt": CUSTOMER,
    },
    {"chat": OTHER, "sender": OTHER},
    {"chat": GROUP, "sender": CUSTOMER},
    {"chat": GROUP, "sender": CUSTOMER_LID, "sender_alt": CUSTOMER},
)
CONNECTIONS = ("sales", "support")


@attrs.frozen
class Wait:
    """Hours pass."""

    hours: int


@attrs.frozen
class Close:
    """The conversation that was active last is closed (or opened)."""

    reopen: bool


@attrs.frozen
class Undo:
    """A merge is undone: of those not undone yet, the newest or the oldest."""

    newest: bool


TIMES = st.sampled_from([0.0, NOW - HOUR, NOW - 60, NOW, NOW + 60])
ADDRESSES = st.sampled_from([CUSTOMER, CUSTOMER_LID, OTHER])
facts = st.one_of(
    st.builds(AddressPair, st.just(CUSTOMER), st.just(CUSTOMER_LID), st.just("usync")),
    st.builds(
        ContactName,
        address=ADDRESSES,
        source=st.sampled_from(NameSource),
        name=st.sampled_from(["", "Ana", "Bia", "çé"]),
        at=TIMES,
    ),
    st.builds(
        Delivery,
        chat=ADDRESSES,
        direct=st.just(True),
        ids=st.sampled_from([("A",), ("A", "B")]),
        recipient=ADDRESSES,
        status=st.sampled_from(DeliveryStatus),
        at=TIMES,
    ),
    st.builds(
        GroupSnapshot,
        group=st.just(GROUP),
        at=TIMES,
        subject=st.sampled_from(["um", "dois"]),
        members=st.lists(st.builds(GroupMember, address=ADDRESSES), max_size=3).map(tuple),
    ),
    st.builds(
        GroupChange,
        group=st.just(GROUP),
        at=TIMES,
        locked=st.sampled_from([None, True, False]),
        joined=st.lists(
            st.builds(GroupMember, address=ADDRESSES, role=st.sampled_from(["member", "admin"])),
            max_size=2,
        ).map(tuple),
        left=st.lists(ADDRESSES, max_size=1).map(tuple),
    ),
    st.builds(
        ChatSettings,
        chat=ADDRESSES,
        direct=st.just(True),
        at=TIMES,
        archived=st.sampled_from([None, True, False]),
        muted_until=st.sampled_from([None, -1.0, 0.0, NOW + HOUR]),
    ),
    st.builds(
        PlaceholderVerdict,
        chat=ADDRESSES,
        direct=st.just(True),
        sender=ADDRESSES,
        external_id=st.sampled_from(["A", "B"]),
        verdict=st.just("gave_up"),
    ),
)


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    connection = draw(st.sampled_from(CONNECTIONS))
    chat = draw(st.sampled_from(CHATS))
    name = draw(st.sampled_from([None, "A", "B", "C"]))
    what = draw(st.sampled_from(["text", "text", "text", "undecryptable", "handled"]))
    records = draw(st.lists(changes, max_size=2))
    reset = draw(st.sampled_from([False] * 7 + [True]))
    told = tuple(draw(st.lists(facts, max_size=2)))
    handled = handled_key(chat["chat"], chat["sender"], name or "")
    if what == "handled":
        return Envelope(
            connection=connection,
            handled=handled,
            records=tuple(records),
            facts=told,
            reset_records=reset,
        )
    from_me = draw(st.sampled_from([False, False, True]))
    fields: dict[str, t.Any] = dict(chat)
    if from_me:
        fields = {key: value for key, value in chat.items() if key.startswith("chat")}
    if what == "text":
        what = draw(st.sampled_from(["text", "text", "image", "edit", "revoke", "reaction"]))
    if what in ("edit", "revoke", "reaction"):
        fields["target_id"] = draw(st.sampled_from(["A", "B"]))
        fields["target_author"] = draw(st.one_of(st.none(), ADDRESSES))
    if what == "image":
        fields["media"] = MediaFile(kind="image")
    return Envelope(
        connection=connection,
        facts=told,
        message=message(
            name,
            **fields,
            from_me=from_me,
            kind=what,
            sender_name=draw(st.sampled_from([None, "Ana", "Bia"])),
            sent_at=int(NOW) + HOUR * draw(st.sampled_from([-200, -30, -3, 0, 0, 1, 3, 500])),
            lane=draw(st.sampled_from([Lane.LIVE, Lane.LIVE, Lane.LIVE, Lane.HISTORY, Lane.SIDE])),
        ),
        records=tuple(records),
        reset_records=reset,
        handled=handled if draw(st.sampled_from([False] * 9 + [True])) else None,
    )


changes = st.builds(
    RecordChange,
    st.sampled_from(RecordKind).filter(lambda kind: kind is not RecordKind.DEVICE),
    st.sampled_from(["1", "2"]),
    st.sampled_from([None, b"x", b"y"]),
)
steps = st.lists(
    st.one_of(
        st.lists(envelopes(), min_size=1, max_size=8),
        st.builds(Wait, st.sampled_from([1, 23, 25])),
        st.builds(Close, st.sampled_from([False, False, True])),
        st.builds(Undo, st.booleans()),
    ),
    min_size=1,
    max_size=8,
)
rules = st.builds(
    ConversationRules,
    reopen_window=st.sampled_from([0.0, 86_400.0]),
    reopen_from=st.sampled_from(ReopenFrom),
    team_reopens=st.booleans(),
)


def without_ids(row: ConversationRow) -> ConversationRow:
    """Ids are each storage's own; the order of opening is told apart by the rest."""
    return attrs.evolve(row, id=0, merged_into=row.merged_into and 1)


def comparable(outcomes: list[Outcome], numbers: dict[int, int]) -> list[Outcome]:
    """Message ids numbered by their first appearance."""
    return [
        attrs.evolve(
            outcome,
            conversation_id=outcome.conversation_id and 1,
            message_id=outcome.message_id
            and numbers.setdefault(outcome.message_id, len(numbers) + 1),
        )
        for outcome in outcomes
    ]


async def history(storage: Storage, clock: Clock, run: list[t.Any], rule: t.Any) -> list[t.Any]:
    """Everything a storage answers to a run, in comparable form."""
    clock.now = NOW
    for name in CONNECTIONS:
        await storage.ensure_connection(name, rule)
    answers: list[t.Any] = []
    numbers: dict[int, int] = {}
    for step in run:
        match step:
            case Wait(hours=hours):
                clock.now += hours * HOUR
            case Close(reopen=reopen):
                # Which of several equally recent ones is named is each storage's own affair.
                status = "closed" if reopen else None
                rows = await storage.conversations(status=status, connection="sales", limit=100)
                rows.sort(key=lambda row: (row.chat, row.opened_at, row.messages, row.status))
                live = {
                    row.chat
                    for row in await storage.conversations(
                        status=None, connection="sales", limit=100
                    )
                    if row.status != "closed"
                }
                if rows and not (reopen and rows[0].chat in live):
                    act = storage.open_conversation if reopen else storage.close_conversation
                    changed = await act(rows[0].id)
                    answers.append(changed and without_ids(changed))
            case Undo(newest=newest):
                merges = await storage.merges("sales")
                left = [row for row in merges if row.undone_at is None]
                if left:
                    try:
                        undone = await storage.unmerge(left[0 if newest else -1].id)
                        answers.append(undone and undone.addresses)
                    except StorageRejectedError as error:
                        answers.append(str(error)[:5])
            case batch:
                answers.append(comparable(await storage.apply(batch), numbers))
    for name in CONNECTIONS:
        rows = await storage.conversations(status=None, connection=name, limit=1000)
        answers.append(sorted((without_ids(row) for row in rows), key=repr))
        answers.append(await content(storage, name, lanes=True))
        members = {}
        for row in rows:
            page = await storage.conversation_messages(row.id, limit=500)
            members[repr(without_ids(row)), len(members)] = [item.external_id for item in page]
        answers.append(sorted(members.values()))
        answers.append(
            [
                (row.source, sorted(row.addresses), row.messages, row.duplicates, row.undone_at)
                for row in await storage.merges(name)
            ]
        )
        answers.extend([await storage.load_records(name, kind, ["1", "2"]) for kind in RecordKind])
    answers.append(await storage.connections())
    answers.append(await storage.statistics())
    answers.append(await told(storage))
    return answers


async def told(storage: Storage) -> list[str]:
    """The events without numbers; those of one batch may differ in their order."""
    found: list[str] = []
    position = 0
    while (page := await storage.events_after(position)).events:
        position = page.position
        for event in page.events:
            data = {
                name: value is None if name.endswith(("_id", "_into")) else value
                for name, value in event.data.items()
            }
            found.append(repr((event.type, event.connection, sorted(data.items()))))
    return sorted(found)


def test_memory_and_postgres_agree(cluster: Cluster) -> None:
    """Verdicts, conversations, records and counts are the same, step by step."""
    names = itertools.count()

    @settings(max_examples=40, deadline=None)
    @given(run=steps, rule=rules)
    def agree(run: list[t.Any], rule: ConversationRules) -> None:
        trio.run(check, run, rule, next(names))

    async def check(run: list[t.Any], rule: ConversationRules, number: int) -> None:
        clock = Clock()
        expected = await history(MemoryStorage(clock), clock, run, rule)
        dsn = await cluster.create("migrated")
        async with PostgresStorage.open(dsn, key=KEY, pool_size=1, clock=clock) as postgres:
            assert await history(postgres, clock, run, rule) == expected
        await cluster.sql(cluster.server.dsn, f"DROP DATABASE {dsn.split('/')[3].split('?')[0]}")

    agree()


async def test_a_batch_is_its_messages_in_order(cluster: Cluster, clock: Clock) -> None:
    """One batch ends in the same state as its envelopes applied one by one.

    Unless it joins two contacts that were known: that it does first.
    """
    batch = [
        Envelope(connection=connection, message=message(name, **chat, kind=kind))
        for chat in CHATS
        if chat != CHATS[1]
        for connection in CONNECTIONS
        for name in ("A", "B")
        for kind in ("undecryptable", "undecryptable", "text", "text")
    ]
    ends = []
    for together in (True, False):
        dsn = await cluster.create("migrated")
        async with PostgresStorage.open(dsn, key=KEY, pool_size=1, clock=clock) as postgres:
            for name in CONNECTIONS:
                await postgres.ensure_connection(name, ConversationRules())
            outcomes = (
                await postgres.apply(batch)
                if together
                else [(await postgres.apply([item]))[0] for item in batch]
            )
            rows = await cluster.sql(
                dsn,
                "SELECT external_id, kind, state, arrival, retries, text, raw, conversation_id "
                "FROM messages ORDER BY connection_id, arrival",
            )
            ends.append(
                (comparable(outcomes, {}), [dict(row) for row in rows], await postgres.statistics())
            )
    assert ends[0] == ends[1]
    assert {outcome.verdict for outcome in ends[0][0]} == {
        Verdict.STORED,
        Verdict.DUPLICATE,
        Verdict.PLACEHOLDER,
    }
