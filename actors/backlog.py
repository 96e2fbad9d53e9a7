"""What was read from a socket and not handled yet: bounded by number and by memory."""

import math
import typing as t

import trio

from actors.link import Received
from supervisor.allowance import Allowance
from whatsapp.node import Node
from whatsapp.stream import FrameRejected

NODES: t.Final = 256  # read ahead of the dispatcher
WEIGHT: t.Final = 16 * 1024 * 1024  # bytes of memory, roughly
NOTICED: t.Final = 0.05  # seconds from which on the reader was held back
_OBJECT: t.Final = 200  # bytes of a node or an attribute by itself


class Backlog:
    """Nodes in their order, between one reader and one dispatcher.

    The reader waits while there is too much, and the peer waits for the reader.
    """

    def __init__(self, nodes: int = NODES, weight: int = WEIGHT) -> None:
        self._send, self._receive = trio.open_memory_channel[tuple[Received, int]](nodes)
        self._allowance = Allowance(weight)
        self._handling = 0  # weight of what was taken last
        self._waiting_since: float | None = None  # trio clock; the reader is held back
        self._waited_until = -math.inf

    def __len__(self) -> int:
        return self._send.statistics().current_buffer_used

    async def put(self, received: Received) -> None:
        """Add what was read, waiting for room."""
        weight = weight_of(received)
        since = self._waiting_since = trio.current_time()
        await self._allowance.take(weight)
        await self._send.send((received, weight))
        self._waiting_since, now = None, trio.current_time()
        if now - since > NOTICED:
            self._waited_until = now

    def held_back(self, within: float) -> bool:
        """Whether the reader waited for room within the last so many seconds: then what the peer
        has sent may not have been read yet, and its silence is ours."""
        now = trio.current_time()
        waits = self._waiting_since is not None and now - self._waiting_since > NOTICED
        return waits or now - self._waited_until <= within

    async def take(self) -> Received:
        """The next one; it counts until the one after it is asked for."""
        handled, self._handling = self._handling, 0
        self._allowance.give_back(handled)
        received, self._handling = await self._receive.receive()
        return received


def weight_of(received: Received) -> int:
    """About how many bytes of memory a node takes, its children included."""
    if isinstance(received, FrameRejected):
        return _OBJECT + len(received.data)
    weight = 0
    pending: list[Node] = [received]
    while pending:
        node = pending.pop()
        weight += _OBJECT * (1 + len(node.attrs))
        content = node.content
        if isinstance(content, tuple):
            pending.extend(content)
        elif content is not None:
            weight += len(content)
    return weight
