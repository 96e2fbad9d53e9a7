"""Run the commands of ``docs/getting-started.md`` and compare, or rewrite, what they print.

    python scripts/getting_started.py            fail where the document is wrong
    python scripts/getting_started.py --write    put what was really printed into it

Only what stands between the two comments ``transcript`` is run: blocks of ``console``, one shell
for all of them, each command after ``$ ``. A comment ``until: PATTERN`` before a block has its last
command repeated until it prints that. Times, sizes, keys
and other things that differ from run to run are not compared (see ``normalised``).
"""

import argparse
import contextlib
import difflib
import os
import pathlib
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import typing as t

ROOT: t.Final = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT: t.Final = ROOT / "docs" / "getting-started.md"
HOME: t.Final = "/home/you"  # what the document says in the place of the directory of the run
PORTS: t.Final = ("8090", "8720")  # of the document: simulator, HTTP; a run takes free ones
DEADLINE: t.Final = 90.0  # seconds for a command, and for what a repeated one waits for
PAUSE: t.Final = 0.1  # seconds between repetitions

_BEGIN, _END = "<!-- transcript -->", "<!-- end of the transcript -->"
_BLOCK: t.Final = re.compile(r"(?:<!-- until: (.+?) -->\n)?```console\n(.*?)```\n", re.DOTALL)
_HEREDOC: t.Final = re.compile(r"<<'?(\w+)'?")
_CHANGING: t.Final = (
    # How the machine is doing just then.
    (re.compile(r"^event loop +.*$", re.MULTILINE), "event loop"),
    (re.compile(r"^(- )?the event loop was .*\n", re.MULTILINE), ""),
    (re.compile(r"\d+ batches(, the last in .*)?$", re.MULTILINE), "BATCHES"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)?"), "TIME"),
    (re.compile(r"zv_[\w-]+"), "TOKEN"),
    (re.compile(r"\b[0-9a-fA-F]{16,}\b"), "HEX"),
    (re.compile(r"(?<![\w.])\d+(\.\d+)? (ms|s|min|h|d|B|KiB|MiB|GiB|KB|MB|GB)\b"), "AMOUNT"),
    (re.compile(r"(?<![\w.])\d+\.\d+(e-\d+)?( %)?(?![\w.])"), "NUMBER"),
    (re.compile(r"(no answer within AMOUNT): it hangs, or all connections of the .*"), r"\1"),
    (re.compile("─+"), "─"),
    (re.compile(r"[ \t]+"), " "),
)


class TranscriptError(Exception):
    """A command did not do what the document says."""


def normalised(text: str) -> str:
    """What must be the same in each run."""
    for pattern, name in _CHANGING:
        text = pattern.sub(name, text)
    return "\n".join(line.strip() for line in text.strip().splitlines())


def steps(block: str) -> t.Iterator[tuple[str, str]]:
    """The commands of a block, each with what the document says it prints."""
    lines = block.splitlines(keepends=True)
    command, printed = "", ""
    ending: str | None = None  # of a here-document that is still open
    for line in lines:
        if ending is not None:
            command += line
            ending = None if line.strip() == ending else ending
        elif line.startswith("$ "):
            if command:
                yield command, printed
            command, printed = line.removeprefix("$ "), ""
            opened = _HEREDOC.search(line)
            ending = opened and opened[1]
        elif command.endswith("\\\n"):
            command += line
        else:
            printed += line
    if command:
        yield command, printed


class Shell:
    """One bash in a directory of its own; what it starts ends with it."""

    def __init__(self, directory: pathlib.Path, path: str) -> None:
        self._directory = directory
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ZAPVISOR_", "COV_"))
        }
        self._ports = {port: _free_port() for port in PORTS}
        environ |= {
            "PATH": f"{path}{os.pathsep}{os.environ['PATH']}",
            "ZAPVISOR_HTTP_LISTEN": f"127.0.0.1:{self._ports['8720']}",
            "TZ": "UTC",
            "NO_COLOR": "1",
        }
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._stdout, selectors.EVENT_READ)

    @property
    def _stdout(self) -> t.IO[bytes]:
        assert self._bash.stdout is not None
        return self._bash.stdout

    def run(self, command: str, deadline: float = DEADLINE) -> str:
        """What a command prints.

        Raises:
            TranscriptError: it does not end in time.
        """
        assert self._bash.stdin is not None
        mark = f"--- end {time.monotonic_ns()} ---"
        for port, free in self._ports.items():
            command = command.replace(f":{port}", f":{free}")
        script = f"{{\n{command}\n}} </dev/null\necho '{mark}'\n"
        self._bash.stdin.write(script.encode())
        self._bash.stdin.flush()
        printed, end = b"", time.monotonic() + deadline
        while not printed.endswith(f"{mark}\n".encode()):
            if not self._ready.select(max(0.0, end - time.monotonic())):
                raise TranscriptError(f"no end after {deadline:g} s:\n{command}{printed.decode()}")
            if not (piece := os.read(self._stdout.fileno(), 65536)):
                raise TranscriptError(f"the shell has ended:\n{command}{printed.decode()}")
            printed += piece
        return self._as_in_document(printed.decode().removesuffix(f"{mark}\n"))

    def _as_in_document(self, printed: str) -> str:
        for port, free in self._ports.items():
            printed = printed.replace(f":{free}", f":{port}")
        printed = printed.replace(str(self._directory), HOME)
        return "".join(f"{line.rstrip()}\n" for line in printed.splitlines())

    def close(self) -> None:
        """End all that runs, in order where possible."""
        with contextlib.suppress(TranscriptError, BrokenPipeError):
            self.run(
                '[ -n "$PG" ] && kill -CONT $PG $(pgrep -P $PG) 2>/dev/null;'
                ' [ -n "$DAEMON" ] && kill $DAEMON 2>/dev/null && wait $DAEMON'
            )
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()
        self._ready.close()
        for stream in (self._bash.stdin, self._bash.stdout):
            if stream is not None:
                stream.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _follow(shell: Shell, block: str, until: str | None) -> t.Iterator[tuple[str, str, str]]:
    """Each command, what it should print, and what it prints."""
    orders = list(steps(block))
    for number, (command, expected) in enumerate(orders):
        printed = shell.run(command)
        if until is not None and number == len(orders) - 1:
            end = time.monotonic() + DEADLINE
            while not re.search(until, printed, re.MULTILINE):
                if time.monotonic() > end:
                    raise TranscriptError(f"never printed {until!r}:\n$ {command}{printed}")
                time.sleep(PAUSE)
                printed = shell.run(command)
        yield command, expected, printed


def transcript(text: str, shell: Shell) -> tuple[str, list[str]]:
    """The document with what was really printed, and where that differs from what it said."""
    before, begin, rest = text.partition(_BEGIN)
    inside, end, after = rest.partition(_END)
    if not (begin and end):
        raise TranscriptError(f"the document lacks {_BEGIN} or {_END}")
    differences: list[str] = []

    def follow(match: re.Match[str]) -> str:
        until, block = match.groups()
        told = ""
        for command, expected, printed in _follow(shell, block, until):
            told += f"$ {command}{printed}"
            was, now = normalised(expected).splitlines(), normalised(printed).splitlines()
            if was != now:
                lines = difflib.unified_diff(was, now, "document", "run", lineterm="")
                differences.append("\n".join([f"$ {command.strip()}", *lines]))
        head = "" if until is None else f"<!-- until: {until} -->\n"
        return f"{head}```console\n{told}```\n"

    return f"{before}{begin}{_BLOCK.sub(follow, inside)}{end}{after}", differences


@contextlib.contextmanager
def place(program: pathlib.Path | None = None) -> t.Iterator[Shell]:
    """A shell in a new directory, where ``zapvisor`` is a program, or what this source tree is."""
    with tempfile.TemporaryDirectory(prefix="zv-", dir="/tmp") as name:  # sockets: a short path
        directory = pathlib.Path(name)
        (directory / ".bin").mkdir()
        called = directory / ".bin" / "zapvisor"
        if program is not None:
            called.symlink_to(program.absolute())
        else:
            order = f'PYTHONPATH={ROOT} exec {sys.executable} -m daemon "$@"'
            called.write_text(f"#!/bin/sh\n{order}\n")
            called.chmod(0o755)
        shell = Shell(directory, str(called.parent))
        try:
            yield shell
        finally:
            shell.close()
            for location in directory.glob("*/data/postgres.location"):
                shutil.rmtree(location.read_text().strip(), ignore_errors=True)


def main() -> int:
    """Compare or rewrite; 1 when the document is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="rewrite the document")
    parser.add_argument("--program", type=pathlib.Path, help="an installed zapvisor to run")
    options = parser.parse_args()
    before = DOCUMENT.read_text()
    try:
        with place(options.program) as shell:
            after, differences = transcript(before, shell)
    except TranscriptError as error:
        print(error, file=sys.stderr)
        return 1
    if options.write:
        DOCUMENT.write_text(after)
        return 0
    print("\n\n".join(differences), file=sys.stderr)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
