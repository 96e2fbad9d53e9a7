"""The whole daemon, its own PostgreSQL included, killed while customers write to it."""

import pathlib

import trio

from simulator import open_simulator
from tests.support.daemon_process import open_daemon


async def test_kill_9_of_daemon_and_database_loses_and_doubles_nothing(
    tmp_path: pathlib.Path,
) -> None:
    """Ledger = database after three kills in a burst of one-to-one and group messages.

    And the log of it all holds no text and no phone number.
    """
    async with (
        open_simulator(seed="killed", listen=("127.0.0.1", 0)) as simulator,
        open_daemon(
            tmp_path / "d", simulator.url, simulator.root_key, "sales", embedded=True
        ) as daemon,
    ):
        team = simulator.create_account("team")

        async def scan(qr: str) -> object:
            return await simulator.scan_qr(qr, phone=team.pn.user)

        await daemon.pair("sales", scan)
        customers = [simulator.create_account(f"customer {number}") for number in range(4)]
        group = simulator.create_group("all", [*customers, team])
        device = team.companions[0]
        sent: dict[str, str] = {}

        async def write() -> None:
            for turn in range(100):
                for customer in customers:
                    text = f"{customer.name} {turn}"
                    if turn % 4 == 3:
                        sent[await customer.phone.send_group_text(group.jid, text)] = text
                    else:
                        sent[await customer.phone.send_text(team.pn, text)] = text
                await trio.sleep(0.05)  # a burst of some seconds, so that the kills fall into it

        async def stored(count: int) -> None:
            async def enough() -> bool:
                [row] = await daemon.query("SELECT count(*) AS n FROM messages")
                return int(row["n"]) >= count

            await daemon.until(enough, f"{count} messages are stored")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            for goal in (30, 110, 220):
                await stored(goal)
                await daemon.kill()
                await daemon.start()
        await stored(400)

        async def settled() -> bool:
            return not simulator.ledger.unacknowledged(device.pn)

        await daemon.until(settled, "everything is acknowledged")
        rows = await daemon.messages()
        assert {row["external_id"]: row["text"] for row in rows} == sent
        assert len(rows) == len(sent) == 400
        for customer in customers:
            mine = [row["text"] for row in rows if row["text"].startswith(f"{customer.name} ")]
            direct = [text for text in mine if int(text.split()[-1]) % 4 != 3]
            assert direct == [f"{customer.name} {turn}" for turn in range(100) if turn % 4 != 3]
        assert await daemon.terminate() == 0
        log = daemon.log  # at level debug
        assert not [text for text in sent.values() if text in log]
        assert not [each for each in (team, *customers) if each.pn.user in log]
        assert log.count('"event": "Message saved"') > 200  # kills take some lines with them
