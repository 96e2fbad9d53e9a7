"""Ways for whole binary WebSocket messages to get from a client to the server and back."""

import ssl
import typing as t

import trio
import trio_websocket

MEMORY_CAPACITY: t.Final = 64  # messages in flight, each direction


class Transport(t.Protocol):
    """One end of a connection that carries whole messages.

    `receive` raises ``trio.EndOfChannel`` after the peer closed, `send` then raises
    ``trio.BrokenResourceError``; both raise ``trio.ClosedResourceError`` after `aclose`.
    """

    async def send(self, data: bytes) -> None:
        """Send one message."""

    async def receive(self) -> bytes:
        """The peer's next message."""

    async def aclose(self) -> None:
        """Close in an orderly way, where the medium knows one; idempotent."""

    def abort(self) -> None:
        """Close at once and without a word, as a cut cable would."""


class MemoryTransport:
    """One end of a pair inside this process; works in virtual time."""

    def __init__(
        self, outgoing: trio.MemorySendChannel[bytes], incoming: trio.MemoryReceiveChannel[bytes]
    ) -> None:
        self._outgoing = outgoing
        self._incoming = incoming

    async def send(self, data: bytes) -> None:
        """Wait for room, then hand the message over."""
        await self._outgoing.send(data)

    async def receive(self) -> bytes:
        """The oldest message in flight."""
        return await self._incoming.receive()

    async def aclose(self) -> None:
        """Close both directions; what is in flight stays readable."""
        self.abort()
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        """The same: memory knows no goodbye."""
        self._outgoing.close()
        self._incoming.close()


def memory_pair() -> tuple[MemoryTransport, MemoryTransport]:
    """Two connected ends."""
    to_b: tuple[trio.MemorySendChannel[bytes], trio.MemoryReceiveChannel[bytes]]
    to_a: tuple[trio.MemorySendChannel[bytes], trio.MemoryReceiveChannel[bytes]]
    to_b, to_a = (
        trio.open_memory_channel(MEMORY_CAPACITY),
        trio.open_memory_channel(MEMORY_CAPACITY),
    )
    return MemoryTransport(to_b[0], to_a[1]), MemoryTransport(to_a[0], to_b[1])


class WebSocketTransport:
    """The server's end of an accepted WebSocket."""

    def __init__(self, socket: trio_websocket.WebSocketConnection, raw: trio.SocketStream) -> None:
        self._socket = socket
        self._raw = raw

    async def send(self, data: bytes) -> None:
        """Send one binary message."""
        try:
            await self._socket.send_message(data)
        except (trio_websocket.ConnectionClosed, ssl.SSLError) as error:
            raise trio.BrokenResourceError from error

    async def receive(self) -> bytes:
        """The next binary message; text is taken for its bytes."""
        try:
            message = await self._socket.get_message()
        except trio_websocket.ConnectionClosed as error:
            raise trio.EndOfChannel from error
        return message if isinstance(message, bytes) else message.encode()

    async def aclose(self) -> None:
        """Say goodbye, bounded in time, then close."""
        with trio.move_on_after(2):
            await self._socket.aclose()
        self.abort()

    def abort(self) -> None:
        """Close the socket below everything."""
        self._raw.socket.close()
