"""The daemon's device comes and goes; what real clients have written to the team stays."""

from interop_peer import Driver

from simulator import Account, Simulator
from tests.support.daemon_process import DaemonProcess


async def test_conversations_outlive_a_device(
    daemon: DaemonProcess, simulator: Simulator, team: Account, baileys: Driver
) -> None:
    """Logged out by an operator or from the phone, told apart; linked anew by a scanned or a
    typed code: the same conversation goes on."""
    alice = await baileys.connect("alice")
    us = str(team.pn)
    first = await daemon.until_message(await alice.send(us, "first"))

    async def scan(qr: str) -> object:
        return await simulator.scan_qr(qr, phone=team.pn.user)

    left = await daemon.command("logout", "sales")
    assert (left["state"], left["reason"]) == ("logged_out", "logged_out_by_operator")
    assert team.companions == ()
    away = await alice.send(us, "while nobody is linked")
    await daemon.link("sales", scan)
    second = await daemon.until_message(await alice.send(us, "second"))
    await simulator.end("removed", team.companions[0].pn)
    await daemon.until_state("sales", "logged_out")
    (thrown_out,) = [row for row in await daemon.status() if row["name"] == "sales"]
    assert thrown_out["reason"] == "logged_out"
    await daemon.link("sales", team.phone.enter_code, phone=team.pn.user)
    third = await daemon.until_message(await alice.send(us, "third"))
    assert {row["conversation"] for row in (second, third)} == {first["conversation"]}
    texts = [row["text"] for row in await daemon.details()]
    assert [text for text in texts if text != "while nobody is linked"] == [
        "first",
        "second",
        "third",
    ]
    assert team.phone.inbox[-1].text == "third"
    assert away in {received.id for received in team.phone.inbox}
    sent = await daemon.send("sales", alice.account, text="welcome back")
    await alice.wait_for_text("welcome back")
    await daemon.until_outbox(sent["id"], "delivered")
