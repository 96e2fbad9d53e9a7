"""Where lines go. Whoever logs never waits: a thread writes, and what does not fit is counted.

Theory of operation
-------------------
A pipe that nobody reads blocks its writer as soon as it is full, and whether it will cannot be
asked without a race. So the event loop only ever puts a line into a bounded queue; a thread takes
lines out and may block as long as it likes. With the queue full lines are dropped and counted, and
the count is a line of its own in their place once there is room. At the end the queue gets a
moment to empty; a reader that is stuck then does not hold the process up.
"""

import collections
import collections.abc as cabc
import os
import select
import threading
import typing as t

from daemon.logs.line import LogLine, TextRenderer

MAX_LINES: t.Final = 20_000
MAX_BYTES: t.Final = 8 * 1024 * 1024
BATCH: t.Final = 500  # lines written at once
FLUSH: t.Final = 2.0  # seconds for what is queued at the end
_GLANCE: t.Final = 1_000  # milliseconds between two looks at a stream that takes nothing

Notice: t.TypeAlias = cabc.Callable[[int], LogLine]


class Target(t.Protocol):
    """The far end; used by one thread at a time, and may block."""

    def write(self, lines: cabc.Sequence[LogLine]) -> int:
        """Write lines; how many were taken, the others are lost."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class StreamTarget:
    """Lines of JSON or text on a stream of Python."""

    def __init__(self, stream: t.TextIO, encode: cabc.Callable[[LogLine], str]) -> None:
        self._stream = stream
        self._encode = encode

    def write(self, lines: cabc.Sequence[LogLine]) -> int:
        """Write and flush."""
        try:
            self._stream.write("".join(f"{self._encode(line)}\n" for line in lines))
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            return 0
        return len(lines)

    def close(self) -> None:
        """The stream is the caller's."""


class FileTarget:
    """The same on a file descriptor of its own, which may be in non-blocking mode."""

    def __init__(self, fd: int, encode: cabc.Callable[[LogLine], str]) -> None:
        self._fd = os.dup(fd)
        self._encode = encode
        self._torn = False
        """The last line that was written is not whole."""

    def write(self, lines: cabc.Sequence[LogLine]) -> int:
        """Write; on an error all of them count as lost, though some may have got through."""
        text = "".join(f"{self._encode(line)}\n" for line in lines)
        data = memoryview((b"\n" if self._torn else b"") + text.encode(errors="replace"))
        whole = len(data)
        try:
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:
                    poll = select.poll()
                    poll.register(self._fd, select.POLLOUT)
                    poll.poll(_GLANCE)
        except OSError:
            self._torn = self._torn or len(data) < whole
            return 0
        self._torn = False
        return len(lines)

    def close(self) -> None:
        """Close the descriptor; the one it was made of stays open."""
        os.close(self._fd)


def json_text(line: LogLine) -> str:
    """A line for machines."""
    return line.text


def people_text(*, colours: bool) -> cabc.Callable[[LogLine], str]:
    """Lines for people."""
    render = TextRenderer(colours=colours)
    return lambda line: render(line.facts)


class DirectSink:
    """Writes at once: for streams in memory, which cannot block."""

    def __init__(self, target: Target) -> None:
        self.lost = 0
        """Lines that could not be written."""
        self._target = target

    def put(self, line: LogLine) -> None:
        """Write one line."""
        self.lost += 1 - self._target.write([line])

    def close(self, timeout: float = FLUSH) -> None:
        """Nothing waits here."""


class ThreadSink:
    """Writes in a thread of its own; see the module."""

    def __init__(
        self,
        target: Target,
        notice: Notice,
        *,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """``notice`` makes the line that tells how many were lost."""
        self.lost = 0
        """Lines that could not be written, in all."""
        self._untold = 0
        self._target = target
        self._notice = notice
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._queue: collections.deque[LogLine] = collections.deque()
        self._bytes = 0
        # Re-entrant: a destructor that runs while a line is put may log, too.
        self._changed = threading.Condition(threading.RLock())
        self._closing = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, line: LogLine) -> None:
        """Queue one line; never blocks for longer than another thread's ``put``."""
        with self._changed:
            if self._closing:
                self._lose(1)
                return
            size = len(line.text)
            full = len(self._queue) >= self._max_lines or self._bytes + size > self._max_bytes
            if full:
                self._lose(1)
                return
            self._tell_loss()
            self._queue.append(line)
            self._bytes += size
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self, timeout: float = FLUSH) -> None:
        """Write what is queued, for at most ``timeout`` seconds; what comes later is lost."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread, closed = self._thread, self._closed
            self._closed = True
        if thread is None and not closed:
            self._target.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _lose(self, count: int) -> None:
        self.lost += count
        self._untold += count

    def _tell_loss(self) -> None:
        if self._untold:
            notice = self._notice(self._untold)
            self._untold = 0
            self._queue.append(notice)
            self._bytes += len(notice.text)

    def _run(self) -> None:
        while batch := self._next():
            written = self._target.write(batch)
            if written < len(batch):
                with self._changed:
                    self._lose(len(batch) - written)  # told with the next line that comes
        self._target.close()

    def _next(self) -> list[LogLine]:
        """What is to be written now; nothing at the end."""
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            self._bytes -= sum(len(line.text) for line in batch)
            return batch
