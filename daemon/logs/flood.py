"""Warnings that repeat themselves: so many a minute are written, the others counted and told."""

import collections.abc as cabc
import time
import typing as t

import attrs
import structlog
from structlog.typing import EventDict, WrappedLogger

LIMIT: t.Final = 100  # lines of one event and connection in one window
WINDOW: t.Final = 60.0  # seconds
MAX_KEYS: t.Final = 1_000
LIMITED: t.Final = frozenset({"warning", "error", "critical"})
OWN: t.Final = "logs."  # the names of what this package says itself

Key: t.TypeAlias = tuple[str, str, str | None]


@attrs.define
class _Window:
    began: float
    lines: int = 0
    held: int = 0


class FloodGate:
    """A processor of structlog. Informational lines all pass: they are the record of messages."""

    def __init__(
        self,
        *,
        limit: int = LIMIT,
        window: float = WINDOW,
        clock: cabc.Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._window = window  # seconds
        self._clock = clock
        self._windows: dict[Key, _Window] = {}
        self._log = structlog.get_logger()

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """The event, unless there have been too many like it."""
        name = str(event.get("event", ""))
        if name.startswith(OWN):  # what tell() says comes here, too
            return event
        now = self._clock()
        if self._windows:
            self.tell(now)
        if method not in LIMITED:
            return event
        key = (method, name, event.get("connection"))
        one = self._windows.get(key)
        if one is None:
            if len(self._windows) >= MAX_KEYS:
                return event
            one = self._windows[key] = _Window(now)
        one.lines += 1
        if one.lines <= self._limit:
            return event
        one.held += 1
        if one.held == 1:
            self._say("logs.repeating", key, one)
        raise structlog.DropEvent

    def tell(self, now: float | None = None) -> None:
        """Forget the windows that have ended (None: all), and tell what they held back."""
        over = [
            (key, one)
            for key, one in list(self._windows.items())
            if now is None or now - one.began >= self._window
        ]
        for key, one in over:
            self._windows.pop(key, None)
            if one.held:
                self._say("logs.repeated", key, one)

    def _say(self, event: str, key: Key, one: _Window) -> None:
        facts: dict[str, t.Any] = {"of": key[1], "seconds": self._window}
        if key[2] is not None:
            facts["connection"] = key[2]
        if event == "logs.repeating":
            self._log.warning("logs.repeating", limit=self._limit, **facts)
        else:
            self._log.warning("logs.repeated", count=one.held, **facts)
