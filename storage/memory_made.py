"""Connections made through the API, in MemoryStorage: see :class:`storage.made.Made`."""

import collections.abc as cabc
import typing as t

import trio

from storage.made import MadeConnection
from storage.memory_state import MemoryState


class MemoryMade(MemoryState):
    """The part of MemoryStorage that keeps them."""

    def __init__(self, clock: cabc.Callable[[], float]) -> None:
        super().__init__(clock)
        self._made: dict[str, dict[str, t.Any]] = {}

    async def made_connections(self) -> list[MadeConnection]:
        """See :meth:`storage.made.Made.made_connections`."""
        await trio.lowlevel.checkpoint()
        return [MadeConnection(name, dict(found)) for name, found in sorted(self._made.items())]

    async def save_made(self, name: str, settings: cabc.Mapping[str, t.Any]) -> None:
        """See :meth:`storage.made.Made.save_made`."""
        await trio.lowlevel.checkpoint()
        self._connection(name)
        self._made[name] = dict(settings)

    async def forget_made(self, name: str) -> bool:
        """See :meth:`storage.made.Made.forget_made`."""
        await trio.lowlevel.checkpoint()
        return self._made.pop(name, None) is not None
