"""What was read from a socket and not handled yet: bounded by number and by memory."""

import typing as t

import trio

from actors.link import Received
from supervisor.allowance import Allowance
from whatsapp.node import Node
from whatsapp.stream import FrameRejected

NODES: t.Final = 256  # read ahead of the dispatcher
WEIGHT: t.Final = 16 * 1024 * 1024  # bytes of memory, roughly
_OBJECT: t.Final = 200  # bytes of a node or an attribute by itself


class Backlog:
    """Nodes in their order, between one reader and one dispatcher.

    The reader waits while there is too much, and the peer waits for the reader.
    """

    def __init__(self, nodes: int = NODES, weight: int = WEIGHT) -> None:
        self._send, self._receive = trio.open_memory_channel[tuple[Received, int]](nodes)
        self._allowance = Allowance(weight)
        self._handling = 0  # weight of what was taken last

    def __len__(self) -> int:
        return self._send.statistics().current_buffer_used

    async def put(self, received: Received) -> None:
        """Add what was read, waiting for room."""
        weight = weight_of(received)
        await self._allowance.take(weight)
        await self._send.send((received, weight))

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
