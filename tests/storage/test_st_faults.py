"""PostgreSQL that fails in every way it can: nothing is lost, nothing stored twice or given up."""

import collections.abc as cabc
import functools
import socket
import threading

import pytest
import trio
from st_faults import Broken, behind_proxy, counts, crowd, opened, session, until_taken
from st_helpers import KEY, Cluster, take

from simulator.tcp_proxy import Flow, Gate
from storage.api import ConnectionEvent, Verdict
from storage.errors import StorageBrokenError, StorageUnavailableError
from storage.postgres import PostgresStorage
from tests.support.psql import Psql


@pytest.fixture
async def broken(cluster: Cluster, dsn: str) -> cabc.AsyncIterator[Broken]:
    """The test's database, over TCP, through a proxy."""
    async with behind_proxy(cluster.server, dsn) as made:
        yield made


async def test_a_half_open_connection_is_given_up(broken: Broken) -> None:
    """No answer and no end: writer and readers fail in time, and go on over new connections."""
    async with opened(broken.dsn) as storage:
        await take(storage, "A1")
        assert broken.proxy.half_open() == 2
        with trio.fail_after(10):
            with pytest.raises(StorageUnavailableError, match="did not answer in time"):
                await take(storage, "A2")
            with pytest.raises(StorageUnavailableError, match="did not answer in time"):
                await storage.ping()
        assert (await take(storage, "A2")).verdict is Verdict.STORED
        assert await counts(storage) == (2, 0, 0)


async def test_a_lost_answer_to_a_commit(broken: Broken) -> None:
    """The batch is committed and nobody tells: given again, it is stored once."""
    async with opened(broken.dsn) as storage:
        await take(storage, "A1")
        broken.proxy.flow(down=Flow(stalled=True))
        with pytest.raises(StorageUnavailableError):
            await take(storage, "A2")
        broken.proxy.clear()
        assert (await until_taken(storage, "A2")).verdict is Verdict.DUPLICATE
        assert (await counts(storage))[0] == 2


@pytest.mark.parametrize("fault", ["cut", "reset", "shut", "silent"])
async def test_connections_that_end_and_do_not_come_back_at_once(
    broken: Broken, fault: str
) -> None:
    """Cut, reset, refused, or accepted and never answered: unavailable in time, then as before."""
    async with opened(broken.dsn) as storage:
        await take(storage, "A1")
        match fault:
            case "shut":
                broken.proxy.shut()
            case "silent":
                broken.proxy.gate = Gate.SILENT
        broken.proxy.reset() if fault == "reset" else broken.proxy.cut()
        if fault in ("shut", "silent"):
            with trio.fail_after(10):
                for call in (functools.partial(take, storage, "A2"), storage.ping):
                    with pytest.raises(StorageUnavailableError):
                        await call()
        broken.proxy.clear()
        assert (await until_taken(storage, "A2")).verdict is Verdict.STORED
        await storage.ping()
        assert await counts(storage) == (2, 0, 0)


async def test_slow_and_byte_by_byte(broken: Broken) -> None:
    """A bad line is no fault: all is stored."""
    broken.proxy.flow(up=Flow(piece=7), down=Flow(piece=1))
    async with opened(broken.dsn, command_timeout=5) as storage:
        assert (await take(storage, "A1")).verdict is Verdict.STORED
        assert await counts(storage) == (1, 0, 0)


async def test_a_reader_that_is_cancelled_does_not_wait_for_the_dead(broken: Broken) -> None:
    """A deadline of the caller holds, even if the server would not hear of it."""
    async with opened(broken.dsn, command_timeout=20) as storage:
        await storage.ping()
        broken.proxy.half_open()
        began = trio.current_time()
        with trio.move_on_after(0.2) as scope:
            await storage.ping()
        assert scope.cancelled_caught
        assert trio.current_time() - began < 5
        await storage.ping()


EVENT = ConnectionEvent(
    connection="sales", previous="stopped", state="connecting", reason="x", sentence="y"
)


async def test_readers_that_hang_hold_nobody_up(cluster: Cluster, dsn: str) -> None:
    """With all of the pool hanging, one more reader fails in time, and what the writer writes is
    written meanwhile."""
    async with opened(dsn, command_timeout=2, pool_size=1) as storage:

        async def read() -> None:
            with pytest.raises(StorageUnavailableError):
                await storage.conversations(status=None, connection=None, limit=1)

        async with (
            session(dsn, "LOCK TABLE conversations IN ACCESS EXCLUSIVE MODE"),
            trio.open_nursery() as nursery,
        ):
            for _reader in range(3):
                nursery.start_soon(read)
            while not await cluster.sql(dsn, "SELECT FROM pg_locks WHERE NOT granted"):
                await trio.lowlevel.checkpoint()
            await storage.record_event(EVENT)
            [row] = await cluster.sql(dsn, "SELECT count(*) FROM pg_locks WHERE NOT granted")
            assert row["count"] == 1, "the readers should still wait"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        b"N" + bytes(range(256)),
        b"S" + b"\x16\x03\x01" + bytes(64),
        b"NR\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05IZ\x7f\xff\xff\xff",
        b"NE\x00\x00\x00\x04",
        b"N" + bytes(1000),
        b"",
    ],
)
async def test_a_server_that_speaks_something_else(answer: bytes) -> None:
    """Whatever answers at that address: one error, in time."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some(1024)
            await stream.send_all(answer)
            await stream.receive_some(1024)
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(functools.partial(trio.serve_tcp, serve, 0))
        port = listeners[0].socket.getsockname()[1]
        with trio.fail_after(10), pytest.raises(StorageUnavailableError):
            async with opened(f"postgresql://zapvisor@127.0.0.1:{port}/none"):
                pytest.fail("opened")
        nursery.cancel_scope.cancel()


async def test_a_long_lock_on_messages(cluster: Cluster, dsn: str) -> None:
    """While another session holds the table no batch is stored, no waiting session is left
    behind, and what needs other tables answers; then it is stored, once."""
    async with opened(dsn) as storage:
        await take(storage, "A1")
        async with session(dsn, "LOCK TABLE messages IN ACCESS EXCLUSIVE MODE"):
            for _try in range(4):
                with pytest.raises(StorageUnavailableError, match=r"55P03.*another session"):
                    await take(storage, "A2")
                assert (await storage.connections())[0].messages == 1
            [[waiting]] = await cluster.sql(dsn, "SELECT count(*) FROM pg_locks WHERE NOT granted")
            assert waiting == 0
        assert (await take(storage, "A2")).verdict is Verdict.STORED
        assert await counts(storage) == (2, 0, 0)


FAIL = """
CREATE TABLE failing (state text NOT NULL);
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_state text := (SELECT state FROM failing);
BEGIN
    IF v_state IS NOT NULL THEN
        RAISE EXCEPTION 'it fails' USING ERRCODE = v_state;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fail BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION fail();
"""
OURS = "FROM pg_stat_activity WHERE application_name = 'zapvisor' AND datname = current_database()"


async def test_refusals_that_pass(cluster: Cluster, dsn: str) -> None:
    """Serialization failures, deadlocks, a full disk, no memory: the same batch is stored later,
    over the session of before, and no message is given up."""
    await cluster.script(dsn, FAIL)
    async with opened(dsn) as storage:
        await take(storage, "A0")
        sessions = await cluster.sql(dsn, f"SELECT pid {OURS} ORDER BY pid")
        for number, state in enumerate(("40001", "40P01", "53100", "53200", "57014", "0A000"), 1):
            await cluster.sql(dsn, f"INSERT INTO failing VALUES ('{state}')")
            for _try in range(2):
                with pytest.raises(StorageUnavailableError, match=state):
                    await take(storage, f"A{number}")
            await cluster.sql(dsn, "DELETE FROM failing")
            assert (await take(storage, f"A{number}")).verdict is Verdict.STORED
        assert await cluster.sql(dsn, f"SELECT pid {OURS} ORDER BY pid") == sessions
        assert await counts(storage) == (7, 0, 0)


async def test_a_deadlock(cluster: Cluster, dsn: str) -> None:
    """A batch that gives way to another session is stored afterwards, once."""
    async with opened(dsn, command_timeout=8) as storage:
        await take(storage, "A1")
        other = Psql(dsn)
        try:
            await other.run("SET deadlock_timeout = '20s'; BEGIN; LOCK messages IN SHARE MODE")

            async def lose() -> None:
                with pytest.raises(StorageUnavailableError, match="deadlock detected"):
                    await take(storage, "A2")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(lose)
                while not await cluster.sql(dsn, "SELECT FROM pg_locks WHERE NOT granted"):
                    await trio.lowlevel.checkpoint()
                # The batch holds the counters and waits for the messages.
                await other.run("UPDATE counters SET messages = messages; ROLLBACK")
        finally:
            await other.aclose()
        assert (await take(storage, "A2")).verdict is Verdict.STORED
        assert await counts(storage) == (2, 0, 0)


@pytest.mark.parametrize(
    ("damage", "repair"),
    [
        ("TABLE messages RENAME TO gone", "TABLE gone RENAME TO messages"),
        ("TABLE messages RENAME text TO gone", "TABLE messages RENAME gone TO text"),
        ("FUNCTION apply_batch RENAME TO gone", "FUNCTION gone RENAME TO apply_batch"),
        ("SCHEMA public RENAME TO gone", "SCHEMA gone RENAME TO public"),
    ],
)
async def test_a_broken_schema_is_no_poison(
    cluster: Cluster, dsn: str, damage: str, repair: str
) -> None:
    """A missing table, column, function or schema refuses every message for now, none for good."""
    async with opened(dsn) as storage:
        await take(storage, "A1")
        await cluster.sql(dsn, f"ALTER {damage}")
        for _try in range(2):
            with pytest.raises(StorageBrokenError, match="restore"):
                await take(storage, "A2")
        await cluster.sql(dsn, f"ALTER {repair}")
        assert (await until_taken(storage, "A2")).verdict is Verdict.STORED
        assert await counts(storage) == (2, 0, 0)


async def test_a_server_that_becomes_read_only(cluster: Cluster, dsn: str) -> None:
    """A demoted server is told as such, at a write and at a new connection; then it goes on."""
    database = dsn.partition("@/")[2].partition("?")[0]
    await cluster.script(dsn, FAIL)
    async with opened(dsn) as storage:
        await take(storage, "A1")
        await cluster.sql(dsn, "INSERT INTO failing VALUES ('25006')")
        with pytest.raises(StorageBrokenError, match=r"25006.*name the primary"):
            await take(storage, "A2")
        setting = f"ALTER DATABASE {database} SET default_transaction_read_only"
        await cluster.sql(cluster.server.dsn, f"{setting} = on")
        with pytest.raises(StorageUnavailableError, match=r"takes no writes.*name the primary"):
            await take(storage, "A2")
        await cluster.sql(cluster.server.dsn, f"{setting} = off")
        await cluster.sql(dsn, "DELETE FROM failing")
        assert (await take(storage, "A2")).verdict is Verdict.STORED


async def test_no_connection_is_free(cluster: Cluster, dsn: str) -> None:
    """With all of max_connections taken by others, at the start and after a loss: it says so,
    and goes on when one is free. What has a connection keeps it."""
    async with opened(dsn) as storage:
        await take(storage, "A1")
        async with crowd(dsn) as fill:
            await fill("SELECT 1")
            with pytest.raises(StorageUnavailableError, match=r"53300.*max_connections"):
                async with PostgresStorage.open(dsn, key=KEY):
                    pytest.fail("opened")
            assert (await take(storage, "A2")).verdict is Verdict.STORED
            await fill(f"SELECT pg_terminate_backend(pid, 5000) {OURS}")
            for call in (functools.partial(take, storage, "A3"), storage.ping):
                for _try in range(2):  # at first the connection that was lost may show
                    with trio.fail_after(5), pytest.raises(StorageUnavailableError):
                        await call()
        assert (await until_taken(storage, "A3")).verdict is Verdict.STORED
        assert await counts(storage) == (3, 0, 0)


async def test_a_name_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database's name is not resolved: unavailable in time, though a thread hangs."""
    hanging = threading.Event()

    def look_up(_host: object, _port: object, *options: int) -> list[object]:
        if not (options and options[-1] & socket.AI_NUMERICHOST):
            hanging.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        began = trio.current_time()
        with pytest.raises(StorageUnavailableError):
            async with opened("postgresql://zapvisor@database.invalid/none"):
                pytest.fail("opened")
        assert trio.current_time() - began < 15
    finally:
        hanging.set()
