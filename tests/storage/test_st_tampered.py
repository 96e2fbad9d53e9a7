"""A backup that somebody has tampered with runs no program: neither as the database nor as us."""

# ruff: noqa: ASYNC240 - a moment's blocking does no harm in these tests

import collections.abc as cabc
import pathlib
import shutil
import tempfile

import attrs
import pytest
import trio
from st_helpers import KEY, Cluster

from storage import backup as backup_module
from storage.backup import back_up, put_back
from storage.backup_file import Draft, Manifest
from storage.errors import StorageRejectedError
from storage.maintenance import open_maintenance
from storage.postgres import PostgresStorage
from storage.programs import Programs
from storage.verify import verify_backup

SHEET = """
CREATE TABLE sheet (id integer);
CREATE FUNCTION run() RETURNS boolean LANGUAGE plpgsql AS $run$
BEGIN
    IF current_database() = 'postgres' THEN  -- that of the test, not where this is made
        EXECUTE $$COPY (SELECT 1) TO PROGRAM 'touch {0}/server'$$;
    END IF;
    RETURN true;
EXCEPTION WHEN insufficient_privilege THEN
    RETURN true;
END
$run$;
INSERT INTO sheet VALUES (7);
INSERT INTO device_identity SELECT id, NULL, 'x', now() FROM connections;
"""
WHERE = {
    "while it is restored": "ALTER TABLE sheet ADD CHECK (run())",
    "while it is read": "ALTER TABLE device_identity RENAME TO devices;"
    " CREATE VIEW device_identity AS SELECT * FROM devices WHERE run()",
}


@pytest.fixture
def open_dir() -> cabc.Iterator[pathlib.Path]:
    """Where a program would leave a trace, whoever runs it."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="zv-"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


async def _saved(dsn: str, path: pathlib.Path) -> Manifest:
    with Draft(path) as draft:
        async with open_maintenance(dsn) as session:
            made = await back_up(session, draft.file, version="1", created_at="", key=None)
        return await trio.to_thread.run_sync(draft.publish, made)


@pytest.mark.parametrize("when", WHERE)
async def test_sql_of_a_backup_has_no_power(
    cluster: Cluster,
    dsn: str,
    postgres: PostgresStorage,
    public_dir: pathlib.Path,
    tmp_path: pathlib.Path,
    open_dir: pathlib.Path,
    when: str,
) -> None:
    """It may try while its rows come in, and when they are read; the test goes on."""
    await cluster.script(dsn, SHEET.format(open_dir) + WHERE[when])
    manifest = await _saved(dsn, tmp_path / "backup")
    with (tmp_path / "backup").open("rb") as archive:
        verdict = await verify_backup(archive, manifest, public_dir, KEY)
    assert list(open_dir.iterdir()) == []
    assert verdict.differences == ()


async def test_a_command_for_psql_is_not_run(
    cluster: Cluster,
    dsn: str,
    postgres: PostgresStorage,
    public_dir: pathlib.Path,
    tmp_path: pathlib.Path,
    open_dir: pathlib.Path,
) -> None:
    """Between the statements of the archive, where psql would take it for one of ours."""
    await cluster.sql(dsn, f"CREATE VIEW seen AS SELECT 1 AS {'a' * 60}, 2 AS {'b' * 60}")
    manifest = await _saved(dsn, tmp_path / "backup")
    written = (tmp_path / "backup").read_bytes()
    start = written.index(b"CREATE VIEW public.seen")
    end = written.index(b";", start)
    command = f"\\! touch {open_dir}/client\n".encode()
    evil = tmp_path / "evil"
    evil.write_bytes(written[:start] + command.ljust(end - start, b" ") + written[end:])
    with evil.open("rb") as archive, pytest.raises(StorageRejectedError, match="restrict"):
        await verify_backup(archive, attrs.evolve(manifest, rows={}), public_dir, KEY)
    assert list(open_dir.iterdir()) == []


async def test_programs_that_would_run_commands(
    cluster: Cluster,
    dsn: str,
    postgres: PostgresStorage,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are refused before anything is changed, with what to update."""
    manifest = await _saved(dsn, tmp_path / "backup")
    old = tmp_path / "pg_restore"
    old.write_text("#!/bin/sh\necho '  --role=ROLENAME'\n")
    old.chmod(0o755)
    monkeypatch.setattr(
        backup_module, "find_programs", lambda _server, *, restoring: Programs(tmp_path, 18)
    )
    async with open_maintenance(await cluster.create("migrated")) as session:
        refused = pytest.raises(StorageRejectedError, match=r"too old.*postgresql-client-18")
        with (tmp_path / "backup").open("rb") as archive, refused:
            await put_back(session, archive, manifest)
        assert await session.fetch("applied_migrations")
