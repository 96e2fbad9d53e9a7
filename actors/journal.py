"""Transitions on their way to ``connection_events``: in order, bounded, and gently.

Every transition is posted to the writer's mailbox, a few at a time and the next ones only when
those are stored: thousands of them at once (an outage) delay no message. What does not fit into
the mailbox waits here.
"""

import collections
import typing as t

import structlog
import trio

from actors.fences import pass_fence
from actors.messages import Record, WriterMail
from storage.api import ConnectionEvent
from supervisor.mailbox import Postbox

PER_CONNECTION: t.Final = 100  # transitions that may wait; beyond that the oldest goes
AT_ONCE: t.Final = 16  # in the writer's mailbox
PARTING: t.Final = 5.0  # seconds to hand over what is left in the end

log: structlog.stdlib.BoundLogger = structlog.get_logger("journal")


class Journal:
    """Keeps transitions until the writer has taken them. One task runs it."""

    def __init__(self, writer: Postbox[WriterMail]) -> None:
        self._writer = writer
        self._waiting: collections.OrderedDict[str, collections.deque[ConnectionEvent]] = (
            collections.OrderedDict()
        )
        self._arrived = trio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def note(self, event: ConnectionEvent) -> None:
        """Take a transition; never waits."""
        waiting = self._waiting.setdefault(event.connection, collections.deque())
        if len(waiting) >= PER_CONNECTION:
            dropped = waiting.popleft()
            log.warning(
                "connection.event_dropped", connection=event.connection, state=dropped.state
            )
        waiting.append(event)
        self._arrived.set()

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Hand transitions over, for as long as it is let."""
        task_status.started()
        while True:
            await self._arrived.wait()
            for _ in range(AT_ONCE):
                if not await self._hand_over():
                    break
            await pass_fence(self._writer)

    async def finish(self) -> None:
        """Hand over what is left, also when cancelled, but not for long."""
        with trio.CancelScope(shield=True), trio.move_on_after(PARTING):
            while await self._hand_over():
                pass
        if left := len(self):
            log.warning("connection.events_lost", events=left, reason="the writer takes no mail")

    async def _hand_over(self) -> bool:
        """Post the oldest transition of the connection whose turn it is; False: there is none."""
        if not self._waiting:
            self._arrived = trio.Event()
            return False
        name, waiting = next(iter(self._waiting.items()))
        event = waiting[0]
        await self._writer.post(Record(event))
        if waiting and waiting[0] is event:
            waiting.popleft()
        if waiting:
            self._waiting.move_to_end(name)
        else:
            del self._waiting[name]
        return True
