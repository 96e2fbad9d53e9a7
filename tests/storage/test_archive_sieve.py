"""What was forgotten does not come back with an archive."""

import collections.abc as cabc
import datetime as dt

import attrs
import pytest
from st_archive import AllFiles, Each, archive_of, fill, read
from st_helpers import CUSTOMER, CUSTOMER_LID, GROUP, KEY, OTHER, Clock, Cluster

from storage import archive_import
from storage.archive_import import import_records
from storage.archive_records import Contact, Group, Message, Name, Record
from storage.archive_sieve import sieve
from storage.errors import StorageRejectedError
from storage.maintenance import open_maintenance
from storage.postgres import PostgresStorage

THEN = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


@attrs.frozen
class Stones:
    """Some addresses, forgotten at a moment."""

    addresses: tuple[str, ...]
    at: dt.datetime = THEN

    def forgets(self, connection: str, addresses: cabc.Iterable[str | None], at: float) -> bool:
        return at <= self.at.timestamp() and any(each in self.addresses for each in addresses)


@pytest.fixture
async def elsewhere(
    postgres: PostgresStorage, cluster: Cluster, clock: Clock, dsn: str
) -> tuple[list[Record], str]:
    """All that was exported, and a database which has it, too."""
    await fill(postgres, clock)
    found = await read(dsn)
    other = await cluster.create("migrated")
    async with open_maintenance(other) as session:
        await import_records(session, None, Each(found), files=AllFiles(), key=KEY)
    return found, other


async def forget(dsn: str, clock: Clock) -> None:
    """The customer, wholly."""
    clock.now = THEN.timestamp()
    async with PostgresStorage.open(dsn, key=KEY, clock=clock) as storage:
        row = await storage.begin_erasure(address=CUSTOMER, connection=None, by="x", version="1")
        assert row is not None
        while row.finished_at is None:
            row = await storage.continue_erasure(row.id, files_gone=True)


async def check_gone(dsn: str) -> None:
    """Nothing of the customer is there, and all of the others."""
    archive = (await archive_of(dsn)).decode()
    assert CUSTOMER not in archive
    assert CUSTOMER_LID not in archive
    kept = [
        record.external_id
        for record in await read(dsn)
        if isinstance(record, Message) and record.connection == "sales" and record.text
    ]
    assert {"G2", "again"} <= set(kept)


async def test_a_forgotten_person_stays_forgotten(
    elsewhere: tuple[list[Record], str], clock: Clock
) -> None:
    """An older archive brings nothing of theirs back; everybody else's is there, and nothing is
    refused for want of theirs. Without the key nothing is imported at all."""
    found, other = elsewhere
    await forget(other, clock)
    async with open_maintenance(other) as session:
        counts = await import_records(session, None, Each(found), files=AllFiles(), key=KEY)
        with pytest.raises(StorageRejectedError, match="secret key"):
            await import_records(session, None, Each(found), files=AllFiles())
    assert counts.refused == 0, counts.refusals
    assert counts.forgotten > 0
    await check_gone(other)


async def test_forgotten_while_an_archive_is_imported(
    elsewhere: tuple[list[Record], str], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order comes between any two batches: what is left of the archive is sieved anew, and
    files of theirs that were brought are given up."""
    found, other = elsewhere
    monkeypatch.setattr(archive_import, "BATCH", 3)

    async def ordered() -> cabc.AsyncIterator[Record]:
        for number, record in enumerate(found):
            if number == 4:
                await forget(other, clock)
            yield record

    async with open_maintenance(other) as session:
        counts = await import_records(session, None, ordered(), files=AllFiles(), key=KEY)
    assert counts.forgotten > 0
    await check_gone(other)


def test_whom_a_message_names_is_left_out() -> None:
    """In its text and its bytes, too."""
    message = Message(
        connection="sales", chat_kind="direct", chat=OTHER, sender=OTHER, external_id="B1",
        kind="text", state="stored", from_me=False, lane="live", remote_timestamp=1, sent_at=THEN,
        received_at=THEN, retries=0, text=f"ask {CUSTOMER.partition('@')[0]}",
        raw=CUSTOMER.encode(), mentions=(CUSTOMER,), detail={"to": CUSTOMER},
    )  # fmt: skip
    kept = sieve(message, "sales", Stones((CUSTOMER,)))
    assert isinstance(kept, Message)
    assert (kept.text, kept.mentions) == ("ask removed", None)
    assert CUSTOMER.partition("@")[0] not in repr(attrs.asdict(kept))


async def test_what_is_younger_is_taken(postgres: PostgresStorage, clock: Clock, dsn: str) -> None:
    """A person who has come back since is somebody again."""
    await fill(postgres, clock)
    found = await read(dsn)
    stones = Stones((CUSTOMER, CUSTOMER_LID), dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    old = [record for record in found if sieve(record, "sales", stones) != record]
    assert old == []


def test_names_and_members_are_left_out_one_by_one() -> None:
    """Of a record of several people, or times, the rest stays."""
    young = THEN + dt.timedelta(days=1)
    contact = Contact(
        connection="sales",
        is_self=False,
        created_at=young,
        addresses=(),
        names=(
            Name(address=CUSTOMER, source="push", name="Ana", at=THEN),
            Name(address=CUSTOMER, source="saved", name="Ana S.", at=young),
        ),
    )
    kept = sieve(contact, "sales", Stones((CUSTOMER,)))
    assert isinstance(kept, Contact)
    assert [each.name for each in kept.names] == ["Ana S."]
    group: Record = Group(connection="sales", address=GROUP, owner=CUSTOMER, members=())
    kept_group = sieve(group, "sales", Stones((CUSTOMER,)))
    assert isinstance(kept_group, Group)
    assert kept_group.owner is None
    assert sieve(group, "sales", Stones((OTHER,))) == group
