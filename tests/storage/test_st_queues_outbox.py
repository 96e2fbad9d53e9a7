"""Messages to send: asked for once, moved forward only, the same on both storages."""

import collections.abc as cabc
import datetime as dt
import random

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from st_helpers import CUSTOMER, NOW, OTHER, Clock, Cluster, opened_storage
from st_queues import REQUEST, queued, receipt, step, tell

from storage.api import ConversationRules, Envelope, Storage
from storage.errors import StorageRejectedError
from storage.facts import DeliveryStatus, Fact, OutboxStep
from storage.memory import MemoryStorage
from storage.postgres import PostgresStorage
from storage.queues import OUTBOX_RANK, OutboxRequest, OutboxRow, OutboxState

LATER = dt.datetime.fromtimestamp(NOW + 1, dt.UTC)


async def state_of(storage: Storage, row: OutboxRow) -> str:
    """The state of a message now."""
    now = await storage.outbox_row("sales", row.id)
    assert now is not None
    return now.state


async def test_a_key_is_one_message(storage: Storage, clock: Clock) -> None:
    """An equal request gives the row of the first time; its own stanza id is not used."""
    first = await queued(storage)
    assert first.request == REQUEST
    assert (first.state, first.reason, first.sent_at) == ("queued", None, None)
    assert first.created_at == first.updated_at == dt.datetime.fromtimestamp(NOW, dt.UTC)
    clock.now += 5
    again = await storage.enqueue("sales", "k1", REQUEST, external_id="3EB0other")
    assert again == (first, False)
    reordered = OutboxRequest(kind="text", chat=CUSTOMER, body={"text": "olá"})
    assert (await storage.enqueue("sales", "k1", reordered, external_id="x"))[0] == first
    assert (await storage.outbox_list("sales")) == [first]


@pytest.mark.parametrize(
    "other",
    [
        attrs.evolve(REQUEST, kind="reply"),
        attrs.evolve(REQUEST, chat=OTHER),
        attrs.evolve(REQUEST, body={"text": "olá!"}),
        attrs.evolve(REQUEST, body={"text": "olá", "mentions": []}),
        attrs.evolve(REQUEST, body={"text": True}),
    ],
)
async def test_a_key_is_for_one_request(storage: Storage, other: OutboxRequest) -> None:
    """Another request under a used key is refused; on another connection it is another key."""
    await queued(storage)
    with pytest.raises(StorageRejectedError, match="used for another request"):
        await storage.enqueue("sales", "k1", other, external_id="3EB0other")
    _row, created = await storage.enqueue("support", "k1", other, external_id="3EB0k1")
    assert created


async def test_numbers_and_truths_differ(storage: Storage) -> None:
    """1 and true are two requests, whatever a language thinks of them."""
    await queued(storage, request=attrs.evolve(REQUEST, body={"n": 1}))
    with pytest.raises(StorageRejectedError):
        await storage.enqueue(
            "sales", "k1", attrs.evolve(REQUEST, body={"n": True}), external_id="x"
        )


@pytest.mark.parametrize(
    ("key", "external_id", "request_"),
    [
        ("", "a", REQUEST),
        ("k" * 513, "a", REQUEST),
        ("k", "", REQUEST),
        ("k", "a" * 513, REQUEST),
        ("k", "a", attrs.evolve(REQUEST, kind="")),
        ("k", "a", attrs.evolve(REQUEST, chat="")),
        ("k", "a", attrs.evolve(REQUEST, body={"x": object()})),
        ("k", "a", attrs.evolve(REQUEST, body={"x": float("nan")})),
        ("k", "a", attrs.evolve(REQUEST, body={"x": b"bytes"})),
        ("k", "a", attrs.evolve(REQUEST, body={1: "x"})),  # type: ignore[dict-item]
        ("k", "a", attrs.evolve(REQUEST, body={"x": "y" * 300_000})),
    ],
)
async def test_requests_that_cannot_be_stored(
    storage: Storage, key: str, external_id: str, request_: OutboxRequest
) -> None:
    """They are refused, and nothing is queued."""
    with pytest.raises(StorageRejectedError):
        await storage.enqueue("sales", key, request_, external_id=external_id)
    assert await storage.outbox_list() == []


async def test_odd_text_in_a_request(storage: Storage) -> None:
    """What PostgreSQL cannot hold is kept readable, and the same request is known again."""
    odd = attrs.evolve(REQUEST, body={"te\0xt": ["a\0b", {"c": "\ud83d\ude00", "d": "\ud800"}]})
    row = await queued(storage, request=odd)
    assert row.body == {"te␀xt": ["a␀b", {"c": "😀", "d": "�"}]}
    assert (await storage.enqueue("sales", "k1", odd, external_id="x")) == (row, False)
    assert await storage.outbox_row("sales", row.id) == row


async def test_an_unknown_connection(storage: Storage) -> None:
    """Nothing is queued for a connection that does not exist; it has nothing either."""
    with pytest.raises(StorageRejectedError, match="nobody"):
        await storage.enqueue("nobody", "k", REQUEST, external_id="x")
    assert await storage.outbox_pending("nobody", 5) == []
    assert await storage.settle_interrupted("nobody") == []
    assert await storage.sent_message("nobody", "x") is None


async def test_an_external_id_is_used_once(storage: Storage) -> None:
    """Two messages of a connection never share a stanza id."""
    await queued(storage, "k1", external_id="3EB0A")
    with pytest.raises(StorageRejectedError):
        await storage.enqueue("sales", "k2", REQUEST, external_id="3EB0A")
    await queued(storage, "k2", external_id="3EB0A", connection="support")


async def test_first_asked_first_sent(storage: Storage) -> None:
    """Pending messages come in the order of asking, each connection's by itself."""
    rows = [await queued(storage, f"k{number}") for number in range(4)]
    await queued(storage, "k9", connection="support")
    assert await storage.outbox_pending("sales", 3) == rows[:3]
    await tell(storage, step(rows[0], "sending"), step(rows[2], "failed", reason="not_found"))
    assert [row.id for row in await storage.outbox_pending("sales", 9)] == [rows[1].id, rows[3].id]


async def test_lists(storage: Storage) -> None:
    """The newest first, filtered, page by page."""
    rows = [await queued(storage, f"k{number}") for number in range(5)]
    await queued(storage, "k9", connection="support")
    await tell(storage, step(rows[1], "sending"))
    newest = [row.id for row in rows[::-1]]
    assert [row.id for row in await storage.outbox_list("sales", limit=2)] == newest[:2]
    page = await storage.outbox_list("sales", before=newest[1], limit=2)
    assert [row.id for row in page] == newest[2:4]
    [sending] = await storage.outbox_list("sales", state="sending")
    assert sending.id == rows[1].id
    assert len(await storage.outbox_list()) == 6
    assert await storage.outbox_counts("sales") == {"queued": 4, "sending": 1}
    assert await storage.outbox_counts() == {"queued": 5, "sending": 1}


async def test_rows_by_id(storage: Storage) -> None:
    """With a connection only its own; ids that cannot be are nobody's."""
    row = await queued(storage)
    assert await storage.outbox_row(None, row.id) == row
    assert await storage.outbox_row("sales", row.id) == row
    assert await storage.outbox_row("support", row.id) is None
    for number in (0, -1, row.id + 1, 2**63, 2**70):
        assert await storage.outbox_row(None, number) is None
        assert await storage.outbox_retry(None, number) is None


async def test_the_way_of_a_message(storage: Storage) -> None:
    """From queued to played, with the time of each step and of the server's word."""
    row = await queued(storage)
    seen = []
    for fact in (
        step(row, "sending", after=1),
        step(row, "sent", after=2),
        receipt(row, after=3),
        receipt(row, status=DeliveryStatus.READ, after=4),
        receipt(row, status=DeliveryStatus.PLAYED, after=5),
    ):
        await tell(storage, fact)
        now = await storage.outbox_row("sales", row.id)
        assert now is not None
        sent_at = now.sent_at and now.sent_at.timestamp() - NOW
        seen.append((now.state, now.updated_at.timestamp() - NOW, sent_at))
    assert seen == [
        ("sending", 1, None),
        ("sent", 2, 2),
        ("delivered", 3, 2),
        ("read", 4, 2),
        ("played", 5, 2),
    ]


async def test_moves_never_go_back(storage: Storage) -> None:
    """Whatever is told late changes nothing; what proves sending outweighs every doubt."""
    row = await queued(storage)
    for state in OutboxState:
        if state is not OutboxState.QUEUED:
            await tell(storage, step(row, state))
            for lower in list(OutboxState)[1 : OUTBOX_RANK[state]]:
                await tell(storage, step(row, lower, reason="late"))
                now = await storage.outbox_row("sales", row.id)
                assert now is not None
                assert (now.state, now.reason) == (state, None)


async def test_the_table_of_the_database_is_ours(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """Both storages rank the states alike."""
    rows = await cluster.sql(
        dsn, "SELECT s, outbox_rank(s) AS rank FROM unnest($1::text[]) s", list(OUTBOX_RANK)
    )
    assert {row["s"]: row["rank"] for row in rows} == OUTBOX_RANK


async def test_receipts_settle_what_a_crash_left(storage: Storage) -> None:
    """unknown becomes delivered by a receipt for its stanza id; a stranger's id changes nothing."""
    row, other = await queued(storage, "k1"), await queued(storage, "k2")
    await queued(storage, "k1", connection="support")
    await tell(storage, step(row, "sending"), step(other, "sending"))
    settled = await storage.settle_interrupted("sales")
    assert [(item.id, item.state, item.reason) for item in settled] == [
        (row.id, "unknown", "interrupted"),
        (other.id, "unknown", "interrupted"),
    ]
    await tell(storage, attrs.evolve(receipt(row), ids=("nothing", row.external_id)))
    assert await state_of(storage, row) == "delivered"
    assert await state_of(storage, other) == "unknown"
    assert await storage.outbox_counts("support") == {"queued": 1}


async def test_only_what_was_being_sent_is_unsure(storage: Storage) -> None:
    """A crash leaves queued messages queued and sent ones sent; a second start changes nothing."""
    rows = [await queued(storage, f"k{number}") for number in range(3)]
    await tell(storage, step(rows[1], "sending"), step(rows[2], "sending"), step(rows[2], "sent"))
    other = await queued(storage, "k9", connection="support")
    await tell(storage, step(other, "sending"), connection="support")
    assert [row.id for row in await storage.settle_interrupted("sales")] == [rows[1].id]
    assert await storage.outbox_counts("support") == {"sending": 1}
    assert await storage.settle_interrupted("sales") == []
    assert [await state_of(storage, row) for row in rows] == ["queued", "unknown", "sent"]


async def test_an_operator_may_send_again(storage: Storage, clock: Clock) -> None:
    """Only what is unknown, in its old place of the queue and under its old stanza id."""
    row, later = await queued(storage, "k1"), await queued(storage, "k2")
    with pytest.raises(StorageRejectedError, match="is queued, not unknown"):
        await storage.outbox_retry("sales", row.id)
    await tell(storage, step(row, "sending"))
    await storage.settle_interrupted("sales")
    assert await storage.outbox_retry("support", row.id) is None
    clock.now += 60
    retried = await storage.outbox_retry(None, row.id)
    assert retried is not None
    assert (retried.state, retried.reason, retried.external_id) == ("queued", None, "3EB0k1")
    assert [item.id for item in await storage.outbox_pending("sales", 5)] == [row.id, later.id]
    await tell(storage, step(row, "sending", after=61), receipt(row, after=62))
    assert await state_of(storage, row) == "delivered"


@pytest.mark.parametrize("state", [state for state in OutboxState if state != "unknown"])
async def test_nothing_else_is_sent_again(storage: Storage, state: OutboxState) -> None:
    """What was never sent needs no order, what was sent or refused takes none."""
    row = await queued(storage)
    if state is not OutboxState.QUEUED:
        await tell(storage, step(row, state))
    with pytest.raises(StorageRejectedError, match=f"is {state}, not unknown"):
        await storage.outbox_retry("sales", row.id)
    assert await state_of(storage, row) == state


async def test_facts_apply_once_and_together(storage: Storage) -> None:
    """The same batch again changes nothing; a batch that is rejected moves nothing."""
    row = await queued(storage)
    batch = [
        Envelope(connection="sales", facts=(step(row, "sending"), step(row, "sent", after=2))),
        Envelope(connection="sales", facts=(receipt(row),)),
    ]
    await storage.apply(batch)
    once = await storage.outbox_row("sales", row.id)
    await storage.apply(batch)
    assert await storage.outbox_row("sales", row.id) == once
    with pytest.raises(StorageRejectedError):
        await storage.apply(
            [
                Envelope(connection="sales", facts=(step(row, "played"),)),
                Envelope(connection="nobody"),
            ]
        )
    assert await storage.outbox_row("sales", row.id) == once


@pytest.mark.parametrize("fact", [{"state": "queued"}, {"state": "odd"}])
async def test_steps_that_cannot_be(storage: Storage, fact: dict[str, object]) -> None:
    """A step to no state, or of no row that can be, is our bug: rejected."""
    row = await queued(storage)
    with pytest.raises(StorageRejectedError):
        await tell(storage, attrs.evolve(step(row, "sending"), **fact))
    await tell(storage, OutboxStep(id=row.id + 1, state="sent", at=NOW))
    assert await state_of(storage, row) == "queued"


async def test_steps_of_another_connection(storage: Storage) -> None:
    """A connection moves its own messages only."""
    row = await queued(storage)
    await tell(storage, step(row, "sent"), receipt(row), connection="support")
    assert await state_of(storage, row) == "queued"


async def test_the_first_payload_stays(storage: Storage) -> None:
    """A message is composed once, and found by its stanza id until it is forgotten."""
    row = await queued(storage)
    sent = await storage.sent_message("sales", row.external_id)
    assert sent is not None
    assert (sent.id, sent.chat, sent.payload) == (row.id, CUSTOMER, None)
    assert await storage.outbox_set_payload("sales", row.id, b"one") == b"one"
    assert await storage.outbox_set_payload("sales", row.id, b"two") == b"one"
    await tell(storage, step(row, "sent"))
    sent = await storage.sent_message("sales", row.external_id)
    assert sent is not None
    assert (sent.state, sent.payload, sent.kind) == ("sent", b"one", "text")
    assert await storage.sent_message("support", row.external_id) is None
    for connection, number in (("support", row.id), ("sales", row.id + 1)):
        with pytest.raises(StorageRejectedError):
            await storage.outbox_set_payload(connection, number, b"x")


async def test_payloads_are_kept_for_a_time(storage: Storage, clock: Clock) -> None:
    """Old ones go, but not what is still to be sent."""
    rows = [await queued(storage, f"k{number}") for number in range(3)]
    clock.now += 100
    rows.append(await queued(storage, "k3"))
    for row in rows:
        await storage.outbox_set_payload("sales", row.id, b"payload")
    await tell(storage, step(rows[0], "sent"), step(rows[1], "sending"), step(rows[3], "sent"))
    assert await storage.forget_payloads(NOW) == 0
    assert await storage.forget_payloads(NOW + 50) == 1
    assert await storage.forget_payloads(NOW + 50) == 0
    kept = [await storage.sent_message("sales", row.external_id) for row in rows]
    assert [sent and sent.payload for sent in kept] == [None, b"payload", b"payload", b"payload"]


async def test_absurd_times(storage: Storage) -> None:
    """A receipt from before or after all time neither fails nor goes astray."""
    row = await queued(storage)
    for at in (1e300, -1e300, float("nan"), float("inf")):
        await tell(storage, attrs.evolve(receipt(row), at=at))
    assert await state_of(storage, row) == "delivered"


async def test_one_key_from_many_tasks(storage: Storage) -> None:
    """However many ask at once, one row is made and all get it."""
    answers = []

    async def ask(number: int) -> None:
        answers.append(await storage.enqueue("sales", "k", REQUEST, external_id=f"A{number}"))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(ask, number)
    assert sum(created for _row, created in answers) == 1
    assert len({row.id for row, _created in answers}) == 1


statuses = st.sampled_from(DeliveryStatus)
facts = st.one_of(
    st.tuples(st.sampled_from(list(OutboxState)[1:]), st.integers(0, 3)),
    st.tuples(statuses, st.integers(0, 3)),
)


@given(told=st.lists(facts, max_size=8), seed=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_any_order_ends_the_same(told: list[tuple[object, int]], seed: int) -> None:
    """Steps and receipts converge: shuffled, doubled, in one batch or in many."""

    async def end(order: list[tuple[object, int]], *, together: bool) -> OutboxRow | None:
        storage = MemoryStorage(Clock())
        await storage.ensure_connection("sales", ConversationRules())
        row = await queued(storage)
        batch = [Envelope(connection="sales", facts=(made(row, *item),)) for item in order]
        for part in [batch] if together else [[item] for item in batch]:
            await storage.apply(part)
        found = await storage.outbox_row("sales", row.id)
        return found and attrs.evolve(found, id=1)

    async def check() -> None:
        expected = await end(told, together=True)
        shuffled = told + told[::2]
        random.Random(seed).shuffle(shuffled)
        assert await end(shuffled, together=False) == expected
        if expected is not None and told:
            assert OUTBOX_RANK[expected.state] == max(
                OUTBOX_RANK[getattr(what, "value", what)] for what, _at in told
            )

    trio.run(check)


def made(row: OutboxRow, what: object, after: int, more: cabc.Sequence[OutboxRow] = ()) -> Fact:
    """The fact that was drawn; a reason is a function of the rest."""
    if isinstance(what, DeliveryStatus):
        return receipt(row, *more, status=what, after=after)
    reason = f"reason {after}" if what == "failed" else None
    return step(row, str(what), after=after, reason=reason)


@attrs.frozen
class Ask:
    """Somebody asks for a message, or asks again under the same key."""

    key: str
    text: str


@attrs.frozen
class Learn:
    """Something is told about messages: a step of the first, or a receipt for all."""

    keys: list[str]
    what: object
    after: int


@attrs.frozen
class Crash:
    """The sender starts after a crash."""


@attrs.frozen
class Retry:
    """An operator wants it sent again."""

    key: str


@attrs.frozen
class Compose:
    """The sender composes the message, and old payloads are forgotten."""

    key: str


KEYS = st.sampled_from(["k1", "k2", "k3"])
lives = st.lists(
    st.one_of(
        st.builds(Ask, KEYS, st.sampled_from(["um", "um", "dois"])),
        facts.flatmap(
            lambda fact: st.builds(
                Learn,
                st.lists(KEYS, min_size=1, max_size=2, unique=True),
                st.just(fact[0]),
                st.just(fact[1]),
            )
        ),
        st.builds(Crash),
        st.builds(Retry, KEYS),
        st.builds(Compose, KEYS),
    ),
    max_size=14,
)


class Life:
    """One storage goes through a life; ``ranks`` is what the rules say of it."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self.storage = storage
        self.clock = clock
        self.rows: dict[str, OutboxRow] = {}
        self.ranks: dict[str, int] = {}

    async def act(self, action: object) -> object:
        """Do it; the answer in a form that both storages share."""
        self.clock.now += 10
        match action:
            case Ask(key=key, text=text):
                return await self.ask(key, text)
            case Learn(keys=keys, what=what, after=after):
                known = [key for key in keys if key in self.rows]
                receipts = isinstance(what, DeliveryStatus)
                for key in known if receipts else known[:1]:
                    rank = OUTBOX_RANK[getattr(what, "value", what)]
                    self.ranks[key] = max(self.ranks[key], rank)
                if known:
                    rows = [self.rows[key] for key in known]
                    await tell(self.storage, made(rows[0], what, after, rows[1:]))
                return None
            case Crash():
                settled = await self.storage.settle_interrupted("sales")
                for row in settled:
                    assert self.ranks[row.key] == OUTBOX_RANK["sending"]
                    self.ranks[row.key] = OUTBOX_RANK["unknown"]
                return [plain(row) for row in settled]
            case Retry(key=key) if key in self.rows:
                return await self.retry(key)
            case Compose(key=key) if key in self.rows:
                row = self.rows[key]
                payload = f"{key} at {self.clock.now}".encode()
                kept = await self.storage.outbox_set_payload("sales", row.id, payload)
                return kept, await self.storage.forget_payloads(self.clock.now - 30)
            case _:
                return None

    async def ask(self, key: str, text: str) -> object:
        request = attrs.evolve(REQUEST, body={"text": text})
        before = self.rows.get(key)
        try:
            row, created = await self.storage.enqueue(
                "sales", key, request, external_id=f"3EB0{key}"
            )
        except StorageRejectedError as error:
            assert before is not None
            assert before.body["text"] != text
            return str(error)
        assert created == (before is None)
        assert before is None or (before.id, before.request) == (row.id, request)
        self.rows.setdefault(key, row)
        self.ranks.setdefault(key, 0)
        return plain(row)

    async def retry(self, key: str) -> object:
        unsure = self.ranks[key] == OUTBOX_RANK["unknown"]
        try:
            row = await self.storage.outbox_retry("sales", self.rows[key].id)
        except StorageRejectedError:
            assert not unsure
            return "refused"
        assert unsure
        self.ranks[key] = 0
        return row and plain(row)

    async def end(self) -> list[object]:
        """Everything there is, after checking it against the rules."""
        found = [await self.storage.outbox_row("sales", row.id) for row in self.rows.values()]
        rows = [row for row in found if row is not None]
        assert {row.key: OUTBOX_RANK[row.state] for row in rows} == self.ranks
        pending = await self.storage.outbox_pending("sales", 9)
        assert [row.key for row in pending] == [key for key in self.rows if self.ranks[key] == 0]
        return [*map(plain, rows), await self.storage.outbox_counts("sales")]


def plain(row: OutboxRow) -> OutboxRow:
    """Ids are each storage's own."""
    return attrs.evolve(row, id=0)


def test_any_life_of_an_outbox(cluster: Cluster) -> None:
    """Both storages agree at every step, and every row has the highest rank it was told."""

    async def live(kind: str, run: list[object]) -> list[object]:
        clock = Clock()
        async with opened_storage(kind, cluster, clock) as storage:
            await storage.ensure_connection("sales", ConversationRules())
            life = Life(storage, clock)
            answers = [await life.act(action) for action in run]
            return [*answers, *await life.end()]

    async def check(run: list[object]) -> None:
        assert await live("memory", run) == await live("postgres", run)

    @settings(max_examples=30, deadline=None)
    @given(run=lives)
    def agree(run: list[object]) -> None:
        trio.run(check, run)

    agree()
