"""Which lines are written: from the configured level on, or for a while from another one."""

import collections.abc as cabc
import logging
import time
import typing as t

import structlog
from structlog.typing import EventDict, WrappedLogger

from api.ports_logs import LevelFacts
from daemon.logs.line import LEVELS, level_number

QUIET: t.Final = ("hypercorn.error", "httpx", "httpcore", "asyncio", "litestar", "trio-websocket")
"""Libraries whose lines below a warning say nothing to an operator."""


class Levels:
    """A processor of structlog that drops what is below the level."""

    def __init__(self, configured: str, clock: cabc.Callable[[], float] = time.monotonic) -> None:
        """Raises ``ValueError``: there is no such level."""
        self._configured = configured
        self._clock = clock
        self._until: float | None = None
        self._level = configured
        self._threshold = level_number(configured)
        self._log = structlog.get_logger()

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """The event, if it is important enough."""
        if self._until is not None and self._clock() >= self._until:
            self.set(None, None)
        if LEVELS.get(method, logging.ERROR) < self._threshold:
            raise structlog.DropEvent
        return event

    def set(self, level: str | None, seconds: float | None) -> LevelFacts:
        """Another level, for so many seconds or until the daemon ends; None: the configured one.

        Raises:
            ValueError: there is no such level.
        """
        chosen = level or self._configured
        number = level_number(chosen)
        before, self._level, self._threshold = self._level, chosen, number
        self._until = None if level is None or seconds is None else self._clock() + seconds
        self.apply()
        if before != chosen:
            # A warning, so that it is seen at any level but error.
            self._log.warning("logs.level", level_now=chosen, before=before, seconds=seconds)
        return self.facts()

    def facts(self) -> LevelFacts:
        """How it is now."""
        left = None if self._until is None else max(0.0, self._until - self._clock())
        return LevelFacts(level=self._level, configured=self._configured, seconds_left=left)

    def apply(self) -> None:
        """Have the standard library's loggers drop early what would be dropped here."""
        logging.getLogger().setLevel(self._threshold)
        for name in QUIET:
            logging.getLogger(name).setLevel(max(self._threshold, logging.WARNING))
        # While the database is away it tells so with a traceback each time; the writer does, too.
        logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
