"""One line of the log, cleaned and rendered once for all that want it."""

import json
import logging
import typing as t

import attrs
import structlog
from structlog.typing import EventDict

Form: t.TypeAlias = t.Literal["json", "text", "journald"]

LEVELS: t.Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_FIRST: t.Final = ("timestamp", "level", "event")


def level_number(name: str) -> int:
    """How important a level is.

    Raises:
        ValueError: there is no such level.
    """
    number = logging.getLevelNamesMapping().get(name.upper())
    if number is None:
        raise ValueError(f"no log level is called {name!r}")
    return number


@attrs.frozen
class LogLine:
    """``facts`` hold nothing but JSON values; ``text`` is the same as one line of JSON."""

    facts: t.Mapping[str, t.Any]
    text: str

    @classmethod
    def of(cls, event: EventDict) -> "LogLine":
        """Time, level and event come first, so that a line of JSON can be read by eye."""
        facts = {key: event[key] for key in _FIRST if key in event} | dict(event)
        return cls(facts, json.dumps(facts, default=repr))

    @property
    def level(self) -> int:
        """A number, as of the standard library."""
        return LEVELS.get(self.facts.get("level", "info"), 20)

    @property
    def connection(self) -> str | None:
        """What the line is about, if it is about one connection."""
        name = self.facts.get("connection")
        return name if isinstance(name, str) else None


class TextRenderer:
    """Lines for people."""

    def __init__(self, *, colours: bool) -> None:
        self._render = structlog.dev.ConsoleRenderer(
            colors=colours, exception_formatter=structlog.dev.plain_traceback
        )

    def __call__(self, facts: t.Mapping[str, t.Any]) -> str:
        """The line, without its end; several if there is a traceback."""
        return str(self._render(None, "", dict(facts)))
