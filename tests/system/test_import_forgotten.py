"""``zapvisor import`` of what is older than an order to forget: with a daemon, and without."""

import collections.abc as cabc
import pathlib
import tempfile
import zipfile

import pytest
import trio

from storage.embedded import running_dsn
from storage.maintenance import open_maintenance
from tests.support.daemon_process import open_daemon

UNUSED = "ws://127.0.0.1:9/ws/chat"  # nobody is paired, so nobody dials
NUMBER = "15550001111"
PICTURE = b"\xff\xd8\xff picture"
CHAT = """\
21/11/2025, 09:30 - Ana Lima: planted words
21/11/2025, 09:32 - Ana Lima: IMG-1.jpg (file attached)
21/11/2025, 09:33 - Loja: planted answer
"""
WITH_CHAT = ("--connection", "sales", "--chat", f"+{NUMBER}", "--me", "Loja")


@pytest.fixture
def directory() -> cabc.Iterator[pathlib.Path]:
    """A short one, for sockets."""
    with tempfile.TemporaryDirectory(prefix="zv-", dir="/tmp") as name:
        yield pathlib.Path(name)


async def test_it_does_not_come_back(directory: pathlib.Path) -> None:
    """A chat's text with its file, and an archive; the counts tell how much was left out."""
    chat = directory / "chat.zip"
    with zipfile.ZipFile(chat, "w") as archive:
        archive.writestr("_chat.txt", CHAT)
        archive.writestr("IMG-1.jpg", PICTURE)
    out = directory / "out"
    data = directory / "d" / "data"
    async with open_daemon(directory / "d", UNUSED, bytes(32), "sales", embedded=True) as daemon:
        facts = await daemon.command("import", str(chat), *WITH_CHAT)
        assert (facts["stored"]["message"], facts["forgotten"]) == (3, 0)
        await daemon.command("export", "--name", "all", "--media", "--to-dir", str(out))
        row = await daemon.command("forget", f"+{NUMBER}", "--yes", "--by", "dpo")
        assert row["state"] == "done"
        assert files(data) == []

        for _daemon_runs in (True, False):
            facts = await daemon.command("import", str(chat), *WITH_CHAT)
            assert (facts["forgotten"], facts["refused"]) == (5, 0)  # with contact and chat
            assert facts["stored"].get("message", 0) == 0
            facts = await daemon.command("import", str(out / "all"))
            assert facts["refused"] == 0
            assert facts["forgotten"] == 6  # and the conversation
            done = await daemon._run("import", str(out / "all"))
            assert b"6 records of people who were forgotten here are left out" in done.stdout
            assert files(data) == []
            if daemon.process is not None and daemon.process.poll() is None:
                assert await planted(data) == 0
                await daemon.terminate()

        (data / "secret.key").rename(directory / "key")
        done = await daemon._run("import", str(out / "all"))
        assert done.returncode == 1
        assert b"without the secret key" in done.stderr
        assert done.stderr.count(b"\n") == 1
        (directory / "key").rename(data / "secret.key")
        await daemon.start()
        assert await planted(data) == 0


def files(data: pathlib.Path) -> list[pathlib.Path]:
    """Files of messages."""
    return [path for path in (data / "media").rglob("*") if path.is_file()]


async def planted(data: pathlib.Path) -> int:
    """Rows that still tell of the person."""
    dsn = running_dsn(data)
    assert dsn is not None
    with trio.fail_after(60):
        async with open_maintenance(dsn) as session:
            [row] = await session.run(
                "SELECT (SELECT count(*) FROM messages WHERE text LIKE 'planted%')"
                f" + (SELECT count(*) FROM contact_addresses WHERE address LIKE '{NUMBER}%')"
                f" + (SELECT count(*) FROM chats WHERE address LIKE '{NUMBER}%')"
                " + (SELECT count(*) FROM contact_names) + (SELECT count(*) FROM media)"
            )
    return int(row[0])
