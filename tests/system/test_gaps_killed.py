"""The gap ledger of the real daemon, killed while it drains its offline queue."""

import pathlib

from simulator import open_simulator
from tests.support.daemon_process import open_daemon

MESSAGES = 300


async def test_kill_9_during_a_drain_leaves_a_ledger_that_adds_up(tmp_path: pathlib.Path) -> None:
    """Each message is stored in one row, what was redelivered is a duplicate in another, all
    rows close; a message that the server loses is missing until somebody accepts it."""
    async with (
        open_simulator(seed="gaps", listen=("127.0.0.1", 0)) as simulator,
        open_daemon(tmp_path / "d", simulator.url, simulator.root_key, "sales") as daemon,
    ):
        team, customer = map(simulator.create_account, ("team", "customer"))

        async def scan(qr: str) -> object:
            return await simulator.scan_qr(qr, phone=team.pn.user)

        async def settled() -> bool:
            rows = (await daemon.request("GET", "/connections/sales/gaps?open_only=true")).json()
            online = (await daemon.status())[0]["state"] == "online"
            return online and not (simulator.ledger.unacknowledged(device.pn) or rows)

        async def stored() -> bool:
            [row] = await daemon.query("SELECT count(*) AS n FROM messages WHERE kind = 'text'")
            return int(row["n"]) >= MESSAGES // 4

        await daemon.pair("sales", scan)
        device = team.companions[0]
        await daemon.until(settled, "the first login is over")
        await daemon.kill()
        for number in range(MESSAGES):
            await customer.phone.send_text(team.pn, f"text {number}")
        simulator.faults.latency = 0.005  # so that the kill falls into the drain
        await daemon.start()
        await daemon.until(stored, "a part is stored")
        await daemon.kill()
        simulator.faults.latency = 0.0
        await daemon.start()
        await daemon.until(settled, "all is acknowledged and closed")

        rows = await daemon.command("gaps", "sales")
        second, first, _linked = rows
        assert {row["state"] for row in rows} == {"closed"}
        assert [row["kind"] for row in rows] == ["died", "died", "linked"]
        ledger = simulator.ledger.records(device.pn)
        assert first["stored"] + second["stored"] == len(ledger) == MESSAGES
        assert 0 < first["stored"] < MESSAGES
        assert (first["announced"], first["interrupted"], first["resolution"]) == (
            MESSAGES,
            True,
            "covered",
        )
        assert first["covered"] == second["stored"] == MESSAGES - first["stored"]
        assert second["announced"] == second["stored"] + second["duplicate"]
        assert first["to_at"] <= second["from_at"] <= second["login_at"] <= second["to_at"]

        await daemon.request("POST", "/connections/sales/stop")
        await customer.phone.send_text(team.pn, "lost for good")
        simulator.faults.lose_queued(device.pn)
        await daemon.request("POST", "/connections/sales/start")

        async def missed() -> bool:
            health = (await daemon.request("GET", "/health")).json()
            told = any("1 gap is open (1 never came)" in each for each in health["reasons"])
            return told and health["verdict"] == "degraded"

        await daemon.until(missed, "the gap is open, and its drain is counted")
        [gap] = await daemon.command("gaps", "--open")
        assert (gap["kind"], gap["missing"], gap["state"]) == ("stopped", 1, "open")
        assert [row["possible_hole"] for row in await daemon.command("conversations")] == [True]
        assert '"event": "gap.open"' in daemon.log
        accepted = await daemon.command("gaps", "accept", str(gap["id"]), "--by", "ana")
        assert (accepted["resolution"], accepted["accepted_by"]) == ("accepted", "ana")
        assert [row["possible_hole"] for row in await daemon.command("conversations")] == [False]

        async def well() -> bool:
            return bool((await daemon.request("GET", "/health")).json()["verdict"] == "ok")

        await daemon.until(well, "health has looked again")
        assert await daemon.terminate() == 0
