"""``zapvisor import`` with a real daemon, and without one."""

import collections.abc as cabc
import json
import pathlib
import sys
import tempfile
import typing as t

import pyrage
import pytest
import trio

from storage.api import ChatKind, Envelope, ReceivedMessage
from storage.embedded import running_dsn
from storage.postgres import PostgresStorage
from tests.support.daemon_process import DaemonProcess, open_daemon

UNUSED = "ws://127.0.0.1:9/ws/chat"  # nobody is paired, so nobody dials
ANA = "15550001111@s.whatsapp.net"


@pytest.fixture
def directory() -> cabc.Iterator[pathlib.Path]:
    """A short one, for sockets."""
    with tempfile.TemporaryDirectory(prefix="zv-", dir="/tmp") as name:
        yield pathlib.Path(name)


async def store(data: pathlib.Path, names: cabc.Iterable[str]) -> None:
    """Store messages as the writer does."""
    dsn = running_dsn(data)
    assert dsn is not None
    async with PostgresStorage.open(dsn, key=bytes(32)) as storage:
        await storage.apply(
            [
                Envelope(
                    connection="sales",
                    message=ReceivedMessage(
                        chat=ANA,
                        chat_kind=ChatKind.DIRECT,
                        sender=ANA,
                        from_me=False,
                        external_id=name,
                        kind="text",
                        text=f"message {name}",
                        sent_at=1_700_000_000 + number,
                    ),
                )
                for number, name in enumerate(names)
            ]
        )


async def zapvisor(config: pathlib.Path, *arguments: str) -> tuple[int, str, str]:
    """A command without a daemon: its exit code and what it says."""
    done = await trio.run_process(
        [sys.executable, "-m", "daemon", *arguments, "--config", str(config)],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def config_in(directory: pathlib.Path) -> pathlib.Path:
    """The configuration of a place where nothing is yet."""
    directory.mkdir(mode=0o755)
    path = directory / "supervisor.toml"
    path.write_text(f'[daemon]\ndata_dir = "{directory}/data"\n')
    return path


def lines(directory: pathlib.Path) -> bytes:
    """The parts of an export that is neither compressed nor encrypted."""
    return b"".join(path.read_bytes() for path in sorted(directory.glob("part-*")))


async def told(daemon: DaemonProcess, *arguments: str) -> t.Any:
    """The JSON of a command that succeeds."""
    done = await daemon._run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_out_of_one_daemon_and_into_others(directory: pathlib.Path) -> None:
    """An export is put back where nothing is yet, and beside a daemon that has some of it and goes
    on working; what came out reads the same."""
    key = pyrage.x25519.Identity.generate()
    (directory / "age.key").write_text(f"{key}\n")
    (directory / "other.key").write_text(f"{pyrage.x25519.Identity.generate()}\n")
    out, sealed = directory / "out" / "plain", directory / "out" / "sealed"
    plain = ("export", "--no-zstd", "--name", "plain", "--to-dir", str(out.parent))
    async with open_daemon(directory / "a", UNUSED, bytes(32), "sales", embedded=True) as daemon:
        await store(directory / "a" / "data", [f"A{number}" for number in range(30)])
        await told(daemon, *plain)
        await told(
            daemon,
            *("export", "--name", "sealed", "--to-dir", str(out.parent)),
            *("--recipient", str(key.to_public())),
        )

    empty = config_in(directory / "b")
    code, _said, error = await zapvisor(empty, "import", str(sealed))
    assert (code, "--identity" in error) == (1, True), error
    code, _said, error = await zapvisor(
        empty, "import", str(sealed), "--identity", str(directory / "other.key")
    )
    assert (code, "other keys" in error) == (1, True), error
    code, said, error = await zapvisor(
        empty, *("import", str(sealed), "--identity", str(directory / "age.key"), "--json")
    )
    assert code == 0, error
    assert json.loads(said)["stored"]["message"] == 30
    again = directory / "again"
    code, _said, error = await zapvisor(empty, *plain[:-1], str(again))
    assert code == 0, error
    assert lines(again / "plain") == lines(out)
    code, said, _error = await zapvisor(empty, "import", str(out))
    assert code == 0
    assert "already there" in said

    async with open_daemon(directory / "c", UNUSED, bytes(32), "sales", embedded=True) as daemon:
        await store(directory / "c" / "data", ["A3", "A4", "B1"])
        facts = await told(daemon, "import", str(out))
        assert (facts["stored"]["message"], facts["present"]["message"]) == (28, 2)
        rows = await told(daemon, "conversations", "--connection", "sales")
        assert [row["messages"] for row in rows] == [31]
        facts = await told(daemon, "import", str(out), "--connection", "old")
        assert facts["stored"]["message"] == 30
        rows = await told(daemon, "conversations")
        assert sorted((row["connection"], row["messages"]) for row in rows) == [
            ("old", 30),
            ("sales", 31),
        ]


async def test_what_cannot_be_imported_is_told(directory: pathlib.Path) -> None:
    """One line each; the exit code tells, too."""
    config = config_in(directory / "a")
    path = directory / "x.jsonl"
    cases = [
        (b"hello\n", "is no archive of zapvisor"),
        (b"", "is empty"),
        (b'{"format":"zapvisor-archive","record":"header","version":9}\n', "of version 9"),
        (
            b'{"format":"zapvisor-archive","left_out":[],"record":"header","version":1}\n',
            "was cut off",
        ),
    ]
    for content, said in cases:
        path.write_bytes(content)
        code, _out, error = await zapvisor(config, "import", str(path))
        assert code == 1
        assert said in error
        assert "Traceback" not in error
        assert error.count("\n") == 1, error
    code, _out, error = await zapvisor(config, "import", str(directory / "nothing"))
    assert (code, "cannot be read" in error) == (1, True), error
    code, _out, error = await zapvisor(
        config, "import", str(path), "--identity", str(directory / "nothing")
    )
    assert (code, "cannot be read" in error) == (1, True), error


async def test_bad_lines_are_shown_and_the_rest_is_stored(directory: pathlib.Path) -> None:
    """With their numbers; the exit code is 1."""
    config = config_in(directory / "a")
    path = directory / "x.jsonl"
    path.write_bytes(
        b'{"format":"zapvisor-archive","left_out":[],"record":"header","version":1}\n'
        b'{"connection":"sales","created_at":"2026-11-21T09:30:00.000000Z","record":"connection",'
        b'"reopen_from":"closed_at","reopen_window":86400000000,"team_reopens":false}\n'
        b'{"record":"message","text":"a secret"}\n'
        b'{"record":"end","records":3}\n'
    )
    code, said, error = await zapvisor(config, "import", str(path))
    assert code == 1, error
    assert "1 records could not be stored" in said
    assert "line 3: chat is missing" in said
    assert "secret" not in said + error
