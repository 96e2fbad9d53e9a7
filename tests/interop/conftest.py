"""Real clients for tests, a simulator to talk to, and one PostgreSQL for all daemons."""

import collections.abc as cabc
import os
import pathlib
import shutil
import subprocess
import tempfile
import typing as t
import uuid

import pytest
import trio
from interop_peer import TIMEOUT, Driver, Peer
from nats_server import PROGRAM

import simulator as simulator_package
from simulator import Account, Simulator, open_simulator
from storage.binaries import find_binaries
from storage.embedded import EmbeddedPostgres
from tests.support.daemon_process import DaemonProcess, open_daemon

__all__ = ["Driver", "Peer"]

HERE: t.Final = pathlib.Path(__file__).parent


def missing() -> str | None:
    """Why there can be no real clients on this machine."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not (HERE / "node_modules" / "baileys").is_dir():
        return "tests/interop/node_modules is missing: run `make interop`"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory needs the real clients, or a real nats-server; required ones
    must not be skipped."""
    clients = missing()
    server = "nats-server is not installed" if PROGRAM is None else None
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.interop)
        reason = server if item.path.name == "test_nats.py" else clients
        if reason is not None and os.environ.get("REQUIRE_INTEROP") != "1":
            item.add_marker(pytest.mark.skip(reason=f"no third-party program: {reason}"))


@pytest.fixture(scope="session")
def postgres_server() -> cabc.Iterator[EmbeddedPostgres]:
    """One PostgreSQL for the daemons of all tests, in a place that its user can reach."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="zv-"))
    directory.chmod(0o755)
    server = EmbeddedPostgres(
        directory, temporary=True, durable=False, state_root=directory / "state"
    )
    trio.run(server.start)
    try:
        yield server
    finally:
        trio.run(server.stop)
        shutil.rmtree(directory, ignore_errors=True)


def run_sql(dsn: str, sql: str) -> None:
    """One statement, by itself."""
    psql = find_binaries().directory / "psql"
    flags = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, dsn]
    subprocess.run([str(psql), *flags], check=True, timeout=TIMEOUT, stdout=subprocess.DEVNULL)


@pytest.fixture
async def database(postgres_server: EmbeddedPostgres) -> str:
    """An empty database of the test's own: its DSN."""
    name = f"t{uuid.uuid4().hex[:12]}"
    await trio.to_thread.run_sync(run_sql, postgres_server.dsn, f"CREATE DATABASE {name}")
    before, _, parameters = postgres_server.dsn.partition("?")
    return f"{before.rpartition('/')[0]}/{name}?{parameters}"


@pytest.fixture
async def daemon(
    simulator: Simulator, tmp_path: pathlib.Path, database: str
) -> cabc.AsyncIterator[DaemonProcess]:
    """A daemon of this test's simulator, with two connections that nobody has paired yet."""
    certificate = tmp_path / "media.pem"
    certificate.write_text(simulator.certificate)
    settings = (
        '[sending]\ngap = "0s"\nper_minute = 10000\n'
        f'[media]\nca_file = "{certificate}"\nhosts = ["{simulator.media.host}"]\n'
        'max_size = "1MiB"\n'
    )
    async with open_daemon(
        tmp_path / "daemon",
        simulator.url,
        simulator.root_key,
        "sales",
        "support",
        dsn=database,
        settings=settings,
    ) as running:
        yield running


@pytest.fixture
async def team(daemon: DaemonProcess, simulator: Simulator) -> Account:
    """The account whose companion is the connection ``sales``, online."""
    account = simulator.create_account("team")

    async def scan(qr: str) -> object:
        return await simulator.scan_qr(qr, phone=account.pn.user)

    await daemon.link("sales", scan)
    return account


@pytest.fixture
async def simulator() -> cabc.AsyncIterator[Simulator]:
    """A simulator on a free port, open as long as the test runs."""
    settings = simulator_package.Settings(restart_pause=0.1)
    async with open_simulator(listen=("127.0.0.1", 0), settings=settings) as running:
        yield running


@pytest.fixture
async def baileys(simulator: Simulator, tmp_path: pathlib.Path) -> cabc.AsyncIterator[Driver]:
    """Real clients of this test's simulator."""
    assert (reason := missing()) is None, f"REQUIRE_INTEROP is set, but {reason}"
    certificate = tmp_path / "simulator.pem"
    certificate.write_text(simulator.certificate)
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            ["node", str(HERE / "peer.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=HERE,
            env={
                **os.environ,
                "SIMULATOR": simulator.http_url,
                "NODE_EXTRA_CA_CERTS": str(certificate),
            },
        )
        driver = Driver(process)
        try:
            with trio.fail_after(TIMEOUT):
                await nursery.start(driver.read)
            yield driver
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()
            nursery.cancel_scope.cancel()
