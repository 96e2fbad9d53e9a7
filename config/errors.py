"""What is wrong with a configuration: all of it at once."""

import collections.abc as cabc

import attrs


@attrs.frozen(kw_only=True)
class Problem:
    """One thing that is wrong, for a person to repair."""

    where: str
    """``supervisor.toml:12``, ``supervisor.toml`` or ``ZAPVISOR_STORAGE_DSN``."""
    key: str = ""
    """Dotted path of the key, such as ``storage.dsn``; empty when the file itself is wrong."""
    message: str
    expected: str | None = None
    nearest: str | None = None
    """The valid name or value that is most like the wrong one."""

    def __str__(self) -> str:
        parts = [f"{self.where}: "]
        if self.key and self.key != self.where:
            parts.append(f"{self.key}: ")
        parts.append(self.message)
        if self.expected:
            parts.append(f"; expected {self.expected}")
        if self.nearest:
            parts.append(f"; did you mean {self.nearest}?")
        return "".join(parts)


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` holds every reason, in file order."""

    def __init__(self, problems: cabc.Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = "the configuration has a problem" if count == 1 else f"{count} problems"
        super().__init__("\n  ".join([f"{head}:", *map(str, self.problems)]))


class BadValueError(ValueError):
    """One value cannot be read; the loader makes a ``Problem`` of it."""

    def __init__(self, message: str, expected: str, nearest: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.nearest = nearest
