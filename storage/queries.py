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


@functools.cache
def queries() -> cabc.Mapping[str, str]:
    """Every statement of ``queries.sql`` under its name."""
    _head, *parts = _NAME.split((SQL / "queries.sql").read_text(encoding="utf-8"))
    names, statements = parts[::2], parts[1::2]
    return types.MappingProxyType(
        {name: body.strip() for name, body in zip(names, statements, strict=True)}
    )
