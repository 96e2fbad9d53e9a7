"""A real daemon on a database of the past: recognised, parked, cured; and never without a cause."""

import json
import os
import pathlib
import shutil
import tempfile
import typing as t

import pytest
import trio

from simulator import open_simulator
from tests.support.daemon_process import TIMEOUT, DaemonProcess, open_daemon


@pytest.fixture
def directory() -> t.Iterator[pathlib.Path]:
    """A short one, for sockets, into which the database's user gets."""
    with tempfile.TemporaryDirectory(prefix="zv-", dir="/tmp") as name:
        pathlib.Path(name).chmod(0o755)
        yield pathlib.Path(name)


async def until_state(daemon: DaemonProcess, state: str) -> dict[str, t.Any]:
    """What is shown of the connection, once it is in a state."""
    row: dict[str, t.Any] = {}

    async def there() -> bool:
        rows = await daemon.status()
        row.update(rows[0] if rows else {})
        return row.get("state") == state

    await daemon.until(there, f"it is {state}")
    return row


async def texts(daemon: DaemonProcess) -> list[str]:
    return [row["text"] for row in await daemon.messages()]


async def test_a_restore_of_the_past(directory: pathlib.Path) -> None:
    """The restore says so; the daemon parks the connection; recovering it needs no phone."""
    backup = directory / "backup"
    async with (
        open_simulator(seed="stale", listen=("127.0.0.1", 0)) as simulator,
        open_daemon(
            directory / "d", simulator.url, simulator.root_key, "sales", embedded=True
        ) as daemon,
    ):
        team, customer = simulator.create_account("team"), simulator.create_account("ana")
        await daemon.link("sales", lambda qr: simulator.scan_qr(qr, phone=team.pn.user))

        async def until_stored(text: str) -> None:
            async def stored() -> bool:
                return text in await texts(daemon)

            await daemon.until(stored, f"{text} is stored")

        async def arrives(text: str) -> None:
            await customer.phone.send_text(team.pn, text)
            await until_stored(text)

        async def goes(text: str) -> None:
            row = await daemon.send("sales", str(customer.pn), text=text)
            await daemon.until_outbox(row["id"], "delivered", "read")

        await arrives("one")
        await goes("two")
        made = await daemon.command("db", "backup", str(backup), "--verify")
        assert made["verified"]["intact"]
        assert made["verified"]["credentials"]["devices"] == 1
        await arrives("three")
        await goes("four")
        await daemon.terminate()
        back = await daemon.command("db", "restore", str(backup), "--replace", "--yes")
        assert back["stale_keys_because"] == "keys were used after it was made"
        assert back["stale_keys"]
        await daemon.start()
        parked = await until_state(daemon, "parked")
        assert parked["reason"] == "stale_keys"
        await daemon.request("POST", "/connections/sales/restart")
        assert (await until_state(daemon, "parked"))["reason"] == "stale_keys"
        await daemon.kill()
        (directory / "d" / "data" / "epoch.json").unlink()  # another host, say
        await daemon.start()
        assert (await until_state(daemon, "parked"))["reason"] == "stale_keys"
        assert "epochs.trusted" in daemon.log
        await customer.phone.send_text(team.pn, "five")
        recovered = await daemon.command("recover", "sales")
        assert recovered["name"] == "sales"
        await until_state(daemon, "online")
        await until_stored("five")  # once it is sent again, to a new session
        await arrives("six")
        await goes("seven")
        assert set(await texts(daemon)) == {"one", "two", "five", "six", "seven"}
        inbox = [item.text for item in customer.phone.inbox]
        assert inbox == ["two", "four", "seven"]

        async def renewed() -> bool:
            return await daemon.query("SELECT * FROM stale_keys") == []

        await daemon.until(renewed, "the server has fresh prekeys")
        refused = await daemon._run("recover", "sales")
        assert refused.returncode == 1
        assert b"nothing was changed" in refused.stderr


async def test_an_older_copy_of_the_cluster(directory: pathlib.Path) -> None:
    """Killed between the database and the file (test_epochs has each step), no database that nobody
    put back is taken for an older one. A snapshot of the database alone is recognised; the newer
    one, put back, starts as if nothing had been."""
    async with (
        open_simulator(seed="copy", listen=("127.0.0.1", 0)) as simulator,
        open_daemon(
            directory / "d", simulator.url, simulator.root_key, "sales", embedded=True
        ) as daemon,
    ):
        team = simulator.create_account("team")
        await daemon.link("sales", lambda qr: simulator.scan_qr(qr, phone=team.pn.user))
        await daemon.terminate()
        data = directory / "d" / "data"
        located = data / "postgres.location"
        home = pathlib.Path(located.read_text().strip()) if located.exists() else data / "postgres"
        shutil.copytree(home / "data", directory / "older", symlinks=True)
        daemon.launch({"ZAPVISOR_CRASH_AT": "epoch.committed"})
        await until_killed(daemon)
        await daemon.start()
        await until_state(daemon, "online")
        assert await daemon.query("SELECT * FROM stale_keys") == []
        assert "stale_keys" not in daemon.log
        assert (data / "epoch.json").stat().st_mode & 0o777 == 0o600
        await daemon.close_query()
        await daemon.terminate()
        remembered = json.loads((data / "epoch.json").read_text())
        (home / "data").rename(directory / "newer")
        _copy(directory / "older", home / "data")
        await daemon.start()
        assert (await until_state(daemon, "parked"))["reason"] == "stale_keys"
        assert '"event": "epochs.stale_keys"' in daemon.log
        await daemon.terminate()
        assert json.loads((data / "epoch.json").read_text()) == remembered
        shutil.rmtree(home / "data")
        (directory / "newer").rename(home / "data")
        await daemon.start()
        await until_state(daemon, "online")


async def until_killed(daemon: DaemonProcess) -> None:
    """Wait for the end of a daemon that kills itself at a point."""
    process = daemon.process
    assert process is not None
    with trio.fail_after(TIMEOUT):
        status = await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
    assert status == -9, daemon.log[-3000:]


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    """A copy with the owners of before, for root."""
    shutil.copytree(source, target, symlinks=True)
    owner = (source.parent / "newer").stat()
    for path in [target, *target.rglob("*")]:
        if os.geteuid() == 0:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    target.chmod(0o700)
