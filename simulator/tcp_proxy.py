"""A TCP proxy that does on command what bad networks do; it knows nothing of what it carries.

    async with open_tcp_proxy(("127.0.0.1", 5432)) as proxy:
        connect(proxy.host, proxy.port)
        proxy.cut()                            # all connections end, as if their peer had closed
        proxy.reset()                          # the same, with a TCP reset
        proxy.half_open()                      # nothing goes through them any more; nobody is told
        proxy.flow(down=Flow(stalled=True))    # what the server says waits, until flow() or clear()
        proxy.flow(up=Flow(piece=1), down=Flow(rate=2000.0, delay=0.05))
        proxy.reset_after(100, "down")         # the next connection breaks after so many bytes
        proxy.gate = Gate.SILENT               # new connections are accepted and never answered
        proxy.shut()                           # new connections are refused, until open()
        proxy.clear()                          # all is well again for whoever connects now

``up`` is from the client to the server. Orders never wait, and hold for connections to come, too,
unless they say otherwise.
"""

import collections.abc as cabc
import contextlib
import enum
import socket
import struct
import typing as t

import attrs
import trio

Direction: t.TypeAlias = t.Literal["up", "down"]
Target: t.TypeAlias = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""

_CHUNK: t.Final = 64 * 1024  # bytes
_TICKS: t.Final = 50  # pieces in a second when the rate is limited
_BACKLOG: t.Final = 128
_LINGER_NOT: t.Final = struct.pack("ii", 1, 0)  # closing then sends a reset
_CONNECT_TIMEOUT: t.Final = 10.0  # seconds for the server behind


class Gate(enum.Enum):
    """What becomes of a new connection."""

    OPEN = "open"  # it is led to the server
    RESET = "reset"  # accepted, and reset at once
    SILENT = "silent"  # accepted, and left alone for good


@attrs.frozen(kw_only=True)
class Flow:
    """How bytes move in one direction."""

    stalled: bool = False  # not at all, for the time being
    rate: float | None = None  # bytes per second
    piece: int | None = None  # most bytes forwarded at once
    singly: int = 0  # bytes at the beginning of each piece that are forwarded one by one
    delay: float = 0.0  # seconds that each piece is held back

    @property
    def size(self) -> int:
        """Most bytes to read at once."""
        sizes = [_CHUNK]
        if self.piece is not None:
            sizes.append(self.piece)
        if self.rate is not None:
            sizes.append(max(1, int(self.rate / _TICKS)))
        return min(sizes)

    def pause(self, count: int) -> float:
        """Seconds that so many bytes take."""
        return self.delay + (0.0 if self.rate is None else count / self.rate)


@attrs.define(eq=False)
class _Connection:
    """One client, and the server behind."""

    client: trio.SocketStream
    scope: trio.CancelScope
    server: trio.SocketStream | None = None
    dead: bool = False  # half-open
    left: dict[Direction, int] = attrs.field(factory=dict)  # bytes until it breaks

    def reset(self) -> None:
        """Make closing a reset, and close."""
        for stream in (self.client, self.server):
            if stream is not None and stream.socket.family != socket.AF_UNIX:
                with contextlib.suppress(OSError):
                    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.scope.cancel()


class TcpProxy:
    """Use :func:`open_tcp_proxy`."""

    def __init__(self, target: Target, listen: tuple[str, int], nursery: trio.Nursery) -> None:
        self.target = target
        """Where new connections are led; may be changed."""
        self.gate = Gate.OPEN
        self.accepted = 0
        """Connections so far."""
        self.host, self.port = listen
        self._nursery = nursery
        self._flows: dict[Direction, Flow] = {"up": Flow(), "down": Flow()}
        self._changed = trio.Event()
        self._breaks: list[tuple[Direction, int]] = []
        self._connections: set[_Connection] = set()
        self._listening: trio.socket.SocketType | None = None

    @property
    def connections(self) -> int:
        """Those that are open now, half-open ones included."""
        return len(self._connections)

    # ---- orders

    def cut(self) -> int:
        """End all connections in good order; how many."""
        for connection in self._connections:
            connection.scope.cancel()
        return len(self._connections)

    def reset(self) -> int:
        """End all connections with a reset; how many."""
        for connection in self._connections:
            connection.reset()
        return len(self._connections)

    def half_open(self) -> int:
        """Forward nothing more in the connections of now, and tell neither side; how many."""
        for connection in self._connections:
            connection.dead = True
        self._change()
        return len(self._connections)

    def flow(self, *, up: Flow | None = None, down: Flow | None = None) -> None:
        """Set how bytes move; what is not given is as usual."""
        self._flows = {"up": up or Flow(), "down": down or Flow()}
        self._change()

    def reset_after(self, count: int, direction: Direction = "down") -> None:
        """Reset the next connection once so many bytes went in a direction; 0: before the first.

        Several orders are for several connections.
        """
        self._breaks.append((direction, count))

    def shut(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    def open(self) -> None:
        """Accept connections (again), at the same port."""
        if self._listening is None:
            listener = socket.create_server((self.host, self.port), backlog=_BACKLOG)
            self.host, self.port = listener.getsockname()[:2]
            listener.setblocking(False)
            self._listening = trio.socket.from_stdlib_socket(listener)
            self._nursery.start_soon(self._listen, self._listening)

    def clear(self) -> None:
        """Everything as at the beginning, but for the connections that are half-open."""
        self.gate = Gate.OPEN
        self._breaks.clear()
        self.flow()
        self.open()

    # ---- connections

    async def _listen(self, listener: trio.socket.SocketType) -> None:
        with listener:
            while self._listening is listener:
                try:
                    accepted, _address = await listener.accept()
                except OSError:  # the client has left already, or the port is shut
                    continue
                except trio.ClosedResourceError:
                    return
                self._nursery.start_soon(self._serve, trio.SocketStream(accepted))

    async def _serve(self, client: trio.SocketStream) -> None:
        self.accepted += 1
        connection = _Connection(client, trio.CancelScope())
        if self._breaks and self.gate is Gate.OPEN:
            direction, count = self._breaks.pop(0)
            connection.left[direction] = count
        self._connections.add(connection)
        try:
            with connection.scope:
                match self.gate:
                    case Gate.OPEN:
                        await self._forward(connection)
                    case Gate.RESET:
                        connection.reset()
                    case Gate.SILENT:
                        await trio.sleep_forever()
                    case other:
                        t.assert_never(other)
        finally:
            self._connections.discard(connection)
            for stream in (client, connection.server):
                if stream is not None:
                    stream.socket.close()

    async def _forward(self, connection: _Connection) -> None:
        try:
            connection.server = server = await self._dial()
        except OSError:
            connection.reset()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, connection, "up", connection.client, server)
            nursery.start_soon(self._pump, connection, "down", server, connection.client)

    async def _dial(self) -> trio.SocketStream:
        with trio.move_on_after(_CONNECT_TIMEOUT):
            if isinstance(self.target, str):
                return await trio.open_unix_socket(self.target)
            return await trio.open_tcp_stream(*self.target)
        raise TimeoutError

    async def _pump(
        self,
        connection: _Connection,
        direction: Direction,
        source: trio.SocketStream,
        sink: trio.SocketStream,
    ) -> None:
        try:
            while True:
                flow = await self._flowing(connection, direction)
                data = await source.receive_some(flow.size)
                flow = await self._flowing(connection, direction)
                if not data:
                    await sink.send_eof()
                    return
                if pause := flow.pause(len(data)):
                    await trio.sleep(pause)
                left = connection.left.get(direction)
                await _send(sink, data if left is None else data[:left], flow.singly)
                if left is not None:
                    connection.left[direction] = left - len(data)
                    if left <= len(data):
                        connection.reset()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            if not connection.dead:
                connection.reset()

    async def _flowing(self, connection: _Connection, direction: Direction) -> Flow:
        """Wait until bytes may move."""
        while connection.dead or self._flows[direction].stalled:
            await self._changed.wait()
        return self._flows[direction]

    def _change(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


async def _send(sink: trio.SocketStream, data: bytes, singly: int) -> None:
    for position in range(min(singly, len(data))):
        await sink.send_all(data[position : position + 1])
    await sink.send_all(data[singly:])


@contextlib.asynccontextmanager
async def open_tcp_proxy(
    target: Target, *, listen: tuple[str, int] = ("127.0.0.1", 0)
) -> cabc.AsyncIterator[TcpProxy]:
    """A proxy to ``target`` that accepts connections; port 0 is any free one."""
    async with trio.open_nursery() as nursery:
        proxy = TcpProxy(target, listen, nursery)
        proxy.open()
        yield proxy
        nursery.cancel_scope.cancel()
