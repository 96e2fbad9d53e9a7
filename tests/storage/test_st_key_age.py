"""Whether what is put back has older keys: what tells it, and what a restore makes of it."""

import datetime as dt
import pathlib
import typing as t

import attrs
import pytest
import trio
from st_helpers import KEY, Cluster, envelope

from storage.api import Envelope, RecordChange, RecordKind
from storage.backup import back_up, check_backup, put_back
from storage.backup_file import Draft, Manifest
from storage.epochs import Epoch
from storage.key_age import Age, KeyFacts, age_of, key_facts
from storage.maintenance import open_maintenance
from storage.migrate import load_migrations
from storage.postgres import PostgresStorage
from storage.queries import queries

MADE = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LATER = MADE + dt.timedelta(seconds=1)
MANIFEST = Manifest(
    version="1",
    created_at="",
    schema=19,
    server="18",
    program=18,
    rows={"device_identity": 1},
    key=None,
    database="A",
    epoch=5,
    keys_at=MADE.isoformat(),
    live=False,
)


def present(**facts: t.Any) -> KeyFacts:
    return KeyFacts(**({"database": "A", "epoch": 5, "keys_at": MADE} | facts))


@pytest.mark.parametrize(
    ("manifest", "there", "remembered", "older", "epoch"),
    [
        # The same database tells by its keys, whatever its epoch.
        ({}, present(), None, False, 5),
        ({}, present(epoch=9), Epoch(database="A", epoch=9), False, 9),
        ({}, present(keys_at=LATER, epoch=9), Epoch(database="A", epoch=9), True, 9),
        ({}, present(keys_at=LATER), None, True, 5),
        ({"live": True}, present(), None, False, 5),
        ({"keys_at": None}, present(), None, True, 5),
        # One that is older itself tells nothing.
        ({}, present(), Epoch(database="A", epoch=6), True, 6),
        ({}, present(stale=True), None, True, 5),
        # Another one, or none: what is remembered, else whether a daemon was at work.
        ({}, KeyFacts(), Epoch(database="A", epoch=6), True, 6),
        ({}, KeyFacts(), Epoch(database="A", epoch=5), False, 5),
        ({}, KeyFacts(), Epoch(database="B", epoch=99), False, 5),
        ({}, present(database="B", epoch=99, keys_at=LATER), None, False, 5),
        ({"live": True}, KeyFacts(), Epoch(database="A", epoch=5), True, 5),
        ({"live": True}, KeyFacts(), None, True, 5),
        # Of older versions nothing is known.
        ({"database": None, "live": True, "keys_at": None}, KeyFacts(), None, True, 5),
        # Nobody is linked: there are no keys that could be older.
        ({"live": True, "rows": {"device_identity": 0}}, KeyFacts(), None, False, 5),
        ({"live": True, "rows": {}}, present(keys_at=LATER), None, False, 5),
    ],
)
def test_what_tells(
    manifest: dict[str, t.Any],
    there: KeyFacts,
    remembered: Epoch | None,
    older: bool,
    epoch: int,
) -> None:
    """Case by case."""
    age = age_of(attrs.evolve(MANIFEST, **manifest), there, remembered)
    assert (age.older, age.epoch) == (older, epoch)
    assert age.because


async def saved(dsn: str, path: pathlib.Path) -> Manifest:
    with Draft(path) as draft:
        async with open_maintenance(dsn) as session:
            made = await back_up(session, draft.file, version="1", created_at="", key=None)
        return await trio.to_thread.run_sync(draft.publish, made)


async def restored(dsn: str, path: pathlib.Path, age: Age) -> None:
    with path.open("rb") as archive:
        async with open_maintenance(dsn) as session:
            await put_back(session, archive, check_backup(path), age)


async def test_the_facts_of_a_database(
    dsn: str, postgres: PostgresStorage, tmp_path: pathlib.Path
) -> None:
    """As the backup has them, and as the database has them afterwards."""
    async with open_maintenance(dsn) as session:
        assert await key_facts(session) == KeyFacts()
    life = await postgres.begin_life()
    begun = await postgres.begin_epoch(None)
    await postgres.advance_epoch(begun)
    device = RecordChange(RecordKind.DEVICE, "", b"device")
    await postgres.apply([Envelope(connection="sales", records=(device,)), envelope()])
    made = await saved(dsn, tmp_path / "live")
    assert (made.database, made.epoch, made.live) == (begun.database, 1, True)
    await postgres.end_life(life)
    ended = await saved(dsn, tmp_path / "ended")
    assert not ended.live
    async with open_maintenance(dsn) as session:
        facts = await key_facts(session)
    assert (facts.database, facts.epoch, facts.live) == (begun.database, 1, False)
    assert facts.keys_at is not None
    assert made.keys_at == facts.keys_at.isoformat()


async def test_marks_come_with_the_restore(
    cluster: Cluster, dsn: str, postgres: PostgresStorage, tmp_path: pathlib.Path
) -> None:
    """In the transaction: older keys are marked, current ones are not taken for older later."""
    begun = await postgres.begin_epoch(None)
    device = RecordChange(RecordKind.DEVICE, "", b"device")
    await postgres.apply([Envelope(connection="sales", records=(device,))])
    path = tmp_path / "backup"
    await saved(dsn, path)
    ahead = Epoch(database=begun.database, epoch=7)
    other = await cluster.create()
    await restored(other, path, Age(older=True, epoch=7, because=""))
    async with PostgresStorage.open(other, key=KEY, pool_size=1) as storage:
        assert [each.connection for each in await storage.stale_keys()] == ["sales"]
        assert await storage.advance_epoch(None) is None  # also where nothing is remembered
        assert (await storage.begin_epoch(ahead)).behind
        assert await storage.renew_keys("sales", b"x", [], "why")
        assert not (await storage.begin_epoch(ahead)).behind
    await restored(other, path, Age(older=False, epoch=7, because=""))
    async with PostgresStorage.open(other, key=KEY, pool_size=1) as storage:
        assert not (await storage.begin_epoch(ahead)).behind
        assert await storage.stale_keys() == []


async def test_a_backup_of_an_older_schema(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    """It has no place for the marks: they are made when it is migrated, and once."""
    dsn = await cluster.create()
    await cluster.script(dsn, queries()["create_migrations"])
    for migration in load_migrations()[:18]:
        await cluster.script(dsn, migration.sql)
        await cluster.sql(
            dsn, queries()["record_migration"], migration.number, migration.name, migration.checksum
        )
    await cluster.script(
        dsn,
        "INSERT INTO connections (name, reopen_window, reopen_from, team_reopens, created_at)"
        " VALUES ('sales', '1 day', 'closed_at', false, now());"
        "INSERT INTO counters (connection_id) SELECT id FROM connections;"
        "INSERT INTO device_identity SELECT id, NULL, 'x', now() FROM connections",
    )
    path = tmp_path / "backup"
    made = await saved(dsn, path)
    assert (made.database, made.schema) == (None, 18)
    for is_older in (True, False):
        other = await cluster.create()
        await restored(other, path, Age(older=is_older, epoch=0, because=""))
        async with PostgresStorage.open(other, key=KEY, pool_size=1) as storage:
            assert len(await storage.stale_keys()) == is_older
        [[comment]] = await cluster.sql(other, "SELECT obj_description('connections'::regclass)")
        assert comment is None
