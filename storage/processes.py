"""Child processes of the embedded database: born with us, gone with us, found when left."""

import collections.abc as cabc
import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import typing as t

import trio

from storage.accounts import Account

_PR_SET_PDEATHSIG: t.Final = 1


def spawn(
    command: cabc.Sequence[str | os.PathLike[str]],
    *,
    account: Account,
    log: int,
    death_signal: signal.Signals,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, writing to the descriptor ``log``.

    It gets ``death_signal`` when the thread that calls this ends (Linux), so that must be a
    thread that lives as long as the daemon. A terminal's Ctrl-C does not reach it, and neither
    does our environment: there may be secrets in it.
    """
    dropping = os.geteuid() == 0 and account.uid != 0
    return subprocess.Popen(  # noqa: S603 - programs we found ourselves
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        start_new_session=True,
        user=account.uid if dropping else None,
        group=account.gid if dropping else None,
        extra_groups=[] if dropping else None,
        preexec_fn=die_with_parent(death_signal),
    )


def die_with_parent(death_signal: signal.Signals) -> cabc.Callable[[], None] | None:
    """What a child runs before its program, so that it gets the signal when we end (Linux);
    after its user has changed, which would undo it."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # the parent ended before the arrangement stood

    return arrange


async def wait_exit(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child to end; its exit status."""
    while (status := process.poll()) is None:
        if sys.platform == "linux":
            await _wait_gone(process.pid)
        else:
            await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
    return status


async def _wait_gone(pid: int) -> None:
    if sys.platform == "linux":
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)


async def end(
    process: subprocess.Popen[bytes],
    signals: cabc.Iterable[tuple[signal.Signals, float]],
) -> int:
    """Send each signal and wait its seconds for the child to end; then kill it."""
    for number, seconds in signals:
        process.send_signal(number)
        with trio.move_on_after(seconds):
            return await wait_exit(process)
    process.kill()
    return await wait_exit(process)


def processes_in(directory: pathlib.Path) -> list[int]:
    """The processes whose working directory is ``directory``; none where /proc is missing."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # gone meanwhile, a zombie, or not ours
                    if os.readlink(f"/proc/{entry.name}/cwd") == str(directory):
                        found.append(int(entry.name))
    return found


async def end_orphans(directory: pathlib.Path, leader: int | None, seconds: float) -> bool:
    """End every process that works in ``directory``, politely first; whether none is left.

    ``leader`` is the one that ends the others when it gets the signal; without it, or when it
    does not listen, all get it.
    """
    steps = (
        (signal.SIGINT, leader),
        (signal.SIGTERM, None),
        (signal.SIGQUIT, None),
        (signal.SIGKILL, None),
    )
    for number, target in steps:
        pids = processes_in(directory)
        if not pids:
            return True
        if target is not None and target not in pids:
            continue
        for pid in pids if target is None else [target]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        with trio.move_on_after(seconds):
            for pid in pids:
                await _wait_gone(pid)
    return not processes_in(directory)
