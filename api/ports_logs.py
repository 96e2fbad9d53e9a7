"""What the API asks of the daemon's log."""

import contextlib
import typing as t

import attrs

from api.errors import ApiError


@attrs.frozen(kw_only=True)
class LogQuery:
    """Which lines of the log are wanted."""

    lines: int = 100  # the newest ones, at most
    level: int = 0  # a number, as of the standard library's logging
    connection: str | None = None


@attrs.frozen
class NumberedLine:
    """A line as JSON text, and the cursor to go on after it."""

    cursor: str
    text: str


@attrs.frozen(kw_only=True)
class LevelFacts:
    """From which level on lines are written."""

    level: str
    configured: str
    seconds_left: float | None = None  # until it is the configured one again; None: no such end


class TooManyReadersError(ApiError):
    """So many follow the log already."""

    def __init__(self, readers: int) -> None:
        super().__init__(f"{readers} readers follow the log already; end one of them")


class LogReaderPort(t.Protocol):
    """One who follows the log."""

    async def read(self) -> list[NumberedLine]:
        """The next lines, as soon as there are any. Lines that came too fast are left out, and
        one line tells how many."""
        ...


class LogsPort(t.Protocol):
    """The log of the daemon."""

    def tail(self, query: LogQuery) -> list[NumberedLine]:
        """The newest lines that fit, the oldest of them first."""
        ...

    def reader(
        self, query: LogQuery, after: str | None = None
    ) -> contextlib.AbstractContextManager[LogReaderPort]:
        """Follow it, from the newest lines or from a cursor on.

        Raises:
            TooManyReadersError: too many do.
        """
        ...

    def level(self) -> LevelFacts:
        """From which level on lines are written."""
        ...

    def set_level(self, level: str | None, seconds: float | None) -> LevelFacts:
        """Another level, for so many seconds or until the daemon ends; None: the configured one."""
        ...
