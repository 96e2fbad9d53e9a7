"""``zapvisor import``, and an export of the daemon, killed in the middle: real processes."""

import collections.abc as cabc
import datetime as dt
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import typing as t

import pytest
import trio

from storage.archive_records import (
    Address,
    Chat,
    Connection,
    Contact,
    Conversation,
    ConversationKey,
    End,
    Header,
    Message,
    Record,
    encode_record,
)
from storage.embedded import running_dsn
from storage.errors import StorageError
from storage.exports.check import open_export, open_part, verify
from storage.maintenance import open_maintenance
from tests.support.daemon_process import PAUSE, TIMEOUT, open_daemon

UNUSED = "ws://127.0.0.1:9/ws/chat"  # nobody is paired, so nobody dials
THEN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
MESSAGES = 12_000
CHATS = 40


@pytest.fixture
def directory() -> cabc.Iterator[pathlib.Path]:
    """A short one, for sockets."""
    with tempfile.TemporaryDirectory(prefix="zv-", dir="/tmp") as name:
        yield pathlib.Path(name)


def archive() -> cabc.Iterator[Record]:
    """Some conversations whose messages alternate; more than one part of an export."""
    old = {"connection": "old"}
    yield Header()
    yield Connection(
        created_at=THEN, reopen_window=0, reopen_from="closed_at", team_reopens=False, **old
    )
    people = [f"1555000{number:04}@s.whatsapp.net" for number in range(CHATS)]
    yield Contact(is_self=True, created_at=THEN, addresses=(), names=(), **old)
    for person in people:
        address = Address(address=person, created_at=THEN)
        yield Contact(is_self=False, created_at=THEN, addresses=(address,), names=(), **old)
    for person in people:
        yield Chat(kind="direct", address=person, created_at=THEN, **old)
    last = THEN + dt.timedelta(seconds=MESSAGES)
    key = ConversationKey(opened_at=THEN)
    for person in people:
        yield Conversation(
            chat_kind="direct",
            chat=person,
            key=key,
            status="closed",
            messages=MESSAGES // CHATS,
            last_message_at=last,
            closed_at=last,
            reopened=0,
            **old,
        )
    for number in range(MESSAGES):
        at = THEN + dt.timedelta(seconds=number)
        yield Message(
            chat_kind="direct",
            chat=people[number % CHATS],
            sender=people[number % CHATS],
            external_id=f"A{number}",
            conversation=key,
            kind="text",
            state="stored",
            from_me=False,
            lane="live",
            remote_timestamp=int(at.timestamp()),
            sent_at=at,
            received_at=at,
            retries=0,
            text=f"{number} " * 300,
            raw=b"raw",
            **old,
        )
    yield End(records=MESSAGES + 3 * CHATS + 3)


@pytest.fixture
def written(directory: pathlib.Path) -> pathlib.Path:
    path = directory / "archive.jsonl"
    with path.open("wb") as file:
        file.writelines(map(encode_record, archive()))
    return path


def begin(config: pathlib.Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "daemon", *arguments, "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def ended(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    """The exit code of a command, and what it said."""
    with trio.fail_after(TIMEOUT):
        said, errors = await trio.to_thread.run_sync(process.communicate, abandon_on_cancel=True)
    return process.returncode, (said + errors).decode()


async def messages(data: pathlib.Path) -> int:
    """How many are stored; none while the database is away."""
    if (dsn := running_dsn(data)) is None:
        return 0
    try:
        async with open_maintenance(dsn) as session:
            [row] = await session.run("SELECT count(*) FROM messages")
    except StorageError:
        return 0
    return int(row[0])


async def kill_at(process: "subprocess.Popen[bytes]", data: pathlib.Path, goal: int) -> None:
    """``kill -9`` as soon as so many messages are stored."""
    with trio.fail_after(TIMEOUT):
        while await messages(data) < goal:
            assert process.poll() is None, process.communicate()
            await trio.sleep(PAUSE / 5)
    process.kill()
    await trio.to_thread.run_sync(process.communicate)
    assert process.returncode == -signal.SIGKILL


def check_counts(facts: dict[str, t.Any], before: int) -> None:
    """An import found what those that were killed had stored, and stored the rest."""
    stored, present = facts["stored"]["message"], facts["present"]["message"]
    assert stored + present == MESSAGES
    assert before <= present < MESSAGES


def stream(path: pathlib.Path) -> bytes:
    """All parts of an export."""
    export, read = open_export(path), []
    for part in export.manifest.parts:
        with open_part(export, part) as file:
            read.append(file.read())
    return b"".join(read)


async def test_an_import_that_is_killed_begins_again(
    directory: pathlib.Path, written: pathlib.Path
) -> None:
    """Without a daemon, whose database is left running: in the end all is as if it had never been
    interrupted, to the byte."""
    data = directory / "data"
    config = directory / "supervisor.toml"
    config.write_text(f'[daemon]\ndata_dir = "{data}"\n')
    for goal in (1_000, 5_000):
        await kill_at(begin(config, "import", str(written)), data, goal)
    code, said = await ended(begin(config, "import", str(written), "--json"))
    assert code == 0, said
    check_counts(json.loads(said), 5_000)
    code, said = await ended(
        begin(config, "export", "--name", "all", "--to-dir", str(directory / "out"))
    )
    assert code == 0, said
    assert stream(directory / "out" / "all") == await trio.Path(written).read_bytes()


async def test_an_export_of_a_killed_daemon_goes_on(
    directory: pathlib.Path, written: pathlib.Path
) -> None:
    """An import beside a daemon is killed and begun again; then the daemon in the middle of an
    export, which the next one finishes: the same bytes."""
    async with open_daemon(directory / "d", UNUSED, bytes(32), embedded=True) as daemon:
        data, out = directory / "d" / "data", directory / "out"
        await kill_at(begin(daemon.config, "import", str(written)), data, 2_000)
        check_counts(await daemon.command("import", str(written)), 2_000)
        whole = await daemon.command("export", "--name", "whole", "--to-dir", str(out))
        assert whole["counts"]["messages"] == MESSAGES
        expected = stream(out / "whole")
        assert expected == await trio.Path(written).read_bytes()
        order = {"name": "cut", "format": "jsonl", "directory": str(out)}
        answer = await daemon.request("POST", "/exports", order)
        assert answer.is_success, answer.text
        draft = out / "cut.part"

        async def begun() -> bool:
            return any(draft.glob("part-000001*"))

        await daemon.until(begun, "a part is complete")
        await daemon.kill()
        assert draft.exists()
        assert not (out / "cut").exists()
        await daemon.start()

        async def done() -> bool:
            rows = (await daemon.request("GET", "/exports")).json()
            return bool(next(each for each in rows if each["name"] == "cut")["state"] == "done")

        await daemon.until(done, "the export is finished")
        assert not draft.exists()
        assert stream(out / "cut") == expected
        assert verify(open_export(out / "cut")).good
