"""History, app state and device lists: facts move them forward, once, on both storages."""

import datetime as dt
import random
import typing as t

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from st_helpers import CUSTOMER, GROUP, KEY, NOW, OTHER, Clock, Cluster
from st_queues import tell

from storage.api import ConversationRules, Envelope, Storage
from storage.errors import SealError, StorageRejectedError
from storage.facts import (
    AppStateStep,
    DeviceList,
    HistoryChatCount,
    HistoryOffered,
    HistoryStep,
)
from storage.memory import MemoryStorage
from storage.postgres import PostgresStorage
from storage.queues import HistoryOverview, HistoryProgress

SECRET = b"a notification that holds a media key"


def offer(key: str = "h1", **fields: t.Any) -> HistoryOffered:
    """The phone offers a chunk."""
    defaults: dict[str, t.Any] = {
        "notification": SECRET,
        "sync_type": "recent",
        "chunk_order": 1,
        "progress": 20,
    }
    return HistoryOffered(key=key, **{**defaults, **fields})


def moved(position: int, state: str = "importing", *, key: str = "h1", **fields: t.Any) -> t.Any:
    """So far the import of that chunk is."""
    return HistoryStep(key=key, state=state, position=position, total=100, **fields)


def counts(stored: int, *, chat: str = CUSTOMER, duplicate: int = 0) -> tuple[HistoryChatCount]:
    """What one step adds for one chat."""
    return (
        HistoryChatCount(chat=chat, offered=stored + duplicate, stored=stored, duplicate=duplicate),
    )


async def test_an_offer_waits_until_it_is_done(storage: Storage, clock: Clock) -> None:
    """It is offered once, opened for its importer, and gone from the list when imported."""
    await tell(storage, offer(request_id="r1"))
    clock.now += 60
    await tell(storage, offer(notification=b"other", progress=90))
    [chunk] = await storage.history_pending("sales", 9)
    assert (chunk.connection, chunk.key, chunk.notification) == ("sales", "h1", SECRET)
    assert (chunk.sync_type, chunk.chunk_order, chunk.progress) == ("recent", 1, 20)
    assert (chunk.request_id, chunk.state, chunk.position) == ("r1", "pending", 0)
    assert chunk.offered_at == dt.datetime.fromtimestamp(NOW, dt.UTC)
    await tell(storage, moved(64))
    [chunk] = await storage.history_pending(None, 9)
    assert (chunk.state, chunk.position) == ("importing", 64)
    await tell(storage, moved(100, "done"))
    assert await storage.history_pending("sales", 9) == []
    await tell(storage, offer())
    assert await storage.history_pending("sales", 9) == []


async def test_what_was_asked_for_comes_first(storage: Storage) -> None:
    """Then the order of the offers; each connection's or all."""
    await tell(storage, offer("h1"), offer("h2", chunk_order=0), offer("h3"))
    await tell(storage, offer("h1", sync_type="on_demand"), connection="support")
    await tell(storage, offer("h4", sync_type="on_demand"))
    everything = await storage.history_pending(None, 9)
    assert [(chunk.connection, chunk.key) for chunk in everything] == [
        ("support", "h1"),
        ("sales", "h4"),
        ("sales", "h1"),
        ("sales", "h2"),
        ("sales", "h3"),
    ]
    assert await storage.history_pending(None, 2) == everything[:2]
    assert [chunk.key for chunk in await storage.history_pending("sales", 2)] == ["h4", "h1"]


async def test_progress(storage: Storage, clock: Clock) -> None:
    """Percent as the phone counts, messages, chunks by state, messages by chat, errors."""
    nothing = HistoryProgress(
        connection="sales",
        percent=None,
        position=0,
        total=0,
        chunks={"pending": 0, "importing": 0, "done": 0, "failed": 0},
        chats=(),
        errors=(),
    )
    assert await storage.history_progress("sales") == nothing
    assert await storage.history_progress("nobody") == attrs.evolve(nothing, connection="nobody")
    await tell(
        storage,
        offer("h1"),
        offer("h2", progress=60),
        offer("h3", progress=100),
        offer("h4", progress=100, sync_type="push_name"),
        offer("h5", progress=100, sync_type="on_demand"),
        offer("h6"),
    )
    await tell(storage, moved(64, counts=counts(60, duplicate=4)))
    await tell(storage, moved(100, "done", counts=(*counts(30), *counts(6, chat=GROUP))))
    await tell(storage, moved(100, "done", key="h2"), moved(10, key="h3"))
    await tell(storage, moved(0, "done", key="h4"), moved(0, "done", key="h5"))
    clock.now += 1
    await tell(storage, moved(0, "failed", key="h6", error="the file\0is gone"))
    assert await storage.history_progress("sales") == HistoryProgress(
        connection="sales",
        percent=60,
        position=210,
        total=600,
        chunks={"pending": 0, "importing": 1, "done": 4, "failed": 1},
        chats=(
            HistoryChatCount(chat=GROUP, offered=6, stored=6),
            HistoryChatCount(chat=CUSTOMER, offered=94, stored=90, duplicate=4),
        ),
        errors=("the file␀is gone",),
    )
    assert await storage.history_overview() == [
        HistoryOverview(connection="sales", percent=60, messages=210, waiting=1, failed=1)
    ]


async def test_a_step_counts_once(storage: Storage) -> None:
    """A batch applied again, or a step that is late, adds nothing and moves nothing back."""
    await tell(storage, offer())
    steps = [moved(0), moved(64, counts=counts(64)), moved(90, counts=counts(26))]
    for told in (*steps, *steps, steps[1]):
        await tell(storage, told)
    await storage.apply([Envelope(connection="sales", facts=tuple(steps))] * 2)
    progress = await storage.history_progress("sales")
    assert (progress.position, progress.chats[0].stored) == (90, 90)
    end = moved(100, "done", counts=counts(10))
    for told in (end, end, *steps, moved(100, "failed", error="late")):
        await tell(storage, told)
    progress = await storage.history_progress("sales")
    assert (progress.position, progress.chats[0].stored) == (100, 100)
    assert progress.chunks["done"] == 1
    assert progress.errors == ()


async def test_failed_chunks_are_tried_again_by_order_only(storage: Storage) -> None:
    """They go on where they stopped; those that are done stay so."""
    await tell(storage, offer("h1"), offer("h2"), moved(64), moved(100, "done", key="h2"))
    await tell(storage, moved(64, "failed", error="gone"))
    await tell(storage, moved(80))
    assert await storage.history_pending("sales", 9) == []
    assert await storage.history_retry("support") == 0
    assert await storage.history_retry("sales") == 1
    [chunk] = await storage.history_pending("sales", 9)
    assert (chunk.key, chunk.state, chunk.position) == ("h1", "pending", 64)
    assert (await storage.history_progress("sales")).errors == ()
    await tell(storage, moved(100, "done"))
    assert (await storage.history_progress("sales")).chunks["done"] == 2


async def test_steps_of_unknown_chunks(storage: Storage) -> None:
    """They change nothing; a state that there is not is our bug."""
    await tell(storage, moved(5, counts=counts(5)))
    assert (await storage.history_progress("sales")).chats == ()
    for state in ("pending", "odd"):
        with pytest.raises(StorageRejectedError):
            await tell(storage, moved(5, state))


async def test_notifications_are_sealed(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """The media key in it is not readable at rest, opens only where it belongs, and goes."""
    await tell(postgres, offer())
    [row] = await cluster.sql(dsn, "SELECT sealed FROM history_chunks")
    assert SECRET not in row["sealed"]
    await cluster.sql(dsn, "UPDATE history_chunks SET key = 'h2'")
    with pytest.raises(SealError, match="history"):
        await postgres.history_pending("sales", 9)
    await tell(postgres, moved(0, "done", key="h2"))
    assert await cluster.sql(dsn, "SELECT sealed FROM history_chunks") == [(None,)]


async def test_an_import_survives_a_new_start(
    postgres: PostgresStorage, dsn: str, clock: Clock
) -> None:
    """Another daemon on the same database goes on where this one was killed."""
    await tell(postgres, offer(), moved(64, counts=counts(64)))
    async with PostgresStorage.open(dsn, key=KEY, clock=clock) as again:
        assert await again.history_pending(None, 9) == await postgres.history_pending(None, 9)
        await tell(again, moved(64, counts=counts(64)), moved(100, "done", counts=counts(36)))
        progress = await again.history_progress("sales")
    assert progress == await postgres.history_progress("sales")
    assert progress.chats[0].stored == 100


chunk_steps = st.lists(
    st.tuples(st.sampled_from(["importing", "importing", "done", "failed"]), st.integers(0, 3)),
    max_size=8,
)


def test_imports_agree_in_any_order(cluster: Cluster) -> None:
    """Both storages count the same steps, repeated and shuffled, alike."""

    async def end(storage: Storage, told: list[tuple[str, int]]) -> object:
        await storage.ensure_connection("sales", ConversationRules())
        await tell(storage, offer())
        for state, position in told:
            await tell(storage, moved(position, state, counts=counts(1), error=state))
        pending = await storage.history_pending("sales", 9)
        return [(chunk.state, chunk.position) for chunk in pending], await storage.history_progress(
            "sales"
        )

    async def check(told: list[tuple[str, int]]) -> None:
        clock = Clock()
        expected = await end(MemoryStorage(clock), told)
        dsn = await cluster.create("migrated")
        async with PostgresStorage.open(dsn, key=KEY, pool_size=1, clock=clock) as postgres:
            assert await end(postgres, told) == expected

    @settings(max_examples=20, deadline=None)
    @given(told=chunk_steps)
    def agree(told: list[tuple[str, int]]) -> None:
        trio.run(check, told)

    agree()


def patch(version: int, *, collection: str = "regular", **fields: t.Any) -> AppStateStep:
    """A verified patch, or a snapshot with ``reset``."""
    return AppStateStep(
        collection=collection, version=version, hash=bytes([version]) * 128, **fields
    )


def devices(account: str, numbers: tuple[int, ...], at: float) -> DeviceList:
    """The devices of an account, as heard at that time."""
    return DeviceList(account=account, devices=numbers, at=at)


A, B, C = (letter * 32 for letter in (b"a", b"b", b"c"))


async def values(storage: Storage, collection: str = "regular") -> dict[bytes, bytes]:
    """All MACs that the tests use."""
    return await storage.app_state_values("sales", collection, [A, B, C])


async def test_app_state_moves_forward(storage: Storage) -> None:
    """Version, hash and MACs change together; an older patch changes nothing."""
    assert await storage.app_state("sales", "regular") is None
    await tell(storage, patch(3, reset=True, values=((A, b"1"), (B, b"2"))))
    assert await storage.app_state("sales", "regular") == (3, b"\3" * 128)
    assert await values(storage) == {A: b"1", B: b"2"}
    await tell(storage, patch(4, values=((C, b"3"), (A, b"4")), removed=(B,)))
    for late in (patch(4, values=((A, b"x"),)), patch(2, removed=(A, C))):
        await tell(storage, late)
    assert await storage.app_state("sales", "regular") == (4, b"\4" * 128)
    assert await values(storage) == {A: b"4", C: b"3"}
    assert await storage.app_state_values("sales", "regular", [A]) == {A: b"4"}
    assert await storage.app_state_values("sales", "regular", []) == {}
    assert await values(storage, "critical_block") == {}
    assert await storage.app_state("support", "regular") is None


async def test_a_snapshot_replaces_everything(storage: Storage) -> None:
    """Whatever its version; other collections and connections keep theirs."""
    await tell(storage, patch(9, values=((A, b"1"),)), patch(1, collection="other"))
    await tell(storage, patch(9, values=((A, b"9"),)), connection="support")
    await tell(storage, patch(5, reset=True, values=((B, b"2"),)))
    assert await storage.app_state("sales", "regular") == (5, b"\5" * 128)
    assert await values(storage) == {B: b"2"}
    await tell(storage, patch(6, reset=True))
    assert await values(storage) == {}
    assert await storage.app_state("sales", "other") == (1, b"\1" * 128)
    assert await storage.app_state_values("support", "regular", [A]) == {A: b"9"}


async def test_steps_of_one_batch_in_order(storage: Storage) -> None:
    """A snapshot and its patches in one envelope end as one by one; twice as once."""
    facts = (
        patch(1, reset=True, values=((A, b"1"), (B, b"1"))),
        patch(2, removed=(A,), values=((C, b"2"),)),
        patch(3, removed=(C,), values=((A, b"3"),)),
    )
    for _ in range(2):
        await tell(storage, *facts)
        assert await values(storage) == {A: b"3", B: b"1"}
        assert await storage.app_state("sales", "regular") == (3, b"\3" * 128)


async def test_a_large_snapshot(storage: Storage) -> None:
    """Thousands of contacts commit in one go, in reasonable time."""
    macs = tuple((number.to_bytes(32, "big"), bytes([number % 251])) for number in range(8_000))
    with trio.fail_after(20):
        await tell(storage, patch(1, reset=True, values=macs), patch(2, removed=(macs[7][0],)))
    asked = [index for index, _value in macs[:4_000]]
    found = await storage.app_state_values("sales", "regular", asked)
    assert found == dict(macs[:7] + macs[8:4_000])


async def test_the_newest_device_list_counts(storage: Storage) -> None:
    """An older one changes nothing; of two at one time the later told; none: ask again."""
    assert await storage.device_lists("sales", [CUSTOMER]) == {}
    await tell(storage, devices(CUSTOMER, (0, 5, 3, 5), NOW - 10))
    await tell(storage, devices(CUSTOMER, (0,), NOW - 20))
    assert await storage.device_lists("sales", [CUSTOMER, OTHER]) == {CUSTOMER: (0, 3, 5)}
    await tell(storage, devices(CUSTOMER, (0, 7), NOW - 10), devices(OTHER, (0,), NOW - 10))
    assert await storage.device_lists("sales", [CUSTOMER, OTHER]) == {
        CUSTOMER: (0, 7),
        OTHER: (0,),
    }
    await tell(storage, devices(CUSTOMER, (), NOW))
    assert await storage.device_lists("sales", [CUSTOMER]) == {CUSTOMER: ()}
    assert await storage.device_lists("support", [CUSTOMER]) == {}
    assert await storage.device_lists("sales", []) == {}


async def test_a_new_device_starts_anew(storage: Storage) -> None:
    """App state and device lists go with the old device; history and other connections stay."""
    device, state = devices(CUSTOMER, (0,), NOW), patch(1, values=((A, b"1"),))
    for connection in ("sales", "support"):
        await tell(storage, device, state, offer(), connection=connection)
    await tell(storage, reset_records=True)
    assert await storage.app_state("sales", "regular") is None
    assert await values(storage) == {}
    assert await storage.device_lists("sales", [CUSTOMER]) == {}
    assert len(await storage.history_pending("sales", 9)) == 1
    assert await storage.device_lists("support", [CUSTOMER]) == {CUSTOMER: (0,)}
    assert await storage.app_state_values("support", "regular", [A]) == {A: b"1"}
    await tell(storage, device, patch(1, values=((B, b"2"),)), reset_records=True)
    assert await values(storage) == {B: b"2"}
    assert await storage.device_lists("sales", [CUSTOMER]) == {CUSTOMER: (0,)}


async def test_what_the_old_device_knew_in_the_same_batch(storage: Storage) -> None:
    """A reset forgets what envelopes before it said, also within one batch."""
    before = (patch(9, values=((A, b"1"),)), devices(OTHER, (1,), NOW))
    after = patch(2, values=((B, b"2"),))
    await storage.apply(
        [
            Envelope(connection="sales", facts=before),
            Envelope(connection="sales", reset_records=True, facts=(after,)),
        ]
    )
    assert await storage.app_state("sales", "regular") == (2, b"\2" * 128)
    assert await values(storage) == {B: b"2"}
    assert await storage.device_lists("sales", [OTHER]) == {}


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_patches_converge_to_the_newest_version(seed: int) -> None:
    """Replayed batches of a prefix never undo a later version."""

    async def check() -> None:
        storage = MemoryStorage(Clock())
        await storage.ensure_connection("sales", ConversationRules())
        chance = random.Random(seed)
        patches = [patch(number, values=((A, bytes([number])),)) for number in range(1, 6)]
        for newest in range(5):
            await tell(storage, *patches[chance.randrange(newest + 1) : newest + 1])
            assert await values(storage) == {A: bytes([newest + 1])}

    trio.run(check)
