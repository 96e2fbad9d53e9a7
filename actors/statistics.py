"""What a connection took in: for status at once, for the database and the log now and then."""

import collections.abc as cabc
import typing as t

import attrs
import structlog

from actors.messages import Record, WriterMail
from actors.settings import Counts
from storage.api import Outcome, SyncRun, Verdict
from storage.figures import SyncCounts
from supervisor.errors import MailboxFullError
from supervisor.mailbox import Postbox

MINUTE: t.Final = 60.0  # seconds; a row of sync statistics is of one minute of the wall clock

log: structlog.stdlib.BoundLogger = structlog.get_logger("statistics")


class SyncStatistics:
    """Counts the outcomes of one life of a connection."""

    def __init__(
        self,
        name: str,
        counts: Counts,
        writer: Postbox[WriterMail],
        wall_clock: cabc.Callable[[], float],
    ) -> None:
        """``counts`` go on from life to life."""
        self._name = name
        self._counts = counts
        self._writer = writer
        self._wall_clock = wall_clock
        self._run = self._nothing()
        counts.unrecorded = self._unrecorded

    def count(self, outcome: Outcome) -> None:
        """Take an outcome into account."""
        self._flush_if_over()
        processed = skipped = errors = 0
        match outcome.verdict:
            case Verdict.STORED | Verdict.RECORDED:
                processed = 1
            case Verdict.DUPLICATE | Verdict.FORGOTTEN:
                skipped = 1
            case Verdict.PLACEHOLDER:
                errors = 1
            case Verdict.QUARANTINED:
                self._counts.quarantined += 1
                errors = 1
            case other:
                t.assert_never(other)
        counts, run = self._counts, self._run
        counts.processed += processed
        counts.skipped += skipped
        counts.errors += errors
        self._run = attrs.evolve(
            run,
            total=run.total + 1,
            processed=run.processed + processed,
            skipped=run.skipped + skipped,
            errors=run.errors + errors,
            at=self._wall_clock(),
        )

    async def flush_if_due(self) -> None:
        """Flush once the minute is over in which something was counted."""
        self._flush_if_over()

    def _flush_if_over(self) -> None:
        at = self._run.at
        if at is not None and at // MINUTE != self._wall_clock() // MINUTE:
            self.flush()

    def flush(self) -> None:
        """Log and record what was counted since the last time, if anything."""
        run, self._run = self._run, self._nothing()
        if not run.total:
            return
        log.info("Sync stats", **attrs.asdict(run, filter=_told))
        try:
            self._writer.post_nowait(Record(run))
        except MailboxFullError:
            log.warning("statistics.dropped", connection=self._name, total=run.total)

    def _unrecorded(self) -> SyncCounts:
        run = self._run
        return SyncCounts(
            total=run.total, processed=run.processed, skipped=run.skipped, errors=run.errors
        )

    def _nothing(self) -> SyncRun:
        return SyncRun(connection=self._name, total=0, processed=0, skipped=0, errors=0)


def _told(field: "attrs.Attribute[object]", _value: object) -> bool:
    return field.name != "at"  # the line has a time of its own
