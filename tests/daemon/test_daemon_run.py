"""The daemon's life in this process: start, signals, refusals, and the end of it."""

import collections.abc as cabc
import contextlib
import functools
import os
import signal
import socket
import time
from pathlib import Path

import attrs
import httpx
import pytest
import structlog
import structlog.testing
import trio
import trio.testing

from config.listeners import HttpConfig
from config.load import load_config
from config.model import Config
from daemon.errors import CommandError, StartError
from daemon.lock import data_directory
from daemon.notify import notify
from daemon.run import one_line_errors, serve
from daemon.signals import obey_signals
from storage.api import Storage
from storage.errors import StorageLockedError, StorageUnavailableError
from storage.memory import MemoryStorage


@contextlib.asynccontextmanager
async def in_memory(_config: Config) -> cabc.AsyncIterator[Storage]:
    """Storage that is there at once."""
    yield MemoryStorage()


@pytest.fixture
def config(short_path: Path) -> Config:
    """Two connections and a short data directory."""
    (short_path / "supervisor.toml").write_text(
        '[http]\nlisten = ""\n[daemon]\nshutdown_timeout = "60s"\n'
        '[[connections]]\nname = "sales"\n[[connections]]\nname = "support"\n'
    )
    return load_config(short_path / "supervisor.toml", {})


@pytest.fixture(autouse=True)
def no_watchdog(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The watchdog would end the tests, too: note it instead."""
    armed: list[float] = []
    monkeypatch.setattr("daemon.run.exit_after", armed.append)
    return armed


async def test_from_start_to_sigterm(
    config: Config, no_watchdog: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY when all is up, STOPPING at the signal; the files that name a daemon are gone."""
    address = str(config.data_dir.parent / "notify.sock")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    receiver = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_DGRAM)
    with receiver, trio.fail_after(20):
        await receiver.bind(address)
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await serve(config, version="1.2.3", open_storage=in_memory)

            nursery.start_soon(run)
            assert await _told(receiver) == b"READY=1"
            assert config.control_socket.is_socket()
            with pytest.raises(StartError, match=f"another daemon .process {os.getpid()}."):
                await serve(config, version="1.2.3", open_storage=in_memory)
            signal.raise_signal(signal.SIGTERM)
            assert await _told(receiver) == b"STOPPING=1"
    assert not config.control_socket.exists()
    assert no_watchdog == [60.0]


async def _told(receiver: trio.socket.SocketType) -> bytes:
    """What systemd is told next, sentences for people aside."""
    while (state := await receiver.recv(500)).startswith(b"STATUS="):
        pass
    return state


async def test_sighup_reloads(
    config: Config, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd is told; a broken file is refused whole, a good one is put in force."""
    address = str(short_path / "notify.sock")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert config.path is not None
    text = config.path.read_text()
    receiver = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_DGRAM)
    with receiver, trio.fail_after(20), structlog.testing.capture_logs() as logs:
        await receiver.bind(address)

        async def reload(content: str) -> dict[str, object]:
            assert config.path is not None
            config.path.write_text(content)
            signal.raise_signal(signal.SIGHUP)
            reloading, moment = (await _told(receiver)).split(b"\nMONOTONIC_USEC=")
            assert reloading == b"RELOADING=1"
            now = time.clock_gettime(time.CLOCK_MONOTONIC)  # systemd compares it with this clock
            assert now - 60 < int(moment) / 1e6 <= now
            assert await _told(receiver) == b"READY=1"
            while True:
                told = [each for each in logs if str(each["event"]).startswith("daemon.reload")]
                if told:
                    logs.clear()
                    return dict(told[0])
                await trio.testing.wait_all_tasks_blocked()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                functools.partial(serve, config, version="1.2.3", open_storage=in_memory)
            )
            assert await _told(receiver) == b"READY=1"
            logs.clear()
            refused = await reload(f"{text}[nonsense]\n[daemon.x]\n")
            assert refused["event"] == "daemon.reload_refused"
            good = await reload(f'{text}[[connections]]\nname = "new"\n[media]\nconcurrency = 9\n')
            assert good["event"] == "daemon.reloaded"
            assert (good["added"], good["unchanged"]) == (("new",), 2)
            assert good["restart"] == ("media.concurrency",)
            signal.raise_signal(signal.SIGTERM)
            assert await _told(receiver) == b"STOPPING=1"


async def test_a_port_that_is_taken(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon starts all the same, and its health tells."""
    address = str(config.data_dir.parent / "notify.sock")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    receiver = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_DGRAM)
    with receiver, socket.create_server(("127.0.0.1", 0)) as other, trio.fail_after(20):
        await receiver.bind(address)
        place = f"127.0.0.1:{other.getsockname()[1]}"
        config = attrs.evolve(config, http=HttpConfig(listen=place))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                functools.partial(serve, config, version="1.2.3", open_storage=in_memory)
            )
            assert await _told(receiver) == b"READY=1"
            transport = httpx.AsyncHTTPTransport(uds=str(config.control_socket))
            async with httpx.AsyncClient(transport=transport, base_url="http://zv") as client:
                assert len((await client.get("/status")).json()) == 2
                health = (await client.get("/health")).json()
            assert any(place in reason for reason in health["reasons"])
            signal.raise_signal(signal.SIGTERM)
            assert await _told(receiver) == b"STOPPING=1"


async def test_a_signal_during_the_start(config: Config) -> None:
    """Nothing that is waited for keeps the daemon from ending."""
    waiting = trio.Event()

    @contextlib.asynccontextmanager
    async def never(_config: Config) -> cabc.AsyncIterator[Storage]:
        waiting.set()
        await trio.sleep_forever()
        yield MemoryStorage()

    async def stop_when_waiting() -> None:
        await waiting.wait()
        signal.raise_signal(signal.SIGINT)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_when_waiting)
            await serve(config, version="1", open_storage=never)


async def test_an_unreachable_database(config: Config) -> None:
    """After a bounded time one error names the host, not the password, and what to do."""
    tries = 0

    @contextlib.asynccontextmanager
    async def absent(_config: Config) -> cabc.AsyncIterator[Storage]:
        nonlocal tries
        tries += 1
        raise StorageUnavailableError("connection refused")
        yield MemoryStorage()

    environ = {"ZAPVISOR_STORAGE_DSN": "postgresql://me:hush@db.example:5433/zap"}
    config = load_config(config.path, environ)
    with trio.fail_after(10), pytest.raises(CommandError) as caught, one_line_errors():
        await serve(config, version="1", open_storage=absent, patience=1.5)
    assert str(caught.value) == (
        "the database at db.example:5433 cannot be reached: connection refused;"
        " check that it runs and that storage.dsn is right"
    )
    assert tries == 2


@pytest.mark.parametrize("dsn", ["postgresql://db.example/zap", "embedded"])
async def test_a_database_that_comes_late(config: Config, dsn: str) -> None:
    """A server that starts a moment after the daemon is waited for; one of our own that died
    while it started is started again."""
    environ = {"ZAPVISOR_STORAGE_DSN": dsn}
    config = load_config(config.path, environ)
    there = False

    @contextlib.asynccontextmanager
    async def late(_config: Config) -> cabc.AsyncIterator[Storage]:
        nonlocal there
        if not there:
            there = True
            raise StorageUnavailableError("connection refused")
        signal.raise_signal(signal.SIGTERM)
        yield MemoryStorage()

    with trio.fail_after(10):
        await serve(config, version="1", open_storage=late)


async def test_waiting_for_the_database_is_told(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a service manager the daemon stays while its database is away, says so to whoever
    asks, and goes on when it is there."""
    address = str(config.data_dir.parent / "notify.sock")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setattr("daemon.run.PATIENCE", 0.0)
    monkeypatch.setattr("daemon.run._PAUSE", 0.05)
    there = False

    @contextlib.asynccontextmanager
    async def away(_config: Config) -> cabc.AsyncIterator[Storage]:
        if not there:
            raise StorageUnavailableError("connection refused")
        yield MemoryStorage()

    receiver = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_DGRAM)
    transport = httpx.AsyncHTTPTransport(uds=str(config.control_socket))
    client = httpx.AsyncClient(transport=transport, base_url="http://zapvisor")
    with receiver, trio.fail_after(20):
        await receiver.bind(address)
        async with trio.open_nursery() as nursery, client:
            nursery.start_soon(functools.partial(serve, config, version="1", open_storage=away))
            told = (await receiver.recv(1000)).decode()
            assert told.startswith("STATUS=the daemon waits for its database: ")
            assert "EXTEND_TIMEOUT_USEC=" in told
            for _request in range(2):
                answer = await client.get("/health")
                assert answer.status_code == 503
                assert answer.json()["type"] == "urn:zapvisor:starting"
                assert "connection refused" in answer.json()["detail"]
            there = True
            while await receiver.recv(1000) != b"READY=1":
                pass
            assert (await client.get("/health")).status_code == 200
            signal.raise_signal(signal.SIGTERM)


def test_expected_errors_become_one_line() -> None:
    """However deep they are in groups; a bug keeps its traceback."""
    with pytest.raises(StartError, match="in use"), one_line_errors():
        raise ExceptionGroup("a", [ExceptionGroup("b", [StorageLockedError("in use")])])
    with pytest.raises(ExceptionGroup), one_line_errors():
        raise ExceptionGroup("a", [ZeroDivisionError()])


def test_data_directories_that_cannot_work(tmp_path: Path) -> None:
    """A file in the place of the directory: one error with the advice."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot be used"), data_directory(tmp_path / "file"):
        pass


def test_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    """What a dead daemon leaves behind does not keep the next one out."""
    directory = tmp_path / "new" / "data"
    for _ in range(2):
        with data_directory(directory):
            assert (directory / "daemon.lock").read_text() == f"{os.getpid()}\n"
    assert directory.stat().st_mode & 0o777 == 0o700


async def test_signals() -> None:
    """The first asks to stop, the next to stop at once, SIGHUP for nothing."""
    calls: list[str] = []
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:

            def stop_now() -> None:
                calls.append("now")
                nursery.cancel_scope.cancel()

            await nursery.start(obey_signals, lambda: calls.append("stop"), stop_now)
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.raise_signal(number)
                await trio.testing.wait_all_tasks_blocked()
    assert calls == ["stop", "now"]
    assert [entry["event"] for entry in logs if entry.get("signal") == "SIGHUP"] == [
        "daemon.signal_ignored"
    ] * 2


async def test_a_terminal_that_goes_away() -> None:
    """What runs in the foreground stops with its terminal."""
    async with trio.open_nursery() as nursery:
        stop = nursery.cancel_scope.cancel
        await nursery.start(functools.partial(obey_signals, foreground=True), stop, stop)
        signal.raise_signal(signal.SIGHUP)
        with trio.fail_after(10):
            await trio.sleep_forever()


def test_notify_without_a_listener(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No systemd, or one that went away, is not the daemon's trouble."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(short_path / "gone"))
    notify("READY=1")


def test_notify_by_abstract_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that begin with @ are in the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0zapvisor-test-{os.getpid()}")
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@zapvisor-test-{os.getpid()}")
        notify("READY=1")
        assert receiver.recv(100) == b"READY=1"


async def test_a_control_socket_in_use(config: Config) -> None:
    """The daemon does not start beside another one on the same socket, and says so."""
    config.data_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(config.control_socket))
        other.listen()
        with pytest.raises(CommandError, match="a daemon answers at"), one_line_errors():
            await serve(config, version="1", open_storage=in_memory)


async def test_a_connection_that_was_made_survives_a_restart(
    config: Config, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a reload, without a word in the file; once deleted it stays away."""
    address = str(short_path / "notify.sock")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    storage = MemoryStorage()

    @contextlib.asynccontextmanager
    async def the_same(_config: Config) -> cabc.AsyncIterator[Storage]:
        yield storage

    receiver = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_DGRAM)

    @contextlib.asynccontextmanager
    async def running() -> cabc.AsyncIterator[httpx.AsyncClient]:
        async with trio.open_nursery() as nursery:
            run = functools.partial(serve, config, version="1.2.3", open_storage=the_same)
            nursery.start_soon(run)
            while await _told(receiver) != b"READY=1":
                pass  # the end of the one before is still being told
            transport = httpx.AsyncHTTPTransport(uds=str(config.control_socket))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://zapvisor", timeout=20
            ) as client:
                yield client
            signal.raise_signal(signal.SIGTERM)

    async def names(client: httpx.AsyncClient) -> list[str]:
        return [row["name"] for row in (await client.get("/connections")).json()]

    with receiver, trio.fail_after(60):
        await receiver.bind(address)
        async with running() as client:
            made = await client.post("/connections", json={"name": "shop", "groups": False})
            assert made.status_code == 201, made.text
        async with running() as client:
            assert await names(client) == ["sales", "shop", "support"]
            assert (await client.post("/reload")).json()["unchanged"] == 3
            shown = (await client.get("/connections/shop")).json()
            assert (shown["origin"], shown["effective"]["groups"]) == ("api", False)
            assert (await client.delete("/connections/sales")).status_code == 409
            assert (await client.delete("/connections/shop")).status_code == 204
        async with running() as client:
            assert await names(client) == ["sales", "support"]
