"""``zapvisor db`` against a real daemon with its own PostgreSQL, and without one."""

# ruff: noqa: ASYNC240 - a moment's blocking does no harm in these tests

import collections.abc as cabc
import datetime as dt
import functools
import io
import os
import pathlib
import pwd
import stat
import tempfile
import typing as t

import attrs
import pytest
import trio

from config.load import load_config
from daemon.cli_db import _confirm
from daemon.errors import CommandError, RefusedError, StartError, UsageError
from daemon.owner import acting_as_owner
from daemon.upkeep import RestoreOptions, run_backup, run_restore, run_sizes, run_vacuum
from storage.backup import Contents
from storage.backup_file import Manifest
from tests.support.daemon_process import DaemonProcess, open_daemon

UNUSED = "ws://127.0.0.1:9/ws/chat"  # nobody is paired, so nobody dials


@pytest.fixture
def directory() -> cabc.Iterator[pathlib.Path]:
    """A short one, for sockets."""
    with tempfile.TemporaryDirectory(prefix="zv-", dir="/tmp") as name:
        yield pathlib.Path(name)


async def refused(daemon: DaemonProcess, *arguments: str) -> str:
    """A command that fails with exit code 1, and what it says."""
    done = await daemon._run(*arguments)
    assert done.returncode == 1, done.stdout
    return done.stderr.decode()


class Commands:
    """The commands, without the cost of a process for each."""

    def __init__(self, config: pathlib.Path) -> None:
        self._config = load_config(config, {})

    async def backup(self, target: pathlib.Path) -> dict[str, t.Any]:
        return await self._run(
            functools.partial(run_backup, version="1", now=dt.datetime.now(dt.UTC)), target
        )

    async def restore(self, file: pathlib.Path, **options: t.Any) -> dict[str, t.Any]:
        asked = RestoreOptions(confirm=lambda _present, _manifest: True)
        return await self._run(run_restore, file, attrs.evolve(asked, **options))

    async def vacuum(self, *, full: bool) -> dict[str, t.Any]:
        return await self._run(functools.partial(run_vacuum, full=full))

    async def names(self) -> list[str]:
        """Of connections, as ``db size`` has them."""
        return [row["name"] for row in (await self._run(run_sizes))["connections"]]

    async def _run(self, work: t.Any, *arguments: t.Any) -> dict[str, t.Any]:
        facts: dict[str, t.Any] = await trio.to_thread.run_sync(work, self._config, *arguments)
        return facts


PAIRED = "INSERT INTO device_identity SELECT id, NULL, 'x', now() FROM connections"


async def test_a_life_of_a_database(directory: pathlib.Path) -> None:
    """Backed up while the daemon runs, lost, put back while it does not; the daemon goes on with
    it. What must not be is refused and changes nothing."""
    backup = directory / "backup"
    async with open_daemon(directory / "d", UNUSED, bytes(32), "sales", embedded=True) as daemon:
        db = Commands(daemon.config)
        await daemon.execute(PAIRED)
        made = await db.backup(backup)
        assert made["rows"]["device_identity"] == 1
        assert stat.S_IMODE(backup.stat().st_mode) == 0o600
        for work in (db.restore(backup, replace=True), db.vacuum(full=True)):
            with pytest.raises(StartError, match="a daemon runs"):
                await work
        assert (await db.vacuum(full=False))["full"] is False
        assert (await daemon.status())[0]["name"] == "sales"
        await daemon.execute("UPDATE connections SET name = 'renamed'")
        await daemon.terminate()

        with pytest.raises(RefusedError, match="say --replace"):
            await db.restore(backup)
        with pytest.raises(RefusedError, match="not confirmed"):
            await db.restore(backup, replace=True, confirm=lambda _present, _manifest: False)
        key = directory / "d" / "data" / "secret.key"
        mine = key.read_text()
        key.write_text("5a" * 32)
        with pytest.raises(RefusedError, match="nothing was changed") as wrong:
            await db.restore(backup, replace=True)
        assert mine.strip() not in str(wrong.value)
        key.write_text(mine)
        assert await db.names() == ["renamed"]
        back = await db.restore(backup, replace=True)
        assert (back["rows"], back["stale_keys"]) == (made["rows"], False)  # no key was used since
        assert await db.names() == ["sales"]
        await daemon.start()
        assert [row["name"] for row in await daemon.status()] == ["sales"]
        await _newer(daemon)
    if os.geteuid() == 0:
        await _as_root(directory, key, backup)


async def _newer(daemon: DaemonProcess) -> None:
    """``upgrade-check`` says what ``run`` would say of a newer database."""
    await daemon.execute("INSERT INTO schema_migrations VALUES (9999, 'future', 'x')")
    looked = await daemon._run("upgrade-check")
    assert looked.returncode == 2
    assert b"stop  schema: the database has schema 9999" in looked.stdout
    await daemon.terminate()
    assert "the database has schema 9999" in await refused(daemon, "run")


async def _as_root(directory: pathlib.Path, key: pathlib.Path, backup: pathlib.Path) -> None:
    """In a data directory of somebody else, root works as that user; key and backup are root's."""
    again = directory / "again"
    user = pwd.getpwnam("nobody")
    directory.chmod(0o755)
    data = directory / "data"
    data.mkdir(mode=0o700)
    os.chown(data, user.pw_uid, user.pw_gid)
    config = directory / "supervisor.toml"
    config.write_text(f'[daemon]\ndata_dir = "{data}"\n[storage]\nkey_file = "{key}"\n')
    stranger = DaemonProcess(directory, config, None)
    back = await stranger.command("db", "restore", str(backup))
    made = await stranger.command("db", "backup", str(again))
    assert back["stale_keys"]  # nobody knows here what became of them: a daemon was running
    assert made["rows"] == back["rows"] | {"stale_keys": 1}
    assert made["key"] == back["key"] is not None
    assert again.stat().st_uid == 0
    for path in data.rglob("*"):
        assert path.lstat().st_uid == user.pw_uid, path


def test_who_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal nobody can be, and ``--yes`` is needed; on one only the word will do."""
    present = Contents(tables=40, ours=True, messages=5, connections=1)
    manifest = Manifest(
        version="1", created_at="now", schema=7, server="18", program=18, rows={}, key=None
    )

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", io.StringIO("replace\n"))
    with pytest.raises(UsageError, match="--yes"):
        _confirm(present, manifest)
    for typed, agreed in (("replace\n", True), ("yes\n", False), ("", False)):
        monkeypatch.setattr("sys.stdin", Terminal(typed))
        assert _confirm(present, manifest) is agreed


async def test_no_database_is_made_by_looking(directory: pathlib.Path) -> None:
    """Neither a cluster nor a key nor a directory comes of asking for what is not there."""
    config = directory / "supervisor.toml"
    config.write_text(f'[daemon]\ndata_dir = "{directory / "data"}"\n')
    daemon = DaemonProcess(directory, config, None)
    assert "no database" in await refused(daemon, "db", "backup", str(directory / "b"))
    assert [path.name for path in directory.iterdir()] == ["supervisor.toml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_acting_as_the_owner_ends(directory: pathlib.Path) -> None:
    """Children are the owner for good, we are root again."""
    os.chown(directory, 12345, 12345)
    with acting_as_owner(directory):
        (directory / "mine").touch()
        assert os.geteuid() == 12345
    assert (os.getresuid(), os.getresgid()) == ((0, 0, 0), (0, 0, 0))
    assert (directory / "mine").stat().st_uid == 12345
    with acting_as_owner(directory / "absent"):
        assert os.geteuid() == 0


@pytest.mark.parametrize(
    ("password", "told"),
    [
        ("hunter2", "Connect call failed"),
        ("hunter2/x", "in a password write / # ? @ [ as %2F %23 %3F %40 %5B"),
        ("hunter2#x", "cannot be read; in a password write"),
        ("[hunter2", "cannot be read; in a password write"),
    ],
)
async def test_the_password_is_never_shown(
    directory: pathlib.Path, password: str, told: str
) -> None:
    """Not when the database cannot be reached, nor when nobody knows where the password ends."""
    config = directory / "supervisor.toml"
    config.write_text(
        f'[daemon]\ndata_dir = "{directory / "data"}"\n'
        f'[storage]\ndsn = "postgresql://me:{password}@127.0.0.1:9/base"\n'
    )
    with pytest.raises(CommandError) as failed:
        await Commands(config).backup(directory / "b")
    said = str(failed.value)
    if password != "hunter2":  # else it would wait for the server
        with trio.fail_after(60):
            started = await refused(DaemonProcess(directory, config, None), "run")
        assert told in started
        said += started
    assert told in said
    assert "hunter2" not in said
    assert "Traceback" not in said
    assert not (directory / "b").exists()
