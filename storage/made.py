"""Connections that were made through the API: their settings live in the database."""

import collections.abc as cabc
import typing as t

import attrs

RECORD: t.Final = "settings"
"""Under what settings are sealed: a proxy's URL may hold a password."""


@attrs.frozen
class MadeConnection:
    """One such connection."""

    name: str
    settings: cabc.Mapping[str, t.Any] | None = attrs.field(repr=False)
    """As a ``[[connections]]`` table; None: sealed under another secret key."""


class Made(t.Protocol):
    """The part of storage that keeps them; raises as ``Storage`` does."""

    async def made_connections(self) -> list[MadeConnection]:
        """All of them, by name."""
        ...

    async def save_made(self, name: str, settings: cabc.Mapping[str, t.Any]) -> None:
        """Keep the settings of a connection, which exists already."""
        ...

    async def forget_made(self, name: str) -> bool:
        """Forget that it was made; what else is stored of it stays. False: it was not."""
        ...
