"""``zapvisor export`` with a real daemon, and without one."""

import collections.abc as cabc
import csv
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import typing as t

import pytest
import trio

from storage.api import ChatKind, Envelope, ReceivedMessage
from storage.embedded import running_dsn
from storage.exports.check import open_export, open_part
from storage.exports.draft import unfinished
from storage.exports.sealing import read_identities
from storage.postgres import PostgresStorage
from tests.support.daemon_process import DaemonProcess, open_daemon

UNUSED = "ws://127.0.0.1:9/ws/chat"  # nobody is paired, so nobody dials
ANA = "15550001111@s.whatsapp.net"


@pytest.fixture
def directory() -> cabc.Iterator[pathlib.Path]:
    """A short one, for sockets."""
    with tempfile.TemporaryDirectory(prefix="zv-", dir="/tmp") as name:
        yield pathlib.Path(name)


async def fill(data: pathlib.Path, count: int) -> None:
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
                        external_id=f"A{number}",
                        kind="text",
                        text=f"message {number}",
                        sent_at=1_800_000_000 + number,
                    ),
                )
                for number in range(count)
            ]
        )


async def told(daemon: DaemonProcess, *arguments: str) -> t.Any:
    """The JSON of a command that succeeds."""
    done = await daemon._run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def refused(daemon: DaemonProcess, *arguments: str) -> str:
    """What a command that fails says."""
    done = await daemon._run(*arguments)
    assert done.returncode in (1, 2), done.stdout
    return done.stderr.decode()


async def test_with_a_daemon_and_without(directory: pathlib.Path) -> None:
    """The same commands write the same; wrong ones say what to do and leave nothing."""
    target = directory / "out"
    async with open_daemon(directory / "d", UNUSED, bytes(32), "sales", embedded=True) as daemon:
        data = directory / "d" / "data"
        await fill(data, 50)
        row = await told(daemon, "export", "--name", "one", "--to-dir", str(target))
        assert (row["state"], row["counts"]["messages"]) == ("done", 50)
        assert row["path"] == str(target / "one")
        first = stream(target / "one")
        assert (await verified(target / "one"))[0] == 0
        assert "already" in await refused(
            daemon, "export", "--name", "one", "--to-dir", str(target)
        )
        assert "no connection" in await refused(daemon, "export", "--connection", "nobody")
        assert "no recipient" in await refused(daemon, "export", "--recipient", "age1wrong")
        assert "no S3 store" in await refused(daemon, "export", "--s3")
        assert "is no day" in await refused(daemon, "export", "--from", "yesterday")
        assert unfinished(data / "exports") == []
        rows = await told(daemon, "exports")
        assert [(each["name"], each["state"]) for each in rows][-1] == ("one", "done")
        gone = await told(daemon, "exports", "delete", str(row["id"]))
        assert gone["removed_at"]
        assert not (target / "one").exists()
        await daemon.terminate()

        row = await told(daemon, "export", "--name", "two", "--to-dir", str(target))
        assert row["counts"]["messages"] == 50
        assert stream(target / "two") == first
        row = await told(
            daemon, *("export", "--name", "csv", "--format", "csv", "--to-dir", str(target))
        )
        text = stream(target / "csv").decode()
        assert len(list(csv.reader(io.StringIO(text, newline="")))) == 51
        assert "no connection" in await refused(daemon, "export", "--connection", "nobody")
        (target / "csv" / "part-000001.csv").write_bytes(b"changed")
        code, said = await verified(target / "csv")
        assert code == 1
        assert "damaged: part-000001.csv" in said
        code, said = await verified(target / "x.part")
        assert "not finished" in said

        await daemon.start()
        seen = await told(daemon, "changes", "accesses")
        who = {row["query"]: (row["what"], row["who"], row["uid"]) for row in seen}
        assert who["one"] == ("export", "control socket", os.getuid())
        assert who["two"] == who["csv"] == ("export", "command line", os.getuid())


async def verified(path: pathlib.Path) -> tuple[int, str]:
    """The exit code of a verification, and what it says."""
    done = await trio.run_process(
        [sys.executable, "-m", "daemon", "export", "verify", str(path)],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).decode()


async def test_encrypted(directory: pathlib.Path) -> None:
    """To a key of age and to one of ssh; each opens it alone."""
    keys = directory / "ssh"
    subprocess.run(  # noqa: ASYNC221
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys)], check=True
    )
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    age = directory / "age.key"
    age.write_text(f"# created by hand\n{identity}\n")
    target = directory / "out"
    async with open_daemon(directory / "d", UNUSED, bytes(32), "sales", embedded=True) as daemon:
        await fill(directory / "d" / "data", 5)
        row = await told(
            daemon,
            *("export", "--name", "sealed", "--to-dir", str(target)),
            *("--recipient", str(identity.to_public())),
            *("--recipient", keys.with_suffix(".pub").read_text().strip()),
        )
        assert len(row["recipients"]) == 2
    for each in (age, keys):
        assert stream(target / "sealed", read_identities(each)).count(b'"record":"message"') == 5


def stream(path: pathlib.Path, identities: cabc.Sequence[t.Any] = ()) -> bytes:
    """All parts of an export."""
    export = open_export(path)
    read = []
    for part in export.manifest.parts:
        with open_part(export, part, identities) as file:
            read.append(file.read())
    return b"".join(read)
