"""The quarantine in PostgreSQL: see :class:`storage.quarantine.Quarantined`."""

import abc
import collections.abc as cabc
import contextlib
import datetime as dt
import json
import typing as t

import attrs

from storage.api import Envelope, Outcome
from storage.encode import decode_outcomes, encode_batch
from storage.kept import kept_message
from storage.prepare import prepare
from storage.quarantine import QuarantinedStanza, QuarantineRow
from storage.seal import Sealer
from storage.tombstones import Sifted

_INT64_MAX: t.Final = 2**63 - 1
_KEPT: t.Final = ("stanza", "raw", "message")


class PostgresQuarantine(abc.ABC):
    """The part of PostgresStorage that shows and empties the quarantine."""

    _sealer: Sealer
    _clock: cabc.Callable[[], float]

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    @abc.abstractmethod
    def _sifted(
        self, batch: cabc.Sequence[Envelope], now: float
    ) -> contextlib.AbstractAsyncContextManager[Sifted]:
        """A batch without what is forgotten, to be committed while this lasts."""

    @abc.abstractmethod
    async def _write(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named statement on the writer's connection."""

    async def quarantined(
        self,
        connection: str | None = None,
        *,
        resolved: bool = False,
        before: int | None = None,
        limit: int = 50,
    ) -> list[QuarantineRow]:
        """See :meth:`storage.quarantine.Quarantined.quarantined`."""
        rows = await self._fetch("quarantined", connection, resolved, before, limit)
        return [QuarantineRow(**row) for row in rows]

    async def quarantined_stanza(self, row_id: int) -> QuarantinedStanza | None:
        """See :meth:`storage.quarantine.Quarantined.quarantined_stanza`."""
        if not 0 < row_id <= _INT64_MAX:
            return None
        rows = await self._fetch("quarantined_stanza", row_id)
        if not rows:
            return None
        found = dict(rows[0])
        stanza, raw, kept = (found.pop(name) for name in _KEPT)
        return QuarantinedStanza(
            row=QuarantineRow(**found),
            stanza=stanza,
            message=None if kept is None else kept_message(kept, raw),
        )

    async def resolve(self, envelope: Envelope) -> Outcome:
        """See :meth:`storage.quarantine.Quarantined.resolve`."""
        now = self._clock()
        async with self._sifted([envelope], now) as sifted:
            prepared, at = prepare(sifted.batch, now), dt.datetime.fromtimestamp(now, dt.UTC)
            if sifted.notes is not None:
                await self._write("note_forgotten", json.dumps(sifted.notes), at)
            rows = await self._write(
                "resolve_quarantined",
                *attrs.astuple(encode_batch(prepared, self._sealer, now), recurse=False),
                envelope.connection,
                envelope.resolves,
                at,
            )
        [[*answer, resolved]] = rows
        [outcome] = sifted.outcomes(decode_outcomes(prepared, [answer]))
        return attrs.evolve(outcome, resolved=resolved)
