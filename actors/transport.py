"""The wire under a connection: whole binary messages, over a WebSocket or in memory."""

import collections.abc as cabc
import contextlib
import math
import socket
import ssl
import typing as t
import urllib.parse

import trio
import trio_websocket

from actors.errors import TransportError
from actors.proxy import Proxy, tunnel
from actors.sockets import why
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


def websocket_dialer(
    url: str,
    *,
    proxy: Proxy | None = None,
    connect_timeout: float = 20.0,
    handshake_timeout: float = 20.0,
) -> Dial:
    """A ``Dial`` for ``ws://`` and ``wss://`` addresses; TLS certificates are verified.

    ``connect_timeout`` (seconds) bounds the look-up of the name and the way to the server, through
    the ``proxy`` if there is one; ``handshake_timeout`` bounds TLS and the WebSocket upgrade: the
    library does not notice by itself when a server ends the connection in the middle of them.
    """
    address = urllib.parse.urlsplit(url)
    host, secure = address.hostname or "", address.scheme == "wss"
    port = address.port or (443 if secure else 80)
    context = ssl.create_default_context() if secure else None
    place = address.netloc.rpartition("@")[2]
    shown = f"{address.scheme}://{place}{address.path}"

    @contextlib.asynccontextmanager
    async def dial() -> cabc.AsyncIterator[Transport]:
        expected: tuple[type[Exception], ...] = (*_FAILURES, TransportError)
        try:
            async with contextlib.AsyncExitStack() as stack, trio.open_nursery() as nursery:
                stream = await _reach(host, port, proxy, connect_timeout)
                # The WebSocket closes its stream only if its handshake succeeds.
                stack.push_async_callback(trio.aclose_forcefully, stream)
                with trio.fail_after(handshake_timeout):
                    socket = await trio_websocket.wrap_client_stream(
                        nursery,
                        stream if context is None else await _encrypt(stream, context, host),
                        place,
                        address.path or "/",
                        extra_headers=[(b"Origin", ORIGIN.encode())],
                        max_message_size=MAX_MESSAGE,
                    )
                expected = _FAILURES  # a transport's own errors are no failure to reach it
                try:
                    yield WebSocketTransport(socket)
                finally:
                    await _close(socket)
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # What goes wrong before there is a transport, part of it in a task of the library's.
            failures, others = group.split(expected)
            if failures is None or others is not None:
                raise
            failure = next(leaves(failures))
            reason = failure.reason if isinstance(failure, TransportError) else "network"
            text = f"cannot reach {shown}: {_describe(failure)}"
            raise TransportError(text, reason=reason) from group

    return dial


async def _reach(
    host: str, port: int, proxy: Proxy | None, connect_timeout: float
) -> trio.SocketStream:
    if proxy is not None:
        return await tunnel(proxy, host, port, connect_timeout)
    with trio.move_on_after(connect_timeout):
        try:
            return await trio.open_tcp_stream(host, port)
        except socket.gaierror as error:
            text = f"its name cannot be looked up ({error.strerror})"
            raise TransportError(text, reason="dns_failed") from error
        except OSError as error:
            raise TransportError(why(error)) from error
    raise TransportError(f"no answer to the connection request within {connect_timeout:g} s")


async def _encrypt(
    stream: trio.SocketStream, context: ssl.SSLContext, host: str
) -> "trio.SSLStream[trio.SocketStream]":
    encrypted = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    try:
        await encrypted.do_handshake()
    except trio.BrokenResourceError as error:
        if isinstance(error.__cause__, ssl.SSLError):
            raise TransportError(_untrusted(error.__cause__), reason="tls_failed") from error
        raise
    return encrypted


def _untrusted(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not to be trusted ({error.verify_message});"
            " look at this machine's clock, its authorities, and at proxies in between"
        )
    return f"it does not speak TLS as it should ({error.reason or error})"


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
            return "no handshake in time"
        case trio.BrokenResourceError() if error.__cause__ is not None:
            return str(error.__cause__)
        case _:
            return str(error) or type(error).__name__
