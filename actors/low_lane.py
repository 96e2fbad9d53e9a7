"""Envelopes on the writer's low-priority lane, a bounded number of them under way."""

import collections.abc as cabc
import contextlib
import typing as t

import trio

from actors.errors import ActorError
from actors.messages import Commit, Quarantine, Settled, WriterMail
from storage.api import Envelope, Outcome
from supervisor.mailbox import Postbox

UNDER_WAY: t.Final = 64  # envelopes posted and not answered
ANSWER_TIMEOUT: t.Final = 600.0  # seconds that the writer may take for one

P = t.TypeVar("P")


class LaneStalledError(ActorError):
    """The writer did not answer: the database is away, or the writer began anew and lost what it
    had taken. Whether that is committed is unknown; what is posted again is known by then."""

    def __init__(self) -> None:
        super().__init__(f"nothing was committed for {ANSWER_TIMEOUT:g} s")


class LowLane(t.Generic[P]):
    """For one task: posts envelopes, and tells the fate of each to ``settled``, in order.

    A cancelled owner leaves what it posted to commit; nobody is told of it then.
    """

    def __init__(
        self,
        writer: Postbox[WriterMail],
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
        it goes straight there.

        Raises:
            LaneStalledError: there is no room for too long.
        """
        while len(self._purposes) >= self._limit:
            await self._take()
        ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
        mail: WriterMail = (
            Commit(envelope, ticket, self._reply)
            if quarantine is None
            else Quarantine(envelope, quarantine, ticket, self._reply)
        )
        with _patience():
            await self._writer.post(mail)
        self._purposes[ticket] = purpose

    async def settle(self) -> None:
        """Wait until everything posted is settled.

        Raises:
            LaneStalledError: the next answer does not come.
        """
        while self._purposes:
            await self._take()

    def close(self) -> None:
        """Take no more answers."""
        self._answers.close()

    async def _take(self) -> None:
        with _patience():
            answer = await self._answers.receive()
        self._settled(self._purposes.pop(answer.ticket), answer.outcome)


@contextlib.contextmanager
def _patience() -> cabc.Iterator[None]:
    try:
        with trio.fail_after(ANSWER_TIMEOUT):
            yield
    except trio.TooSlowError:
        raise LaneStalledError from None
