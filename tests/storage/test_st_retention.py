"""Rules of retention: what is old loses its content, and nothing else."""

import itertools
import typing as t

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from st_helpers import CUSTOMER, CUSTOMER_LID, DAY, KEY, NOW, OTHER, Clock, Cluster, envelope, take

from storage.api import ConversationRules, Envelope, Lane, MediaFile, Storage, Verdict
from storage.erasure import RetentionRun, RetentionStep, Rule
from storage.facts import AddressPair, OutboxStep
from storage.memory import MemoryStorage
from storage.memory_state import utc
from storage.postgres import PostgresStorage
from storage.queues import MediaResult, MediaState, OutboxRequest

ALL = Rule(kinds=None, files_only=False, after=365.0 * DAY, live=True, connections=(), text="all")


async def sweep(
    storage: Storage, rule: Rule, *, now: float = NOW, window: int = 3, dry: bool = False
) -> tuple[int, int]:
    """All steps of a rule on one connection."""
    after = messages = files = 0
    while True:
        step = await storage.retain("sales", rule, after=after, window=window, now=now, dry=dry)
        messages, files = messages + step.messages, files + step.files
        if step.last_id is None:
            return messages, files
        after = step.last_id


async def test_the_old_loses_its_content(storage: Storage) -> None:
    """Text, detail and file; kind, times and place stay, and a redelivery is a duplicate."""
    old, young = int(NOW) - 366 * DAY, int(NOW) - 364 * DAY
    file = MediaFile(kind="image", name="beach.jpg", size=3)
    for external_id, at in (("OLD", old), ("YOUNG", young)):
        await take(storage, external_id, sent_at=at, kind="image", media=file, detail={"a": 1})
    assert await sweep(storage, ALL, dry=True) == (1, 1)
    assert await sweep(storage, ALL) == (1, 1)
    assert await sweep(storage, ALL) == (0, 0)
    gone, kept = await storage.list_messages("sales", after=0, limit=5)
    assert (gone.external_id, gone.kind, gone.text, gone.sent_at.timestamp()) == (
        "OLD",
        "image",
        None,
        old,
    )
    assert kept.text == "olá"
    detail = await storage.message(gone.id)
    assert detail is not None
    assert (detail.text, detail.detail, detail.media) == (None, {}, None)
    outcome = await take(storage, "OLD", sent_at=old, kind="image", media=file)
    assert outcome.verdict is Verdict.DUPLICATE
    assert (await storage.list_messages("sales", after=0, limit=5))[0].text is None


async def test_kinds_connections_and_live_conversations(storage: Storage) -> None:
    """Each rule takes what it names; an open conversation only if it says so."""
    old = int(NOW) - 400 * DAY
    await take(storage, "LIVE", sent_at=old)
    await take(storage, "PAST", chat=OTHER, sent_at=old, lane=Lane.HISTORY)
    closed = attrs.evolve(ALL, live=False)
    assert await sweep(storage, attrs.evolve(closed, kinds=("image",))) == (0, 0)
    assert await sweep(storage, closed) == (1, 0)
    live, past = await storage.list_messages("sales", after=0, limit=5)
    assert (live.text, past.text) == ("olá", None)
    assert await sweep(storage, attrs.evolve(ALL, kinds=("image", "text"))) == (1, 0)


async def test_files_alone(storage: Storage) -> None:
    """The message keeps its text; the file is given up unless another message has it."""
    blob, old = b"b" * 32, int(NOW) - 400 * DAY
    for external_id in ("OLD", "NEW"):
        at = old if external_id == "OLD" else int(NOW)
        await take(
            storage, external_id, sent_at=at, kind="image", media=MediaFile(kind="image", size=3)
        )
    for job in await storage.claim_media(5):
        stored = MediaResult(state=MediaState.STORED, blob_sha256=blob, blob_size=3)
        assert await storage.finish_media("sales", job.message_id, stored)
    rule = attrs.evolve(ALL, files_only=True)
    assert await sweep(storage, rule, dry=True) == (0, 1)
    assert await sweep(storage, rule) == (0, 1)
    assert await sweep(storage, rule) == (0, 0)
    assert await storage.erased_blobs(5) == [blob]
    assert await storage.blob_users(blob) == 1
    await storage.blob_erased(blob)
    assert await storage.erased_blobs(5) == []
    gone = (await storage.list_messages("sales", after=0, limit=1))[0]
    file = await storage.media_file(gone.id)
    assert file is not None
    assert (gone.text, file.state) == ("olá", MediaState.REMOVED)


async def test_runs_are_remembered(storage: Storage) -> None:
    """The newest first."""
    runs = [
        RetentionRun(
            connection="sales",
            rule="all",
            began_at=utc(NOW + each),
            ended_at=utc(NOW + each + 1),
            cutoff=utc(NOW - DAY),
            messages=each,
            files=0,
        )
        for each in (1, 2)
    ]
    for run in runs:
        await storage.record_retention(run)
    assert await storage.retention_runs() == runs[::-1]
    assert await storage.retention_runs(limit=1) == [runs[1]]


async def test_edits_go_with_what_they_edit(
    cluster: Cluster, dsn: str, postgres: PostgresStorage
) -> None:
    """However young; the words of both leave the search, which is not filled with them again."""
    old = int(NOW) - 366 * DAY
    await take(postgres, "OLD", sent_at=old, text="first")
    await take(
        postgres,
        "EDIT",
        sent_at=old + 3 * DAY,
        text="second",
        kind="edit",
        lane=Lane.SIDE,
        target_id="OLD",
    )
    await postgres.index_messages(10)
    assert await sweep(postgres, ALL) == (2, 0)
    while (await postgres.index_messages(10)).behind:
        pass
    assert await cluster.sql(dsn, "SELECT FROM search_documents") == []
    detail = await postgres.message((await postgres.list_messages("sales", after=0, limit=1))[0].id)
    assert detail is not None
    assert detail.text is None


@pytest.mark.parametrize(
    "kind", ["poll_vote", "encrypted_reaction", "secret_encrypted", "event_response", "unknown"]
)
async def test_nobody_works_on_what_was_stripped(postgres: PostgresStorage, kind: str) -> None:
    """Neither who opens encrypted answers nor who reads messages anew."""
    lane = Lane.LIVE if kind == "unknown" else Lane.SIDE
    await take(postgres, "OLD", sent_at=int(NOW) - 400 * DAY, kind=kind, lane=lane, target_id="T")
    assert await sweep(postgres, ALL) == (1, 0)
    assert await postgres.pending_addons(0, 10) == []
    assert await postgres.unread_kinds(0, 10, kinds=None) == []
    assert await postgres.unread_kinds(0, 10) == []


async def test_an_undone_merge_brings_nothing_back(
    cluster: Cluster, dsn: str, postgres: PostgresStorage
) -> None:
    """Messages that a merge made one are two again, both without content, both known."""
    old = int(NOW) - 400 * DAY
    for chat in (CUSTOMER, CUSTOMER_LID):
        await take(postgres, "OLD", chat=chat, sent_at=old, text="planted-words")
    pair = AddressPair(CUSTOMER, CUSTOMER_LID, "usync")
    await postgres.apply([Envelope(connection="sales", facts=(pair,))])
    assert await sweep(postgres, ALL) == (1, 0)
    assert await postgres.retain_rest(NOW - ALL.after, 10) == 1
    assert await postgres.retain_rest(NOW - ALL.after, 10) == 0
    [merge] = await postgres.merges("sales")
    assert await postgres.unmerge(merge.id) is not None
    rows = await cluster.sql(dsn, "SELECT text, raw, erased, erased_at FROM messages")
    assert [(row["text"], row["raw"], row["erased"]) for row in rows] == 2 * [
        (None, b"", "retention")
    ]
    kept = await cluster.sql(dsn, "SELECT FROM contact_merge_rows WHERE before::text ~ 'planted'")
    assert kept == []
    for chat in (CUSTOMER, CUSTOMER_LID):
        outcome = await take(postgres, "OLD", chat=chat, sent_at=old, text="planted-words")
        assert outcome.verdict is Verdict.DUPLICATE


@attrs.frozen
class Sent:
    """A message of the property."""

    days: int  # ago
    kind: str
    history: bool
    chat: str


sent = st.builds(
    Sent,
    days=st.integers(0, 800),
    kind=st.sampled_from(["text", "image", "reaction"]),
    history=st.booleans(),
    chat=st.sampled_from([CUSTOMER, OTHER]),
)
rules = st.builds(
    Rule,
    kinds=st.sampled_from([None, ("text",), ("image", "reaction")]),
    files_only=st.booleans(),
    after=st.sampled_from([1.0 * DAY, 100.0 * DAY, 400.0 * DAY]),
    live=st.booleans(),
    connections=st.just(()),
    text=st.just("rule"),
)


def made(number: int, item: Sent) -> Envelope:
    """The message of that number."""
    lane = Lane.HISTORY if item.history else Lane.LIVE
    return envelope(
        f"M{number}",
        chat=item.chat,
        kind=item.kind,
        lane=Lane.SIDE if item.kind == "reaction" else lane,
        target_id="M0" if item.kind == "reaction" else None,
        sent_at=int(NOW) - item.days * DAY,
        media=MediaFile(kind="image", size=1) if item.kind == "image" else None,
    )


def test_the_young_is_untouched(cluster: Cluster) -> None:
    """Whatever was sent and whatever the rules: what is younger stays as it is, the storages
    agree, the dry run told the truth, and all of it is a duplicate when it comes again."""
    numbers = itertools.count()

    @given(items=st.lists(sent, min_size=1, max_size=8), rule=rules, window=st.integers(1, 5))
    @settings(max_examples=25, deadline=None)
    def property_(items: list[Sent], rule: Rule, window: int) -> None:
        async def check() -> None:
            clock = Clock()
            memory = MemoryStorage(clock)
            name = f"c{next(numbers)}"
            async with PostgresStorage.open(dsn, key=KEY, clock=clock) as postgres:
                told = await _run(memory, name, items, rule, window)
                assert await _run(postgres, name, items, rule, window) == told

        trio.run(check)

    async def create() -> str:
        return await cluster.create("migrated")

    dsn = trio.run(create)
    property_()


async def _run(
    storage: Storage, name: str, items: list[Sent], rule: Rule, window: int
) -> list[t.Any]:
    await storage.ensure_connection(name, ConversationRules())
    batch = [attrs.evolve(made(n, item), connection=name) for n, item in enumerate(items)]
    await storage.apply(batch)
    before = {row.external_id: row for row in await storage.list_messages(name, after=0, limit=99)}

    async def sweep_all(*, dry: bool) -> list[tuple[int, int]]:
        after, counts = 0, []
        while True:
            step: RetentionStep = await storage.retain(
                name, rule, after=after, window=window, now=NOW, dry=dry
            )
            counts.append((step.messages, step.files))
            if step.last_id is None:
                return counts
            after = step.last_id

    foretold = await sweep_all(dry=True)
    assert await sweep_all(dry=False) == foretold
    rows = await storage.list_messages(name, after=0, limit=99)
    for row in rows:
        item = items[int(row.external_id[1:])]
        old = item.days * DAY > rule.after
        wanted = rule.kinds is None or row.kind in rule.kinds
        if not old or not wanted or rule.files_only:
            assert row == before[row.external_id]
        else:
            assert row.text in (None, before[row.external_id].text)
    outcomes = await storage.apply(batch)
    assert {outcome.verdict for outcome in outcomes} == {Verdict.DUPLICATE}
    assert await storage.list_messages(name, after=0, limit=99) == rows
    return [[(row.external_id, row.text, row.kind) for row in rows], foretold]


async def test_copies_go_with_the_message(
    cluster: Cluster, dsn: str, postgres: PostgresStorage
) -> None:
    """What was asked to be sent, once that is settled; and what left the quarantine."""
    old = int(NOW) - 400 * DAY
    request = OutboxRequest(kind="text", chat=CUSTOMER, body={"text": "planted-words"})
    rows = {}
    for external_id, state in (("SENT", "sent"), ("FAILED", "failed"), ("WAITS", None)):
        row, _new = await postgres.enqueue("sales", external_id, request, external_id=external_id)
        await postgres.outbox_set_payload("sales", row.id, b"planted-words")
        rows[external_id] = row.id
        if state is not None:
            step = OutboxStep(id=row.id, state=state, at=NOW)
            await postgres.apply([Envelope(connection="sales", facts=(step,))])
    await cluster.sql(dsn, "UPDATE outbox SET created_at = to_timestamp($1)", old)
    await take(postgres, "SENT", from_me=True, sent_at=old)
    poison = envelope("Q", sent_at=old, text="planted-words", raw=b"planted-words")
    await postgres.quarantine(poison, "refused")
    [kept] = await postgres.quarantined("sales")
    await postgres.resolve(attrs.evolve(poison, resolves=kept.id))
    assert await sweep(postgres, ALL) == (2, 0)
    assert await postgres.retain_rest(NOW - ALL.after, 10) == 1
    left = await cluster.sql(
        dsn, "SELECT id, body::text AS body, payload FROM outbox WHERE payload IS NOT NULL"
    )
    assert [row["id"] for row in left] == [rows["WAITS"]]
    assert await cluster.sql(
        dsn, "SELECT id FROM outbox WHERE body::text ~ 'planted' ORDER BY id"
    ) == [(rows["WAITS"],)]
    [row] = await cluster.sql(dsn, "SELECT stanza, raw, kept FROM quarantine")
    assert tuple(row) == (b"", b"", None)
