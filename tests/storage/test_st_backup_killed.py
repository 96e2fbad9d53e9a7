"""A kill in the middle of a backup or a restore leaves what was there, and is in nobody's way."""

# ruff: noqa: ASYNC240 - a moment's blocking does no harm in these tests

import pathlib
import resource
import signal
import subprocess
import sys
import typing as t

import pytest
import trio
from st_helpers import Cluster, envelope, take

from storage import backup as backup_module
from storage.backup import back_up, check_backup, put_back
from storage.backup_file import Draft, Manifest
from storage.errors import NoRoomError, StorageUnavailableError
from storage.maintenance import open_maintenance
from storage.postgres import PostgresStorage
from storage.programs import Running

ROOT: t.Final = pathlib.Path(__file__).parents[2]

BACKUP: t.Final = """
async def main(dsn, path):
    async def die(*_arguments):
        os.kill(os.getpid(), signal.SIGKILL)
    backup.{step} = die
    with Draft(path) as draft:
        async with open_maintenance(dsn) as session:
            await backup.back_up(session, draft.file, version="1", created_at="", key=None)
"""
RESTORE: t.Final = """
async def main(dsn, path):
    write = backup._write
    async def die(pipe, text):
        if "{step}" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        await write(pipe, text)
    backup._write = die
    async with open_maintenance(dsn) as session:
        await backup.put_back(session, path.open("rb"), backup.check_backup(path))
"""


def killed(code: str, step: str, dsn: str, path: pathlib.Path) -> None:
    """Run this in a process that kills itself at a step."""
    program = (
        "import os, pathlib, signal, sys, trio\n"
        "from storage import backup\n"
        "from storage.backup_file import Draft\n"
        "from storage.maintenance import open_maintenance\n"
        f"{code.replace('{step}', step)}\n"
        "trio.run(main, sys.argv[1], pathlib.Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", program, dsn, str(path)]
    done = subprocess.run(command, cwd=ROOT, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


async def saved(dsn: str, path: pathlib.Path) -> Manifest:
    with Draft(path) as draft:
        async with open_maintenance(dsn) as session:
            made = await back_up(session, draft.file, version="1", created_at="", key=None)
        return await trio.to_thread.run_sync(draft.publish, made)


async def messages(cluster: Cluster, dsn: str) -> list[str]:
    rows = await cluster.sql(dsn, "SELECT external_id FROM messages ORDER BY external_id")
    return [row["external_id"] for row in rows]


@pytest.mark.parametrize("step", ["digest_tables", "key_facts"])
async def test_a_backup_that_is_killed(
    dsn: str, postgres: PostgresStorage, tmp_path: pathlib.Path, step: str
) -> None:
    """There is no file of its name, an older one stays, and the next one takes its draft away."""
    await take(postgres, "A1")
    older, target = tmp_path / "older", tmp_path / "backup"
    before = await saved(dsn, older)
    killed(BACKUP, step, dsn, target)
    assert not target.exists()
    assert check_backup(older) == before
    [_draft] = tmp_path.glob(".backup.*.part")
    await saved(dsn, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "older"]


@pytest.mark.parametrize("step", ["BEGIN", "COMMIT"])
async def test_a_restore_that_is_killed(
    cluster: Cluster, dsn: str, postgres: PostgresStorage, tmp_path: pathlib.Path, step: str
) -> None:
    """Up to its last statement: what was there is there, and the same restore goes through."""
    path = tmp_path / "backup"
    await take(postgres, "A1")
    made = await saved(dsn, path)
    await postgres.apply([envelope("A2"), envelope("A3")])
    killed(RESTORE, step, dsn, path)
    with trio.fail_after(60):  # psql ends with its input, and its locks with it
        assert await messages(cluster, dsn) == ["A1", "A2", "A3"]
        with path.open("rb") as archive:
            async with open_maintenance(dsn) as session:
                await put_back(session, archive, made)
    assert await messages(cluster, dsn) == ["A1"]
    assert check_backup(path) == made


async def test_a_restore_whose_psql_is_killed(
    cluster: Cluster,
    dsn: str,
    postgres: PostgresStorage,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a machine that is out of memory, say: nothing was changed, and that is said."""
    path = tmp_path / "backup"
    await take(postgres, "A1")
    made = await saved(dsn, path)
    await take(postgres, "A2")
    write, start = backup_module._write, backup_module.Programs.start
    running: list[Running] = []

    def watched(*arguments: t.Any, **options: t.Any) -> Running:
        running.append(start(*arguments, **options))
        return running[-1]

    async def kill_first(pipe: t.IO[bytes], text: str) -> None:
        if "COMMIT" in text:
            running[0].process.kill()
            await trio.to_thread.run_sync(running[0].process.wait)
        await write(pipe, text)

    monkeypatch.setattr(backup_module.Programs, "start", watched)
    monkeypatch.setattr(backup_module, "_write", kill_first)
    with path.open("rb") as archive:
        async with open_maintenance(dsn) as session:
            with pytest.raises(StorageUnavailableError, match="nothing was changed"):
                await put_back(session, archive, made)
    assert await messages(cluster, dsn) == ["A1", "A2"]


async def test_a_disk_that_is_full_at_the_end(
    dsn: str, postgres: PostgresStorage, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When only the manifest is left to be written: the older backup stays, nothing of the new."""
    await take(postgres, "A1")
    older = tmp_path / "older"
    before = await saved(dsn, older)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signals = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    publish = Draft.publish

    def narrowed(draft: Draft, manifest: Manifest) -> Manifest:
        size = draft.file.seek(0, 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        return publish(draft, manifest)

    monkeypatch.setattr(Draft, "publish", narrowed)
    try:
        with pytest.raises(NoRoomError, match=r"no room for .*backup.*; nothing was kept"):
            await saved(dsn, tmp_path / "backup")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, signals)
    assert [path.name for path in tmp_path.iterdir()] == ["older"]
    assert check_backup(older) == before
