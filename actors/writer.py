"""The one actor that writes messages, conversations and Signal state.

Theory of operation. Each connection has a lane of the mailbox, and a batch takes from all lanes
in fair shares: whatever arrived during the previous commit, bounded by count and bytes, goes into
one transaction (group commit without waiting). So a message of a quiet connection waits for the
running batch and its own, however much the others have posted. A second mailbox, for what can
wait (history), is served while the first is empty, and now and then though it is not.
Answers follow the COMMIT. Three things can go wrong with a batch:

- the database is away: the same batch is retried with growing pauses for as long as it takes;
  meanwhile the mailbox fills and its bound holds the connections back;
- the data is refused: the batch is parted until the refused connection stands alone; the poison
  in its mail is looked for between the batches of the others (``actors.suspects``) and
  quarantined, so one bad row never takes good ones with it;
- the writer itself is cancelled in a commit: the outcome is unknown, nobody is answered, and
  WhatsApp redelivers; every write is idempotent.
"""

import collections.abc as cabc
import math
import typing as t

import attrs
import structlog
import trio

from actors import gaps
from actors.histogram import COMMIT_BOUNDS, Histogram
from actors.messages import Commit, Drain, Fence, Quarantine, Record, Settled, WriterMail
from actors.suspects import Suspects, Writable
from actors.writer_inbox import ROWS, Inbox, envelope_size, writer_inbox
from storage.api import ConnectionEvent, Envelope, Outcome, Storage, SyncRun, Verdict
from storage.crash_points import crash_point
from storage.errors import (
    StorageBrokenError,
    StorageError,
    StorageRejectedError,
    StorageUnavailableError,
)
from supervisor.backoff import Backoff
from supervisor.errors import MailboxEmptyError

log: structlog.stdlib.BoundLogger = structlog.get_logger("writer")

Committed: t.TypeAlias = cabc.Callable[[cabc.Sequence[Envelope], cabc.Sequence[Outcome]], None]
T = t.TypeVar("T")


RECORDS: t.Final = 32  # rows of their own after a batch, each a transaction
STEPS: t.Final = 8  # for suspects after a batch, while others wait


@attrs.frozen(kw_only=True)
class WriterSettings:
    """Bounds of a batch, and the longest pause between two tries at an absent database."""

    batch_messages: int = 512
    batch_bytes: int = 4 * 1024 * 1024
    low_batch: int = 64  # messages of the low-priority lane in one transaction
    low_every: int = 8  # live batches after which one of these comes in any case
    retry_max: float = 10.0  # seconds


@attrs.define(kw_only=True)
class WriterStatus:
    """What ``zapvisor health`` shows of the writer."""

    batches: int = 0
    envelopes: int = 0
    last_commit_seconds: float = 0.0
    retrying_since: float | None = None  # trio clock; the database is away
    last_error: str | None = None
    busy_since: float | None = None
    """When it last made a step, on trio's clock, while it has work; None: it waits for mail.
    A step is a call of storage that ended, one way or another, or a pause before the next try."""


@attrs.define
class _Batch:
    """What was taken out of one mailbox to be settled together."""

    source: Inbox
    commits: list[Commit] = attrs.field(factory=list)
    rows: list[ConnectionEvent | SyncRun] = attrs.field(factory=list)
    fences: list[Fence] = attrs.field(factory=list)
    size: int = 0  # bytes
    drained: bool = False

    def is_full(self, messages: int, size: int) -> bool:
        """Whether nothing more goes in."""
        return len(self.commits) >= messages or self.size >= size


class Writer:
    """Commits envelopes, those of a connection in their order; answers after the COMMIT."""

    def __init__(
        self,
        storage: Storage,
        inbox: Inbox,
        settings: WriterSettings,
        uniform: cabc.Callable[[], float],
    ) -> None:
        """``uniform`` gives numbers in [0, 1) for the jitter of retries."""
        self.inbox = inbox
        self.low = writer_inbox(2 * settings.low_batch, 4 * settings.batch_bytes)
        """Served while ``inbox`` is empty, in small batches: for what can wait."""
        self.listeners: list[Committed] = []
        """Called after each COMMIT, before its answers; they must neither wait nor fail."""
        self._rung = trio.Event()
        inbox.ring(self._ring)
        self.low.ring(self._ring)
        self.status = WriterStatus()
        self.commits = Histogram(COMMIT_BOUNDS)
        """How long the commits of batches took, retries included, in seconds."""
        self._storage = storage
        self._settings = settings
        self._uniform = uniform
        self._backoff = Backoff(initial=0.05, maximum=settings.retry_max)
        self._suspects = Suspects(storage, self._settled, _answer, self._backoff, uniform)
        self._overtaken = 0  # batches that went before waiting mail of the low-priority lane

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve mail until ``Drain``; any other exit is a crash, left to the supervisor."""
        self._suspects.clear()  # of a run that crashed: like its batch, unanswered
        for inbox in (self.inbox, self.low):
            inbox.resume_all()
        task_status.started()
        try:
            while not await self._serve():
                pass
        finally:
            self.status.busy_since = None

    async def _serve(self) -> bool:
        """Settle what is there, or wait until something is; True: that was all."""
        await trio.lowlevel.checkpoint()
        rung = self._rung
        batch = self._gather()
        if batch is None:
            if not await self._suspects.step():
                self.status.busy_since = None
                with trio.move_on_at(self._suspects.due_at()):
                    await rung.wait()
            self._beat()
            return False
        self._beat()
        await self._settle(batch)
        for _ in range(STEPS):
            if not await self._suspects.step():
                break
            self._beat()
        return batch.drained

    def stalled_for(self) -> float:
        """Seconds since it last made a step though it has work; 0: it waits for mail."""
        since = self.status.busy_since
        return 0.0 if since is None else trio.current_time() - since

    def _beat(self) -> None:
        self.status.busy_since = trio.current_time()

    def _ring(self) -> None:
        rung, self._rung = self._rung, trio.Event()
        rung.set()

    # ---- what goes together --------------------------------------------------------------

    def _gather(self) -> _Batch | None:
        """The next batch, out of what is there."""
        live, low = (self.inbox, self._settings.batch_messages), (self.low, self._low_limit)
        due = self._overtaken >= self._settings.low_every
        for source, limit in (low, live) if due else (live, low):
            batch = _Batch(source)
            if self._fill(batch, limit):
                overtakes = source is self.inbox and len(self.low) > 0
                self._overtaken = self._overtaken + 1 if overtakes else 0
                return batch
        return None

    @property
    def _low_limit(self) -> int:
        return min(self._settings.batch_messages, self._settings.low_batch)

    def _fill(self, batch: _Batch, limit: int) -> bool:
        """Take mail until the batch is full; False: there was none."""
        taken = False
        while not batch.drained and not batch.is_full(limit, self._settings.batch_bytes):
            mail = _next_mail(batch.source)
            if mail is None:
                break
            taken = True
            match mail:
                case Commit(envelope=envelope) if envelope.resolves is not None:
                    self._suspects.resolve(batch.source, mail)
                case Commit(envelope=envelope):
                    batch.commits.append(mail)
                    batch.size += envelope_size(envelope)
                case Quarantine():
                    self._suspects.quarantine(batch.source, mail)
                case Fence():
                    batch.fences.append(mail)
                    if mail.connection is None:
                        break
                case Record(row=row):
                    batch.rows.append(row)
                    if len(batch.rows) == RECORDS:
                        batch.source.pause(ROWS)
                case Drain():
                    batch.drained = True
                case other:
                    t.assert_never(other)
        if len(batch.rows) == RECORDS:
            batch.source.resume(ROWS)
        return taken

    # ---- what is committed ---------------------------------------------------------------

    async def _settle(self, batch: _Batch) -> None:
        """Commit what has to be committed, and answer."""
        if batch.commits:
            crash_point("writer.batch_taken")
            await self._commit(batch.source, batch.commits)
        for row in batch.rows:
            await self._record(row)
        if batch.drained or any(fence.connection is None for fence in batch.fences):
            await self._settle_suspects()
        for fence in batch.fences:
            if not self._suspects.hold(batch.source, fence):
                fence.passed.set()

    async def _settle_suspects(self) -> None:
        """Wait until there are none."""
        while self._suspects:
            await trio.sleep_until(min(self._suspects.due_at(), trio.current_time() + 1.0))
            await self._suspects.step()
            self._beat()

    async def _commit(self, source: Inbox, mails: cabc.Sequence[Commit]) -> None:
        envelopes = [mail.envelope for mail in mails]
        began = trio.current_time()
        crash_point("writer.before_apply")
        try:
            outcomes = await self._persist(lambda: self._storage.apply(envelopes))
        except StorageRejectedError as error:
            names = list(dict.fromkeys(envelope.connection for envelope in envelopes))
            if len(names) == 1:
                self._suspects.refused(source, mails, str(error))
                return
            first = set(names[: len(names) // 2])
            await self._commit(source, [m for m in mails if m.envelope.connection in first])
            await self._commit(source, [m for m in mails if m.envelope.connection not in first])
            return
        self.status.last_commit_seconds = trio.current_time() - began
        self.commits.observe(self.status.last_commit_seconds)
        self._settled(mails, outcomes)

    def _settled(self, mails: cabc.Sequence[Commit], outcomes: cabc.Sequence[Outcome]) -> None:
        """Tell everybody that this is committed."""
        crash_point("writer.committed")
        self.status.batches += 1
        self.status.envelopes += len(mails)
        envelopes = [mail.envelope for mail in mails]
        for envelope in envelopes:
            if envelope.gap is not None:
                gaps.committed(envelope.gap)
        for listener in self.listeners:
            listener(envelopes, outcomes)
        for mail, outcome in zip(mails, outcomes, strict=True):
            _log_outcome(mail.envelope, outcome)
            _answer(mail, outcome)
        crash_point("writer.answered")

    async def _record(self, row: ConnectionEvent | SyncRun) -> None:
        try:
            if isinstance(row, ConnectionEvent):
                await self._persist(lambda: self._storage.record_event(row))
            else:
                await self._persist(lambda: self._storage.record_sync(row))
        except StorageRejectedError as error:
            log.error("Row refused", connection=row.connection, error=str(error))

    async def _persist(self, write: cabc.Callable[[], cabc.Awaitable[T]]) -> T:
        """Try until the database is there. A refusal is the caller's affair."""
        failures = 0
        while True:
            try:
                result = await write()
            except StorageUnavailableError as error:
                failures += 1
                self._away(error, failures)
                self._beat()
                await trio.sleep(self._backoff.delay(failures, self._uniform()))
                self._beat()
            else:
                self._beat()
                if failures:
                    log.info("Database is back", tries=failures)
                self.status.retrying_since = None
                return result

    def _away(self, error: StorageError, failures: int) -> None:
        self.status.last_error = str(error)
        if self.status.retrying_since is None:
            self.status.retrying_since = trio.current_time()
        if math.log2(failures).is_integer():  # 1st, 2nd, 4th, 8th … failure
            tell = log.error if isinstance(error, StorageBrokenError) else log.warning
            tell("Database is away, nothing is acknowledged", error=str(error), tries=failures)


def _next_mail(source: Inbox) -> WriterMail | None:
    try:
        return source.receive_nowait()
    except MailboxEmptyError:
        return None


def _answer(mail: Writable, outcome: Outcome | None) -> None:
    try:
        mail.reply.send_nowait(Settled(mail.ticket, outcome))
    except trio.BrokenResourceError:
        pass  # the connection ended meanwhile: unacknowledged, so WhatsApp delivers it again
    except trio.WouldBlock:
        log.error("Answer without room", connection=mail.envelope.connection, ticket=mail.ticket)


def _log_outcome(envelope: Envelope, outcome: Outcome) -> None:
    facts = {"connection": envelope.connection, "message": outcome.message_id}
    if outcome.resolved:
        log.info(
            "Quarantine row resolved",
            **facts,
            row=envelope.resolves,
            verdict=outcome.verdict.value,
        )
    if outcome.reopened:
        log.info(
            "Reopening closed conversation",
            connection=envelope.connection,
            conversation=outcome.conversation_id,
        )
    match outcome.verdict:
        case Verdict.STORED:
            log.info(
                "Message saved",
                **facts,
                conversation=outcome.conversation_id,
                kind=envelope.message.kind if envelope.message else None,
                filled=outcome.filled,
            )
        case Verdict.DUPLICATE:
            log.info("Message already exists, skipping duplicate", **facts)
        case Verdict.PLACEHOLDER:
            log.warning(
                "Message could not be decrypted",
                **facts,
                reason=envelope.message.reason if envelope.message else None,
                failures=outcome.retries,
            )
        case Verdict.FORGOTTEN:
            log.info("Message of a forgotten person, not stored", connection=envelope.connection)
        case Verdict.QUARANTINED | Verdict.RECORDED:
            pass
        case other:
            t.assert_never(other)
