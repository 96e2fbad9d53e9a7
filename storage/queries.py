"""The SQL of storage, by name, from its files."""

import collections.abc as cabc
import functools
import importlib.resources
import importlib.resources.abc
import re
import types
import typing as t

SQL: t.Final[importlib.resources.abc.Traversable] = importlib.resources.files("storage") / "sql"

_NAME: t.Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


FUNCTION_FILES: t.Final = (
    "functions.sql",
    "facts.sql",
    "merges.sql",
    "queues.sql",
    "gaps.sql",
    "timeline.sql",
    "figures.sql",
    "quarantine.sql",
    "views.sql",
    "events.sql",
    "search.sql",
    "notifications.sql",
    "changes.sql",
    "epochs.sql",
    "reports.sql",
    "alerts.sql",
    "erasure.sql",
    "archive.sql",
    "import.sql",
)
"""What is made anew at start whenever it has changed; run in this order, as one text."""


def functions() -> str:
    """All functions and views."""
    files = (SQL / name for name in FUNCTION_FILES)
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file.is_file())


@functools.cache
def queries() -> cabc.Mapping[str, str]:
    """Every statement of ``queries.sql`` and ``queries_*.sql`` under its name."""
    found: dict[str, str] = {}
    for file in sorted(SQL.iterdir(), key=lambda file: file.name):
        if not re.fullmatch(r"queries(_\w+)?\.sql", file.name):
            continue
        _head, *parts = _NAME.split(file.read_text(encoding="utf-8"))
        for name, body in zip(parts[::2], parts[1::2], strict=True):
            if name in found:
                raise ValueError(f"two statements are named {name}")
            found[name] = body.strip()
    return types.MappingProxyType(found)
