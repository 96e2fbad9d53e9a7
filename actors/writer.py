"""The one actor that writes messages, conversations and Signal state.

Theory of operation. The mailbox is drained into a batch: whatever arrived during the previous
commit, bounded by count and bytes, goes into one transaction (group commit without waiting).
A second mailbox, for what can wait (history), is served while the first is empty.
Answers follow the COMMIT. Three things can go wrong with a batch:

- the database is away: the same batch is retried with growing pauses for as long as it takes;
  meanwhile the mailbox fills and its bound holds the connections back;
- the data is refused: the batch is halved until the poison stands alone, which is quarantined,
  so one bad row never takes good ones with it;
- the writer itself is cancelled in a commit: the outcome is unknown, nobody is answered, and
  WhatsApp redelivers; every write is idempotent.
"""

import collections.abc as cabc
import math
import typing as t

import attrs
import structlog
import trio

from actors.messages import Commit, Drain, Fence, Quarantine, Record, Settled, WriterMail
from storage.api import ConnectionEvent, Envelope, Outcome, Storage, Verdict
from storage.errors import StorageError, StorageRejectedError, StorageUnavailableError
from supervisor.backoff import Backoff
from supervisor.errors import MailboxEmptyError
from supervisor.mailbox import Mailbox

log: structlog.stdlib.BoundLogger = structlog.get_logger("writer")

Writable: t.TypeAlias = Commit | Quarantine
Committed: t.TypeAlias = cabc.Callable[[cabc.Sequence[Envelope], cabc.Sequence[Outcome]], None]
T = t.TypeVar("T")


@attrs.frozen(kw_only=True)
class WriterSettings:
    """Bounds of a batch, and the longest pause between two tries at an absent database."""

    batch_messages: int = 512
    batch_bytes: int = 4 * 1024 * 1024
    low_batch: int = 64  # messages of the low-priority lane in one transaction
    retry_max: float = 10.0  # seconds


@attrs.define(kw_only=True)
class WriterStatus:
    """What ``zapvisor health`` shows of the writer."""

    batches: int = 0
    envelopes: int = 0
    last_commit_seconds: float = 0.0
    retrying_since: float | None = None  # trio clock; the database is away
    last_error: str | None = None


class Writer:
    """Commits envelopes in the order of the mailbox; answers each one after its COMMIT."""

    def __init__(
        self,
        storage: Storage,
        inbox: Mailbox[WriterMail],
        settings: WriterSettings,
        uniform: cabc.Callable[[], float],
    ) -> None:
        """``uniform`` gives numbers in [0, 1) for the jitter of retries."""
        self.inbox = inbox
        self.low: Mailbox[WriterMail] = Mailbox(2 * settings.low_batch)
        """Served only while ``inbox`` is empty, in small batches: for what can wait."""
        self.listeners: list[Committed] = []
        """Called after each COMMIT, before its answers; they must neither wait nor fail."""
        self._rung = trio.Event()
        inbox.ring(self._ring)
        self.low.ring(self._ring)
        self.status = WriterStatus()
        self._storage = storage
        self._settings = settings
        self._uniform = uniform
        self._backoff = Backoff(initial=0.05, maximum=settings.retry_max)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve mail until ``Drain``; any other exit is a crash, left to the supervisor."""
        task_status.started()
        while True:
            source, mail = await self._first_mail()
            limit = self._settings.batch_messages
            if source is self.low:
                limit = min(limit, self._settings.low_batch)
            batch: list[Writable] = []
            size = 0
            while mail is not None:
                match mail:
                    case Commit() | Quarantine():
                        batch.append(mail)
                        size += envelope_size(mail.envelope)
                    case Fence(passed=passed):
                        await self._settle(batch)
                        batch, size = [], 0
                        passed.set()
                    case Record(row=row):
                        await self._settle(batch)
                        batch, size = [], 0
                        await self._record(row)
                    case Drain():
                        await self._settle(batch)
                        return
                    case other:
                        t.assert_never(other)
                full = len(batch) >= limit or size >= self._settings.batch_bytes
                mail = None if full else _next_mail(source)
            await self._settle(batch)

    async def _first_mail(self) -> tuple[Mailbox[WriterMail], WriterMail | None]:
        """The next mail and where it came from; the low-priority lane comes second."""
        while True:
            await trio.lowlevel.checkpoint()
            rung = self._rung
            for source in (self.inbox, self.low):
                if (mail := _next_mail(source)) is not None:
                    return source, mail
            await rung.wait()

    def _ring(self) -> None:
        rung, self._rung = self._rung, trio.Event()
        rung.set()

    async def _settle(self, batch: cabc.Sequence[Writable]) -> None:
        """Commit what has to be committed, in order, and answer."""
        start = 0
        while start < len(batch):
            first = batch[start]
            if isinstance(first, Quarantine):
                await self._quarantine(first, first.error)
                start += 1
                continue
            commits: list[Commit] = []
            for mail in batch[start:]:
                if not isinstance(mail, Commit):
                    break
                commits.append(mail)
            await self._commit(commits)
            start += len(commits)

    async def _commit(self, mails: cabc.Sequence[Commit]) -> None:
        envelopes = [mail.envelope for mail in mails]
        began = trio.current_time()
        try:
            outcomes = await self._persist(lambda: self._storage.apply(envelopes))
        except StorageRejectedError as error:
            await self._bisect(mails, error)
            return
        self.status.batches += 1
        self.status.envelopes += len(mails)
        self.status.last_commit_seconds = trio.current_time() - began
        for listener in self.listeners:
            listener(envelopes, outcomes)
        for mail, outcome in zip(mails, outcomes, strict=True):
            _log_outcome(mail.envelope, outcome)
            _answer(mail, outcome)

    async def _bisect(self, mails: cabc.Sequence[Commit], error: StorageRejectedError) -> None:
        if len(mails) == 1:
            await self._quarantine(mails[0], str(error))
            return
        middle = len(mails) // 2
        await self._commit(mails[:middle])
        await self._commit(mails[middle:])

    async def _quarantine(self, mail: Writable, error: str) -> None:
        outcome: Outcome | None
        try:
            outcome = await self._persist(lambda: self._storage.quarantine(mail.envelope, error))
        except StorageRejectedError as refusal:
            log.error(
                "Message could not be quarantined",
                connection=mail.envelope.connection,
                error=str(refusal),
                cause=error,
            )
            outcome = None
        else:
            log.error("Message quarantined", connection=mail.envelope.connection, error=error)
        _answer(mail, outcome)

    async def _record(self, row: t.Any) -> None:
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
                await trio.sleep(self._backoff.delay(failures, self._uniform()))
            else:
                if failures:
                    log.info("Database is back", tries=failures)
                self.status.retrying_since = None
                return result

    def _away(self, error: StorageError, failures: int) -> None:
        self.status.last_error = str(error)
        if self.status.retrying_since is None:
            self.status.retrying_since = trio.current_time()
        if math.log2(failures).is_integer():  # 1st, 2nd, 4th, 8th … failure
            log.warning(
                "Database is away, nothing is acknowledged", error=str(error), tries=failures
            )


def _next_mail(source: Mailbox[WriterMail]) -> WriterMail | None:
    try:
        return source.receive_nowait()
    except MailboxEmptyError:
        return None


def envelope_size(envelope: Envelope) -> int:
    """Bytes of payload in an envelope, roughly."""
    size = len(envelope.stanza) + sum(len(change.value or b"") for change in envelope.records)
    if (message := envelope.message) is not None:
        size += len(message.raw) + len(message.text or "")
    return size


def _answer(mail: Writable, outcome: Outcome | None) -> None:
    try:
        mail.reply.send_nowait(Settled(mail.ticket, outcome))
    except trio.BrokenResourceError:
        pass  # the connection ended meanwhile: unacknowledged, so WhatsApp delivers it again
    except trio.WouldBlock:
        log.error("Answer without room", connection=mail.envelope.connection, ticket=mail.ticket)


def _log_outcome(envelope: Envelope, outcome: Outcome) -> None:
    facts = {"connection": envelope.connection, "message": outcome.message_id}
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
        case Verdict.QUARANTINED | Verdict.RECORDED:
            pass
        case other:
            t.assert_never(other)
