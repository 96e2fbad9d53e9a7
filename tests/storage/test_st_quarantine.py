"""The quarantine: what is kept, and how it gets out again."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from st_helpers import CUSTOMER, NOW, Clock, Cluster, envelope, message, take

from storage.api import (
    Envelope,
    Lane,
    MediaFile,
    ReceivedMessage,
    RecordChange,
    RecordKind,
    Storage,
    Verdict,
)
from storage.errors import StorageRejectedError
from storage.kept import keep_message, kept_message
from storage.postgres import PostgresStorage
from whatsapp.binary import codec
from whatsapp.node import Node

SESSION = RecordChange(RecordKind.SESSION, "1555.0", b"stepped")


async def rows_of(storage: Storage, connection: str = "sales") -> tuple[int, int]:
    """Open rows, and the count that the status shows."""
    [row] = [each for each in await storage.connections() if each.name == connection]
    return len(await storage.quarantined(connection)), row.quarantined


async def poison(storage: Storage, external_id: str = "A1", **fields: object) -> int:
    """A message in the quarantine; the number of its row."""
    item = envelope(external_id, records=(SESSION,), sender_name="Ana", **fields)
    await storage.quarantine(item, "refused")
    return (await storage.quarantined("sales"))[0].id


async def again(storage: Storage, row_id: int) -> Envelope:
    """What stores the message of a row, as it is kept."""
    found = await storage.quarantined_stanza(row_id)
    assert found is not None
    assert found.message is not None
    return Envelope(
        connection=found.row.connection, message=found.message, stanza=found.stanza, resolves=row_id
    )


async def test_what_is_kept(storage: Storage, clock: Clock) -> None:
    """All that was read, and that its keys are used; newest first, by connection."""
    first = await poison(storage, raw=b"\x00raw")
    clock.now = NOW + 10
    await storage.quarantine(Envelope(connection="support", stanza=b"\xff\x01"), "unreadable")
    [support, sales] = await storage.quarantined()
    assert (sales.id, sales.connection, sales.chat, sales.external_id) == (
        first,
        "sales",
        CUSTOMER,
        "A1",
    )
    assert (sales.error, sales.attempts, sales.stanza_bytes) == ("refused", 1, 6)
    assert (sales.kept, sales.opened, sales.way_out) == (True, True, "message")
    assert (support.kept, support.opened, support.way_out) == (False, False, "stanza")
    found = await storage.quarantined_stanza(first)
    assert found is not None
    assert found.message == message("A1", sender_name="Ana", raw=b"\x00raw")
    assert found.stanza == b"stanza"
    assert [row.id for row in await storage.quarantined(before=support.id)] == [first]
    assert await storage.quarantined_stanza(2**63) is None
    assert await storage.quarantined_stanza(support.id + 99) is None


@pytest.mark.parametrize("lane", list(Lane))
async def test_stored_after_all(storage: Storage, clock: Clock, lane: Lane) -> None:
    """In one go with the mark that it is resolved; counts fall; the row stays as a record."""
    row_id = await poison(storage, lane=lane, text="guardada")
    assert await rows_of(storage) == (1, 1)
    clock.now = NOW + 60
    outcome = await storage.resolve(await again(storage, row_id))
    assert (outcome.verdict, outcome.resolved) == (Verdict.STORED, True)
    assert await rows_of(storage) == (0, 0)
    [row] = await storage.quarantined(resolved=True)
    assert (row.way_out, row.resolution, row.message_id, row.attempts) == (
        "resolved",
        "stored",
        outcome.message_id,
        2,
    )
    assert row.resolved_at is not None
    assert row.resolved_at.timestamp() == NOW + 60
    [stored] = await storage.list_messages("sales", after=0, limit=9)
    assert (stored.id, stored.text) == (outcome.message_id, "guardada")


async def test_a_second_time_changes_nothing(storage: Storage) -> None:
    """Nor does a copy that is delivered again, before or after."""
    row_id = await poison(storage)
    item = await again(storage, row_id)
    first = await storage.resolve(item)
    second = await storage.resolve(item)
    assert (second.verdict, second.message_id, second.resolved) == (
        Verdict.DUPLICATE,
        first.message_id,
        False,
    )
    assert (await take(storage, "A1")).verdict is Verdict.DUPLICATE
    assert await rows_of(storage) == (0, 0)
    assert len(await storage.list_messages("sales", after=0, limit=9)) == 1


async def test_it_came_another_way(storage: Storage) -> None:
    """A copy was stored meanwhile: the row is resolved as the duplicate that it is."""
    row_id = await poison(storage)
    stored = await take(storage, "A1")
    outcome = await storage.resolve(await again(storage, row_id))
    assert (outcome.verdict, outcome.message_id, outcome.resolved) == (
        Verdict.DUPLICATE,
        stored.message_id,
        True,
    )
    [row] = await storage.quarantined(resolved=True)
    assert (row.resolution, row.message_id) == ("duplicate", stored.message_id)
    assert await rows_of(storage) == (0, 0)


async def test_refused_again(storage: Storage, clock: Clock) -> None:
    """One more attempt with its own error; nothing else changes."""
    row_id = await poison(storage)
    item = await again(storage, row_id)
    assert item.message is not None
    bad = attrs.evolve(item, message=attrs.evolve(item.message, sender=""))
    with pytest.raises(StorageRejectedError):
        await storage.resolve(bad)
    clock.now = NOW + 5
    await storage.quarantine(bad, "refused for another reason")
    [row] = await storage.quarantined()
    assert (row.id, row.attempts, row.error) == (row_id, 2, "refused for another reason")
    assert row.last_attempt_at.timestamp() == NOW + 5
    assert row.received_at.timestamp() == NOW
    assert await rows_of(storage) == (1, 1)


async def test_a_stanza_that_reads_now_but_is_refused(storage: Storage) -> None:
    """Once it is opened its keys are used: from then on it is the message that is kept."""
    await storage.quarantine(Envelope(connection="sales", stanza=b"node"), "malformed")
    [row] = await storage.quarantined()
    read = envelope("A1", records=(SESSION,), raw=b"plain")
    await storage.quarantine(
        attrs.evolve(read, stanza=b"node", resolves=row.id), "refused by the database"
    )
    [now] = await storage.quarantined()
    assert (now.id, now.attempts, now.kept, now.opened) == (row.id, 2, True, True)
    outcome = await storage.resolve(await again(storage, row.id))
    assert outcome.verdict is Verdict.STORED
    [stored] = await storage.list_messages("sales", after=0, limit=9)
    assert stored.external_id == "A1"


async def test_a_stanza_without_a_message(storage: Storage) -> None:
    """What it changes commits with the mark."""
    await storage.quarantine(Envelope(connection="sales", stanza=b"node"), "malformed")
    [row] = await storage.quarantined()
    outcome = await storage.resolve(
        Envelope(connection="sales", records=(SESSION,), resolves=row.id)
    )
    assert (outcome.verdict, outcome.resolved) == (Verdict.RECORDED, True)
    assert await storage.load_records("sales", RecordKind.SESSION, ["1555.0"])
    [row] = await storage.quarantined(resolved=True)
    assert (row.resolution, row.message_id) == ("recorded", None)


async def test_a_redelivery_is_the_same_stanza(storage: Storage) -> None:
    """Wherever it stands in the offline queue, or when it comes at once."""

    async def come(**told: str) -> None:
        node = Node("message", {"from": CUSTOMER, "id": "A1", **told})
        item = Envelope(connection="sales", stanza=codec.encode(node))
        await storage.quarantine(item, "malformed")

    await come(offline="7")
    await come(offline="2")
    await come()
    [row] = await storage.quarantined()
    assert row.attempts == 3
    await come(participant=CUSTOMER)
    assert len(await storage.quarantined()) == 2


async def test_of_another_connection(storage: Storage) -> None:
    """The numbers of one connection's rows mean nothing to another one."""
    row_id = await poison(storage)
    item = attrs.evolve(await again(storage, row_id), connection="support")
    outcome = await storage.resolve(item)
    assert outcome.resolved is False
    assert await rows_of(storage) == (1, 1)
    assert await rows_of(storage, "support") == (0, 0)


async def test_all_or_nothing(postgres: PostgresStorage, cluster: Cluster, dsn: str) -> None:
    """When the mark cannot be set, the message is not stored either."""
    row_id = await poison(postgres)
    await cluster.script(dsn, "ALTER TABLE quarantine ADD CHECK (resolved_at IS NULL) NOT VALID")
    with pytest.raises(StorageRejectedError):
        await postgres.resolve(await again(postgres, row_id))
    assert await postgres.list_messages("sales", after=0, limit=9) == []
    assert await rows_of(postgres) == (1, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5
)


@given(
    text=st.none() | st.text(st.characters()),
    name=st.text(st.characters(codec=None)),
    sent_at=st.integers(),
    detail=st.dictionaries(st.text(), JSON.filter(lambda value: value == value), max_size=3),
    raw=st.binary(),
    media=st.none() | st.builds(MediaFile, kind=st.text(), sha256=st.binary()),
    mentions=st.lists(st.text()).map(tuple),
    lane=st.sampled_from(Lane),
)
def test_any_message_can_be_kept(raw: bytes, name: str, **fields: object) -> None:
    """Also one with lone surrogates, NUL characters and absurd numbers."""
    whole = message("A1", raw=raw, sender_name=name, **fields)
    kept = keep_message(whole)
    assert kept is not None
    assert kept.isascii()
    back = kept_message(kept, raw)
    assert isinstance(back, ReceivedMessage)
    assert keep_message(back) == kept
    assert attrs.evolve(back, detail={}) == attrs.evolve(whole, detail={})


def test_a_detail_that_is_no_json_is_left_out() -> None:
    """The raw bytes have it."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for detail in ({"x": object()}, {"x": deep}, {"x": 10**5000}):
        kept = keep_message(message("A1", detail=detail))
        assert kept is not None
        assert kept_message(kept, b"raw") == message("A1")
