"""What an upgrade would do to a database, told before it is done."""

import pytest
from st_helpers import Cluster

from storage.maintenance import open_maintenance
from storage.migrate import Migration, load_migrations
from storage.outlook import outlook, sentence

COMING = Migration(
    number=len(load_migrations()) + 1,
    name="coming",
    sql="-- Messages learn to sing. More of it.\n--\n-- And more.\n\n"
    "CREATE INDEX songs ON messages (id); -- not chats\n"
    "ALTER TABLE contacts ADD COLUMN voice text, ADD CHECK (voice <> '');\n"
    "ALTER TABLE chats ADD COLUMN song text;\nCREATE TABLE songs (id integer);\n"
    "INSERT INTO songs (id)\nSELECT id FROM media GROUP BY 1;\n",
)


async def test_up_to_date(dsn: str) -> None:
    """Nothing to do."""
    async with open_maintenance(dsn) as session:
        told = await outlook(session)
    assert (told.schema, told.code) == (len(load_migrations()),) * 2
    assert (told.steps, told.functions, told.refused) == ((), False, None)


async def test_nothing_there_yet(cluster: Cluster) -> None:
    """All migrations are to come, and none of them takes long."""
    async with open_maintenance(await cluster.create()) as session:
        told = await outlook(session)
    assert (told.schema, len(told.steps)) == (0, len(load_migrations()))
    assert all(step.sentence and step.seconds == 0 for step in told.steps)


async def test_what_is_pending(cluster: Cluster, dsn: str) -> None:
    """With a sentence, and the tables that are read or written as a whole; nothing is changed."""
    await cluster.sql(dsn, "UPDATE schema_migrations SET checksum = 'older' WHERE number = 0")
    async with open_maintenance(dsn) as session:
        told = await outlook(session, [*load_migrations(), COMING])
    [step] = told.steps
    assert step.sentence == "Messages learn to sing."
    assert step.tables == ("contacts", "media", "messages")
    assert step.bytes > 0
    assert told.functions
    [[there]] = await cluster.sql(dsn, "SELECT to_regclass('songs') IS NOT NULL")
    assert not there


async def test_a_newer_schema(cluster: Cluster, dsn: str) -> None:
    """The same sentence that would refuse it at the start."""
    await cluster.sql(dsn, "INSERT INTO schema_migrations VALUES (9999, 'future', 'x')")
    async with open_maintenance(dsn) as session:
        told = await outlook(session)
    assert told.refused is not None
    assert "schema 9999" in told.refused


@pytest.mark.parametrize("migration", load_migrations(), ids=lambda each: each.name)
def test_every_migration_says_what_it_does(migration: Migration) -> None:
    """In its first comment."""
    assert 10 < len(sentence(migration.sql)) < 200
