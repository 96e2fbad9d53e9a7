"""Readers of the log that stall, leave or are too slow: the daemon never waits for them."""

import fcntl
import json
import os
import pathlib
import select
import socket
import struct
import subprocess
import sys
import threading
import time
import typing as t

import pytest

from daemon.logs import _lost
from daemon.logs.journald import JournalTarget, entry, field_name, on_journal
from daemon.logs.line import LogLine
from daemon.logs.sinks import FileTarget, ThreadSink, json_text

PATIENCE: t.Final = 10.0  # seconds; far above what anything here takes


def line(number: int, size: int = 0) -> LogLine:
    """A line that can be told from others."""
    return LogLine.of({"level": "info", "event": "x", "n": number, "padding": "y" * size})


def read_lines(
    fd: int, until: t.Callable[[list[dict[str, t.Any]]], bool]
) -> list[dict[str, t.Any]]:
    """Whole lines from a pipe, until they are what is waited for."""
    found: list[dict[str, t.Any]] = []
    text = b""
    end = time.monotonic() + PATIENCE
    while not until(found):
        ready, _, _ = select.select([fd], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"only {len(found)} lines came"
        text += os.read(fd, 65536)
        *whole, text = text.split(b"\n")
        found += [json.loads(each) for each in whole]
    return found


def test_a_stalled_pipe_never_blocks_whoever_logs() -> None:
    """With nobody reading, putting lines stays quick, memory is bounded, and what does not fit is
    counted; once somebody reads again, the count stands where lines are missing."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    sink = ThreadSink(FileTarget(writer, json_text), _lost, max_lines=100, max_bytes=1 << 20)
    began = time.monotonic()
    for number in range(5_000):
        sink.put(line(number, 100))
    took = time.monotonic() - began
    assert took < 2.0
    assert sink.lost > 4_000
    written = bytearray()

    def collect() -> None:
        while data := os.read(reader, 65536):
            written.extend(data)

    collector = threading.Thread(target=collect)
    collector.start()
    put, lost = 5_000, -1
    while sink.lost != lost:  # until there is room again
        lost = sink.lost
        sink.put(line(9_999))
        put += 1
    sink.close(PATIENCE)
    os.close(writer)
    collector.join()
    os.close(reader)
    found = [json.loads(each) for each in bytes(written).splitlines()]
    assert found[-1]["n"] == 9_999
    told = sum(each["count"] for each in found if each["event"] == "logs.lost")
    assert told == sink.lost
    assert put == told + sum(1 for each in found if "n" in each)


def test_a_reader_that_left_costs_lines_only() -> None:
    """A pipe without a reader and a descriptor in non-blocking mode do not end the thread."""
    reader, writer = os.pipe()
    sink = ThreadSink(FileTarget(writer, json_text), _lost)
    os.close(reader)
    sink.put(line(1))
    sink.close()
    assert sink.lost == 1
    sink.put(line(2))
    assert sink.lost == 2
    os.close(writer)

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    sink = ThreadSink(FileTarget(writer, json_text), _lost)
    for number in range(3_000):
        sink.put(line(number, 100))  # more than the pipe holds
    assert len(read_lines(reader, lambda found: len(found) >= 3_000)) == 3_000
    sink.close()
    assert sink.lost == 0
    os.close(reader)
    os.close(writer)


def test_closing_does_not_wait_for_a_stalled_reader() -> None:
    """The process ends though nobody reads, after the moment it is given."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    sink = ThreadSink(FileTarget(writer, json_text), _lost)
    for number in range(100):
        sink.put(line(number, 1000))
    began = time.monotonic()
    sink.close(0.1)
    assert time.monotonic() - began < 5.0
    os.close(reader)  # the thread gets an error, and ends
    os.close(writer)


def test_lines_put_by_many_threads_are_whole_and_in_order() -> None:
    """Each thread's lines keep their order, and none is lost or torn."""
    reader, writer = os.pipe()
    sink = ThreadSink(FileTarget(writer, json_text), _lost)

    def put(first: int) -> None:
        for number in range(first, first + 500):
            sink.put(line(number))

    threads = [threading.Thread(target=put, args=(first,)) for first in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    collecting = read_lines(reader, lambda found: len(found) >= 1500)
    for thread in threads:
        thread.join()
    numbers = [each["n"] for each in collecting]
    for first in (0, 1000, 2000):
        assert [n for n in numbers if first <= n < first + 1000] == list(range(first, first + 500))
    sink.close()
    os.close(reader)
    os.close(writer)


_CRASH: t.Final = """
import structlog, sys
from daemon.logs import configure_logs
configure_logs(level="debug")
log = structlog.get_logger()
for n in range(300):
    log.info("Message saved", n=n)
raise SystemError("the end") if sys.argv[1] == "crash" else SystemExit(3)
"""


@pytest.mark.parametrize(("how", "code"), [("crash", 1), ("exit", 3)])
def test_all_is_written_at_the_end(how: str, code: int) -> None:
    """A process that ends, also by an error that nobody expected, writes what it has logged."""
    done = subprocess.run(
        [sys.executable, "-c", _CRASH, how], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == code
    assert [json.loads(each)["n"] for each in done.stdout.splitlines()] == list(range(300))


# ---- the journal


def fields(data: bytes) -> dict[str, str]:
    """What a journal reads out of an entry."""
    found = {}
    while data:
        head, _, rest = data.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if equals:
            found[name.decode()] = value.decode()
            data = rest
        else:
            (size,) = struct.unpack("<Q", rest[:8])
            found[name.decode()] = rest[8 : 8 + size].decode()
            assert rest[8 + size : 9 + size] == b"\n"
            data = rest[9 + size :]
    return found


def test_the_journal_gets_a_field_for_each_fact(tmp_path: pathlib.Path) -> None:
    """Priority, identifier, message and facts; a value of several lines carries its length."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "socket"))
        target = JournalTarget(tmp_path / "socket")
        told = LogLine.of(
            {
                "timestamp": "2026-01-01T00:00:00Z",
                "level": "warning",
                "event": "Message saved",
                "connection": "sales",
                "message": 7,
                "odd-key é": [1, 2],
                "nothing": None,
                "exception": "Traceback:\n  x=1",
            }
        )
        assert target.write([told]) == 1
        target.close()
        assert fields(journal.recv(65536)) == {
            "MESSAGE": "Message saved connection=sales message=7 odd-key é=[1, 2] nothing=null\n"
            "Traceback:\n  x=1",
            "PRIORITY": "4",
            "SYSLOG_IDENTIFIER": "zapvisor",
            "ZAPVISOR_EVENT": "Message saved",
            "ZAPVISOR_CONNECTION": "sales",
            "ZAPVISOR_MESSAGE": "7",
            "ZAPVISOR_ODD_KEY__": "[1, 2]",
            "ZAPVISOR_EXCEPTION": "Traceback:\n  x=1",
        }


def test_an_entry_that_no_datagram_holds_goes_as_a_file(tmp_path: pathlib.Path) -> None:
    """It comes as a sealed file in memory, whole."""
    big = LogLine.of({"level": "error", "event": "x", "error": "y" * 1_000_000})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "socket"))
        target = JournalTarget(tmp_path / "socket")
        assert target.write([big]) == 1
        target.close()
        data, descriptors, _flags, _address = socket.recv_fds(journal, 100, 1)
        assert data == b""
        with os.fdopen(descriptors[0], "rb") as file:
            file.seek(0)
            assert fields(file.read()) == fields(entry(big))
            assert fcntl.fcntl(file.fileno(), fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE


def test_a_journal_that_is_gone_or_stalls_costs_lines_only(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines are counted while it is away, and told when it is back; a full one is given up."""
    monkeypatch.setattr("daemon.logs.journald.TIMEOUT", 0.05)
    target = JournalTarget(tmp_path / "socket")
    assert target.write([line(1), line(2)]) == 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "socket"))
        taken = target.write([line(number) for number in range(100_000)])  # nobody reads
        target.close()
        assert 0 < taken < 100_000
        assert fields(journal.recv(65536))["ZAPVISOR_N"] == "0"


def test_field_names_fit() -> None:
    """The journal refuses names that are long, or begin with an underscore or a digit."""
    assert field_name("connection") == "ZAPVISOR_CONNECTION"
    assert len(field_name("x" * 100)) == 64


def test_systemd_says_whether_output_goes_to_the_journal(tmp_path: pathlib.Path) -> None:
    """Only the very same file counts: a child of a shell of the journal may be redirected."""
    mine = os.fstat(2)
    assert on_journal({"JOURNAL_STREAM": f"{mine.st_dev}:{mine.st_ino}"})
    assert not on_journal({"JOURNAL_STREAM": f"{mine.st_dev}:{mine.st_ino + 1}"})
    assert not on_journal({"JOURNAL_STREAM": "nonsense"})
    assert not on_journal({})
