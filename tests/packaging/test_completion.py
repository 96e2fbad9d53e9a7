"""What shells offer while a command is typed."""

import http.server
import pathlib
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import typing as t

import pytest

from daemon.__main__ import execute

BASH = shutil.which("bash")

DRIVER = """
source "$1"; shift
complete -p zapvisor >/dev/null || exit 3
while IFS= read -r line; do
    IFS=' ' read -r -a words <<< "$line"
    [[ $line == *' ' ]] && words+=('')
    COMP_WORDS=("${words[@]}"); COMP_CWORD=$((${#words[@]} - 1)); COMPREPLY=()
    _zapvisor
    echo "${COMPREPLY[*]}"
done
"""


@pytest.fixture
def place() -> t.Iterator[pathlib.Path]:
    """A directory with a program ``zapvisor``, its completion and a configuration."""
    with tempfile.TemporaryDirectory(prefix="zv-", dir="/tmp") as name:
        directory = pathlib.Path(name)
        program = directory / "zapvisor"
        root = pathlib.Path(__file__).parents[2]
        program.write_text(
            f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" -m daemon "$@"\n'
        )
        program.chmod(0o755)
        (directory / "supervisor.toml").write_text(
            '[control]\nsocket = "control.sock"\n'
            '[[connections]]\nname = "sales"\n[[connections]]\nname = "support"\n'
        )
        yield directory


def _printed(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert execute(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
def test_in_a_real_bash(place: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands, subcommands, options, choices; names of connections from the configuration."""
    assert BASH is not None
    (place / "completion").write_text(_printed("bash", capsys))
    typed = {
        "zapvisor pa": "pair",
        "zapvisor conversations cl": "close",
        "zapvisor pair --fo": "--force",
        "zapvisor conversations --status wa": "waiting",
        "zapvisor pair s": "sales support",
        "zapvisor gaps su": "support",
    }
    done = subprocess.run(
        [BASH, "--norc", "-c", DRIVER, "driver", str(place / "completion")],
        input="".join(f"{line}\n" for line in typed),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=place,
        env={"PATH": f"{place}:/usr/bin:/bin", "HOME": str(place)},
    )
    assert done.returncode == 0, done.stderr
    assert dict(zip(typed, done.stdout.splitlines(), strict=True)) == typed


class _Names(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/status" else 404)
        self.end_headers()
        self.wfile.write(b'[{"name": "made-at-run-time"}]')

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        return "unix"


def test_a_daemon_knows_more_names(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that it answers count; without it, or with a broken configuration, nothing fails."""
    monkeypatch.chdir(place)
    with socketserver.UnixStreamServer(str(place / "control.sock"), _Names) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            assert _completed("pair", "", capsys=capsys) == ["made-at-run-time"]
        finally:
            server.shutdown()
            thread.join()
    assert _completed("pair", "", capsys=capsys) == ["sales", "support"]
    (place / "other.toml").write_text('[[connections]]\nname = "third"\n')
    assert _completed("restart", "--config", "other.toml", "", capsys=capsys) == ["third"]
    (place / "supervisor.toml").write_text("nonsense")
    assert _completed("pair", "", capsys=capsys) == []


def _completed(*words: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the program answers to the script of a shell."""
    execute(["__complete", *words])
    lines = capsys.readouterr().out.splitlines()
    return [line.partition("\t")[0] for line in lines if line and line[0] != "\x1f"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell: str, place: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They ask for names, too; where the shell is installed it reads the script without error."""
    text = _printed(shell, capsys)
    assert "__complete" in text
    assert "install-systemd" in text
    if (program := shutil.which(shell)) is not None:
        script = place / "completion"
        script.write_text(text)
        done = subprocess.run([program, "-n", str(script)], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
