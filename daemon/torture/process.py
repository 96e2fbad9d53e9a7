"""The daemon under torture: a process that is started again whenever it is gone."""

import collections
import collections.abc as cabc
import contextlib
import functools
import os
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

import httpx
import structlog
import trio

from daemon.errors import StartError
from storage.crash_points import VARIABLE

log: structlog.stdlib.BoundLogger = structlog.get_logger("torture")

START_DEADLINE: t.Final = 120.0  # seconds; machines are shared
STOP_DEADLINE: t.Final = 60.0  # seconds
REQUEST_TIMEOUT: t.Final = 20.0  # seconds
_LOOK: t.Final = 0.03  # seconds between two looks at another process
_PREFIX: t.Final = "ZAPVISOR_"


class DaemonKeeper:
    """Runs ``zapvisor run`` on a configuration, again and again, and knows why each run ended."""

    def __init__(self, config: Path, control: Path, logs: Path) -> None:
        self.kills = 0
        """Deaths by SIGKILL, of ours or at a crash point."""
        self.stops = 0
        """Orderly ends, asked for."""
        self.kills_by_point: collections.Counter[str] = collections.Counter()
        self.unexplained: list[str] = []
        """Ends that nobody asked for."""
        self.runs = 0
        self._config = config
        self._control = control
        self.logs = logs
        """Where each run writes a file of its own."""
        self._process: subprocess.Popen[bytes] | None = None
        self._armed: str | None = None  # where the present run shall die
        self._next_armed: str | None = None
        self._expected: signal.Signals | None = None  # what ends the present run
        self._up = trio.Event()
        self._ended = trio.Event()
        self._leaving = False

    # ---- the task

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the daemon running until :meth:`leave` or cancelled; ready once it answers.

        Raises:
            StartError: it does not come up.
        """
        first = True
        try:
            while not self._leaving:
                process = self._start()
                if await self._answers(process):
                    self._up.set()
                    if first:
                        task_status.started()
                        first = False
                await until(functools.partial(_has_ended, process), _LOOK)
                if self._up.is_set():  # else whoever waits goes on to wait, for the next one
                    self._up = trio.Event()
                self._take_note(process.returncode)
                ended, self._ended = self._ended, trio.Event()
                ended.set()
                if first:
                    raise StartError(f"the daemon did not start; see {self._log_path}")
        finally:
            process = t.cast("subprocess.Popen[bytes]", self._process)
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()

    @property
    def _log_path(self) -> Path:
        return self.logs / f"run-{self.runs:04}.log"

    def _start(self) -> "subprocess.Popen[bytes]":
        self.runs += 1
        environment = {key: v for key, v in os.environ.items() if not key.startswith(_PREFIX)}
        self._armed, self._next_armed, self._expected = self._next_armed, None, None
        if self._armed is not None:
            environment[VARIABLE] = self._armed
        with self._log_path.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-m", "daemon", "run", "--config", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        return self._process

    async def _answers(self, process: "subprocess.Popen[bytes]") -> bool:
        """Wait until the control socket answers; False when the process ended before."""
        with trio.move_on_after(START_DEADLINE):
            while process.poll() is None:
                with contextlib.suppress(httpx.HTTPError):
                    if (await self.request("GET", "/status")).is_success:
                        return True
                await trio.sleep(_LOOK)
            return False
        raise StartError(f"the daemon does not answer; see {self._log_path}")

    def _take_note(self, status: int) -> None:
        if status == -signal.SIGKILL and self._expected is signal.SIGKILL:
            self.kills += 1
        elif status == -signal.SIGKILL and self._armed is not None:
            self.kills += 1
            self.kills_by_point[self._armed.partition(":")[0]] += 1
        elif status == 0 and self._expected is signal.SIGTERM:
            self.stops += 1
        else:
            self.unexplained.append(
                f"run {self.runs} of the daemon ended by itself with status {status};"
                f" see {self._log_path}"
            )
            log.error("torture.daemon_ended", status=status, run=self.runs)

    # ---- what others do with it

    @property
    def pid(self) -> int:
        """The process of the present run; 0 when there is none."""
        return 0 if self._process is None else self._process.pid

    @property
    def is_up(self) -> bool:
        """Whether it answers, as far as is known."""
        return self._up.is_set()

    @property
    def armed(self) -> str | None:
        """The crash point that the present run shall die at."""
        return self._armed

    async def until_up(self) -> None:
        """Wait until it answers."""
        await self._up.wait()

    def arm_next(self, target: str) -> None:
        """Let the next run die at a crash point, ``NAME:COUNT``."""
        self._next_armed = target

    async def kill(self) -> None:
        """``kill -9``; returns when it is gone, and another one is about to start."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> None:
        """SIGTERM; the same."""
        await self._end(signal.SIGTERM)

    async def until_died_at(self, point: str, before: int = 0) -> None:
        """Wait until more deaths than that were at a crash point."""
        while self.kills_by_point[point] <= before:
            await self._ended.wait()

    async def leave(self) -> None:
        """Stop it in order, for good."""
        self._leaving = True
        await self._end(signal.SIGTERM)

    async def _end(self, how: signal.Signals) -> None:
        process, ended = self._process, self._ended
        if process is None or process.poll() is not None:
            return
        self._expected = how
        process.send_signal(how)
        with trio.move_on_after(STOP_DEADLINE):
            await ended.wait()
            return
        self.unexplained.append(
            f"run {self.runs} of the daemon did not end within {STOP_DEADLINE:g} s of {how.name}"
        )
        self._expected = signal.SIGKILL
        process.kill()
        await ended.wait()

    async def request(
        self,
        method: str,
        path: str,
        body: t.Any = None,
        headers: cabc.Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """One request to the control socket.

        Raises:
            httpx.HTTPError: there is nobody, or nobody any more.
        """
        transport = httpx.AsyncHTTPTransport(uds=str(self._control), verify=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://zapvisor", timeout=REQUEST_TIMEOUT
        ) as client:
            return await client.request(
                method, path, headers=headers, **({} if body is None else {"json": body})
            )


async def until(condition: cabc.Callable[[], cabc.Awaitable[object]], pause: float) -> None:
    """Look again and again, for nobody tells."""
    while True:
        if await condition():
            return
        await trio.sleep(pause)


async def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    await trio.lowlevel.checkpoint()
    return process.poll() is not None


# ---- its database


def cluster_home(data_dir: Path) -> Path:
    """Where the cluster of a data directory is, which may be elsewhere."""
    pointer = data_dir / "postgres.location"
    if pointer.exists():
        return Path(pointer.read_text(encoding="utf-8").strip())
    return data_dir / "postgres"


class PostgresHandle:
    """The daemon's own PostgreSQL, found by its files."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._stopped: list[int] = []

    def kill(self) -> bool:
        """``kill -9`` of the leader, which its children notice; whether there was one."""
        leader = self._leader()
        return leader is not None and _signal(leader, signal.SIGKILL)

    def stop(self) -> bool:
        """Stop all of its processes where they are; whether there were any."""
        leader = self._leader()
        if leader is None:
            return False
        self._stopped = [
            pid for pid in (leader, *_children(leader)) if _signal(pid, signal.SIGSTOP)
        ]
        return bool(self._stopped)

    def go_on(self) -> None:
        """Let the stopped ones go on."""
        stopped, self._stopped = self._stopped, []
        for pid in stopped:
            _signal(pid, signal.SIGCONT)

    def _leader(self) -> int | None:
        file = cluster_home(self._data_dir) / "data" / "postmaster.pid"
        try:
            first = file.read_text("utf-8").splitlines()[0]
            pid = int(first)
        except (FileNotFoundError, IndexError, ValueError):
            return None
        return pid if _is_postgres(pid) else None


def _is_postgres(pid: int) -> bool:
    """A stale file may name another process by now."""
    try:
        return b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
