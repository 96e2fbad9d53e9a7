"""The wire under a connection: whole binary messages, over a WebSocket or in memory."""

import collections.abc as cabc
import contextlib
import math
import ssl
import typing as t

import trio
import trio_websocket

from actors.errors import TransportError

ORIGIN: t.Final = "https://web.whatsapp.com"
MAX_MESSAGE: t.Final = 1 << 24  # bytes; a frame is shorter than that


class Transport(t.Protocol):
    """One open socket. Both methods raise ``TransportError`` when it fails or ends."""

    async def send(self, data: bytes) -> None:
        """Send one binary message."""
        ...

    async def receive(self) -> bytes:
        """Wait for the next binary message."""
        ...


Dial: t.TypeAlias = cabc.Callable[[], contextlib.AbstractAsyncContextManager[Transport]]
"""Opens a transport; leaving the context closes it. Raises ``TransportError``."""


class WebSocketTransport:
    """A trio-websocket connection that raises ``TransportError`` alone."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self._socket = socket

    async def send(self, data: bytes) -> None:
        """Send one binary message."""
        try:
            await self._socket.send_message(data)
        except trio_websocket.ConnectionClosed as error:
            raise TransportError(f"socket closed: {_close_reason(error)}") from error
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise TransportError(f"socket failed: {error}") from error

    async def receive(self) -> bytes:
        """Wait for the next binary message; text messages are passed over."""
        while True:
            try:
                message = await self._socket.get_message()
            except trio_websocket.ConnectionClosed as error:
                raise TransportError(f"socket closed: {_close_reason(error)}") from error
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise TransportError(f"socket failed: {error}") from error
            if isinstance(message, bytes):
                return message


CLOSE_TIMEOUT: t.Final = 2.0  # seconds for the goodbyes of a socket
HASTY_CLOSE_TIMEOUT: t.Final = 0.05  # the same when cancelled: then nobody reads the answer


def websocket_dialer(url: str) -> Dial:
    """A ``Dial`` for ``ws://`` and ``wss://`` addresses; TLS certificates are verified."""

    @contextlib.asynccontextmanager
    async def dial() -> cabc.AsyncIterator[Transport]:
        context = ssl.create_default_context() if url.startswith("wss:") else None
        async with trio.open_nursery() as nursery:
            try:
                socket = await trio_websocket.connect_websocket_url(
                    nursery,
                    url,
                    ssl_context=context,
                    extra_headers=[(b"Origin", ORIGIN.encode())],
                    max_message_size=MAX_MESSAGE,
                )
            except (OSError, trio_websocket.HandshakeError, ssl.SSLError) as error:
                raise TransportError(f"cannot reach {url}: {_describe(error)}") from error
            except (trio.BrokenResourceError, trio_websocket.ConnectionClosed) as error:
                raise TransportError(f"cannot reach {url}: closed in the handshake") from error
            try:
                yield WebSocketTransport(socket)
            finally:
                cancelled = trio.current_effective_deadline() == -math.inf
                timeout = HASTY_CLOSE_TIMEOUT if cancelled else CLOSE_TIMEOUT
                with trio.move_on_after(timeout, shield=True):
                    await socket.aclose()
                nursery.cancel_scope.cancel()

    return dial


def _close_reason(error: trio_websocket.ConnectionClosed) -> str:
    reason = error.reason
    return "without a reason" if reason is None else f"{reason.code} {reason.name}"


def _describe(error: BaseException) -> str:
    if isinstance(error, trio_websocket.ConnectionRejected):
        return f"the server answered HTTP {error.status_code}"
    return str(error) or type(error).__name__
