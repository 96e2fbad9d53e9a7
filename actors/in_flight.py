"""The envelopes of one connection that are under way to the writer."""

import itertools
import typing as t

import attrs
import trio

from actors.messages import Commit, Quarantine, Settled, WriterMail
from actors.records import RecordCache
from actors.writer_inbox import envelope_size
from storage.api import Envelope, Outcome
from supervisor.allowance import Allowance
from supervisor.mailbox import Postbox

P = t.TypeVar("P")

BYTES: t.Final = 16 * 1024 * 1024
"""Of one connection under way, a single bigger envelope aside."""


@attrs.frozen
class _Entry(t.Generic[P]):
    envelope: Envelope
    size: int  # bytes
    purpose: P
    posted_at: float  # trio clock
    done: "list[Outcome | None]"
    settled: trio.Event


class InFlight(t.Generic[P]):
    """Posts envelopes with a purpose, and gives the purpose back once they are settled.

    At most ``limit`` are under way, with at most ``max_bytes``; posting waits for room. That
    bound holds one connection's flood back before it fills the writer's mailbox, and guarantees
    the writer room to answer.
    """

    def __init__(
        self,
        writer: Postbox[WriterMail],
        cache: RecordCache,
        limit: int,
        max_bytes: int = BYTES,
    ) -> None:
        self._writer = writer
        self._cache = cache
        self._room = trio.Semaphore(limit, max_value=limit)
        self._bytes = Allowance(max_bytes)
        self._posting = trio.Lock()  # first come, first posted, across all waits
        self._entries: dict[int, _Entry[P]] = {}
        self._next_ticket = 1
        self._reply, self._answers = trio.open_memory_channel[Settled](limit)

    def __len__(self) -> int:
        return len(self._entries)

    def oldest_age(self) -> float:
        """Seconds that the oldest envelope has been waiting for its COMMIT.

        Those answered already, whose answers nobody has taken yet, do not wait for it.
        """
        answered = self._answers.statistics().current_buffer_used
        waiting = next(itertools.islice(self._entries.values(), answered, None), None)
        return 0.0 if waiting is None else trio.current_time() - waiting.posted_at

    async def post(
        self, envelope: Envelope, purpose: P, *, quarantine: str | None = None
    ) -> "_Entry[P]":
        """Hand an envelope to the writer; its records are taken over into the cache.

        Cancelled, it has posted nothing, and the cache is as it was.
        """
        size = envelope_size(envelope)
        async with self._posting:
            await self._room.acquire()
            try:
                await self._bytes.take(size)
            except trio.Cancelled:
                self._room.release()
                raise
            ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
            entry = _Entry(envelope, size, purpose, trio.current_time(), [], trio.Event())
            # Before it is posted: the answer may be there before this task runs again.
            self._entries[ticket] = entry
            before = self._cache.put(envelope.records, ticket)
            mail: WriterMail = (
                Commit(envelope, ticket, self._reply)
                if quarantine is None
                else Quarantine(envelope, quarantine, ticket, self._reply)
            )
            try:
                await self._writer.post(mail)
            except BaseException:
                del self._entries[ticket]
                self._cache.take_back(before, self._entries)
                self._bytes.give_back(size)
                self._room.release()
                raise
        return entry

    async def commit(self, envelope: Envelope, purpose: P) -> Outcome | None:
        """Post an envelope and wait until it is settled."""
        entry = await self.post(envelope, purpose)
        await entry.settled.wait()
        return entry.done[0]

    async def next_settled(self) -> tuple[P, Outcome | None]:
        """Wait for the next answer, in the order of the posts."""
        answer = await self._answers.receive()
        entry = self._entries.pop(answer.ticket)
        self._room.release()
        self._bytes.give_back(entry.size)
        self._cache.settled(entry.envelope.records, answer.ticket)
        entry.done.append(answer.outcome)
        entry.settled.set()
        return entry.purpose, answer.outcome

    def close(self) -> None:
        """Take no more answers: what is under way commits, and is not acknowledged."""
        self._answers.close()
