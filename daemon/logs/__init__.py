"""Logging: one line per event, for machines, people or the journal; secrets kept out.

Nothing here blocks or ends the daemon: see ``daemon.logs.sinks``. What the lines say is documented
in ``docs/logs.md``.
"""

import atexit
import datetime as dt
import logging
import os
import sys
import typing as t
from pathlib import Path

import attrs
import structlog
from structlog.typing import EventDict, WrappedLogger

from api.ports_logs import LevelFacts, LogQuery, NumberedLine
from daemon.logs.flood import FloodGate
from daemon.logs.journald import SOCKET, JournalTarget, on_journal
from daemon.logs.levels import Levels
from daemon.logs.line import Form, LogLine
from daemon.logs.redaction import mask_phones, redact
from daemon.logs.ring import LogReader, LogRing
from daemon.logs.sinks import (
    FLUSH,
    DirectSink,
    FileTarget,
    StreamTarget,
    ThreadSink,
    json_text,
    people_text,
)
from daemon.logs.tracebacks import format_exception

__all__ = ["LogFormat", "Logs", "configure_logs", "flush_logs", "mask_phones", "redact"]

LogFormat: t.TypeAlias = t.Literal["auto", "json", "text", "journald"]

_KNOWN: t.Final = (10, 20, 30, 40, 50)
_in_force: list["Logs"] = []  # at most one


@attrs.frozen(kw_only=True)
class Logs:
    """The log of this process: what the API asks for."""

    form: Form
    levels: Levels
    ring: LogRing
    sink: DirectSink | ThreadSink
    gate: FloodGate

    def tail(self, query: LogQuery) -> list[NumberedLine]:
        """The newest lines that fit, the oldest of them first."""
        return self.ring.tail(query)

    def reader(self, query: LogQuery, after: str | None = None) -> t.ContextManager[LogReader]:
        """Follow the lines; see ``LogRing.reader``."""
        return self.ring.reader(query, after)

    def level(self) -> LevelFacts:
        """From which level on lines are written."""
        return self.levels.facts()

    def set_level(self, level: str | None, seconds: float | None) -> LevelFacts:
        """Another level for a while; None: the configured one."""
        return self.levels.set(level, seconds)

    def lost(self) -> int:
        """Lines that could not be written."""
        return self.sink.lost

    def close(self, timeout: float = FLUSH) -> None:
        """Tell what was held back, and write what is queued; the log ends here."""
        self.gate.tell()
        self.sink.close(timeout)


def configure_logs(
    *,
    form: LogFormat = "auto",
    level: str = "info",
    stream: t.TextIO | None = None,
    journal: Path = SOCKET,
) -> Logs:
    """Send everything, the standard library's records included, to ``stream`` (stdout) or the
    journal.

    ``auto`` is the journal where systemd connects stdout or stderr to it, text on a terminal, and
    JSON elsewhere. May be called again; loggers that have been used already keep their settings.

    Raises:
        ValueError: there is no such level, or no journal where one is wanted.
    """
    flush_logs()
    chosen = _form(form, stream, journal)
    levels, gate, ring = Levels(level), FloodGate(), LogRing()
    sink = _sink(chosen, stream or sys.stdout, journal)
    outlet = _Outlet(ring, sink)
    structlog.configure(
        processors=[
            levels,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            gate,
            structlog.processors.ExceptionRenderer(format_exception),
            redact,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _finish,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=lambda *_args: outlet,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    logging.captureWarnings(True)
    levels.apply()
    logs = Logs(form=chosen, levels=levels, ring=ring, sink=sink, gate=gate)
    _in_force[:] = [logs]
    return logs


def flush_logs(timeout: float = FLUSH) -> None:
    """Before the process ends: write what is queued, for at most ``timeout`` seconds."""
    while _in_force:
        _in_force.pop().close(timeout)


atexit.register(flush_logs)


def _form(form: LogFormat, stream: t.TextIO | None, journal: Path) -> Form:
    if form == "journald" and not journal.exists():
        raise ValueError(
            f'there is no journal at {journal}; set daemon.log_format to "auto", "json" or "text"'
        )
    if form != "auto":
        return form
    if stream is None and on_journal(os.environ) and journal.exists():
        return "journald"
    return "text" if (stream or sys.stdout).isatty() else "json"


def _sink(form: Form, stream: t.TextIO, journal: Path) -> DirectSink | ThreadSink:
    if form == "journald":
        return ThreadSink(JournalTarget(journal), _lost)
    encode = json_text if form == "json" else people_text(colours=stream.isatty())
    try:
        fd = stream.fileno()
    except (OSError, AttributeError, ValueError):  # in memory
        return DirectSink(StreamTarget(stream, encode))
    stream.flush()
    return ThreadSink(FileTarget(fd, encode), _lost)


def _lost(count: int) -> LogLine:
    """In the place of lines that nobody took."""
    now = dt.datetime.now(dt.UTC)  # noqa: TID251 - the edge
    timestamp = now.isoformat().replace("+00:00", "Z")
    return LogLine.of(
        {"timestamp": timestamp, "level": "warning", "event": "logs.lost", "count": count}
    )


def _finish(
    _logger: WrappedLogger, _method: str, event: EventDict
) -> tuple[tuple[LogLine], dict[str, t.Any]]:
    """The arguments of the outlet."""
    return (LogLine.of(event),), {}


class _Outlet:
    """Takes finished lines: into memory, and on their way out."""

    def __init__(self, ring: LogRing, sink: DirectSink | ThreadSink) -> None:
        self._ring = ring
        self._sink = sink

    def msg(self, line: LogLine) -> None:
        """Take one line."""
        self._ring.append(line)
        self._sink.put(line)

    log = debug = info = warn = warning = error = critical = exception = fatal = msg


class _Bridge(logging.Handler):
    """Hands records of the standard library's logging to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
        except (TypeError, ValueError):
            event = str(record.msg)
        log = structlog.get_logger().bind(logger=record.name)
        exc_info: t.Any = record.exc_info
        log.log(_known_level(record.levelno), event, exc_info=exc_info)


def _known_level(level: int) -> int:
    """The nearest level at or below that structlog has a name for."""
    return max((known for known in _KNOWN if known <= level), default=10)
