"""The network between the daemon and the server, and what it does on command."""

import collections.abc as cabc
import contextlib
import functools

import pytest
import trio

from daemon.torture.proxy import FaultProxy


@pytest.fixture
async def proxy(nursery: trio.Nursery) -> cabc.AsyncIterator[FaultProxy]:
    """A proxy before a server that echoes."""

    async def echo(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in stream:
                await stream.send_all(data)

    serve = functools.partial(trio.serve_tcp, echo, 0, host="127.0.0.1")
    listeners: list[trio.SocketListener] = await nursery.start(serve)
    proxy = FaultProxy("127.0.0.1", listeners[0].socket.getsockname()[1])
    await nursery.start(proxy.run)
    with trio.fail_after(30):
        yield proxy
    nursery.cancel_scope.cancel()


async def ask(stream: trio.SocketStream, data: bytes) -> bytes:
    """What comes back."""
    await stream.send_all(data)
    answer = b""
    while len(answer) < len(data):
        piece = await stream.receive_some()
        assert piece
        answer += piece
    return answer


async def test_it_passes_everything_on(proxy: FaultProxy) -> None:
    """At once, late, and byte by byte."""
    async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
        assert await ask(stream, b"hello" * 1000) == b"hello" * 1000
        proxy.delay = 0.05
        began = trio.current_time()
        assert await ask(stream, b"late") == b"late"
        assert trio.current_time() - began >= 0.1
        await proxy.clear()
        proxy.one_by_one = True
        assert await ask(stream, bytes(range(256)) * 8) == bytes(range(256)) * 8


async def test_it_stalls(proxy: FaultProxy) -> None:
    """Nothing gets through, and nothing is lost."""
    async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
        proxy.stall(True)
        await stream.send_all(b"hello")
        with trio.move_on_after(0.2) as waiting:
            await stream.receive_some()
        assert waiting.cancelled_caught
        proxy.stall(False)
        assert await stream.receive_some() == b"hello"


async def test_it_cuts(proxy: FaultProxy) -> None:
    """Both ends notice; the next connection works."""
    async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
        await ask(stream, b"hello")
        assert proxy.cut() == 1
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
    async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
        assert await ask(stream, b"again") == b"again"


async def test_it_refuses(proxy: FaultProxy) -> None:
    """New connections only, until it takes them again on the same port."""
    port = proxy.port
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await ask(stream, b"hello")
        await proxy.refuse(True)
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", port)
        assert await ask(stream, b"still here") == b"still here"
        await proxy.refuse(False)
    assert proxy.port == port
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        assert await ask(stream, b"again") == b"again"
