"""``zapvisor db`` against a real daemon with its own PostgreSQL, and without one."""

# ruff: noqa: ASYNC240 - a moment's blocking does no harm in these tests

import collections.abc as cabc
import os
import pathlib
import pwd
import stat
import tempfile

import pytest
import trio

from daemon.owner import acting_as_owner
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


async def test_a_life_of_a_database(directory: pathlib.Path) -> None:
    """Backed up while the daemon runs, lost, put back while it does not; the daemon goes on with
    it. What must not be is refused and changes nothing."""
    backup = str(directory / "backup")
    async with open_daemon(directory / "d", UNUSED, bytes(32), "sales", embedded=True) as daemon:
        await daemon.execute(
            "INSERT INTO device_identity SELECT id, NULL, 'x', now() FROM connections"
        )
        made = await daemon.command("db", "backup", backup)
        assert made["rows"]["device_identity"] == 1
        assert stat.S_IMODE(os.stat(backup).st_mode) == 0o600
        assert "a daemon runs" in await refused(daemon, "db", "restore", backup, "--replace")
        assert (await daemon.status())[0]["name"] == "sales"
        await daemon.execute("UPDATE connections SET name = 'renamed'")
        await daemon.terminate()

        assert "say --replace" in await refused(daemon, "db", "restore", backup)
        unasked = await daemon._run("db", "restore", backup, "--replace")
        assert (unasked.returncode, b"--yes" in unasked.stderr) == (2, True)
        key = directory / "d" / "data" / "secret.key"
        mine = key.read_text()
        key.write_text("5a" * 32)
        wrong = await refused(daemon, "db", "restore", backup, "--replace", "--yes")
        assert "nothing was changed" in wrong
        assert mine.strip() not in wrong
        key.write_text(mine)
        back = await daemon.command("db", "restore", backup, "--replace", "--yes")
        assert back["rows"] == made["rows"]
        await daemon.start()
        assert [row["name"] for row in await daemon.status()] == ["sales"]

        await daemon.execute("INSERT INTO schema_migrations VALUES (9999, 'future', 'x')")
        looked = await daemon._run("upgrade-check")
        assert looked.returncode == 2
        assert b"stop  schema: the database has schema 9999" in looked.stdout
        await daemon.terminate()
        assert "the database has schema 9999" in await refused(daemon, "run")
    if os.geteuid() == 0:
        await root_leaves_nothing_of_its_own(directory, mine, backup)


async def root_leaves_nothing_of_its_own(directory: pathlib.Path, key: str, backup: str) -> None:
    """In a data directory of somebody else, root works as that user; key and backup are root's."""
    user = pwd.getpwnam("nobody")
    directory.chmod(0o755)
    data, own = directory / "data", directory / "secret.key"
    data.mkdir(mode=0o700)
    os.chown(data, user.pw_uid, user.pw_gid)
    own.write_text(key)
    own.chmod(0o600)
    config = directory / "supervisor.toml"
    config.write_text(f'[daemon]\ndata_dir = "{data}"\n[storage]\nkey_file = "{own}"\n')
    daemon = DaemonProcess(directory, config, None)
    back = await daemon.command("db", "restore", backup)
    again = await daemon.command("db", "backup", str(directory / "again"))
    assert again["rows"] == back["rows"]
    assert again["key"] == back["key"] is not None
    assert (directory / "again").stat().st_uid == 0
    for path in data.rglob("*"):
        assert path.lstat().st_uid == user.pw_uid, path


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


async def test_the_password_is_never_shown(directory: pathlib.Path) -> None:
    """Not when the database cannot be reached, either."""
    config = directory / "supervisor.toml"
    config.write_text('[storage]\ndsn = "postgresql://me:hunter2@127.0.0.1:9/base"\n')
    daemon = DaemonProcess(directory, config, None)
    with trio.fail_after(60):
        told = await refused(daemon, "db", "backup", str(directory / "b"))
        assert "hunter2" not in told
        assert len(told.splitlines()) == 1
    assert not (directory / "b").exists()
