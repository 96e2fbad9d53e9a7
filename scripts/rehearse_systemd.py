#!/usr/bin/env python3
"""Runs the daemon as deploy/systemd/zapvisor.service would, where there is no systemd.

It reads the unit and does by itself what its lines ask of systemd: user, umask, limits, a file
system that is read-only but for the directories of the service, no capabilities, a filter of
system calls made of systemd's own lists, the readiness protocol, the watchdog, the credential.
Then it starts the daemon with its embedded PostgreSQL, reloads it, stops it, starts it again, and
checks what it left behind. Lines that it cannot carry out are named at the end.

Needs root (for the mounts) and systemd-analyze; changes nothing outside of a temporary directory.

    python3 scripts/rehearse_systemd.py [--unit FILE] [--keep]
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback

from unit_sandbox import UID, Unit, allowed_calls, become_the_service, enter_file_system

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
DEADLINE = 120.0  # seconds for any step

REHEARSED = set(
    re.findall(
        r"\w+",
        """
Type NotifyAccess ExecStart ExecReload User Group ConfigurationDirectory StateDirectory
StateDirectoryMode RuntimeDirectory RuntimeDirectoryMode WorkingDirectory UMask LoadCredential
LimitCORE LimitNOFILE NoNewPrivileges CapabilityBoundingSet ProtectSystem ProtectHome
PrivateTmp PrivateDevices PrivateIPC PrivateMounts ProtectHostname ProtectProc ProcSubset
ProtectControlGroups ProtectKernelTunables RestrictAddressFamilies RestrictNamespaces
RestrictSUIDSGID LockPersonality MemoryDenyWriteExecute SystemCallFilter SystemCallErrorNumber
SystemCallArchitectures WatchdogSec TimeoutStopSec
""",
    )
)


class Service:
    """The daemon under the unit, and systemd's end of its notify socket."""

    def __init__(self, unit: Unit, work: pathlib.Path, command: list[str], config: str) -> None:
        self.unit, self.work, self.command, self.config = unit, work, command, config
        self.watchdog = unit.seconds("WatchdogSec")
        self.pid = 0
        self.told: list[str] = []
        self.receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.receiver.bind(str(work / "notify"))
        os.chmod(work / "notify", 0o777)

    def start(self) -> None:
        for name in ("etc", "etc.work"):
            shutil.rmtree(self.work / name, ignore_errors=True)
            os.mkdir(self.work / name)
        os.chmod(self.work / "etc", 0o755)
        self.told.clear()
        self.pid = os.fork()
        if self.pid == 0:
            log = os.open(self.work / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            try:
                home = str(pathlib.Path(self.command[0]).parents[1])
                enter_file_system(self.unit, self.work, self.config, home)
                environment = become_the_service(self.unit, self.watchdog)
                environment["WATCHDOG_PID"] = str(os.getpid())
                os.execve(self.command[0], self.command, environment)
            except BaseException:
                traceback.print_exc()
                os._exit(99)

    def until(self, what: str, within: float = DEADLINE) -> None:
        """Wait until the daemon has told this."""
        deadline = time.monotonic() + within
        while not any(each.startswith(what) for each in self.told):
            self.receiver.settimeout(0.25)
            try:
                self.told += self.receiver.recv(4096).decode().split("\n")
            except TimeoutError:
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    self.pid = 0  # no longer ours
                    sys.exit(f"the daemon ended before {what}:\n{self.log()}")
                if time.monotonic() > deadline:
                    sys.exit(f"the daemon did not tell {what} in {within:g} s:\n{self.log()}")
        self.told = []

    def log(self) -> str:
        return (self.work / "log").read_text(encoding="utf-8", errors="replace")[-4000:]

    def ask(self, path: str) -> bytes:
        """The control socket's answer, from outside of the sandbox."""
        connection = http.client.HTTPConnection("zapvisor", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.work / "runtime" / "control.sock"))
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            sys.exit(f"{path} is answered with {answer.status}:\n{self.log()}")
        return answer.read()

    def stop(self) -> float:
        """SIGTERM, as systemd stops it; how many seconds it took."""
        began = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        self.until("STOPPING=1")
        while True:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.pid = 0  # no longer ours
                break
            if time.monotonic() - began > self.unit.seconds("TimeoutStopSec"):
                sys.exit("it does not end within TimeoutStopSec")
            time.sleep(0.02)
        if status != 0:
            sys.exit(f"it ended with {status}:\n{self.log()}")
        return time.monotonic() - began


PROBE = """
import ctypes, mmap, os, socket, sys
def tried(work):
    try:
        work()
    except OSError:
        return "refused"
    return "possible"
libc = ctypes.CDLL(None, use_errno=True)
def must(value):
    if value < 0:
        raise OSError(ctypes.get_errno(), "")
libc.mmap.restype = ctypes.c_long
probes = {
    "write to /etc": lambda: open("/etc/zapvisor/x", "w"),
    "write to /usr": lambda: open("/usr/x", "w"),
    "write to /var/lib": lambda: open("/var/lib/x", "w"),
    "read the key's own file": lambda: open("/etc/zapvisor/secret.key"),
    "look into /home": lambda: os.listdir("/home"),
    "a raw disk": lambda: os.stat("/dev/vda"),
    "see process 1": lambda: os.stat("/proc/1"),
    "a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "a new user namespace": lambda: must(libc.unshare(0x10000000)),
    "memory to write and execute": lambda: must(libc.mmap(None, 4096, 7, 0x22, -1, 0)),
    "become root": lambda: os.setuid(0),
    "a setuid file": lambda: os.chmod(sys.argv[1], 0o4755),
    "trace a process": lambda: must(libc.ptrace(16, os.getppid(), 0, 0)),
    "mount": lambda: must(libc.mount(b"none", b"/run/zapvisor", b"tmpfs", 0, None)),
    "another personality": lambda: must(libc.personality(8)),
}
mine = {
    "write to the state directory": lambda: open(sys.argv[1], "w"),
    "read the credential": lambda: open(os.environ["CREDENTIALS_DIRECTORY"] + "/zapvisor-key"),
    "a TCP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "write to /tmp": lambda: open("/tmp/x", "w"),
}
for name, work in mine.items():
    print(name, tried(work) == "possible", sep="\t")
for name, work in probes.items():
    print(name, tried(work) == "refused", sep="\t")
os.remove(sys.argv[1])
"""


def check_files(work: pathlib.Path) -> list[str]:
    """What the service left in its directory: all its own, nothing that others can read."""
    wrong = []
    for path in (work / "state").rglob("*"):
        status = path.lstat()
        if status.st_uid != UID or status.st_mode & 0o077:
            wrong.append(f"{path.relative_to(work)}: owner {status.st_uid}, {status.st_mode:o}")
    if (work / "state" / "secret.key").exists():
        wrong.append("state/secret.key: the credential was not used")
    return wrong


def try_the_walls(service: Service) -> int:
    """That the sandbox is one: what must be refused is, and what must be possible is."""
    command, service.command = (
        service.command,
        [*service.command[:1], "-B", "-c", PROBE, "/var/lib/zapvisor/x"],
    )
    service.start()
    _, status = os.waitpid(service.pid, 0)
    service.pid = 0
    service.command = command
    lines = [line.split("\t") for line in service.log().splitlines()]
    wrong = [line[0] for line in lines if line[1:] != ["True"]]
    if status != 0 or wrong or len(lines) < 20:
        sys.exit(f"the sandbox does not hold: {wrong}\n{service.log()}")
    (service.work / "log").unlink()
    return len(lines)


def rehearse(unit: Unit, work: pathlib.Path, command: list[str], config: str) -> dict[str, object]:
    service = Service(unit, work, command, config)
    facts: dict[str, object] = {}
    try:
        facts["walls_tried"] = try_the_walls(service)
        for run in ("first", "second"):
            began = time.monotonic()
            service.start()
            service.until("READY=1")
            facts[f"{run}_start_seconds"] = round(time.monotonic() - began, 2)
            for path in ("/status", "/health/live", "/health/detailed", "/metrics"):
                service.ask(path)
            status = pathlib.Path(f"/proc/{service.pid}/status").read_text(encoding="utf-8")
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            for name, wanted in (("CapEff", "0" * 16), ("CapBnd", "0" * 16), ("NoNewPrivs", "1")):
                if fields[name].strip() != wanted:
                    sys.exit(f"{name} is {fields[name]}")
            if fields["Seccomp"].strip() != "2":
                sys.exit("no filter of system calls is in place")
            if run == "first":
                service.until("WATCHDOG=1", within=service.watchdog)
            os.kill(service.pid, signal.SIGHUP)
            service.until("RELOADING=1")
            service.until("READY=1")
            facts[f"{run}_stop_seconds"] = round(service.stop(), 2)
        if wrong := check_files(work):
            sys.exit("these files are not as they should be:\n" + "\n".join(wrong))
    finally:
        if service.pid:
            os.kill(service.pid, signal.SIGKILL)
            os.waitpid(service.pid, 0)
    facts["system_calls_allowed"] = len(allowed_calls(unit))
    facts["not_rehearsed"] = sorted(set(unit.lines) - REHEARSED)
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unit", default=str(CHECKOUT / "deploy/systemd/zapvisor.service"))
    parser.add_argument("--python", default=sys.executable, help="that has zapvisor installed")
    parser.add_argument("--keep", action="store_true", help="leave the directory")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("the rehearsal needs root for its mounts")
    unit = Unit(pathlib.Path(options.unit).read_text(encoding="utf-8"))
    # No embedded database could be reached under a longer path of its socket.
    work = pathlib.Path(tempfile.mkdtemp(prefix="zv-", dir="/var/tmp"))
    work.chmod(0o711)
    sys.path.insert(0, str(CHECKOUT))
    from daemon.install import Options, sample_config

    config = sample_config(Options(executable="/usr/bin/zapvisor"))
    config += '\n[[connections]]\nname = "sales"\nautostart = false\n'
    script = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); sys.argv[0] = 'zapvisor'; "
    script += "from daemon.__main__ import main; main()"
    words = unit["ExecStart"].split()[1:]
    command = [options.python, "-B", "-c", script, *words]
    try:
        print(json.dumps(rehearse(unit, work, command, config), indent=2))
    finally:
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
