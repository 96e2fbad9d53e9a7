"""Real clients write to connections of the real daemon; PostgreSQL tells what came of it."""

import typing as t

import trio

from simulator import Account, Simulator
from tests.support.daemon_process import DaemonProcess

if t.TYPE_CHECKING:
    from conftest import Driver, Peer


async def stored(daemon: DaemonProcess, count: int) -> list[dict[str, t.Any]]:
    """All that people wrote, once it is so much; a moment later there is still no more."""

    async def written() -> list[dict[str, t.Any]]:
        return [row for row in await daemon.messages() if row["kind"] != "system"]

    async def enough() -> bool:
        return len(await written()) >= count

    await daemon.until(enough, f"{count} messages are stored")
    rows = await written()
    assert len(rows) == count
    return rows


def number(peer: "Peer") -> str:
    return peer.account.partition("@")[0]


async def test_texts_arrive_once_online_offline_and_across_a_restart(
    daemon: DaemonProcess, simulator: Simulator, team: Account, baileys: "Driver"
) -> None:
    """Right text, sender, chat, order and time, once each; and the clients see the delivery."""
    team.phone.answers = False  # so that the delivery receipts seen are the daemon's own
    alice, bob = await baileys.connect_all("alice", "bob")
    sent: list[tuple[Peer, str, str]] = []

    async def say(peer: "Peer", text: str) -> None:
        sent.append((peer, text, await peer.send(str(team.pn), text)))

    for turn in range(3):  # online
        await say(alice, f"alice online {turn}")
        await say(bob, f"bob online {turn}")
    await stored(daemon, 6)
    await daemon.request("POST", "/connections/sales/stop")
    await daemon.until_state("sales", "stopped")
    for turn in range(3):  # offline
        await say(alice, f"alice offline {turn}")
        await say(bob, f"bob offline {turn}")
    await daemon.request("POST", "/connections/sales/start")
    await stored(daemon, 12)
    assert await daemon.terminate() == 0
    for turn in range(3):  # while no daemon runs
        await say(alice, f"alice restart {turn}")
        await say(bob, f"bob restart {turn}")
    await daemon.start()
    rows = await stored(daemon, 18)

    assert [row["text"] for row in rows] == [text for _, text, _ in sent]
    assert [row["external_id"] for row in rows] == [message_id for _, _, message_id in sent]
    for row, (peer, _, _) in zip(rows, sent, strict=True):
        assert f"{number(peer)}@s.whatsapp.net" in row["sender"]
        assert row["chat"] == f"{number(peer)}@s.whatsapp.net"
        assert row["sender_name"] == peer.name
        assert row["chat_kind"] == "direct"
        assert not row["from_me"]
        assert abs(row["sent_at"] - simulator.world.now()) < 120
    conversations = await daemon.command("conversations")
    assert sorted(row["messages"] for row in conversations) == [9, 9]
    for peer, _, message_id in sent:
        await peer.wait_for_delivery(message_id)


async def test_nothing_is_lost_or_doubled_by_kill_9_in_a_burst(
    daemon: DaemonProcess, simulator: Simulator, team: Account, baileys: "Driver"
) -> None:
    """The promise: the daemon is killed again and again while two clients write to it."""
    peers = await baileys.connect_all("alice", "bob")
    texts = [[f"{peer.name} {turn}" for turn in range(60)] for peer in peers]

    async def write(peer: "Peer", lines: list[str]) -> None:
        for line in lines:
            await peer.send(str(team.pn), line)

    async with trio.open_nursery() as nursery:
        for peer, lines in zip(peers, texts, strict=True):
            nursery.start_soon(write, peer, lines)
        for goal in (10, 40):

            async def reached(goal: int = goal) -> bool:
                return len(await daemon.messages()) >= goal

            await daemon.until(reached, f"{goal} messages")
            await daemon.kill()
            await daemon.start()
    rows = await stored(daemon, 120)
    for peer, lines in zip(peers, texts, strict=True):
        mine = [row["text"] for row in rows if row["text"].startswith(peer.name)]
        assert mine == lines
    device = team.companions[0]

    async def settled() -> bool:
        return not simulator.ledger.unacknowledged(device.pn)

    await daemon.until(settled, "WhatsApp is acknowledged for everything")
    assert {row["kind"] for row in await daemon.messages()} == {"text"}
