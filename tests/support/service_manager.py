"""A small stand-in for systemd: starts the daemon, listens to it, kills and restarts it.

It does what ``Type=notify``, ``WatchdogSec`` and ``Restart=always`` do, and no more.
"""

import contextlib
import os
import signal
import socket
import subprocess
import typing as t

import attrs
import trio

from tests.support.daemon_process import DaemonProcess

ABORT_TIMEOUT: t.Final = 0.5  # seconds from SIGABRT to SIGKILL, which a stopped process obeys


@attrs.define
class ServiceManager:
    """Keeps one daemon running, as its unit says."""

    daemon: DaemonProcess
    watchdog: float  # seconds
    restart_pause: float = 0.1
    told: list[str] = attrs.field(factory=list)
    """All that the daemon has said, in order."""
    killed: int = 0
    ready: int = 0  # how often it was
    _heard_at: float | None = None  # since when a sign of life is due; None: it is not ready

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Start it, and keep it running until cancelled; it is left running then."""
        address = str(self.daemon.directory / "notify.sock")
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            await receiver.bind(address)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, receiver)
                nursery.start_soon(self._watch)
                while True:
                    self._spawn(address)
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    while self._process.poll() is None:
                        await trio.sleep(0.05)
                    self._heard_at = None
                    await trio.sleep(self.restart_pause)

    @property
    def _process(self) -> "subprocess.Popen[bytes]":
        assert self.daemon.process is not None
        return self.daemon.process

    def _spawn(self, address: str) -> None:
        self._heard_at = None
        watched = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(int(self.watchdog * 1e6))}
        self.daemon.launch(watched)

    async def _listen(self, receiver: trio.socket.SocketType) -> None:
        while True:
            for state in (await receiver.recv(4096)).decode().split("\n"):
                self.told.append(state)
                if state == "READY=1":
                    self.ready += 1
                if state == "READY=1" or (state == "WATCHDOG=1" and self._heard_at is not None):
                    self._heard_at = trio.current_time()

    async def _watch(self) -> None:
        while True:
            await trio.sleep(0.05)
            heard = self._heard_at
            if heard is not None and trio.current_time() - heard > self.watchdog:
                self._heard_at = None
                self.killed += 1
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._process.pid, signal.SIGABRT)
                    await trio.sleep(ABORT_TIMEOUT)
                    os.kill(self._process.pid, signal.SIGKILL)
