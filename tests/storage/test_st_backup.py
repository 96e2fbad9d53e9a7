"""Backups: one moment, whole or not there, back exactly as it was or nothing changed."""

# ruff: noqa: ASYNC221, ASYNC230, ASYNC240 - a moment's blocking does no harm in these tests

import collections.abc as cabc
import contextlib
import datetime as dt
import errno
import json
import os
import pathlib
import stat
import subprocess
import sys
import traceback
import typing as t

import attrs
import pytest
import trio
from st_helpers import KEY, Cluster, take

from config.model import Config, DaemonConfig, StorageConfig
from daemon import database
from daemon.errors import CommandError
from daemon.upkeep import run_backup
from storage import backup_file, programs
from storage.api import ConversationRules, Envelope
from storage.backup import back_up, check_backup, contents, put_back
from storage.backup_file import Draft, Manifest, read_manifest
from storage.embedded import running_dsn
from storage.errors import (
    NoRoomError,
    StorageError,
    StorageLockedError,
    StorageRejectedError,
    StorageUnavailableError,
)
from storage.hosts import split_password
from storage.maintenance import Maintenance, open_maintenance
from storage.postgres import PostgresStorage
from storage.programs import Programs, find_programs, quiet_psql
from storage.seal import find_key, fingerprint
from storage.sizes import sizes, vacuum

Backup = cabc.Callable[[str, pathlib.Path], cabc.Awaitable[Manifest]]


async def backed_up(dsn: str, target: pathlib.Path) -> Manifest:
    """A backup of a database in a file."""
    with Draft(target) as draft:
        async with open_maintenance(dsn) as session:
            manifest = await back_up(
                session, draft.file, version="1.2.3", created_at="2026-01-01", key="abc"
            )
        return await trio.to_thread.run_sync(draft.publish, manifest)


async def restored(dsn: str, path: pathlib.Path, manifest: Manifest | None = None) -> None:
    """A backup put in the place of a database."""
    with path.open("rb") as archive:
        async with open_maintenance(dsn) as session:
            await put_back(session, archive, manifest or check_backup(path))


async def _everything(cluster: Cluster, dsn: str) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    names = await cluster.sql(dsn, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {
        name: sorted(str(row[0]) for row in await cluster.sql(dsn, f"SELECT x::text FROM {name} x"))
        for (name,) in names
    }


async def test_back_as_it_was(
    cluster: Cluster, dsn: str, postgres: PostgresStorage, tmp_path: pathlib.Path
) -> None:
    """Into an empty database: every row of every table, and the writer goes on there."""
    for number in range(5):
        await take(postgres, f"A{number}")
    path = tmp_path / "backup"
    manifest = await backed_up(dsn, path)
    assert (manifest.messages, manifest.rows["connections"]) == (5, 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_manifest(path) == manifest
    other = await cluster.create()
    await restored(other, path)
    assert await _everything(cluster, other) == await _everything(cluster, dsn)
    async with PostgresStorage.open(other, key=KEY, pool_size=1) as storage:
        assert (await take(storage, "A0")).verdict.value == "duplicate"
        assert (await take(storage, "A9")).verdict.value == "stored"


async def test_plain_pg_restore_reads_it(
    dsn: str, postgres: PostgresStorage, tmp_path: pathlib.Path
) -> None:
    """Without zapvisor: it is an archive of pg_dump."""
    await take(postgres, "A1")
    await backed_up(dsn, tmp_path / "backup")
    program = find_programs(18).directory / "pg_restore"
    done = subprocess.run(
        [program, "--list", tmp_path / "backup"], capture_output=True, text=True, check=True
    )
    assert "TABLE DATA public messages" in done.stdout


async def test_one_moment(
    cluster: Cluster, dsn: str, postgres: PostgresStorage, tmp_path: pathlib.Path
) -> None:
    """While others write: what is counted is what is there after the restore."""
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            for number in range(10_000):
                await take(postgres, f"W{number}")

        nursery.start_soon(write)
        manifests = [await backed_up(dsn, tmp_path / f"backup{number}") for number in range(2)]
        nursery.cancel_scope.cancel()
    assert manifests[0].messages < manifests[1].messages
    other = await cluster.create()
    for number in range(2):
        await restored(other, tmp_path / f"backup{number}")  # which counts before it commits
        [[count]] = await cluster.sql(other, "SELECT count(*) FROM messages")
        assert count == manifests[number].messages


async def test_nothing_or_all_is_replaced(
    cluster: Cluster, dsn: str, postgres: PostgresStorage, tmp_path: pathlib.Path
) -> None:
    """A restore that fails at its last step leaves what was there; one that succeeds leaves
    nothing of it, whatever it was."""
    path = tmp_path / "backup"
    await take(postgres, "A1")
    manifest = await backed_up(dsn, path)
    other = await cluster.create("migrated")
    await cluster.script(
        other,
        "CREATE TABLE extra (id integer); CREATE TYPE mood AS ENUM ('fine');"
        "CREATE FUNCTION nothing() RETURNS integer LANGUAGE sql AS 'SELECT 1';"
        "CREATE VIEW seen AS SELECT * FROM extra",
    )
    async with PostgresStorage.open(other, key=KEY, pool_size=1) as storage:
        await storage.ensure_connection("sales", ConversationRules())
        await take(storage, "OLD")
    before = await _everything(cluster, other)
    wrong = attrs.evolve(manifest, rows={**manifest.rows, "messages": 2})
    with pytest.raises(StorageUnavailableError, match="has not the 2 rows"):
        await restored(other, path, wrong)
    assert await _everything(cluster, other) == before
    with path.open("rb") as archive, (tmp_path / "cut").open("w+b") as cut:
        cut.write(archive.read(manifest.archive_bytes // 2))
        cut.flush()
        async with open_maintenance(other) as session:
            with pytest.raises(StorageUnavailableError, match="nothing was changed"):
                await put_back(session, cut, manifest)
    assert await _everything(cluster, other) == before
    await restored(other, path)
    assert await _everything(cluster, other) == await _everything(cluster, dsn)
    [[left]] = await cluster.sql(
        other, "SELECT count(*) FROM pg_type WHERE typname IN ('mood', 'extra', 'seen')"
    )
    assert left == 0


async def test_tables_of_any_name(
    cluster: Cluster, dsn: str, postgres: PostgresStorage, tmp_path: pathlib.Path
) -> None:
    """One that somebody added, and called as they liked, is backed up and put back; its rows are
    counted, too."""
    names = ["Notes", "$check$ 'it''s' \\ :x", 'x"; DROP TABLE messages; --']
    for number, name in enumerate(names):
        quoted = name.replace('"', '""')
        await cluster.sql(dsn, f'CREATE TABLE "{quoted}" AS SELECT generate_series(0, {number})')
    manifest = await backed_up(dsn, tmp_path / "backup")
    assert [manifest.rows[name] for name in names] == [1, 2, 3]
    other = await cluster.create()
    for name in names:
        wrong = attrs.evolve(manifest, rows={**manifest.rows, name: 7})
        with pytest.raises(StorageUnavailableError) as refused:
            await restored(other, tmp_path / "backup", wrong)
        assert f"table {name} has not the 7 rows" in str(refused.value)
    await restored(other, tmp_path / "backup")
    [[count]] = await cluster.sql(other, 'SELECT count(*) FROM "Notes"')
    assert count == 1


async def test_a_backup_that_cannot_be_read_is_none(
    dsn: str, postgres: PostgresStorage, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never reported as good, and not left for one."""
    monkeypatch.setattr(backup_file, "_LONGEST", 10)
    config = Config(
        daemon=DaemonConfig(data_dir=str(tmp_path / "data")), storage=StorageConfig(dsn=dsn)
    )
    target = tmp_path / "backup"
    with pytest.raises(CommandError, match="is no backup"):
        await trio.to_thread.run_sync(
            lambda: run_backup(config, target, version="1", now=dt.datetime.now(dt.UTC))
        )
    assert list(tmp_path.iterdir()) == []


async def test_schemas_of_others_are_left_alone(
    cluster: Cluster, dsn: str, postgres: PostgresStorage, tmp_path: pathlib.Path
) -> None:
    """They are not backed up, and stay what they are; nor is one of theirs taken for ours."""
    shop = "CREATE SCHEMA shop; CREATE TABLE shop.sold AS SELECT {0} AS number"
    await take(postgres, "A1")
    await cluster.script(dsn, shop.format(1))
    await backed_up(dsn, tmp_path / "backup")
    assert b"sold" not in (tmp_path / "backup").read_bytes()
    other = await cluster.create()
    await cluster.script(other, shop.format(2))
    await restored(other, tmp_path / "backup")
    assert [tuple(row) for row in await cluster.sql(other, "SELECT * FROM shop.sold")] == [(2,)]
    assert await _everything(cluster, other) == await _everything(cluster, dsn)
    # Ours moved, so that this user works in that schema.
    await cluster.script(
        dsn,
        "CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.schema_migrations (number integer);"
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = elsewhere',"
        " current_database()); END $$",
    )
    with pytest.raises(StorageRejectedError, match="in the schema elsewhere"):
        await backed_up(dsn, tmp_path / "again")


async def test_statistics_are_no_part_of_a_restore(
    cluster: Cluster,
    dsn: str,
    postgres: PostgresStorage,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All is back although the server is lost while it renews them."""
    run = Maintenance.run

    async def lost(session: Maintenance, statement: str, *arguments: t.Any) -> list[t.Any]:
        if statement == "ANALYZE":
            raise StorageUnavailableError("gone")
        return await run(session, statement, *arguments)

    await backed_up(dsn, tmp_path / "backup")
    other = await cluster.create()
    monkeypatch.setattr(Maintenance, "run", lost)
    await restored(other, tmp_path / "backup")
    assert await _everything(cluster, other) == await _everything(cluster, dsn)


async def test_what_would_be_lost(cluster: Cluster, dsn: str, postgres: PostgresStorage) -> None:
    """Empty and fresh databases are worthless, others are not; a stranger's is none of ours."""
    async with open_maintenance(await cluster.create()) as session:
        assert (await contents(session)).worthless
    async with open_maintenance(dsn) as session:
        fresh = await contents(session)
        assert (fresh.worthless, fresh.connections) == (True, 2)
        await postgres.save_made("sales", {"name": "sales"})
        made = await contents(session)
        assert (made.worthless, made.made) == (False, 1)
        await postgres.forget_made("sales")
        await cluster.sql(
            dsn,
            "INSERT INTO tokens (id, name, hash, scopes, created_at)"
            " VALUES ('0123456789ab', 'shop', sha256(''), '{read}', now())",
        )
        known = await contents(session)
        assert (known.worthless, known.tokens) == (False, 1)
        await cluster.sql(dsn, "DROP TABLE tokens, made_connections")  # of older schemas
        assert (await contents(session)).worthless
        await postgres.quarantine(Envelope(connection="sales", stanza=b"x"), "unreadable")
        strange = await contents(session)
        assert (strange.worthless, strange.quarantined) == (False, 1)
        await take(postgres, "A1")
        told = "1 messages of 2 connections, 1 messages in quarantine"
        assert str(await contents(session)) == told
    foreign = await cluster.create()
    await cluster.sql(foreign, "CREATE TABLE shop (id integer)")
    async with open_maintenance(foreign) as session:
        there = await contents(session)
        assert (there.ours, there.worthless) == (False, False)
        with pytest.raises(StorageRejectedError, match="nothing of zapvisor"):
            await back_up(session, t.cast("t.Any", None), version="", created_at="", key=None)


async def test_a_full_disk(dsn: str, postgres: PostgresStorage) -> None:
    """It is said in a line."""
    async with open_maintenance(dsn) as session:
        with open("/dev/full", "wb") as full, pytest.raises(NoRoomError, match="nothing was kept"):
            await back_up(session, full, version="1", created_at="", key=None)


def test_a_draft_that_is_not_published_leaves_nothing(tmp_path: pathlib.Path) -> None:
    """An error, or a kill, which the next backup cleans up after; never one that is at work."""
    target = tmp_path / "backup"
    with contextlib.suppress(ValueError), Draft(target) as draft:
        draft.file.write(b"half")
        raise ValueError("no luck")
    assert list(tmp_path.iterdir()) == []
    killed = (
        "import os, pathlib, sys; from storage.backup_file import Draft;"
        "Draft(pathlib.Path(sys.argv[1])).__enter__(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", killed, str(target)], check=False, timeout=30)
    [left] = tmp_path.iterdir()
    assert left.name.endswith(".part")
    with Draft(target):
        assert not left.exists()
        [first] = tmp_path.iterdir()
        with Draft(target):
            assert first.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_draft_that_cannot_be_locked_leaves_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without locks, say."""
    locked: list[t.IO[bytes]] = []

    def refuse(file: t.IO[bytes], _operation: int) -> None:
        locked.append(file)
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.raises(StorageUnavailableError, match="No locks available"),
        Draft(tmp_path / "backup"),
    ):
        pytest.fail("begun")
    assert [file.closed for file in locked] == [True]
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: pathlib.Path) -> None:
    """Neither what is there before, nor what comes meanwhile."""
    target = tmp_path / "backup"
    with Draft(target) as draft:
        target.write_text("precious")
        with pytest.raises(StorageRejectedError, match="exists by now"):
            draft.publish(_manifest())
    with pytest.raises(StorageRejectedError, match="exists already"), Draft(target):
        pytest.fail("begun")
    assert target.read_text() == "precious"
    with (
        pytest.raises(StorageUnavailableError, match="cannot be written"),
        Draft(tmp_path / "nowhere" / "backup"),
    ):
        pytest.fail("begun")


def _manifest(**changes: t.Any) -> Manifest:
    made = Manifest(
        version="1", created_at="", schema=1, server="18", program=18, rows={}, key=None
    )
    return attrs.evolve(made, **changes)


def _file(path: pathlib.Path, manifest: Manifest) -> pathlib.Path:
    with Draft(path) as draft:
        draft.file.write(b"archive" * 100)
        draft.publish(manifest)
    return path


def test_what_is_wrong_with_a_file(tmp_path: pathlib.Path) -> None:
    """Each kind of damage is told apart, before anything is touched."""
    good = _file(tmp_path / "good", _manifest())
    assert check_backup(good).archive_bytes == 700
    data = good.read_bytes()
    cases: dict[str, bytes] = {
        "its end is missing": data[:-20],
        "is no backup": b"something else",
        "is damaged: its checksum": b"X" + data[1:],
        "does not belong to it": b"more" + data,
    }
    for message, content in cases.items():
        path = tmp_path / "bad"
        path.write_bytes(content)
        with pytest.raises(StorageRejectedError, match=message):
            check_backup(path)
    with pytest.raises(StorageRejectedError, match="knows only up to"):
        check_backup(_file(tmp_path / "newer", _manifest(schema=9999)))
    with pytest.raises(StorageRejectedError, match="this version cannot read"):
        check_backup(_file(tmp_path / "later", _manifest(format=3)))
    rows: list[t.Any] = [{"": 1}, {"a\0": 1}, {"\ud800": 1}, {"a": "1; SELECT"}, {"a": -1}, [1]]
    for number, evil in enumerate(rows):
        with pytest.raises(StorageRejectedError, match="manifest"):
            check_backup(_file(tmp_path / f"evil{number}", _manifest(rows=evil)))
    with pytest.raises(StorageRejectedError, match="cannot be read"):
        check_backup(tmp_path / "nowhere")


def test_passwords_stay_off_the_command_line(tmp_path: pathlib.Path) -> None:
    """They are in the environment of the child alone."""
    shown, password = split_password("postgresql://me:p%40ss@one,two:5433/base?sslmode=require")
    assert (shown, password) == ("postgresql://me@one,two:5433/base?sslmode=require", "p@ss")
    assert split_password("postgresql://h/d?password=x&sslmode=off") == (
        "postgresql://h/d?sslmode=off",
        "x",
    )
    assert split_password("postgresql://me@/d?host=%2Frun") == (
        "postgresql://me@/d?host=%2Frun",
        None,
    )
    program = tmp_path / "pg_dump"
    program.write_text('#!/bin/sh\necho "$@"; echo "password $PGPASSWORD"\n')
    program.chmod(0o755)
    with (tmp_path / "out").open("w+b") as out:
        dsn = "postgresql://me:hunter2@h/d"
        with Programs(tmp_path, 18).start("pg_dump", "-x", dsn=dsn, stdout=out) as running:
            assert running.process.wait(30) == 0
    assert (tmp_path / "out").read_text() == "-x --dbname=postgresql://me@h/d\npassword hunter2\n"


def test_a_complaint_repeats_no_data(tmp_path: pathlib.Path) -> None:
    """The first error, without the lines that quote rows."""
    program = tmp_path / "psql"
    program.write_text(
        "#!/bin/sh\necho 'ERROR:  duplicate key' >&2\n"
        "echo 'DETAIL:  Key (text)=(secret words) exists.' >&2\nexit 3\n"
    )
    program.chmod(0o755)
    with Programs(tmp_path, 18).start("psql") as running:
        running.process.wait(30)
        assert running.complaint() == "ERROR:  duplicate key"


async def test_a_value_is_never_repeated(dsn: str) -> None:
    """Of an error about one, all but the value is told, also of one in lines; of others all."""
    errors = {
        "SELECT ('secret' || chr(10) || 'words')::integer": "type integer: (a value)",
        "SELECT 'secret words'::timestamptz": "timestamp with time zone: (a value)",
        "SELECT * FROM nothing WHERE x = 'secret words'": 'relation "nothing" does not exist',
        "SELECT 1 / 0": "division by zero",
    }
    for statement, told in errors.items():
        arguments = [*quiet_psql(), "-c", statement]
        with find_programs(18).start("psql", *arguments, dsn=dsn) as running:
            assert await running.wait() != 0
            complaint = running.complaint()
        assert complaint.endswith(told)
        assert "secret" not in complaint


def test_programs_fit_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own, else newer ones; a restore is more particular. None: what to install."""
    have = [Programs(pathlib.Path(str(major)), major) for major in (18, 16)]
    monkeypatch.setattr(programs, "installed_programs", lambda: have)
    assert [find_programs(major).major for major in (13, 16, 17, 18)] == [16, 16, 18, 18]
    assert [find_programs(major, restoring=True).major for major in (16, 17)] == [16, 18]
    for server, restoring in ((19, False), (15, True)):
        with pytest.raises(StorageRejectedError, match=f"postgresql-client-{server}"):
            find_programs(server, restoring=restoring)


def test_the_programs_of_the_wheel_are_found() -> None:
    """With all that is needed."""
    found = programs.installed_programs()
    assert {each.major for each in found} >= {16, 18}
    for each in found:
        assert all((each.directory / name).exists() for name in ("pg_dump", "pg_restore", "psql"))


def test_a_key_is_told_by_its_fingerprint(tmp_path: pathlib.Path) -> None:
    """It says nothing of the key; looking for one makes none."""
    assert fingerprint(KEY) != fingerprint(bytes(32))
    assert len(fingerprint(KEY)) == 16
    assert fingerprint(KEY) not in KEY.hex()
    path = tmp_path / "secret.key"
    assert find_key(path, {}) is None
    assert not path.exists()
    path.write_text(KEY.hex())
    path.chmod(0o600)
    assert find_key(path, {}) == KEY
    assert find_key(path, {"ZAPVISOR_SECRET_KEY": "5a" * 32}) == b"\x5a" * 32


async def test_sizes(cluster: Cluster, dsn: str, postgres: PostgresStorage) -> None:
    """Per table and connection; how fast it grows is told once that is known."""
    for number in range(3):
        await take(postgres, f"A{number}")
    async with open_maintenance(dsn) as session:
        told = await sizes(session)
        assert told["growth"] is None
        counts = {row["name"]: row["messages"] for row in told["connections"]}
        assert counts == {"sales": 3, "support": 0}
        [messages] = [table for table in told["tables"] if table["name"] == "messages"]
        assert messages["total_bytes"] == messages["table_bytes"] + messages["index_bytes"] > 0
        assert told["bytes"] > sum(table["total_bytes"] for table in told["tables"])
        await cluster.sql(
            dsn,
            "INSERT INTO sync_quarters (connection_id, quarter, total, processed, skipped, errors)"
            " SELECT id, extract(epoch FROM now() - interval '2 days') / 900, 10, 8, 2, 0"
            " FROM connections WHERE name = 'sales'",
        )
        growth = (await sizes(session))["growth"]
        assert growth["messages_per_day"] == pytest.approx(4, abs=0.1)
        json.dumps(await sizes(session), default=str)


async def test_vacuum(cluster: Cluster, dsn: str, postgres: PostgresStorage) -> None:
    """Room of deleted rows comes back; ``full`` gives it to the disk."""
    await cluster.sql(
        dsn,
        "INSERT INTO daemon_lives (began_at, alive_at) SELECT now(), now()"
        " FROM generate_series(1, 20000)",
    )
    await cluster.sql(dsn, "DELETE FROM daemon_lives")
    async with open_maintenance(dsn) as session:
        await vacuum(session, full=False)
        done = await vacuum(session, full=True)
    assert done["full"]
    assert done["bytes_after"] <= done["bytes_before"]


async def test_the_running_server_is_found(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    """By its data directory, wherever its sockets are; none where none runs."""
    assert running_dsn(cluster.server.home.parent) == cluster.server.dsn or os.geteuid() == 0
    assert running_dsn(tmp_path) is None


async def test_a_database_of_ones_own_is_held(
    cluster: Cluster, dsn: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon anywhere keeps a restore out, and a restore every daemon; to look disturbs nobody,
    and makes no data directory."""
    monkeypatch.setattr(database, "PATIENCE", 0.1)
    data = tmp_path / "data"
    config = Config(daemon=DaemonConfig(data_dir=str(data)), storage=StorageConfig(dsn=dsn))
    async with PostgresStorage.open(dsn, key=KEY, pool_size=1, exclusive=True):
        with pytest.raises(StorageLockedError, match="another zapvisor daemon"):
            async with database.reach(config, alone=True):
                pytest.fail("not alone")
        async with database.reach(config) as reached:
            assert (await contents(reached.session)).ours
    async with database.reach(config, alone=True):
        [[free]] = await cluster.sql(dsn, "SELECT pg_try_advisory_lock(7377481550917955438)")
        assert not free
    assert not data.exists()


async def test_an_unreachable_database(tmp_path: pathlib.Path) -> None:
    """Storage's own errors, no other."""
    for dsn in (f"postgresql://me@/d?host={tmp_path}", "postgresql://me@127.0.0.1:1/d"):
        with pytest.raises(StorageError):
            async with open_maintenance(dsn):
                pytest.fail("opened")


@pytest.mark.parametrize(
    "password",
    [
        "hunter2/x",
        "12/hunter2",
        "hunter2#x",
        "hunter2?x",
        "12?host=hunter2",
        "[hunter2",
        "a@hunter2",
    ],
)
@pytest.mark.parametrize("places", ["127.0.0.1:9", "127.0.0.1:9,127.0.0.2:9"])
async def test_a_password_that_ends_too_early(password: str, places: str) -> None:
    """Nothing of it is repeated by whatever reads the URL; the error says how to write it."""
    dsn = f"postgresql://me:{password}@{places}/base"
    for opened in (open_maintenance(dsn), PostgresStorage.open(dsn, key=KEY)):
        with pytest.raises(StorageRejectedError, match="in a password write") as refused:
            async with opened:
                pytest.fail("opened")
        assert "hunter2" not in "".join(traceback.format_exception(refused.value))


def test_moments_are_utc() -> None:
    """Whatever the zone of this machine."""
    from storage.backup_file import created_now

    zone = dt.timezone(dt.timedelta(hours=-3))
    assert created_now(dt.datetime(2026, 1, 1, 9, tzinfo=zone)) == "2026-01-01T12:00:00+00:00"
