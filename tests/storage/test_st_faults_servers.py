"""Whole servers that end, are replaced, are full, or no longer know us."""

import collections.abc as cabc
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
import trio
from st_faults import (
    counts,
    opened,
    public_directory,
    socket_of,
    until_taken,
)
from st_helpers import KEY, Cluster, envelope, take

from simulator.tcp_proxy import open_tcp_proxy
from storage.api import ConversationRules, Verdict
from storage.embedded import EmbeddedPostgres
from storage.errors import StorageBrokenError, StorageUnavailableError
from storage.open import keep_running, open_storage
from storage.postgres import PostgresStorage


@pytest.fixture(scope="module")
def spare(public_dir: pathlib.Path) -> pathlib.Path:
    """A cluster that is stopped, made once, to be copied."""
    directory = public_directory(public_dir)

    async def make() -> None:
        server = EmbeddedPostgres(directory, state_root=public_dir / "state")
        async with server, PostgresStorage.open(server.dsn, key=KEY):
            pass

    trio.run(make)
    return directory / "postgres"


@pytest.fixture
def new_server(
    public_dir: pathlib.Path, spare: pathlib.Path
) -> cabc.Callable[..., EmbeddedPostgres]:
    """Makes a server on a copy of a stopped one's data; it is not started."""

    def make(
        original: pathlib.Path = spare, directory: pathlib.Path | None = None
    ) -> EmbeddedPostgres:
        directory = directory or public_directory(public_dir)
        subprocess.run(["cp", "-a", original, directory / "postgres"], check=True, timeout=60)
        return EmbeddedPostgres(directory, state_root=public_dir / "state")

    return make


Make = cabc.Callable[..., EmbeddedPostgres]


async def test_failover(new_server: Make) -> None:
    """The URL lists two servers. The one that wrote is replaced by the other one with the same
    data: what was stored is known there, nothing is lost or doubled, readers move, too. With none
    that takes writes, both are named with their reasons."""
    first = new_server()
    async with contextlib.AsyncExitStack() as stack:
        await first.start()
        stack.push_async_callback(first.stop)
        one = await stack.enter_async_context(open_tcp_proxy(socket_of(first)))
        two = await stack.enter_async_context(open_tcp_proxy(("127.0.0.1", 1)))
        dsn = f"postgresql://zapvisor@127.0.0.1:{one.port},127.0.0.1:{two.port}/postgres"
        storage = await stack.enter_async_context(opened(dsn, command_timeout=2))
        for number in range(5):
            await take(storage, f"A{number}")
        one.shut()
        one.reset()
        for _loss_and_refusal in range(2):
            with pytest.raises(StorageUnavailableError) as none:
                await take(storage, "A5")
        for proxy in (one, two):
            assert f"127.0.0.1:{proxy.port}: " in str(none.value)
        await first.stop()
        second = new_server(first.home)
        await second.start()
        stack.push_async_callback(second.stop)
        two.target = socket_of(second)
        assert (await until_taken(storage, "A4")).verdict is Verdict.DUPLICATE
        assert (await until_taken(storage, "A5")).verdict is Verdict.STORED
        assert await counts(storage) == (6, 1, 0)

        # The former primary comes back as a replica: it is passed over, by readers, too.
        await first.start()
        await Cluster(first).sql(first.dsn, "ALTER SYSTEM SET default_transaction_read_only = on")
        await Cluster(first).sql(first.dsn, "SELECT pg_reload_conf()")
        one.clear()
        two.cut()
        assert (await until_taken(storage, "A6")).verdict is Verdict.STORED
        assert (await counts(storage))[0] == 7
        assert await Cluster(second).sql(second.dsn, "SELECT FROM messages") != []
        assert len(await Cluster(first).sql(first.dsn, "SELECT FROM messages")) == 5


async def test_a_first_server_that_swallows_everything(new_server: Make) -> None:
    """The next server of the URL is reached although the first one never answers."""
    async with new_server() as server, open_tcp_proxy(socket_of(server)) as proxy:
        listener = await trio.open_tcp_listeners(0, host="127.0.0.1")  # and nobody accepts
        port = listener[0].socket.getsockname()[1]
        dsn = f"postgresql://zapvisor@127.0.0.1:{port},127.0.0.1:{proxy.port}/postgres"
        with trio.fail_after(20):
            async with opened(dsn, command_timeout=1) as storage:
                assert (await take(storage, "A1")).verdict is Verdict.STORED
        await listener[0].aclose()


async def test_a_password_that_changes(new_server: Make) -> None:
    """What is connected stays; a new connection is refused with a sentence that holds no
    password; when the password fits again all goes on."""
    server = new_server()
    access = server_file(server, "pg_hba.conf")
    text = access.read_text()
    access.write_text(f"local all app scram-sha-256\n{text}")
    async with server:
        root = Cluster(server)
        await root.sql(server.dsn, "CREATE ROLE app LOGIN PASSWORD 'first-secret'")
        for line in (
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO app",
            "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app",
            "GRANT ALL ON SCHEMA public TO app",
        ):
            await root.sql(server.dsn, line)
        dsn = server.dsn.replace("zapvisor@", "app:first-secret@", 1)
        async with opened(dsn) as storage:
            await take(storage, "A1")
            await root.sql(server.dsn, "ALTER ROLE app PASSWORD 'second-secret'")
            assert (await take(storage, "A2")).verdict is Verdict.STORED
            await root.sql(
                server.dsn,
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE usename = 'app'",
            )
            with pytest.raises(StorageUnavailableError):
                await take(storage, "A3")
            with pytest.raises(StorageBrokenError, match=r"28P01.*storage\.dsn") as refused:
                await take(storage, "A3")
            assert "secret" not in str(refused.value)
            await root.sql(server.dsn, "ALTER ROLE app PASSWORD 'first-secret'")
            assert (await take(storage, "A3")).verdict is Verdict.STORED
            await root.sql(server.dsn, "REVOKE INSERT ON messages FROM app")
            with pytest.raises(StorageBrokenError, match=r"42501.*grant"):
                await take(storage, "A4")
            await root.sql(server.dsn, "GRANT INSERT ON messages TO app")
            assert (await take(storage, "A4")).verdict is Verdict.STORED
            assert await counts(storage) == (4, 0, 0)


def server_file(server: EmbeddedPostgres, name: str) -> pathlib.Path:
    """A file of a server's data directory, before it was started."""
    return server._data_dir / "postgres" / "data" / name


def log_of(directory: pathlib.Path) -> str:
    """What the server has said."""
    return (directory / "postgres" / "postgres.log").read_text(errors="replace")


async def _backend_in_the_middle(server: EmbeddedPostgres) -> int:
    """The process that is committing a batch just now."""
    query = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    while not (rows := await Cluster(server).sql(server.dsn, query)):
        await trio.lowlevel.checkpoint()
    return int(rows[0]["pid"])


SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$;
CREATE TRIGGER slow AFTER INSERT ON messages FOR EACH STATEMENT EXECUTE FUNCTION slow();
"""


@pytest.mark.parametrize("fault", ["backend", "postmaster", "immediate", "fast"])
async def test_killed_in_the_middle_of_a_batch(
    public_dir: pathlib.Path, new_server: Make, fault: str
) -> None:
    """kill -9 of the backend or of the whole server, or its restart, inside the transaction: the
    batch is stored whole, once, when it is given again."""
    directory = new_server()._data_dir
    async with open_storage(
        dsn="embedded",
        data_dir=directory,
        key=KEY,
        pool_size=1,
        command_timeout=10,
    ) as storage:
        await storage.ensure_connection("sales", ConversationRules())
        watched = EmbeddedPostgres(directory)  # only to ask for addresses
        home = directory / "postgres"
        watched._sockets = home / "run"
        outside = Cluster(watched)
        await outside.script(watched.dsn, SLOW)
        batch = [envelope(f"A{number}") for number in range(10)]
        postmaster = int((home / "data" / "postmaster.pid").read_text().split()[0])

        async def strike() -> None:
            pid = await _backend_in_the_middle(watched)
            match fault:
                case "backend":
                    os.kill(pid, signal.SIGKILL)
                case "postmaster":
                    os.kill(postmaster, signal.SIGKILL)
                case "immediate":
                    os.kill(postmaster, signal.SIGQUIT)
                case _:
                    os.kill(postmaster, signal.SIGINT)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(strike)
            with pytest.raises(StorageUnavailableError):
                await storage.apply(batch)
        with trio.fail_after(30):
            while True:
                try:
                    outcomes = await storage.apply(batch)
                    break
                except StorageUnavailableError:
                    await trio.sleep(0.05)
        assert {each.verdict for each in outcomes} == {Verdict.STORED}
        assert await counts(storage) == (10, 0, 0)


@pytest.fixture
def small_disk(public_dir: pathlib.Path) -> cabc.Iterator[pathlib.Path]:
    """A directory with little room."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("only root can mount a small disk")
    directory = public_directory(public_dir)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=110m,mode=0755", "tmpfs", directory],
        capture_output=True,
        check=False,
        timeout=20,
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=False, timeout=20)


async def test_a_full_disk(small_disk: pathlib.Path, new_server: Make) -> None:
    """With no room for data and log of the cluster nothing is stored, the server itself may go
    down and fail to come up; once there is room all comes in, and what was stored is there."""
    new_server(directory=small_disk)
    async with open_storage(
        dsn="embedded", data_dir=small_disk, key=KEY, pool_size=1, command_timeout=5
    ) as storage:
        await storage.ensure_connection("sales", ConversationRules())
        assert (await take(storage, "A0")).verdict is Verdict.STORED
        filler = small_disk / "filler"
        room = shutil.disk_usage(small_disk).free
        filler.write_bytes(bytes(room - 256 * 1024))
        refused: str | None = None
        stored = 1
        with trio.fail_after(60):
            while refused is None:
                batch = [envelope(f"B{stored + number}", text="x" * 900) for number in range(200)]
                try:
                    await storage.apply(batch)
                except StorageUnavailableError as error:
                    refused = str(error)
                else:
                    stored += len(batch)
        assert "No space left" in log_of(small_disk) or "53100" in refused
        for _try in range(3):  # it stays so
            with pytest.raises(StorageUnavailableError):
                await storage.apply(batch)
        filler.unlink()
        with trio.fail_after(60):
            while True:
                try:
                    outcomes = await storage.apply(batch)
                    break
                except StorageUnavailableError:
                    await trio.sleep(0.1)
        assert {each.verdict for each in outcomes} == {Verdict.STORED}
        assert await counts(storage) == (stored + len(batch), 0, 0)
        assert (await take(storage, "A0")).verdict is Verdict.DUPLICATE


async def test_a_server_that_cannot_be_started_for_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Whatever keeps the embedded server from starting, it is tried again until it does."""
    failures: list[Exception] = [
        OSError(28, "No space left on device"),
        StorageUnavailableError("not ready"),
    ]
    launched = trio.Event()

    class Server:
        async def wait_died(self) -> int:
            if launched.is_set():
                await trio.sleep_forever()
            await trio.lowlevel.checkpoint()
            return -9

        async def launch(self) -> None:
            if failures:
                raise failures.pop(0)
            launched.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_running, Server())
        with trio.fail_after(60):
            await launched.wait()
        nursery.cancel_scope.cancel()
