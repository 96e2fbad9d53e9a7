"""What was forgotten does not come back with an archive."""

import collections.abc as cabc
import datetime as dt

import attrs
from st_archive import AllFiles, Each, archive_of, fill, read
from st_helpers import CUSTOMER, CUSTOMER_LID, GROUP, OTHER, Clock, Cluster

from storage.archive_import import import_records
from storage.archive_records import Contact, Group, Message, Name, Record
from storage.archive_sieve import sieve
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


async def test_a_forgotten_person_stays_forgotten(
    postgres: PostgresStorage, cluster: Cluster, clock: Clock, dsn: str
) -> None:
    """Nothing of them is stored; everybody else's is, and nothing is refused for want of theirs."""
    await fill(postgres, clock)
    found = await read(dsn)
    other = await cluster.create("migrated")
    stones = Stones((CUSTOMER, CUSTOMER_LID))
    async with open_maintenance(other) as session:
        counts = await import_records(
            session, None, Each(found), files=AllFiles(), forgotten=stones
        )
    assert counts.refused == 0, counts.refusals
    assert counts.forgotten > 0
    archive = (await archive_of(other)).decode()
    assert CUSTOMER not in archive
    assert CUSTOMER_LID not in archive
    kept = [
        record.external_id
        for record in await read(other)
        if isinstance(record, Message) and record.connection == "sales"
    ]
    assert kept == ["lost", "G2", "again"]


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
