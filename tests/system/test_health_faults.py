"""Health of the real daemon while its real database hangs, is locked, or is gone."""

import contextlib
import os
import pathlib
import signal
import typing as t

import httpx
import pytest
import trio

from simulator import open_simulator
from storage.embedded import EmbeddedPostgres
from tests.support.daemon_process import DaemonProcess, open_daemon
from tests.support.psql import Psql
from tests.system.test_postgres_faults import postgres_processes

DEADLINE: t.Final = 5.0  # seconds: what is promised


async def ask(daemon: DaemonProcess, path: str) -> httpx.Response:
    """An answer, in time."""
    with trio.fail_after(DEADLINE):
        return await daemon.request("GET", path)


async def sick(daemon: DaemonProcess, words: str) -> None:
    """Once what was read before is too old to be told, all of health answers in time: the verdict,
    what is known without the database, and why."""

    async def noticed() -> bool:
        return (await ask(daemon, "/health/ready")).status_code == 503

    await daemon.until(noticed, "the daemon is not ready")
    live, ready, detailed, metrics = [
        await ask(daemon, path)
        for path in ("/health/live", "/health/ready", "/health/detailed", "/metrics")
    ]
    health = detailed.json()
    assert (live.status_code, ready.status_code) == (200, 503)
    assert health["verdict"] == "failing"
    assert words in health["database"]["error"], health["database"]
    assert (health["sync"], health["conversations"], health["outbox"]) == (None, None, None)
    assert [row["name"] for row in health["connections"]] == ["sales"]
    assert "zapvisor_database_up 0.0" in metrics.text
    assert 'zapvisor_conversations{status="waiting"} ' in metrics.text


async def well(daemon: DaemonProcess) -> None:
    """Wait until it says so."""

    async def ready() -> bool:
        return (await ask(daemon, "/health/ready")).status_code == 200

    await daemon.until(ready, "the daemon is ready")


@contextlib.contextmanager
def standing_still(server: EmbeddedPostgres) -> t.Iterator[None]:
    """All processes of the database are stopped meanwhile."""
    stopped = postgres_processes(server)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="needs /proc")
async def test_health_answers_in_time_whatever_the_database_does(tmp_path: pathlib.Path) -> None:
    """A server that stands still, a pool that a lock has exhausted, and no server at all."""
    async with (
        EmbeddedPostgres(tmp_path / "postgres", temporary=True) as server,
        open_simulator(seed="health", listen=("127.0.0.1", 0)) as simulator,
        open_daemon(
            tmp_path / "d",
            simulator.url,
            simulator.root_key,
            "sales",
            dsn=server.dsn,
            storage='command_timeout = "60s"\npool_size = 1',
            supervision='heartbeat_interval = "500ms"',
        ) as daemon,
    ):
        team = simulator.create_account("team")
        await daemon.link("sales", lambda qr: simulator.scan_qr(qr, phone=team.pn.user))
        customer = simulator.create_account("customer")
        await daemon.until_message(await customer.phone.send_text(team.pn, "bom dia"))
        await well(daemon)
        beats: set[str] = set()

        async def beating() -> bool:
            health = (await ask(daemon, "/health/detailed")).json()
            [sales] = health["connections"]
            beats.add(sales["last_heartbeat_at"])
            assert health["database"]["size_bytes"] > 1_000_000
            counts = health["messages"]["stored"], health["conversations"]["waiting"]
            return len(beats) > 2 and counts == (1, 1)  # a reading is some seconds old

        await daemon.until(beating, "heartbeats are counted as they are answered")

        with standing_still(server):
            await sick(daemon, "no answer within")
            done = await daemon._run("health")
            assert done.returncode == 2, done
        await well(daemon)

        other = Psql(server.dsn)
        try:
            await other.run("BEGIN; LOCK TABLE contacts IN ACCESS EXCLUSIVE MODE")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(daemon.request, "GET", "/contacts")  # takes the whole pool
                await sick(daemon, "storage.pool_size")
                await other.run("COMMIT")
            await well(daemon)
        finally:
            await other.aclose()

        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        with trio.fail_after(20):
            await server.wait_died()
        await sick(daemon, "")
        await server.launch()
        await well(daemon)

        assert await daemon.terminate() == 0
