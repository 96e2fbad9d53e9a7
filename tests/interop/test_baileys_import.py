"""A device that a real client has linked goes on in our daemon, without another scan."""

import pathlib
import typing as t

from simulator import Simulator
from tests.support.daemon_process import DaemonProcess

if t.TYPE_CHECKING:
    from conftest import Driver


def snapshot(directory: pathlib.Path) -> dict[str, bytes]:
    """All files, by name."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


async def test_an_imported_device_goes_on_where_the_old_system_ended(
    daemon: DaemonProcess, simulator: Simulator, baileys: "Driver", tmp_path: pathlib.Path
) -> None:
    """The old client chats with a customer and in a group, and is closed. Its directory is
    imported; the connection logs in without pairing, opens what came meanwhile and what comes
    then in the sessions that there were, and is understood by all, without a single retry."""
    directory = tmp_path / "auth"
    old, alice, bob = baileys.peer("desk"), baileys.peer("alice"), baileys.peer("bob")
    await old.connect(directory=str(directory))
    for peer in (alice, bob):
        await peer.connect()
    account = simulator.world.account(_jid(old.jid))
    account.phone.answers = False
    group = (await alice.call("groupCreate", "team", [old.account, bob.account]))["id"]

    # A conversation in both directions, so that the ratchets of both sides have turned.
    for turn in range(3):
        await alice.send(old.account, f"question {turn}")
        await old.wait_for_text(f"question {turn}")
        await old.send(alice.account, f"answer {turn}")
        await alice.wait_for_text(f"answer {turn}")
    await bob.send(group, "to all before")
    await old.wait_for_text("to all before")
    await old.send(group, "from the old system")
    await bob.wait_for_text("from the old system")
    await old.disconnect()
    companions = [device.number for device in account.companions]

    # While nobody is connected.
    for turn in range(3):
        await alice.send(old.account, f"offline {turn}")
    await bob.send(group, "to all offline")

    before = snapshot(directory)
    checked = await daemon.command(
        "import-baileys", str(directory), "--connection", "sales", "--check"
    )
    assert not checked["imported"]
    imported = await daemon.command("import-baileys", str(directory), "--connection", "sales")
    assert imported["imported"]
    assert imported["left_out"] == {}
    assert imported["counts"]["session"] >= 2
    assert imported["counts"]["prekey"] > 10
    assert imported["counts"]["sender_key"] >= 1
    assert snapshot(directory) == before  # the source is as it was
    [row] = [row for row in await daemon.status() if row["name"] == "sales"]
    assert (row["state"], row["paired"]) == ("stopped", True)

    # It stays stopped, over a restart too, until somebody starts it.
    assert await daemon.terminate() == 0
    await daemon.start()
    [row] = [row for row in await daemon.status() if row["name"] == "sales"]
    assert (row["state"], row["paired"]) == ("stopped", True)
    await daemon.request("POST", "/connections/sales/start")
    await daemon.until_state("sales", "online")
    assert [device.number for device in account.companions] == companions

    await alice.send(old.account, "online")
    await bob.send(group, "to all online")
    expected = [
        *(f"offline {turn}" for turn in range(3)),
        "to all offline",
        "online",
        "to all online",
    ]

    async def received() -> list[str]:
        return [row["text"] for row in await daemon.messages() if not row["from_me"]]

    async def all_there() -> bool:
        return sorted(await received()) == sorted(expected)

    await daemon.until(all_there, "what was sent offline and online is stored")

    for to, reader, text in (
        (alice.account, alice, "from the new system"),
        (group, bob, "to the group from the new system"),
    ):
        sent = await daemon.send("sales", to, text=text)
        await daemon.until_outbox(sent["id"], "sent", "delivered", "read")
        await reader.wait_for_text(text)
    await alice.send(old.account, "thanks")
    expected.append("thanks")
    await daemon.until(all_there, "the answer is stored")
    assert "Message could not be decrypted" not in daemon.log
    assert '"event": "retries.' not in daemon.log
    rows = await daemon.query("SELECT count(*) AS n FROM messages WHERE kind = 'undecryptable'")
    assert rows[0]["n"] == 0


def _jid(text: str) -> t.Any:
    from whatsapp.jid import Jid

    return Jid.parse(text).bare
