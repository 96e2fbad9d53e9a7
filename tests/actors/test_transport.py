"""The WebSocket under a connection, on real sockets."""

import contextlib
import ssl
import typing as t

import pytest
import trio
import trio_websocket

from actors.errors import TransportError
from actors.transport import websocket_dialer
from simulator import open_simulator


@contextlib.asynccontextmanager
async def serving(handler: t.Callable[[trio.SocketStream], t.Awaitable[None]]) -> t.Any:
    """A TCP server on a free port; its address as a WebSocket URL."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, handler, 0)
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/ws/chat"
        nursery.cancel_scope.cancel()


async def failure(url: str) -> str:
    """What dialling this address fails with; anything but one kind of error is a failure here."""
    with trio.fail_after(10):
        try:
            async with websocket_dialer(url, handshake_timeout=0.2)():
                raise AssertionError("it connected")
        except TransportError as error:
            return str(error)


async def test_refused_rejected_and_senseless_servers_are_one_error() -> None:
    """Whatever is wrong at the other end, the operator reads what and where; no socket leaks."""

    async def reject(stream: trio.SocketStream) -> None:
        await stream.receive_some(4096)
        await stream.send_all(b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n")
        await stream.receive_some(1)

    async def babble(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 mail server ready\r\n")
        await stream.receive_some(4096)

    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.aclose()

    async with serving(reject) as url:
        assert "HTTP 503" in await failure(url)
    assert "cannot reach ws://" in await failure(url)  # nobody listens there any more
    for handler in (babble, hang_up):
        async with serving(handler) as url:
            assert "cannot reach ws://" in await failure(url)


async def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    """TLS is verified: the simulator's self-signed certificate is not accepted."""
    async with open_simulator(listen=("127.0.0.1", 0)) as simulator:
        assert "certificate" in (await failure(simulator.url.replace("ws:", "wss:"))).lower()
    assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED


async def test_the_end_of_a_socket_is_a_transport_error() -> None:
    """A server that closes in the middle ends the receiver with the reason it gave."""

    async def bye(request: trio_websocket.WebSocketRequest) -> None:
        socket = await request.accept()
        await socket.send_message("text is passed over")
        await socket.send_message(b"bytes")
        await socket.aclose(4000, "bye")

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_websocket.serve_websocket, bye, "127.0.0.1", 0, None)
        async with websocket_dialer(f"ws://127.0.0.1:{server.port}/")() as transport:
            assert await transport.receive() == b"bytes"
            with pytest.raises(TransportError, match="4000"):
                await transport.receive()
            with pytest.raises(TransportError):
                await transport.send(b"too late")
        nursery.cancel_scope.cancel()


async def test_a_cancelled_connection_closes_at_once() -> None:
    """Stopping a connection does not wait for goodbyes that nobody would read."""
    async with open_simulator(listen=("127.0.0.1", 0)) as simulator:
        with trio.CancelScope() as scope:
            async with websocket_dialer(simulator.url)():
                scope.cancel()
                began = trio.current_time()
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert trio.current_time() - began < 1
