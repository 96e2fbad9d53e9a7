"""The program as an operator meets it: separate processes, a real database, the simulator."""

import collections.abc as cabc
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
from pathlib import Path

import httpx
import pytest

DEADLINE: t.Final = 60.0  # seconds; far above what anything here takes


class Place:
    """A directory with a configuration, and the program run in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith("ZAPVISOR_")
        }

    def start(self, *tokens: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "daemon", *tokens],
            cwd=self.directory,
            env=self.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *tokens: str) -> tuple[int, str, str]:
        """Run a command to its end: exit code, stdout, stderr."""
        with self.start(*tokens) as process:
            out, err = process.communicate(timeout=DEADLINE)
        return process.returncode, out, err

    def state(self, name: str) -> str:
        """The state of a connection, asked with the command line."""
        code, out, err = self.call("status", "--json")
        assert code == 0, err
        return next(str(row["state"]) for row in json.loads(out) if row["name"] == name)

    def wait_state(self, name: str, state: str) -> None:
        """Ask until the connection is in that state."""
        end = time.monotonic() + DEADLINE
        while (now := self.state(name)) != state:
            assert time.monotonic() < end, f"{name} is {now}, not {state}"


@contextlib.contextmanager
def running(process: subprocess.Popen[str]) -> cabc.Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the block."""
    watchdog = threading.Timer(2 * DEADLINE, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def read_json(process: subprocess.Popen[str]) -> dict[str, t.Any]:
    """The next line of stdout."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    found: dict[str, t.Any] = json.loads(line)
    return found


@contextlib.contextmanager
def daemon(place: Place) -> cabc.Iterator[subprocess.Popen[str]]:
    """A daemon that has said that it is up."""
    with running(place.start("run")) as process:
        while read_json(process)["event"] != "daemon.started":
            pass
        # From here on nobody reads its log, which must not block it.
        assert process.stdout is not None
        drain = threading.Thread(target=process.stdout.read, daemon=True)
        drain.start()
        yield process


@pytest.fixture
def place() -> cabc.Iterator[Place]:
    """A directory whose name is short enough for unix sockets."""
    directory = Path(tempfile.mkdtemp(prefix="zv-", dir="/tmp"))
    yield Place(directory)
    location = directory / "data" / "postgres.location"
    if location.exists():  # run by root, the cluster may be elsewhere
        shutil.rmtree(location.read_text().strip(), ignore_errors=True)
    shutil.rmtree(directory)


def test_a_daemons_life(place: Place) -> None:
    """Start, pair, look, order, refuse a second one, die, come back, stop."""
    with running(place.start("simulate", "--json")) as simulator:
        facts = read_json(simulator)
        (place.directory / "supervisor.toml").write_text(
            '[http]\nlisten = ""\n'
            f'[whatsapp]\nurl = "{facts["url"]}"\nroot_key = "{facts["root_key"]}"\n'
            '[supervision]\nbackoff_initial = "100ms"\n'
            '[[connections]]\nname = "sales"\n[[connections]]\nname = "support"\n'
        )
        with daemon(place) as first:
            with running(place.start("pair", "sales", "--json")) as pairing:
                while (news := read_json(pairing))["state"] != "code":
                    pass
                answer = httpx.post(
                    f"{facts['http_url']}/admin/mock-phone/scan-qr?name=Company",
                    content=news["qr"],
                    timeout=DEADLINE,
                )
                assert answer.is_success, answer.text
                while (news := read_json(pairing))["state"] != "paired":
                    pass
                assert pairing.wait(DEADLINE) == 0
            place.wait_state("sales", "online")
            code, _out, err = place.call("pair", "sales")
            assert code == 1
            assert "--force" in err
            assert place.call("health")[0] == 0
            code, _out, err = place.call("run")
            assert code == 1
            assert f"another daemon (process {first.pid}) runs on the data directory" in err
            assert "Traceback" not in err
            assert place.call("restart", "sales")[0] == 0
            place.wait_state("sales", "online")
            first.kill()
            first.wait(DEADLINE)
        code, _out, err = place.call("status")
        assert code == 1
        assert "start it with: zapvisor run" in err
        with daemon(place) as second:
            place.wait_state("sales", "online")
            assert place.state("support") == "stopped"
            assert place.call("stop", "sales")[0] == 0
            second.send_signal(signal.SIGTERM)
            assert second.wait(20) == 0
        with daemon(place) as third:
            assert place.state("sales") == "stopped"
            third.send_signal(signal.SIGINT)
            assert third.wait(20) == 0
        assert not (place.directory / "data" / "control.sock").exists()


def test_the_demo_proves_itself(place: Place) -> None:
    """The last line is one JSON object with everything in it, and the numbers agree."""
    with running(place.start("demo", "--for", "3s", "--json", "--connections", "3")) as process:
        out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    summary = json.loads(out.splitlines()[-1])
    assert set(summary) == {
        "offered",
        "stored",
        "duplicates_offered",
        "duplicates_skipped",
        "lost",
        "stored_twice",
        "unexpected",
        "conversations",
        "reopened",
        "restarts",
        "seconds",
        "messages_per_second",
    }
    assert summary["offered"] == summary["stored"] > 50
    assert summary["lost"] == summary["stored_twice"] == summary["unexpected"] == 0
    assert summary["duplicates_offered"] >= summary["duplicates_skipped"] > 0
    assert summary["conversations"] > 0
    assert summary["restarts"] > 0


def test_the_demo_ends_cleanly_at_a_signal(place: Place) -> None:
    """Ctrl-C ends the writing; what was written is still stored, compared and summed up."""
    with running(place.start("demo", "--connections", "2", "--for", "1h")) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "stored" in line and "stored 0" not in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    assert "every message is stored exactly once" in out


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (("demo", "--for", "soon"), "--for"),
        (("demo", "--connections", "0"), "--connections"),
        (("demo", "--rate=-1"), "--rate"),
        (("simulate", "--listen", "here"), "HOST:PORT"),
        (("nonsense",), "nonsense"),
    ],
)
def test_wrong_command_lines(place: Place, tokens: tuple[str, ...], words: str) -> None:
    """It says what is wrong; exit code 2, no traceback."""
    code, _out, err = place.call(*tokens)
    assert code == 2
    assert words in err
    assert "Traceback" not in err
