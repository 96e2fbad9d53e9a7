"""The wire under a connection: whole binary messages, over a WebSocket or in memory."""

import collections.abc as cabc
import contextlib
import math
import ssl
import typing as t
import urllib.parse

import trio
import trio_websocket

from actors.errors import TransportError
from supervisor.crash import leaves

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


_FAILURES: t.Final = (
    OSError,
    trio.BrokenResourceError,
    trio.TooSlowError,
    trio_websocket.ConnectionClosed,
    trio_websocket.HandshakeError,
)


def websocket_dialer(url: str, *, handshake_timeout: float = 20.0) -> Dial:
    """A ``Dial`` for ``ws://`` and ``wss://`` addresses; TLS certificates are verified.

    ``handshake_timeout`` (seconds) bounds TLS and the WebSocket upgrade; the library does not
    notice by itself when a server ends the connection in the middle of them.
    """
    address = urllib.parse.urlsplit(url)
    host, secure = address.hostname or "", address.scheme == "wss"
    port = address.port or (443 if secure else 80)
    context = ssl.create_default_context() if secure else None

    @contextlib.asynccontextmanager
    async def dial() -> cabc.AsyncIterator[Transport]:
        try:
            async with contextlib.AsyncExitStack() as stack, trio.open_nursery() as nursery:
                stream = await trio.open_tcp_stream(host, port)
                # The WebSocket closes its stream only if its handshake succeeds.
                stack.push_async_callback(trio.aclose_forcefully, stream)
                with trio.fail_after(handshake_timeout):
                    socket = await trio_websocket.wrap_client_stream(
                        nursery,
                        stream if context is None else await _encrypt(stream, context, host),
                        address.netloc.rpartition("@")[2],
                        address.path or "/",
                        extra_headers=[(b"Origin", ORIGIN.encode())],
                        max_message_size=MAX_MESSAGE,
                    )
                try:
                    yield WebSocketTransport(socket)
                finally:
                    await _close(socket)
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # What goes wrong before there is a transport, part of it in a task of the library's.
            failures, others = group.split(_FAILURES)
            if failures is None or others is not None:
                raise
            reason = _describe(next(leaves(failures)))
            raise TransportError(f"cannot reach {url}: {reason}") from group

    return dial


async def _encrypt(
    stream: trio.SocketStream, context: ssl.SSLContext, host: str
) -> "trio.SSLStream[trio.SocketStream]":
    encrypted = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    await encrypted.do_handshake()
    return encrypted


async def _close(socket: trio_websocket.WebSocketConnection) -> None:
    cancelled = trio.current_effective_deadline() == -math.inf
    with trio.move_on_after(HASTY_CLOSE_TIMEOUT if cancelled else CLOSE_TIMEOUT, shield=True):
        await socket.aclose()


def _close_reason(error: trio_websocket.ConnectionClosed) -> str:
    reason = error.reason
    return "without a reason" if reason is None else f"{reason.code} {reason.name}"


def _describe(error: BaseException) -> str:
    match error:
        case trio_websocket.ConnectionRejected():
            return f"the server answered HTTP {error.status_code}"
        case trio_websocket.ConnectionClosed():
            return "closed in the handshake"
        case trio.TooSlowError():
            return "no WebSocket handshake in time"
        case trio.BrokenResourceError() if error.__cause__ is not None:
            return str(error.__cause__)
        case _:
            return str(error) or type(error).__name__
