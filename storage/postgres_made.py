"""Connections made through the API, in PostgreSQL: see :class:`storage.made.Made`."""

import abc
import collections.abc as cabc
import datetime as dt
import json
import typing as t

from storage.errors import SealError, StorageRejectedError
from storage.made import RECORD, MadeConnection
from storage.seal import Sealer


class PostgresMade(abc.ABC):
    """The part of PostgresStorage that keeps them."""

    _clock: cabc.Callable[[], float]
    _sealer: Sealer

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    @abc.abstractmethod
    async def _write(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named statement that is not to be cancelled half way."""

    async def made_connections(self) -> list[MadeConnection]:
        """See :meth:`storage.made.Made.made_connections`."""
        return [self._made(*row) for row in await self._fetch("made_connections")]

    def _made(self, name: str, sealed: bytes) -> MadeConnection:
        try:
            opened = self._sealer.open(name, RECORD, "", sealed)
        except SealError:
            return MadeConnection(name, None)  # whoever asks says so
        return MadeConnection(name, json.loads(opened))

    async def save_made(self, name: str, settings: cabc.Mapping[str, t.Any]) -> None:
        """See :meth:`storage.made.Made.save_made`."""
        sealed = self._sealer.seal(name, RECORD, "", json.dumps(dict(settings)).encode())
        now = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        if not await self._write("save_made", name, sealed, now):
            raise StorageRejectedError(f"unknown connection {name!r}")

    async def forget_made(self, name: str) -> bool:
        """See :meth:`storage.made.Made.forget_made`."""
        return bool(await self._write("forget_made", name))
