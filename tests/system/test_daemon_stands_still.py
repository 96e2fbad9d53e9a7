"""The real daemon is stopped by SIGSTOP while customers write: it wakes up, or it is killed."""

import contextlib
import os
import pathlib
import signal
import typing as t

import attrs
import trio

from simulator import Account, Simulator, open_simulator
from tests.support.daemon_process import DaemonProcess, open_daemon
from tests.support.service_manager import ServiceManager


@attrs.define
class Stage:
    """A daemon with one connection, and customers who write to it."""

    simulator: Simulator
    daemon: DaemonProcess
    team: Account
    sent: dict[str, str] = attrs.field(factory=dict)

    async def write(self, turns: int) -> None:
        """Four messages each turn, twenty turns a second."""
        customers = [self.simulator.create_account(f"customer {n}") for n in range(4)]
        for turn in range(turns):
            for customer in customers:
                text = f"{customer.name} {turn}"
                self.sent[await customer.phone.send_text(self.team.pn, text)] = text
            await trio.sleep(0.05)

    async def stored(self, count: int) -> None:
        """Wait until so many are stored."""

        async def enough() -> bool:
            [row] = await self.daemon.query("SELECT count(*) AS n FROM messages")
            return int(row["n"]) >= count

        await self.daemon.until(enough, f"{count} messages are stored")

    async def check(self) -> None:
        """Ledger = database: all is acknowledged, stored once, and in the order of each author."""
        await self.stored(len(self.sent))
        device = self.team.companions[0]

        async def settled() -> bool:
            return not self.simulator.ledger.unacknowledged(device.pn)

        await self.daemon.until(settled, "everything is acknowledged")
        rows = await self.daemon.messages()
        assert len(rows) == len(self.sent)
        assert {row["external_id"]: row["text"] for row in rows} == self.sent
        for number in range(4):
            name = f"customer {number} "
            turns = [int(row["text"].split()[-1]) for row in rows if row["text"].startswith(name)]
            assert turns == sorted(turns)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the daemon."""
        assert self.daemon.process is not None
        os.kill(self.daemon.process.pid, number)


@contextlib.asynccontextmanager
async def open_stage(tmp_path: pathlib.Path) -> t.AsyncIterator[Stage]:
    async with (
        open_simulator(seed="still", listen=("127.0.0.1", 0)) as simulator,
        open_daemon(tmp_path / "d", simulator.url, simulator.root_key, "sales") as daemon,
    ):
        team = simulator.create_account("team")

        async def scan(qr: str) -> object:
            return await simulator.scan_qr(qr, phone=team.pn.user)

        await daemon.link("sales", scan)
        yield Stage(simulator, daemon, team)


async def test_a_daemon_that_was_stopped_for_seconds_goes_on_as_if_nothing_was(
    tmp_path: pathlib.Path,
) -> None:
    """It notices, checks its connection, keeps it, and stores all that was written meanwhile."""
    async with open_stage(tmp_path) as stage:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.write, 100)
            await stage.stored(40)
            logins = stage.daemon.log.count('"reason": "logged_in"')
            stage.signal(signal.SIGSTOP)
            await trio.sleep(7)  # a gap is noticed from 5 s on
            stage.signal(signal.SIGCONT)
        await stage.check()

        async def noticed() -> bool:
            return "daemon.slept" in stage.daemon.log

        await stage.daemon.until(noticed, "the gap is noticed")
        assert stage.daemon.log.count('"reason": "logged_in"') == logins
        assert "daemon.loop_stalled" not in stage.daemon.log
        assert "daemon.clock_jumped" not in stage.daemon.log
        health = (await stage.daemon.request("GET", "/health")).json()
        assert health["loop"]["lag_max_seconds"] > 5
        assert await stage.daemon.terminate() == 0


async def test_a_wedged_daemon_is_killed_and_comes_back(tmp_path: pathlib.Path) -> None:
    """No sign of life: systemd kills it and starts it anew; nothing is lost."""
    async with open_stage(tmp_path) as stage:
        await stage.daemon.terminate()
        manager = ServiceManager(stage.daemon, watchdog=2.0)
        async with trio.open_nursery() as nursery:
            await nursery.start(manager.run)

            async def up(times: int) -> None:
                async def ready() -> bool:
                    return manager.ready == times

                await stage.daemon.until(ready, f"ready for the {times}. time")

            async def killed(times: int) -> None:
                async def dead() -> bool:
                    return manager.killed == times

                await stage.daemon.until(dead, f"killed for the {times}. time")

            await up(1)
            async with trio.open_nursery() as writing:
                writing.start_soon(stage.write, 80)
                await stage.stored(40)
                assert manager.killed == 0  # it is not killed while it works
                stage.signal(signal.SIGSTOP)
                await killed(1)
                await up(2)
            await stage.check()
            assert "WATCHDOG=1" in manager.told

            async def shown() -> bool:
                return any(state.startswith("STATUS=1 of 1 online") for state in manager.told)

            await stage.daemon.until(shown, "the status is shown")
            nursery.cancel_scope.cancel()
        assert await stage.daemon.terminate() == 0
