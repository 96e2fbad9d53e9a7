"""The daemon while its PostgreSQL fails in one way after the other, and customers go on writing."""

import contextlib
import os
import pathlib
import signal
import typing as t

import pytest
import trio

from simulator import open_simulator
from simulator.tcp_proxy import TcpProxy, open_tcp_proxy
from storage.embedded import EmbeddedPostgres
from tests.support.daemon_process import DaemonProcess, open_daemon
from tests.support.psql import Psql, PsqlError
from tests.support.traffic import Traffic


def postgres_processes(server: EmbeddedPostgres) -> list[int]:
    """The server's process and all of its backends."""
    leader = server.pid
    assert leader is not None
    found = [leader]
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == leader:
                found.append(int(entry.name))
    return found


class Faults:
    """What happens to the database, in turn; each returns once the database is well again."""

    def __init__(self, daemon: DaemonProcess, server: EmbeddedPostgres, proxy: TcpProxy) -> None:
        self.daemon = daemon
        self.server = server
        self.proxy = proxy

    async def restarted(self) -> None:
        await self._end(signal.SIGINT)

    async def restarted_at_once(self) -> None:
        await self._end(signal.SIGQUIT)

    async def killed(self) -> None:
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> None:
        assert self.server.pid is not None
        os.kill(self.server.pid, how)
        with trio.fail_after(20):
            await self.server.wait_died()
        await self.noticed()
        await self.server.launch()

    async def backend_killed(self) -> None:
        with trio.fail_after(20):
            while not (
                rows := await self._sql(
                    "SELECT pid FROM pg_stat_activity WHERE query LIKE '%apply_batch%'"
                    " AND application_name = 'zapvisor'"
                )
            ):
                await trio.sleep(0.05)  # after the fault before, it may not have written yet
        os.kill(rows[0]["pid"], signal.SIGKILL)

    async def terminated_by_an_administrator(self) -> None:
        await self._sql_at_last(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'zapvisor'"
        )

    async def half_open(self) -> None:
        assert self.proxy.half_open()

    async def unreachable(self) -> None:
        self.proxy.shut()
        self.proxy.reset()
        await self.noticed()
        self.proxy.clear()

    async def locked(self) -> None:
        other = Psql(self.server.dsn)
        try:
            await other.run("BEGIN; LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
            await self.noticed("lock timeout [55P03]; another session holds a lock")
            assert [row["state"] for row in await self.daemon.status()] == ["online"]
            await other.run("COMMIT")
        finally:
            await other.aclose()

    async def without_a_table(self) -> None:
        await self._sql_run("ALTER TABLE messages RENAME TO gone")
        await self.noticed("restore it")
        await self._sql_run("ALTER TABLE gone RENAME TO messages")

    async def frozen(self) -> None:
        """All of its processes stand still; the daemon's command says so in time, with code 2."""
        stopped = postgres_processes(self.server)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            await self.noticed()
            with trio.fail_after(20):
                done = await self.daemon._run("health")
            assert done.returncode == 2, done
            assert b"failing" in done.stdout
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)

    async def noticed(self, reason: str = "") -> None:
        """The writer tries in vain; the health check tells, and why."""

        async def told() -> bool:
            health = (await self.daemon.request("GET", "/health")).json()
            assert health["verdict"] != "ok" or health["writer"]["retrying_seconds"] is None
            return any(
                text.startswith("the writer has been retrying") and reason in text
                for text in health["reasons"]
            )

        await self.daemon.until(told, f"the writer cannot write: {reason}")

    async def _sql_at_last(self, query: str) -> None:
        """Run it when the server is done with what the fault before left it."""
        with trio.fail_after(60):
            while True:
                try:
                    await self._sql(query)
                except PsqlError:
                    await trio.sleep(0.05)
                else:
                    return

    async def _sql(self, query: str) -> list[dict[str, t.Any]]:
        psql = Psql(self.server.dsn)
        try:
            return await psql.ask(query)
        finally:
            await psql.aclose()

    async def _sql_run(self, statement: str) -> None:
        psql = Psql(self.server.dsn)
        try:
            await psql.run(statement)
        finally:
            await psql.aclose()


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="needs /proc")
async def test_every_fault_of_the_database_under_load(tmp_path: pathlib.Path) -> None:
    """Restarts, kills, lost and half-open connections, locks, a missing table, a server that
    stands still: nothing is lost, doubled or given up, and the connection to WhatsApp stays."""
    async with (
        EmbeddedPostgres(tmp_path / "postgres", temporary=True) as server,
        open_tcp_proxy(str(server.home / "run" / ".s.PGSQL.5432")) as proxy,
        open_simulator(seed="postgres", listen=("127.0.0.1", 0)) as simulator,
        open_daemon(
            tmp_path / "d",
            simulator.url,
            simulator.root_key,
            "sales",
            dsn=f"postgresql://zapvisor@127.0.0.1:{proxy.port}/postgres",
            storage='command_timeout = "1s"',
            settings='[writer]\nretry_max = "500ms"',
        ) as daemon,
    ):
        team = simulator.create_account("team")
        await daemon.link("sales", lambda qr: simulator.scan_qr(qr, phone=team.pn.user))
        traffic = Traffic.to(simulator, team)
        faults = Faults(daemon, server, proxy)
        daemon.dsn = server.dsn  # the test's own questions take the direct way
        async with trio.open_nursery() as nursery:
            await nursery.start(traffic.run)
            for strike in (
                faults.restarted,
                faults.restarted_at_once,
                faults.killed,
                faults.backend_killed,
                faults.terminated_by_an_administrator,
                faults.half_open,
                faults.unreachable,
                faults.locked,
                faults.without_a_table,
                faults.frozen,
            ):
                before = len(traffic.sent)
                await strike()

                async def caught_up(before: int = before) -> bool:
                    with contextlib.suppress(PsqlError):  # it may still recover
                        [row] = await daemon.query("SELECT messages FROM counters")
                        return int(row["messages"]) > before
                    return False

                await daemon.until(caught_up, f"messages are stored after {strike.__name__}")
            nursery.cancel_scope.cancel()
        await traffic.settled(daemon)
        [counts] = await daemon.query("SELECT quarantined, undecryptable FROM counters")
        assert counts == {"quarantined": 0, "undecryptable": 0}
        [ends] = await daemon.query(
            "SELECT count(*) AS n FROM connection_events WHERE state = 'backoff'"
            " AND reason NOT IN ('storage_stalled', 'storage_unavailable')"
        )
        assert ends["n"] == 0
        assert await daemon.terminate() == 0


async def test_a_daemon_that_starts_before_its_database(tmp_path: pathlib.Path) -> None:
    """The daemon waits for a server that comes a little later; its commands say what it waits
    for."""
    async with (
        EmbeddedPostgres(tmp_path / "postgres", temporary=True) as server,
        open_tcp_proxy(str(server.home / "run" / ".s.PGSQL.5432")) as proxy,
    ):
        proxy.shut()
        daemon = DaemonProcess(tmp_path, tmp_path / "supervisor.toml", None)
        daemon.config.write_text(
            f'[http]\nlisten = ""\n[daemon]\ndata_dir = "{tmp_path / "data"}"\n'
            f'[storage]\ndsn = "postgresql://zapvisor:s3cret@127.0.0.1:{proxy.port}/postgres"\n'
        )
        await daemon.start()
        try:
            answer = await daemon.request("GET", "/health")
            assert answer.status_code == 503
            assert (await daemon.request("GET", "/health/live")).status_code == 200
            assert (await daemon.request("GET", "/health/ready")).status_code == 503
            done = await daemon._run("health")
            assert done.returncode == 2
            text = done.stderr.decode()
            assert f"waits for its database: the database at 127.0.0.1:{proxy.port}" in text
            proxy.open()

            async def serves() -> bool:
                return (await daemon.request("GET", "/health")).status_code == 200

            await daemon.until(serves, "the daemon has its database")
            assert await daemon.terminate() == 0
            assert "s3cret" not in daemon.log + text
        finally:
            if daemon.process is not None and daemon.process.poll() is None:
                await daemon.kill()
