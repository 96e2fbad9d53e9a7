"""Logging: one line per event, JSON for machines and colours for people, secrets kept out."""

import collections.abc as cabc
import logging
import re
import sys
import typing as t

import structlog
from structlog.typing import EventDict, WrappedLogger

LogFormat: t.TypeAlias = t.Literal["auto", "json", "text"]

REDACTED: t.Final = "[redacted]"
_SECRET_WORDS: t.Final = frozenset(
    [
        "text",
        "body",
        "content",
        "key",
        "keys",
        "secret",
        "secrets",
        "password",
        "token",
        "plaintext",
        "ciphertext",
        "raw",
        "qr",
    ]
)
_WORDS: t.Final = re.compile(r"[a-z]+")
_LETTER_OR_DIGIT: t.Final = "0-9A-Za-z"
_PHONE: t.Final = re.compile(
    rf"(?<![{_LETTER_OR_DIGIT}])\+?[0-9]{{4,}}([0-9]{{4}})(?![{_LETTER_OR_DIGIT}])"
    r"|\+[0-9][0-9 ().-]{5,18}([0-9]{4})(?![0-9])"
)
_MAX_DEPTH: t.Final = 6
_QUIET: t.Final = ("hypercorn.error", "httpx", "httpcore", "asyncio", "litestar")
"""Libraries whose informational lines say nothing to an operator."""


def configure_logs(
    *, form: LogFormat = "auto", level: str = "info", stream: t.TextIO | None = None
) -> None:
    """Send everything, the standard library's records included, to ``stream`` (stdout).

    ``auto`` is text on a terminal and JSON elsewhere. May be called again; loggers that have
    been used already keep their old settings.

    Raises:
        ValueError: there is no such level.
    """
    stream = stream or sys.stdout
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if threshold is None:
        raise ValueError(f"no log level is called {level!r}")
    on_terminal = stream.isatty()
    sink = LineSink(stream)
    structlog.configure(
        processors=_processors(form == "json" or (form == "auto" and not on_terminal), on_terminal),
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_args: sink,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(threshold)
    logging.captureWarnings(True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    # While the database is away it tells so with a traceback each time; the writer says it, too.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)


class LineSink:
    """Writes whole lines; a stream that fails loses log lines, never an actor."""

    def __init__(self, stream: t.TextIO) -> None:
        self.lost = 0
        """Lines that could not be written, for example because the reader of a pipe is gone."""
        self._stream = stream

    def msg(self, line: str) -> None:
        """Write one line."""
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.lost += 1

    log = debug = info = warn = warning = error = critical = exception = fatal = msg


class _Bridge(logging.Handler):
    """Hands records of the standard library's logging to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
        except (TypeError, ValueError):
            event = str(record.msg)
        log = structlog.get_logger().bind(logger=record.name)
        log.log(_known_level(record.levelno), event, exc_info=record.exc_info)


def _known_level(level: int) -> int:
    """The nearest level at or below that structlog has a name for."""
    return max((known for known in (10, 20, 30, 40, 50) if known <= level), default=10)


def _processors(as_json: bool, colours: bool) -> list[structlog.typing.Processor]:
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        redact,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        return [*shared, _put_first, structlog.processors.JSONRenderer(default=repr)]
    console = structlog.dev.ConsoleRenderer(
        colors=colours, exception_formatter=structlog.dev.plain_traceback
    )
    return [*shared, console]


def _put_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Order the keys so that a line of JSON can be read by eye."""
    first = ("timestamp", "level", "event")
    return {key: event[key] for key in first if key in event} | dict(event)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank what is named like a secret and mask what looks like a phone number.

    A safety net below the rule that nothing of the kind is logged at all.
    """
    for key, value in event.items():
        event[key] = _clean(key, value, _MAX_DEPTH)
    return event


def mask_phones(text: str) -> str:
    """Leave the last four digits of every run that is as long as a phone number."""
    return _PHONE.sub(lambda found: "***" + (found[1] or found[2]), text)


def _clean(key: str, value: t.Any, depth: int) -> t.Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview) or _is_secret(key):
        return REDACTED
    if isinstance(value, str):
        return mask_phones(value)
    if depth == 0:
        return REDACTED
    if isinstance(value, cabc.Mapping):
        return {mask_phones(str(k)): _clean(str(k), v, depth - 1) for k, v in value.items()}
    if isinstance(value, cabc.Sequence | cabc.Set):
        return [_clean("", item, depth - 1) for item in value]
    return mask_phones(repr(value))


def _is_secret(key: str) -> bool:
    return not _SECRET_WORDS.isdisjoint(_WORDS.findall(key.lower()))
