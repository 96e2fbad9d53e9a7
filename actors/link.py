"""One open socket to WhatsApp: nodes in, nodes out, and answers to requests."""

import collections.abc as cabc
import contextlib
import typing as t

import attrs
import trio

from actors.errors import ConnectionEndedError
from actors.transport import Dial, Transport
from storage.crash_points import crash_point
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq.core import IqIds
from whatsapp.node import Node
from whatsapp.stream import (
    ClientStream,
    FrameRejected,
    HandshakeCompleted,
    NodeReceived,
    StreamEvent,
)

Received: t.TypeAlias = Node | FrameRejected

MAX_REQUESTS: t.Final = 64  # under way at once; we never come near
MORE_TIME: t.Final = 20  # timeouts, for as long as we are too slow to read the answer


@attrs.frozen(kw_only=True)
class Greeting:
    """What a socket is opened with."""

    noise_key: KeyPair
    ephemeral: KeyPair
    client_payload: bytes
    root_key: bytes
    now: int  # unix seconds, for the validity of certificates
    routing_info: bytes = b""
    id_prefix: bytes


class Link:
    """A socket behind its handshake. Sends keep the order of the cipher's counter."""

    def __init__(self, transport: Transport, stream: ClientStream, ids: IqIds) -> None:
        self.ids = ids
        self.heard_at = trio.current_time()
        """When bytes last came from WhatsApp (trio clock); answers to pings count."""
        self.held_back: cabc.Callable[[float], bool] = lambda _within: False
        """Whether nothing could be read for a while, within the last so many seconds, because
        what was read before waits to be handled."""
        self._transport = transport
        self._stream = stream
        self._sending = trio.Lock()
        self._events: cabc.Iterator[StreamEvent] = iter(())
        """What came with the last bytes; opened one by one, as it is taken."""
        self._waiters: dict[str, trio.MemorySendChannel[Node]] = {}

    async def send(self, node: Node) -> None:
        """Send one node."""
        async with self._sending:
            await self._transport.send(self._stream.send(node))

    async def answer(self, node: Node) -> None:
        """Send what acknowledges a stanza, if that had an id: without one the answer means nothing
        to the server, which may end the connection for it."""
        if node.text("id"):
            await self.send(node)

    async def receive(self) -> Received:
        """Wait for what comes next. Answers to requests go to whoever asked."""
        while True:
            event = await self._next_event()
            received = event.node if isinstance(event, NodeReceived) else event
            if not isinstance(received, HandshakeCompleted) and not self._resolve(received):
                return received

    async def request(self, node: Node, timeout: float) -> Node:
        """Send an iq and wait for its answer, a result or an error.

        While we are too slow to read, the time does not count: the answer may be there, behind
        what is not handled yet.

        Raises:
            ConnectionEndedError: no answer within ``timeout`` seconds.
        """
        request_id = node.required_text("id")
        if len(self._waiters) >= MAX_REQUESTS:
            raise ConnectionEndedError("too_many_requests", "WhatsApp answers no requests")
        send, receive = trio.open_memory_channel[Node](1)
        self._waiters[request_id] = send
        try:
            with trio.move_on_after(timeout):
                await self.send(node)
                return await receive.receive()
            for _ in range(MORE_TIME):
                if not self.held_back(timeout):
                    break
                with trio.move_on_after(timeout):
                    return await receive.receive()
            kind = node.text("xmlns") or node.tag
            raise ConnectionEndedError(
                "no_answer", f"WhatsApp did not answer a {kind} request within {timeout:g} s"
            )
        finally:
            del self._waiters[request_id]

    async def handshake(self) -> None:
        """Exchange the Noise messages; the server's certificates are verified in there."""
        await self._transport.send(self._stream.start())
        while True:
            event = await self._next_event()
            if isinstance(event, HandshakeCompleted):
                await self._transport.send(event.to_send)
                return

    async def _next_event(self) -> StreamEvent:
        """The next frame, opened; a checkpoint."""
        while (event := next(self._events, None)) is None:
            data = await self._transport.receive()
            crash_point("link.received")
            self.heard_at = trio.current_time()
            self._events = self._stream.read(data)
        crash_point("link.decoded")
        await trio.lowlevel.checkpoint()
        return event

    def _resolve(self, node: Received) -> bool:
        if (
            isinstance(node, FrameRejected)
            or node.tag != "iq"
            or node.text("type") not in ("result", "error")
        ):
            return False
        waiter = self._waiters.get(node.text("id") or "")
        if waiter is not None:
            # One answer per request: a second one finds the channel full and is dropped.
            with contextlib.suppress(trio.WouldBlock):
                waiter.send_nowait(node)
        return True


@contextlib.asynccontextmanager
async def open_link(dial: Dial, greeting: Greeting) -> cabc.AsyncIterator[Link]:
    """Dial and shake hands.

    Raises:
        ConnectionEndedError: the network or the peer failed; a forged certificate among them.
    """
    stream = ClientStream(
        noise_key=greeting.noise_key,
        ephemeral=greeting.ephemeral,
        client_payload=greeting.client_payload,
        root_key=greeting.root_key,
        now=greeting.now,
        routing_info=greeting.routing_info,
    )
    async with dial() as transport:
        link = Link(transport, stream, IqIds(greeting.id_prefix))
        try:
            await link.handshake()
        except RemoteProtocolError as error:
            raise ConnectionEndedError(
                "handshake_refused", f"the server's handshake is not WhatsApp's: {error}"
            ) from error
        yield link
