"""The journal of systemd, spoken to in its own protocol, so that every fact is a field of its own.

Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

import collections.abc as cabc
import errno
import json
import os
import re
import socket
import struct
import typing as t
from pathlib import Path

from daemon.logs.line import LogLine

SOCKET: t.Final = Path("/run/systemd/journal/socket")
IDENTIFIER: t.Final = "zapvisor"
PREFIX: t.Final = "ZAPVISOR_"
TIMEOUT: t.Final = 5.0  # seconds that the journal may take for one line
_PRIORITIES: t.Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_NOT_IN_NAME: t.Final = re.compile("[^A-Z0-9_]")
_MAX_NAME: t.Final = 64
_TOO_LARGE: t.Final = (errno.EMSGSIZE, errno.ENOBUFS)


def on_journal(environ: cabc.Mapping[str, str]) -> bool:
    """Whether this process's output goes to the journal by itself, as systemd says it does."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    for fd in (2, 1):
        try:
            found = os.fstat(fd)
        except OSError:
            continue
        if (device, inode) == (str(found.st_dev), str(found.st_ino)):
            return True
    return False


class JournalTarget:
    """Sends lines as datagrams; a journal that is restarted is found again."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = os.fspath(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(TIMEOUT)

    def write(self, lines: cabc.Sequence[LogLine]) -> int:
        """Send lines; how many the journal took."""
        for count, line in enumerate(lines):
            try:
                self._send(entry(line))
            except OSError:
                return count
        return len(lines)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendto(data, self._path)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            self._send_as_file(data)

    def _send_as_file(self, data: bytes) -> None:
        """What no datagram holds goes as a sealed file in memory."""
        import fcntl

        fd = os.memfd_create("journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(data)
            seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))]
            self._socket.sendmsg([], rights, 0, self._path)
        finally:
            os.close(fd)


def entry(line: LogLine) -> bytes:
    """One line in the journal's form: a field for each fact."""
    facts = line.facts
    fields = {
        "MESSAGE": message(facts),
        "PRIORITY": str(_PRIORITIES.get(str(facts.get("level")), 6)),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
    }
    for key, value in facts.items():
        if key not in ("level", "timestamp") and value is not None:
            fields[field_name(key)] = value if isinstance(value, str) else json.dumps(value)
    return b"".join(_field(name, value) for name, value in fields.items())


def message(facts: cabc.Mapping[str, t.Any]) -> str:
    """What ``journalctl`` shows: the event and its facts; a traceback comes last."""
    parts = [str(facts.get("event", ""))]
    for key, value in facts.items():
        if key not in ("level", "timestamp", "event", "exception"):
            parts.append(f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    text = " ".join(parts)
    return f"{text}\n{facts['exception']}" if "exception" in facts else text


def field_name(key: str) -> str:
    """A name that the journal takes."""
    return PREFIX + _NOT_IN_NAME.sub("_", key.upper())[: _MAX_NAME - len(PREFIX)]


def _field(name: str, value: str) -> bytes:
    data = value.encode(errors="replace")
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"
