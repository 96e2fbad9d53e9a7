"""The import of one chunk of history, from where it stopped.

Theory of operation. The messages of a chunk are numbered in an order that depends on its bytes
alone: conversation by conversation, each from its oldest message to its newest, statuses last.
They go to the writer in steps: once all messages of a step are settled, an envelope of its own
carries the fact that everything before a position is committed, and what became of it. Whatever a
crash repeats is known to the database by its identity, so each message is counted in one step.
"""

import collections
import collections.abc as cabc
import hashlib
import itertools
import typing as t

import attrs
import structlog
import trio

from actors.history_facts import chunk_facts
from actors.history_messages import Chat, chat_of, facts_of, messages_of
from actors.low_lane import LowLane
from actors.messages import WriterMail
from storage.api import Envelope, Outcome, ReceivedMessage, Verdict
from storage.crash_points import crash_point
from storage.facts import ContactName, Fact, HistoryChatCount, HistoryStep
from storage.queues import PendingHistory
from supervisor.mailbox import Postbox
from whatsapp.errors import RemoteProtocolError
from whatsapp.history_model import HistoryChunk, Slices
from whatsapp.jid import STATUS_BROADCAST, Jid
from whatsapp.web_message import HistoryMessage

STEP: t.Final = 64  # messages between two positions that are committed
FACTS: t.Final = 128  # in one envelope
LOG_INTERVAL: t.Final = 5.0  # seconds between two lines of progress
MAX_LABEL: t.Final = 256  # characters of what names a chat whose address is none
REPORTED: t.Final = ("stored", "duplicate", "failed", "hidden", "ignored")
UNSTORABLE: t.Final = (
    "a message could be neither stored nor quarantined; see the log, then retry the failed chunks"
)

Wanted: t.TypeAlias = cabc.Callable[[str, Jid], bool]
"""Whether messages of a connection's chat are to be kept."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("history")


@attrs.define(eq=False)
class _Source:
    """One conversation on its way in."""

    chat: Chat | None  # None: its address is none
    label: str
    messages: Slices[HistoryMessage]
    order: range  # of indexes, oldest first
    ordinals: collections.Counter[bytes] = attrs.field(factory=collections.Counter)

    def numbered(self, rows: tuple[ReceivedMessage, ...]) -> tuple[ReceivedMessage, ...]:
        """Tell messages without an id apart that are alike; to be called in their order."""
        if not rows or rows[0].external_id:
            return rows
        row = rows[0]
        content = row.raw or (row.text or "").encode(errors="replace")
        alike = hashlib.sha256(f"{row.sender} {row.sent_at} ".encode() + content).digest()
        self.ordinals[alike] += 1
        return (attrs.evolve(row, ordinal=self.ordinals[alike] - 1), *rows[1:])


@attrs.frozen
class _Post:
    """One envelope; with a ``label`` its outcome counts for that chat."""

    envelope: Envelope
    label: str | None = None
    quarantine: str | None = None
    position: int | None = None  # the step that it carries
    final: bool = False


class ChunkImport:
    """Takes one chunk in. Cancelled anywhere, another one goes on after the last step."""

    def __init__(
        self,
        job: PendingHistory,
        chunk: HistoryChunk,
        writer: Postbox[WriterMail],
        *,
        own: tuple[Jid, ...],
        wanted: Wanted,
        now: float,
    ) -> None:
        """``own`` are the account's bare addresses, at least one; ``now`` is in unix seconds."""
        self._job = job
        self._chunk = chunk
        self._total = chunk.total
        self._own = own
        self._wanted = wanted
        self._now = now
        self._lane = LowLane[_Post](writer, self._count)
        self._counts: dict[str, HistoryChatCount] = {}  # since the last step
        self._sums: collections.Counter[str] = collections.Counter()  # in this run
        self._chats: set[str] = set()
        self._businesses: set[ContactName] = set()
        self._position = 0
        self._step: list[_Post] = []
        self._in_step = 0  # messages
        self._committed = job.position  # as storage knows it, at least
        self._lost = False  # something is stored nowhere: go no further
        self._finished = False
        self._logged_at = trio.current_time()

    async def run(self) -> bool:
        """Import to the end; whether the final step is committed, and everything before it."""
        try:
            if self._job.position == 0:
                await self._preface()
            for source in self._sources():
                if not self._lost:
                    await self._import(source)
            return await self._finish()
        finally:
            self._lane.close()

    # ---- what is posted ------------------------------------------------------------------

    async def _preface(self) -> None:
        """What the chunk says besides messages comes first, so that they find their people."""
        opening: tuple[Fact, ...] = (self._step_fact("importing", 0),)
        facts = itertools.chain(opening, chunk_facts(self._chunk, self._now))
        while part := tuple(itertools.islice(facts, FACTS)):
            await self._post(_Post(self._envelope(facts=part)))
        await self._lane.settle()

    async def _import(self, source: _Source) -> None:
        first = self._position
        if first + len(source.order) <= self._job.position:
            self._position += len(source.order)
        elif source.chat is not None and not self._wanted(self._job.connection, source.chat.jid):
            self._position += len(source.order)
            self._sums["ignored"] += len(source.order)
        else:
            self._chats.add(source.label)
            for position, index in enumerate(source.order, first):
                await trio.lowlevel.checkpoint()
                posts = self._posts(source, index)
                self._position = position + 1
                if position >= self._job.position:
                    self._step += posts
                    self._in_step += 1
                if self._in_step >= STEP:
                    await self._commit_step()
                if self._lost:
                    return

    async def _commit_step(self) -> None:
        if self._position < self._total:
            await self._post_all()
            await self._lane.settle()
            if self._lost:
                return
            crash_point("history.step")
            step = self._step_fact("importing", self._position)
            await self._post(_Post(self._envelope(facts=(step,)), position=self._position))
        self._in_step = 0
        self._log_progress()

    async def _finish(self) -> bool:
        await self._post_all()
        await self._lane.settle()
        if self._lost:
            final = self._step_fact("failed", self._committed, UNSTORABLE)
        else:
            final = self._step_fact("done", self._total)
            crash_point("history.last_step")
        await self._post(_Post(self._envelope(facts=(final,)), final=True))
        await self._lane.settle()
        self._log_progress(final.state)
        return self._finished

    async def _post_all(self) -> None:
        posts, self._step = self._step, []
        for post in posts:
            await self._post(post)

    async def _post(self, post: _Post) -> None:
        await self._lane.post(post.envelope, post, quarantine=post.quarantine)

    # ---- what a message becomes ----------------------------------------------------------

    def _sources(self) -> cabc.Iterator[_Source]:
        for conversation in self._chunk.conversations:
            try:
                chat = chat_of(conversation)
            except RemoteProtocolError:
                chat = None
            label = conversation.chat[:MAX_LABEL] or "?" if chat is None else str(chat.jid)
            messages = _slices(conversation.messages)
            yield _Source(chat, label, messages, conversation.oldest_first())
        statuses = _slices(self._chunk.status_messages)
        order = range(len(statuses) - 1, -1, -1)
        yield _Source(Chat(jid=STATUS_BROADCAST), str(STATUS_BROADCAST), statuses, order)

    def _posts(self, source: _Source, index: int) -> list[_Post]:
        """The envelopes of one message, itself first; none when there is nothing to show."""
        try:
            if source.chat is None:
                raise RemoteProtocolError("a conversation without an address")
            message = source.messages[index]
            rows = source.numbered(messages_of(source.chat, message, self._own))
        except RemoteProtocolError as error:
            envelope = self._envelope(stanza=source.messages.raw(index))
            return [_Post(envelope, source.label, f"history: {error}")]
        if not rows:
            self._sums["hidden"] += 1
            return []
        facts = self._new_facts(facts_of(source.chat, message, self._own, self._now))
        main, *answers = rows
        return [
            _Post(self._envelope(message=main, facts=facts), source.label),
            *(_Post(self._envelope(message=row)) for row in answers),
        ]

    def _new_facts(self, facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
        """Without the names of businesses that were told already."""
        new: list[Fact] = []
        for fact in facts:
            if isinstance(fact, ContactName):
                told = attrs.evolve(fact, at=0.0)
                if told in self._businesses:
                    continue
                self._businesses.add(told)
            new.append(fact)
        return tuple(new)

    def _envelope(self, **parts: t.Any) -> Envelope:
        return Envelope(connection=self._job.connection, quiet=True, **parts)

    # ---- what became of it ---------------------------------------------------------------

    def _count(self, post: _Post, outcome: Outcome | None) -> None:
        self._lost = self._lost or outcome is None
        fate = _fate(outcome)
        if post.position is not None and fate != "failed":
            self._committed = post.position
        self._finished = post.final and fate == "stored"
        if post.label is None:
            return
        counts = self._counts.get(post.label) or HistoryChatCount(chat=post.label)
        changes = {"offered": counts.offered + 1, fate: getattr(counts, fate) + 1}
        self._counts[post.label] = attrs.evolve(counts, **changes)
        self._sums[fate] += 1

    def _step_fact(self, state: str, position: int, error: str | None = None) -> HistoryStep:
        counts, self._counts = self._counts, {}
        return HistoryStep(
            key=self._job.key,
            state=state,
            position=position,
            total=self._total,
            counts=tuple(counts.values()),
            error=error,
        )

    def _log_progress(self, state: str = "importing") -> None:
        now = trio.current_time()
        if state == "importing" and now - self._logged_at < LOG_INTERVAL:
            return
        self._logged_at = now
        log.info(
            "History sync",
            connection=self._job.connection,
            sync_type=self._job.sync_type,
            chunk=self._job.chunk_order,
            state=state,
            percent=100 * self._position // self._total if self._total else 100,
            transfer=self._job.progress,
            messages=self._position,
            total=self._total,
            chats=len(self._chats),
            **{name: self._sums[name] for name in REPORTED},
        )


def _fate(outcome: Outcome | None) -> str:
    if outcome is None:
        return "failed"
    match outcome.verdict:
        case Verdict.STORED | Verdict.PLACEHOLDER | Verdict.RECORDED:
            return "stored"
        case Verdict.DUPLICATE | Verdict.FORGOTTEN:
            return "duplicate"
        case Verdict.QUARANTINED:
            return "failed"
        case other:
            t.assert_never(other)


def _slices(messages: cabc.Sequence[HistoryMessage]) -> Slices[HistoryMessage]:
    if not isinstance(messages, Slices):
        raise TypeError("a chunk that was not read from bytes")
    return messages
