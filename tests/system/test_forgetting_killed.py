"""The real daemon is killed while it forgets a person: the next run finishes it, and nothing of
the person is anywhere."""

import pathlib
import subprocess

import trio

from simulator import open_simulator
from storage.binaries import find_binaries
from tests.support.daemon_process import TIMEOUT, DaemonProcess, open_daemon

SECRET = "planted words of the person"
OTHERS = "words of somebody else"
MIDDLE = {"receipts", "handled", "memberships", "settings"}
"""Phases in which the kill may strike: some are behind them, some before."""


async def dumped(daemon: DaemonProcess) -> str:
    """The whole database as text."""
    assert daemon.dsn is not None
    program = str(find_binaries().directory / "pg_dump")
    with trio.fail_after(TIMEOUT):
        done = await trio.run_process([program, daemon.dsn], capture_stdout=True)
    return done.stdout.decode()


def left(text: str, planted: list[str]) -> list[str]:
    """Which of the planted texts are in a dump, as they are or as bytes."""
    return [each for each in planted if each in text or each.encode().hex() in text]


async def test_kill_nine_while_a_person_is_forgotten(tmp_path: pathlib.Path) -> None:
    """The command that waits for it says that the order stands; after the restart it is done.
    Who writes later is somebody new."""
    async with (
        open_simulator(seed="forget", listen=("127.0.0.1", 0)) as simulator,
        open_daemon(tmp_path / "d", simulator.url, simulator.root_key, "sales") as daemon,
    ):
        team, ana, bia = map(simulator.create_account, ("team", "Ana Planted", "bia"))
        planted = [ana.pn.user, ana.lid.user, SECRET, "Planted"]

        async def settled() -> bool:
            await trio.lowlevel.checkpoint()
            return not simulator.ledger.unacknowledged(team.companions[0].pn)

        await daemon.link("sales", lambda qr: simulator.scan_qr(qr, phone=team.pn.user))
        group = await ana.phone.create_group("the group", team.pn, bia.pn)
        for number in range(3):
            await ana.phone.send_text(team.pn, f"{SECRET} {number}")
        await ana.phone.send_text(group.jid, SECRET)
        await bia.phone.send_text(group.jid, f"call {ana.pn.user}; {OTHERS}")
        await bia.phone.send_text(team.pn, OTHERS)
        await daemon.until(settled, "all is acknowledged")
        sent = await daemon.send("sales", ana.pn.user, text=SECRET)
        await daemon.until_outbox(sent["id"], "sent", "delivered", "read")
        assert left(await dumped(daemon), planted) == planted

        await daemon.slow_down("erasures", 0.1)
        command = [*daemon.program("forget", ana.pn.user, "--yes", "--by", "dpo")]
        output = tmp_path / "forget.txt"
        with output.open("wb") as file:
            waiting = await trio.lowlevel.open_process(
                command, stdout=file, stderr=subprocess.STDOUT, cwd=daemon.directory
            )

        async def in_the_middle() -> bool:
            rows = await daemon.query("SELECT phase FROM erasures")
            return {row["phase"] for row in rows} <= MIDDLE and len(rows) == 1

        await daemon.until(in_the_middle, "it is in the middle")
        await daemon.kill()
        with trio.fail_after(TIMEOUT):
            assert await waiting.wait() == 1
        assert "the order stands" in output.read_text()
        assert "zapvisor forget --show 1" in output.read_text()
        await daemon.execute("DROP TRIGGER slow ON erasures")
        await daemon.start()

        async def done() -> bool:
            return (await daemon.request("GET", "/erasures/1")).json()["state"] == "done"

        await daemon.until(done, "it is done")
        [row] = await daemon.command("forget", "--list")
        assert (row["state"], row["requested_by"]) == ("done", "dpo")
        assert row["erased"]["messages"] >= 5
        dump = await dumped(daemon)
        assert left(dump, planted) == []
        assert OTHERS in dump
        assert left(daemon.log, planted) == []
        for path in (tmp_path / "d" / "data").rglob("*"):
            if path.is_file():
                assert left(path.read_bytes().decode(errors="replace"), planted) == [], path

        await daemon.until_state("sales", "online")
        await ana.phone.send_text(team.pn, "somebody new")
        await daemon.until(settled, "the new message is acknowledged")
        texts = [each["text"] for each in await daemon.messages() if each["kind"] == "text"]
        assert texts.count("somebody new") == 1
        assert not any(SECRET in (each or "") for each in texts)
        assert await daemon.terminate() == 0
