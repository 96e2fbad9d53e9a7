"""Exceptions as text: where and why, without local variables, and without the values that some
texts of errors show."""

import traceback
import types
import typing as t

from storage.sqlstates import hide_values, quotes_values

MAX_LINKS: t.Final = 20  # exceptions shown of one chain or group
MAX_FRAMES: t.Final = 40  # of each
_OURS: t.Final = frozenset(
    ("actors", "api", "config", "daemon", "simulator", "storage", "supervisor", "whatsapp")
)

ExcInfo: t.TypeAlias = tuple[type[BaseException], BaseException, types.TracebackType | None]


def format_exception(exc_info: ExcInfo) -> str:
    """The whole chain, the cause first; groups with their members."""
    return "\n".join(_Writer().lines(exc_info[1]))


def safe_message(error: BaseException) -> str:
    """What an error says, without the values that it was about.

    A database tells the row in its details, and Python's own complaints about a value quote it.
    """
    package = type(error).__module__.partition(".")[0]
    text = str(error)
    if package == "asyncpg":
        text = text.partition("\n")[0]  # DETAIL, HINT and CONTEXT follow
        state = getattr(error, "sqlstate", None)
        return hide_values(text) if state is None or quotes_values(state) else text
    if package not in _OURS and isinstance(error, ValueError | LookupError):
        return hide_values(text)
    return text


class _Writer:
    def __init__(self) -> None:
        self._seen: set[int] = set()

    def lines(self, error: BaseException) -> list[str]:
        """The error, after what led to it."""
        if id(error) in self._seen or len(self._seen) >= MAX_LINKS:
            return ["..."]
        self._seen.add(id(error))
        found: list[str] = []
        if error.__cause__ is not None:
            found += [*self.lines(error.__cause__), "which was the direct cause of:"]
        elif error.__context__ is not None and not error.__suppress_context__:
            found += [*self.lines(error.__context__), "while that was handled, there came:"]
        if error.__traceback__ is not None:
            found.append("Traceback (most recent call last):")
            for part in traceback.format_tb(error.__traceback__, limit=-MAX_FRAMES):
                found += part.rstrip("\n").split("\n")
        kind = type(error)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        message = safe_message(error)
        found.append(f"{module}{kind.__qualname__}{': ' if message else ''}{message}")
        if isinstance(error, BaseExceptionGroup):
            for member in error.exceptions:
                found += [f"  | {line}" for line in self.lines(member)]
        return found
