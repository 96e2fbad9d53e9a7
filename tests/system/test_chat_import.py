"""``zapvisor import`` of the text of "export chat", into a database that lives."""

import collections.abc as cabc
import functools
import hashlib
import io
import pathlib
import tempfile
import typing as t
import zipfile

import attrs
import pytest
import trio

from config.load import load_config
from daemon.chat_import import ChatOptions, run_chat_import
from daemon.errors import CommandError, UsageError
from storage.api import ChatKind, Envelope, ReceivedMessage
from storage.embedded import running_dsn
from storage.errors import StorageError
from storage.exports.chat_files import open_chat
from storage.exports.whatsapp_text import TextError
from storage.maintenance import open_maintenance
from storage.postgres import PostgresStorage
from tests.support.daemon_process import DaemonProcess, open_daemon

UNUSED = "ws://127.0.0.1:9/ws/chat"  # nobody is paired, so nobody dials
ANA = "15550001111@s.whatsapp.net"
GROUP = "120363000000000001@g.us"
PICTURE = b"\xff\xd8\xff picture"

CHAT = """\
21/11/2026, 09:30 - Messages and calls are end-to-end encrypted.
21/11/2026, 09:30 - Ana Lima: bom dia
tudo bem?
21/11/2026, 09:31 - Loja: sim
21/11/2026, 09:31 - Loja: sim
21/11/2026, 09:32 - Ana Lima: IMG-1.jpg (file attached)
a foto
21/11/2026, 09:33 - Ana Lima: ../../evil.jpg (file attached)
21/11/2026, 09:34 - Ana Lima: This message was deleted
22/11/2026, 10:00 - Ana Lima: <Media omitted>
"""


@pytest.fixture
def directory() -> cabc.Iterator[pathlib.Path]:
    """A short one, for sockets."""
    with tempfile.TemporaryDirectory(prefix="zv-", dir="/tmp") as name:
        yield pathlib.Path(name)


async def fetch(daemon: DaemonProcess, sql: str) -> list[t.Any]:
    """Rows of the database."""
    dsn = running_dsn(daemon.directory / "data")
    assert dsn is not None
    async with open_maintenance(dsn) as session:
        return await session.run(sql)


@attrs.frozen
class Chats:
    """Imports, without the cost of a process for each."""

    daemon: DaemonProcess

    async def take(self, path: pathlib.Path, **changes: t.Any) -> dict[str, t.Any]:
        """The counts of an import; São Paulo's clocks."""
        options = ChatOptions(
            path=path,
            connection="sales",
            chat="+1 555 000 1111",
            me="Loja",
            zone="America/Sao_Paulo",
        )
        work = functools.partial(
            run_chat_import,
            load_config(self.daemon.config, {}),
            attrs.evolve(options, **changes),
        )
        return await trio.to_thread.run_sync(work)

    async def texts(self, chat: str = ANA) -> list[tuple[str, str | None, bool, str]]:
        """Kind, text, whose, and when, of all messages of a chat."""
        rows = await fetch(
            self.daemon,
            "SELECT m.kind, m.text, m.from_me, m.lane, m.sent_at FROM messages m"
            " JOIN chats k ON k.connection_id = m.connection_id AND k.id = m.chat_id"
            f" WHERE k.address = '{chat}' ORDER BY m.sent_at, m.arrival",
        )
        assert {row["lane"] for row in rows} <= {"history", "live"}
        return [
            (row["kind"], row["text"], row["from_me"], f"{row['sent_at']:%d %H:%M}") for row in rows
        ]


WHOLE = [
    ("text", "bom dia\ntudo bem?", False, "21 12:30"),
    ("text", "sim", True, "21 12:31"),
    ("text", "sim", True, "21 12:31"),
    ("image", "a foto", False, "21 12:32"),
    ("image", None, False, "21 12:33"),
    ("placeholder", "", False, "22 13:00"),
]


async def test_a_chat_becomes_history(directory: pathlib.Path) -> None:
    """Once, however often it is imported; with its files; beside a daemon that runs."""
    text = directory / "WhatsApp Chat with Ana Lima.txt"
    text.write_text(CHAT)
    (directory / "evil.jpg").write_bytes(b"not beside the text")
    nested = directory / "chats" / "a"
    nested.mkdir(parents=True)
    zipped = nested / "chat.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("_chat.txt", CHAT)
        archive.writestr("IMG-1.jpg", PICTURE)
    async with open_daemon(directory / "d", UNUSED, bytes(32), "sales", embedded=True) as daemon:
        chats = Chats(daemon)
        events = await fetch(daemon, "SELECT count(*) AS n FROM events")
        facts = await chats.take(zipped)
        assert facts["stored"]["message"] == 6
        assert facts["chat"] == {
            "messages": 6,
            "notices": 1,
            "deleted": 1,
            "later": 0,
            "files": 1,
            "files_missing": 1,
        }
        assert await chats.texts() == WHOLE
        [stored] = await fetch(daemon, "SELECT * FROM media WHERE state = 'stored'")
        sha256 = hashlib.sha256(PICTURE).hexdigest()
        assert stored["blob_sha256"].hex() == sha256
        blob = directory / "d" / "data" / "media" / sha256[:2] / sha256[2:4] / sha256
        assert blob.read_bytes() == PICTURE
        assert await fetch(daemon, "SELECT count(*) AS n FROM events") == events

        again = await chats.take(zipped)
        assert again["stored"]["message"] == 0
        assert again["present"]["message"] == 6
        more = CHAT + "23/11/2026, 10:00 - Ana Lima: novo\n"
        text.write_text(more)
        assert (await chats.take(text))["stored"]["message"] == 1
        assert (await chats.texts())[:6] == WHOLE

        await store_live(directory / "d" / "data")
        text.write_text(more + "23/11/2026, 12:00 - Ana Lima: the same as live\n")
        newest = await chats.take(text)
        assert (newest["stored"]["message"], newest["chat"]["later"]) == (0, 1)
        assert (await chats.take(text, everything=True))["stored"]["message"] == 1

        group = directory / "group.txt"
        group.write_text(CHAT.replace("Loja", "Zé"))
        with pytest.raises(CommandError, match="nobody is called 'Loja'"):
            await chats.take(group, chat=GROUP)
        with pytest.raises(CommandError, match="numbers of 'Ana Lima' are not known"):
            await chats.take(group, chat=GROUP, me="Zé")
        known = ("Ana Lima=+1 555 000 1111",)
        assert (await chats.take(group, chat=GROUP, me="Zé", people=known))["stored"][
            "message"
        ] == 6
        assert len(await chats.texts(GROUP)) == 6
        three = directory / "three.txt"
        three.write_text(CHAT + "22/11/2026, 10:00 - Bob: hi\n")
        with pytest.raises(CommandError, match="it is a group's"):
            await chats.take(three)
        with pytest.raises(CommandError, match="no connection nobody"):
            await chats.take(text, connection="nobody")
        with pytest.raises(UsageError, match="--chat"):
            await chats.take(text, chat="nobody")
        with pytest.raises(UsageError, match="write it like"):
            await chats.take(text, people=("Ana",))


async def store_live(data: pathlib.Path) -> None:
    """A message as WhatsApp delivers it."""
    dsn = running_dsn(data)
    assert dsn is not None
    message = ReceivedMessage(
        chat=ANA,
        chat_kind=ChatKind.DIRECT,
        sender=ANA,
        from_me=False,
        external_id="LIVE",
        kind="text",
        text="live",
        sent_at=1_795_446_000,  # 2026-11-23 15:00 UTC
    )
    async with PostgresStorage.open(dsn, key=bytes(32), clock=lambda: 1_795_446_001.0) as storage:
        await storage.apply([Envelope(connection="sales", message=message)])


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "texts in it: none"),
        ({"a.txt": b"x", "b.txt": b"y"}, "texts in it: a.txt, b.txt"),
        ({"_chat.txt": bytes(300 << 20)}, "not what WhatsApp makes"),
    ],
)
def test_zips_that_are_no_chat(
    tmp_path: pathlib.Path, members: dict[str, bytes], words: str
) -> None:
    """Say why, before anything is unpacked."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(TextError, match=words), open_chat(path):
        pass


def test_damage(tmp_path: pathlib.Path) -> None:
    """A file that is no zip, one that is cut, text that is no text."""
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(TextError, match="no zip"), open_chat(path):
        pass
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("_chat.txt", CHAT * 100)
    path.write_bytes(made.getvalue().replace(b"sim", b"nao", 1))
    with pytest.raises(TextError, match="damaged"), open_chat(path) as chat, chat.lines() as lines:
        list(lines)
    text = tmp_path / "x.txt"
    text.write_bytes(b"21/11/2026, 10:00 - Ana: caf\xe9\n")
    with pytest.raises(TextError, match="UTF-8"), open_chat(text) as chat, chat.lines() as lines:
        list(lines)
    with pytest.raises(TextError, match="cannot be read"), open_chat(tmp_path / "none.txt"):
        pass
    assert issubclass(TextError, StorageError)
