"""The newest lines in memory, for ``zapvisor logs``: bounded, and readers hold nothing up.

A reader has a position and no buffer. Whoever is slower than the lines come finds that some have
left the ring, and is told how many.
"""

import collections
import collections.abc as cabc
import contextlib
import itertools
import re
import secrets
import threading
import typing as t

import trio

from api.ports_logs import LogQuery, NumberedLine, TooManyReadersError
from daemon.logs.line import LogLine

MAX_LINES: t.Final = 10_000
MAX_BYTES: t.Final = 4 * 1024 * 1024
MAX_READERS: t.Final = 32
_CURSOR: t.Final = re.compile(r"(?P<run>[0-9a-f]+)\.(?P<number>[0-9]{1,18})", re.ASCII)
PIECE: t.Final = 200  # lines read at once


class LogRing:
    """Lines are numbered from 1; may be appended to from any thread."""

    def __init__(self, *, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> None:
        self.run = secrets.token_hex(4)
        """Tells the lines of this process from those of another one."""
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._lines: collections.deque[LogLine] = collections.deque()
        self._bytes = 0
        self._first = 1  # the number of the oldest
        self._lock = threading.RLock()
        self._waiting: set[tuple[trio.lowlevel.TrioToken, trio.Event]] = set()
        self._readers = 0

    def append(self, line: LogLine) -> None:
        """Add a line, in the place of the oldest where there is no room."""
        with self._lock:
            self._lines.append(line)
            self._bytes += len(line.text)
            while len(self._lines) > self._max_lines or self._bytes > self._max_bytes:
                self._bytes -= len(self._lines.popleft().text)
                self._first += 1
            waiting, self._waiting = self._waiting, set()
        for token, event in waiting:
            with contextlib.suppress(trio.RunFinishedError):  # then nobody waits any more
                token.run_sync_soon(event.set)

    def tail(self, query: LogQuery) -> list[NumberedLine]:
        """The newest lines that fit, the oldest of them first."""
        with self._lock:
            found: collections.deque[NumberedLine] = collections.deque()
            number = self._first + len(self._lines)
            for line in reversed(self._lines):
                number -= 1
                if len(found) >= query.lines:
                    break
                if _fits(line, query):
                    found.appendleft(self._numbered(number, line))
            return list(found)

    @contextlib.contextmanager
    def reader(self, query: LogQuery, after: str | None = None) -> cabc.Iterator["LogReader"]:
        """Whoever follows. It begins with the newest lines that fit, or after a cursor; a cursor
        of another process means all of this one's.

        Raises:
            TooManyReadersError: there are too many.
        """
        with self._lock:
            if self._readers >= MAX_READERS:
                raise TooManyReadersError(MAX_READERS)
            self._readers += 1
        try:
            yield LogReader(self, query, self._start(query, after))
        finally:
            with self._lock:
                self._readers -= 1

    def _start(self, query: LogQuery, after: str | None) -> int:
        if after is not None:
            match = _CURSOR.fullmatch(after)
            if match is None or match["run"] != self.run:
                return self._first
            return int(match["number"]) + 1
        tail = self.tail(query)
        with self._lock:
            following = self._first + len(self._lines)
        return int(tail[0].cursor.partition(".")[2]) if tail else following

    def take(self, query: LogQuery, position: int) -> tuple[int, list[NumberedLine]]:
        """What follows a position: the next position, and lines; a skip is one of them."""
        with self._lock:
            found: list[NumberedLine] = []
            if position < self._first:
                oldest = self._lines[0].facts.get("timestamp") if self._lines else None
                notice = _skipped(self._first - position, oldest)
                found.append(self._numbered(self._first - 1, notice))
                position = self._first
            start = min(position - self._first, len(self._lines))
            for line in itertools.islice(self._lines, start, None):
                if _fits(line, query):
                    found.append(self._numbered(position, line))
                position += 1
                if len(found) >= PIECE:
                    break
            return position, found

    def wait_after(self, position: int) -> trio.Event | None:
        """An event that is set once there is a line at the position; None: there is one now."""
        with self._lock:
            if position < self._first + len(self._lines):
                return None
            event = trio.Event()
            self._waiting.add((trio.lowlevel.current_trio_token(), event))
            return event

    def forget(self, event: trio.Event) -> None:
        """Nobody waits for it any more."""
        with self._lock:
            self._waiting = {each for each in self._waiting if each[1] is not event}

    def _numbered(self, number: int, line: LogLine) -> NumberedLine:
        return NumberedLine(f"{self.run}.{number}", line.text)


class LogReader:
    """One who follows."""

    def __init__(self, ring: LogRing, query: LogQuery, position: int) -> None:
        self._ring = ring
        self._query = query
        self._position = position

    async def read(self) -> list[NumberedLine]:
        """The next lines that fit, as soon as there are any."""
        while True:
            self._position, found = self._ring.take(self._query, self._position)
            if found:
                await trio.lowlevel.checkpoint()
                return found
            event = self._ring.wait_after(self._position)
            if event is not None:
                try:
                    await event.wait()
                finally:
                    self._ring.forget(event)


def _fits(line: LogLine, query: LogQuery) -> bool:
    if line.level < query.level:
        return False
    return query.connection is None or line.connection == query.connection


def _skipped(count: int, oldest: object) -> LogLine:
    """In the place of lines that have left the ring before they were read."""
    return LogLine.of(
        {"timestamp": oldest, "level": "warning", "event": "logs.skipped", "count": count}
    )
