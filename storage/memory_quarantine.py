"""The quarantine of MemoryStorage: see :class:`storage.quarantine.Quarantined`."""

import abc

import attrs
import trio

from storage.api import Envelope, Outcome, Verdict
from storage.kept import kept_message
from storage.memory_state import Connection, QuarantinedEntry, optional_utc, utc
from storage.memory_timeline import MemoryTimeline
from storage.prepare import PreparedBatch, PreparedQuarantine, prepare
from storage.quarantine import QuarantinedStanza, QuarantineRow
from storage.tombstones import Tombstones


class MemoryQuarantine(MemoryTimeline):
    """The part of MemoryStorage that fills, shows and empties the quarantine."""

    _tombstones: Tombstones

    @abc.abstractmethod
    def _commit(self, prepared: PreparedBatch, now: float) -> list[Outcome]:
        """Apply a batch."""

    def _keep(self, connection: Connection, row: PreparedQuarantine, resolves: int | None) -> None:
        now = self._clock()
        tried = connection.quarantine_row(resolves)
        if tried is not None and tried.resolved_at is None:
            tried.take(row, now)
        elif row.fingerprint in connection.quarantine:
            known = connection.quarantine[row.fingerprint]
            known.attempts, known.last_attempt_at = known.attempts + 1, now
        else:
            connection.quarantined += 1
            entry = QuarantinedEntry(
                id=next(self._ids), row=row, received_at=now, last_attempt_at=now
            )
            connection.quarantine[row.fingerprint] = entry
            self._tell(
                "message.quarantined",
                connection.name,
                quarantine_id=entry.id,
                chat=row.chat,
                external_id=row.external_id,
                verdict=Verdict.QUARANTINED.value,
            )

    async def quarantined(
        self,
        connection: str | None = None,
        *,
        resolved: bool = False,
        before: int | None = None,
        limit: int = 50,
    ) -> list[QuarantineRow]:
        """See :meth:`storage.quarantine.Quarantined.quarantined`."""
        await trio.lowlevel.checkpoint()
        found = [
            _shown(owner, entry)
            for owner in self._chosen(connection)
            for entry in owner.quarantine.values()
            if (resolved or entry.resolved_at is None) and (before is None or entry.id < before)
        ]
        return sorted(found, key=lambda row: -row.id)[:limit]

    async def quarantined_stanza(self, row_id: int) -> QuarantinedStanza | None:
        """See :meth:`storage.quarantine.Quarantined.quarantined_stanza`."""
        await trio.lowlevel.checkpoint()
        for owner in self._connections.values():
            if (entry := owner.quarantine_row(row_id)) is not None:
                kept = entry.row.kept
                return QuarantinedStanza(
                    row=_shown(owner, entry),
                    stanza=entry.row.stanza,
                    message=None if kept is None else kept_message(kept, entry.row.raw),
                )
        return None

    async def resolve(self, envelope: Envelope) -> Outcome:
        """See :meth:`storage.quarantine.Quarantined.resolve`."""
        await trio.lowlevel.checkpoint()
        now = self._clock()
        sifted = self._tombstones.sift([envelope], now)
        [outcome] = sifted.outcomes(self._commit(prepare(sifted.batch, now), now))
        owner = self._connection(envelope.connection)
        entry = owner.quarantine_row(envelope.resolves)
        if entry is None or entry.resolved_at is not None:
            return outcome
        entry.attempts += 1
        entry.last_attempt_at = entry.resolved_at = now
        entry.resolution, entry.message_id = outcome.verdict.value, outcome.message_id
        owner.quarantined -= 1
        return attrs.evolve(outcome, resolved=True)


def _shown(owner: Connection, entry: QuarantinedEntry) -> QuarantineRow:
    return QuarantineRow(
        id=entry.id,
        connection=owner.name,
        chat=entry.row.chat,
        sender=entry.row.sender,
        external_id=entry.row.external_id,
        error=entry.row.error,
        attempts=entry.attempts,
        received_at=utc(entry.received_at),
        last_attempt_at=utc(entry.last_attempt_at),
        stanza_bytes=len(entry.row.stanza),
        kept=entry.row.kept is not None,
        opened=entry.row.opened,
        resolved_at=optional_utc(entry.resolved_at),
        resolution=entry.resolution,
        message_id=entry.message_id,
    )
