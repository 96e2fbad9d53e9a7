"""Envelopes on the writer's low-priority lane, a bounded number of them under way."""

import collections.abc as cabc
import typing as t

import trio

from actors.messages import Commit, Quarantine, Settled, WriterMail
from storage.api import Envelope, Outcome
from supervisor.mailbox import Mailbox

UNDER_WAY: t.Final = 64  # envelopes posted and not answered

P = t.TypeVar("P")


class LowLane(t.Generic[P]):
    """For one task: posts envelopes, and tells the fate of each to ``settled``, in order.

    A cancelled owner leaves what it posted to commit; nobody is told of it then.
    """

    def __init__(
        self,
        writer: Mailbox[WriterMail],
        settled: cabc.Callable[[P, Outcome | None], None],
        limit: int = UNDER_WAY,
    ) -> None:
        self._writer = writer
        self._settled = settled
        self._limit = limit
        self._purposes: dict[int, P] = {}
        self._next_ticket = 1
        self._reply, self._answers = trio.open_memory_channel[Settled](limit)

    async def post(self, envelope: Envelope, purpose: P, *, quarantine: str | None = None) -> None:
        """Hand an envelope to the writer, waiting for room; with ``quarantine``, the reason why
        it goes straight there."""
        while len(self._purposes) >= self._limit:
            await self._take()
        ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
        await self._writer.post(
            Commit(envelope, ticket, self._reply)
            if quarantine is None
            else Quarantine(envelope, quarantine, ticket, self._reply)
        )
        self._purposes[ticket] = purpose

    async def settle(self) -> None:
        """Wait until everything posted is settled."""
        while self._purposes:
            await self._take()

    def close(self) -> None:
        """Take no more answers."""
        self._answers.close()

    async def _take(self) -> None:
        answer = await self._answers.receive()
        self._settled(self._purposes.pop(answer.ticket), answer.outcome)
