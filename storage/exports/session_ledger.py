"""The table of exports through one session, for a command without a daemon."""

import collections.abc as cabc
import typing as t

from storage.exports.ledger import SqlLedger
from storage.maintenance import Maintenance


class SessionExports(SqlLedger):
    """See :class:`storage.exports.ledger.ExportLedger`."""

    def __init__(self, session: Maintenance, clock: cabc.Callable[[], float]) -> None:
        self._session = session
        self._clock = clock

    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        return await self._session.fetch(name, *arguments)

    async def _write(self, name: str, *arguments: t.Any) -> list[t.Any]:
        return await self._session.fetch(name, *arguments)
