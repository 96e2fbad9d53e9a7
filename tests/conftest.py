"""What every test gets."""

import collections.abc as cabc
import functools
import logging
import typing as t

import pytest
import structlog

from daemon.logs import flush_logs


@pytest.fixture(autouse=True)
def untouched_logging(monkeypatch: pytest.MonkeyPatch) -> cabc.Iterator[None]:
    """Logging is process-wide: no test leaves a log to the next. Loggers that are used while a log
    is configured would keep it for ever, so none of them is kept."""
    configure = structlog.configure

    @functools.wraps(configure)
    def uncached(**settings: t.Any) -> None:
        configure(**settings | {"cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", uncached)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    flush_logs()
    if structlog.is_configured():
        root.handlers, root.level = handlers, level
        logging.captureWarnings(False)
        structlog.reset_defaults()
