"""The proxy that breaks connections: each order does what it says, and no more."""

import collections.abc as cabc
import contextlib
import functools

import pytest
import trio

from simulator.tcp_proxy import Flow, Gate, TcpProxy, open_tcp_proxy


async def echo(stream: trio.SocketStream) -> None:
    """Say everything back, until told that there is no more."""
    try:
        async for data in stream:
            await stream.send_all(data)
        await stream.send_all(b"bye")
    except trio.BrokenResourceError:
        pass


@pytest.fixture
async def proxy(nursery: trio.Nursery) -> cabc.AsyncIterator[TcpProxy]:
    """A proxy before an echo."""
    listeners = await nursery.start(functools.partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
    async with open_tcp_proxy(listeners[0].socket.getsockname()) as made:
        yield made
    nursery.cancel_scope.cancel()


Dial = cabc.Callable[[], cabc.Awaitable[trio.SocketStream]]


@pytest.fixture
async def dial(proxy: TcpProxy) -> cabc.AsyncIterator[Dial]:
    """Opens connections through the proxy, which are closed in the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def dial() -> trio.SocketStream:
            stream = await trio.open_tcp_stream(proxy.host, proxy.port)
            return await stack.enter_async_context(stream)

        yield dial


async def say(stream: trio.SocketStream, data: bytes = b"hello") -> bytes:
    """What comes back; at most as much as was said."""
    with trio.fail_after(5):
        await stream.send_all(data)
        return await hear(stream, len(data))


async def hear(stream: trio.SocketStream, count: int) -> bytes:
    heard = b""
    while len(heard) < count:
        if not (more := await stream.receive_some(count - len(heard))):
            break
        heard += more
    return heard


async def silent(stream: trio.SocketStream) -> bool:
    """Whether nothing comes for a moment."""
    with trio.move_on_after(0.05):
        await stream.receive_some(1)
        return False
    return True


async def test_all_is_forwarded_and_ends_as_it_should(proxy: TcpProxy, dial: Dial) -> None:
    """In both directions, with the end of one side told to the other."""
    stream = await dial()
    assert await say(stream, bytes(200_000)) == bytes(200_000)
    await stream.send_eof()
    assert await hear(stream, 10) == b"bye"
    assert proxy.accepted == 1


async def test_cut_and_reset(proxy: TcpProxy, dial: Dial) -> None:
    """A cut is an end of the stream, a reset an error; the next connection works."""
    stream = await dial()
    await say(stream)
    assert proxy.cut() == 1
    assert await stream.receive_some(1) == b""
    stream = await dial()
    await say(stream)
    assert proxy.reset() == 1
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some(1)
    assert await say(await dial()) == b"hello"


async def test_half_open_is_for_good_and_for_these_only(proxy: TcpProxy, dial: Dial) -> None:
    """Nothing goes through, not even an end; a new connection works."""
    stream = await dial()
    await say(stream)
    assert proxy.half_open() == 1
    await stream.send_all(b"into the void")
    assert await silent(stream)
    proxy.clear()
    assert await silent(stream)
    assert await say(await dial()) == b"hello"


async def test_a_stalled_direction_goes_on_later(proxy: TcpProxy, dial: Dial) -> None:
    """What was said meanwhile arrives then, in order and whole."""
    stream = await dial()
    await say(stream)
    proxy.flow(down=Flow(stalled=True))
    await stream.send_all(b"one")
    assert await silent(stream)
    proxy.flow()
    with trio.fail_after(5):
        assert await hear(stream, 3) == b"one"


async def test_pieces_rates_and_delays(proxy: TcpProxy, dial: Dial) -> None:
    """Byte by byte and slowly, nothing is lost or swapped; slow is slow."""
    stream = await dial()
    proxy.flow(up=Flow(piece=1), down=Flow(piece=3))
    assert await say(stream, bytes(range(256))) == bytes(range(256))
    proxy.flow(up=Flow(singly=7), down=Flow(singly=512))
    assert await say(stream, bytes(range(256)) * 8) == bytes(range(256)) * 8
    proxy.flow(down=Flow(rate=1000.0), up=Flow(delay=0.01))
    began = trio.current_time()
    assert await say(stream, bytes(100)) == bytes(100)
    assert trio.current_time() - began > 0.09


async def test_reset_after_so_many_bytes(proxy: TcpProxy, dial: Dial) -> None:
    """The next connection breaks at that byte, the one after it does not."""
    proxy.reset_after(3, "up")
    stream = await dial()
    await stream.send_all(b"hello")
    with pytest.raises(trio.BrokenResourceError):
        await hear(stream, 5)
    assert await say(await dial()) == b"hello"


async def test_gates_and_a_shut_port(proxy: TcpProxy, dial: Dial) -> None:
    """New connections are reset, ignored or refused; ``clear`` lets them in again."""
    proxy.gate = Gate.RESET
    with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - either may be the first to tell
        stream = await dial()
        await stream.receive_some(1)
    proxy.gate = Gate.SILENT
    stream = await dial()
    await stream.send_all(b"anybody?")
    assert await silent(stream)
    proxy.shut()
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(OSError, match="all attempts to connect"):
        await dial()
    proxy.clear()
    assert await say(await dial()) == b"hello"
