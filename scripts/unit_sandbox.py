"""What a unit of systemd asks for, done without it: mounts, rights, a filter of system calls."""

import collections
import contextlib
import ctypes
import errno
import os
import pathlib
import re
import resource
import shutil
import stat
import struct
import subprocess
import sys

UID = GID = 61_234  # of a user that exists in the rehearsal alone

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUTS = 0x00020000, 0x08000000, 0x04000000
NAMESPACES = 0x7E020080  # every CLONE_NEW flag
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
PR_CAPBSET_DROP, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 24, 22, 38, 65
AF = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}

libc = ctypes.CDLL(None, use_errno=True)


class Unit:
    """The lines of [Service]."""

    def __init__(self, text: str) -> None:
        self.lines: dict[str, list[str]] = collections.defaultdict(list)
        section = ""
        for line in map(str.strip, text.splitlines()):
            if line.startswith("["):
                section = line
            elif section == "[Service]" and "=" in line and not line.startswith("#"):
                name, _, value = line.partition("=")
                self.lines[name].append(value)

    def __getitem__(self, name: str) -> str:
        return self.lines[name][-1] if name in self.lines else ""

    def on(self, name: str) -> bool:
        return self[name] == "yes"

    def seconds(self, name: str) -> float:
        found = re.fullmatch(r"([0-9]+)s?", self[name])
        if found is None:
            sys.exit(f"{name}={self[name]}: the rehearsal reads whole seconds only")
        return float(found[1])


def call(name: str, *arguments: object) -> None:
    """A function of the C library that returns 0, or raises OSError."""
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    call(
        "mount",
        source.encode(),
        target.encode(),
        kind.encode() or None,
        flags,
        data.encode() or None,
    )


def mount_points() -> list[str]:
    text = pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    return [line.split()[4].replace("\\040", " ") for line in text.splitlines()]


def enter_file_system(unit: Unit, work: pathlib.Path, config: str, executable_home: str) -> None:
    """The service's view of the file system, for this process and its children alone."""
    call("unshare", CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    etc = f"lowerdir=/etc,upperdir={work / 'etc'},workdir={work / 'etc.work'}"
    mount("overlay", "/etc", "overlay", data=etc)
    for name, line in (
        ("passwd", f"zapvisor:x:{UID}:{GID}::/var/lib/zapvisor:/usr/sbin/nologin\n"),
        ("group", f"zapvisor:x:{GID}:\n"),
    ):
        with open(f"/etc/{name}", "a", encoding="utf-8") as file:
            file.write(line)
    os.mkdir("/etc/zapvisor")
    pathlib.Path("/etc/zapvisor/supervisor.toml").write_text(config, encoding="utf-8")
    key = pathlib.Path("/etc/zapvisor/secret.key")
    key.write_text("5a" * 32 + "\n", encoding="utf-8")
    key.chmod(0o600)
    mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    mount("tmpfs", "/var/lib", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for outside, inside, mode in (
        ("state", "/var/lib/zapvisor", unit["StateDirectoryMode"]),
        ("runtime", "/run/zapvisor", unit["RuntimeDirectoryMode"]),
    ):
        os.makedirs(work / outside, exist_ok=True)
        os.chown(work / outside, UID, GID)
        os.chmod(work / outside, int(mode, 8))
        os.mkdir(inside)
        mount(str(work / outside), inside, flags=MS_BIND)
    name, source = unit["LoadCredential"].split(":")
    os.makedirs("/run/credentials/zapvisor.service", mode=0o755)
    credential = pathlib.Path("/run/credentials/zapvisor.service", name)
    shutil.copy(source, credential)
    os.chown(credential, UID, GID)
    credential.chmod(0o400)
    pathlib.Path("/run/notify").touch()
    mount(str(work / "notify"), "/run/notify", flags=MS_BIND)
    writable = {"/var/lib/zapvisor", "/run/zapvisor"}
    if unit.on("PrivateTmp"):
        for place in ("/tmp", "/var/tmp"):
            keep = str(work).startswith(place + "/") or executable_home.startswith(place + "/")
            if keep:
                continue  # the rehearsal itself lies there
            mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
            writable.add(place)
    if unit.on("ProtectHome"):
        hide_homes(pathlib.Path(sys.base_prefix).resolve())
    if unit.on("PrivateDevices"):
        make_devices()
        writable |= {"/dev", "/dev/shm"}
    if unit["ProtectSystem"] == "strict":
        for place in mount_points():
            inside = any(place == each or place.startswith(f"{each}/") for each in writable)
            if not inside and not place.startswith("/proc"):
                mount("none", place, flags=MS_REMOUNT | MS_BIND | MS_RDONLY)
    options = {"hidepid": unit["ProtectProc"], "subset": unit["ProcSubset"]}
    data = ",".join(f"{key}={value}" for key, value in options.items() if value not in ("", "all"))
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, data)


def hide_homes(interpreter: pathlib.Path) -> None:
    """As ProtectHome= does, but for an interpreter of developers that lies there."""
    for place in ("/home", "/root"):
        inside = interpreter.is_relative_to(place)
        if inside:
            descriptor = os.open(interpreter, os.O_PATH)
        mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, "mode=711" if inside else "mode=000")
        if inside:
            interpreter.mkdir(parents=True)
            mount(f"/proc/self/fd/{descriptor}", str(interpreter), flags=MS_BIND | MS_REC)
        mount("none", place, flags=MS_REMOUNT | MS_BIND | MS_RDONLY)


def make_devices() -> None:
    """As PrivateDevices= has them."""
    numbers = {
        name: os.stat(f"/dev/{name}").st_rdev
        for name in ("null", "zero", "full", "random", "urandom", "tty")
    }
    mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=755")
    for name, number in numbers.items():
        os.mknod(f"/dev/{name}", 0o666 | stat.S_IFCHR, number)
        os.chmod(f"/dev/{name}", 0o666)
    os.mkdir("/dev/shm")
    mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")


def call_numbers() -> dict[str, int]:
    """System calls by name, of x86-64; from the kernel's own headers."""
    for place in ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"):
        with contextlib.suppress(FileNotFoundError):
            text = pathlib.Path(place).read_text(encoding="utf-8")
            return {
                name: int(number)
                for name, number in re.findall(r"#define __NR_(\w+)\s+([0-9]+)", text)
            }
    sys.exit("the headers of the kernel are missing: install linux-libc-dev")


def members(group: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """The system calls of a group such as @system-service, as systemd has it."""
    if not group.startswith("@"):
        return {group}
    text = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", group],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found: set[str] = set()
    for word in text.split("\n"):
        word = word.strip()
        if word and not word.startswith("#") and word != group and word not in seen:
            found |= members(word, seen | {group})
    return found


def allowed_calls(unit: Unit) -> set[str]:
    """What all lines of SystemCallFilter= leave, in their order."""
    allowed: set[str] = members("@default")
    for line in unit.lines["SystemCallFilter"]:
        without = line.startswith("~")
        for group in line.removeprefix("~").split():
            allowed = allowed - members(group) if without else allowed | members(group)
    return allowed


def filter_calls(unit: Unit) -> None:
    """Install the filter for good, in this process and all that come from it."""
    numbers = call_numbers()
    allow, kill, refuse = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
    missing = 0x00050000 | errno.ENOSYS
    load, jump_equal, jump_set, give = 0x20, 0x15, 0x45, 0x06
    program: list[tuple[int, int, int, int]] = []

    def add(code: int, value: int, yes: int = 0, no: int = 0) -> None:
        program.append((code, yes, no, value))

    add(load, 4)  # the architecture: only the native one
    add(jump_equal, 0xC000003E, yes=1)
    add(give, kill)

    def on_argument(name: str, index: int, tests: list[tuple[int, int, int]], then: int) -> None:
        """Tests of the lower half of an argument: (jump, value, verdict when it holds)."""
        if name not in numbers:
            return
        add(load, 0)
        add(jump_equal, numbers[name], no=2 + 2 * len(tests))
        add(load, 16 + 8 * index)
        for jump, value, verdict in tests:
            add(jump, value, no=1)
            add(give, verdict)
        add(give, then)

    if families := unit["RestrictAddressFamilies"]:
        wanted = [(jump_equal, AF[word], allow) for word in families.split()]
        on_argument("socket", 0, wanted, 0x00050000 | errno.EAFNOSUPPORT)
    if unit.on("RestrictNamespaces"):
        on_argument("clone", 0, [(jump_set, NAMESPACES, refuse)], allow)
        for name, verdict in (("clone3", missing), ("unshare", refuse), ("setns", refuse)):
            on_argument(name, 0, [], verdict)
    if unit.on("LockPersonality"):
        on_argument("personality", 0, [(jump_equal, 0, allow)], refuse)
    if unit.on("RestrictSUIDSGID"):
        for name, index in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mkdir", 1)):
            on_argument(name, index, [(jump_set, 0o6000, refuse)], allow)
    add(load, 0)
    for name in sorted(allowed_calls(unit)):
        if name in numbers:
            add(jump_equal, numbers[name], no=1)
            add(give, allow)
    add(give, refuse)
    packed = b"".join(struct.pack("HBBI", *each) for each in program)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    call("prctl", PR_SET_SECCOMP, 2, ctypes.c_char_p(header), 0, 0)


def become_the_service(unit: Unit, watchdog: float) -> dict[str, str]:
    """Give up all rights that the unit does not leave; the environment of the service."""
    os.umask(int(unit["UMask"], 8))
    resource.setrlimit(resource.RLIMIT_CORE, (int(unit["LimitCORE"]),) * 2)
    files = min(int(unit["LimitNOFILE"]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if not unit["CapabilityBoundingSet"]:
        for number in range(64):  # the kernel knows fewer; the others fail, and do not matter
            libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    os.setgroups([])
    os.setresgid(GID, GID, GID)
    os.setresuid(UID, UID, UID)
    os.chdir(unit["WorkingDirectory"])
    if unit.on("NoNewPrivileges"):
        call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if unit.on("MemoryDenyWriteExecute"):
        call("prctl", PR_SET_MDWE, 1, 0, 0, 0)
    filter_calls(unit)
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
        "USER": unit["User"],
        "LOGNAME": unit["User"],
        "HOME": "/var/lib/zapvisor",
        "NOTIFY_SOCKET": "/run/notify",
        "WATCHDOG_USEC": str(int(watchdog * 1_000_000)),
        "CREDENTIALS_DIRECTORY": "/run/credentials/zapvisor.service",
        "STATE_DIRECTORY": "/var/lib/zapvisor",
        "RUNTIME_DIRECTORY": "/run/zapvisor",
        "INVOCATION_ID": "0" * 32,
        "ZAPVISOR_HTTP_LISTEN": "",  # its port may be taken on this machine
    }
