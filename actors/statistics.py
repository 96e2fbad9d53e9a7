"""What a connection took in: for status at once, for the database and the log now and then."""

import typing as t

import attrs
import structlog
import trio

from actors.messages import Record, WriterMail
from actors.settings import Counts
from storage.api import Outcome, SyncRun, Verdict
from supervisor.errors import MailboxFullError
from supervisor.mailbox import Postbox

INTERVAL: t.Final = 60.0  # seconds between two rows of sync statistics

log: structlog.stdlib.BoundLogger = structlog.get_logger("statistics")


class SyncStatistics:
    """Counts the outcomes of one life of a connection."""

    def __init__(
        self,
        name: str,
        counts: Counts,
        writer: Postbox[WriterMail],
    ) -> None:
        """``counts`` go on from life to life."""
        self._name = name
        self._counts = counts
        self._writer = writer
        self._run = self._nothing()
        self._since = trio.current_time()

    def count(self, outcome: Outcome) -> None:
        """Take an outcome into account."""
        processed = skipped = errors = 0
        match outcome.verdict:
            case Verdict.STORED | Verdict.RECORDED:
                processed = 1
            case Verdict.DUPLICATE:
                skipped = 1
            case Verdict.PLACEHOLDER:
                errors = 1
            case Verdict.QUARANTINED:
                self._counts.quarantined += 1
                errors = 1
            case other:
                t.assert_never(other)
        run = self._run
        self._run = attrs.evolve(
            run,
            total=run.total + 1,
            processed=run.processed + processed,
            skipped=run.skipped + skipped,
            errors=run.errors + errors,
        )

    async def flush_if_due(self) -> None:
        """Flush once per interval."""
        if trio.current_time() - self._since >= INTERVAL:
            self.flush()

    def flush(self) -> None:
        """Log and record what was counted since the last time, if anything."""
        run, self._run = self._run, self._nothing()
        self._since = trio.current_time()
        if not run.total:
            return
        log.info("Sync stats", **attrs.asdict(run))
        try:
            self._writer.post_nowait(Record(run))
        except MailboxFullError:
            log.warning("statistics.dropped", connection=self._name, total=run.total)

    def _nothing(self) -> SyncRun:
        return SyncRun(connection=self._name, total=0, processed=0, skipped=0, errors=0)
