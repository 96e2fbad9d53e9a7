"""A TCP proxy that misbehaves on command: the network between the daemon and the server."""

import contextlib
import socket
import struct
import typing as t

import trio

PIECE: t.Final = 64 * 1024  # bytes read at once
SINGLE: t.Final = 512  # bytes of a piece that are sent one by one; the rest follows at once
_RESET: t.Final = struct.pack("ii", 1, 0)  # SO_LINGER: no goodbye, a reset


class FaultProxy:
    """Passes on what it gets, for as many connections as come; the switches are for all."""

    def __init__(self, host: str, port: int) -> None:
        """``host`` and ``port`` are where connections go."""
        self._target = (host, port)
        self._listeners: list[trio.SocketListener] = []
        self._streams: set[trio.SocketStream] = set()
        self._flowing = trio.Event()
        self._flowing.set()
        self._accepting = trio.Event()
        self.port = 0
        """Where clients connect, once it runs."""
        self.delay = 0.0
        """Seconds that every piece is late."""
        self.one_by_one = False
        """Whether the first bytes of a piece come one by one."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen on a free port of the loopback until cancelled."""
        await self._open()
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    listener = self._listeners[0]
                    try:
                        stream = await listener.accept()
                    except trio.ClosedResourceError:
                        await self._accepting.wait()
                    else:
                        nursery.start_soon(self._serve, stream)
        finally:
            for listener in self._listeners:
                listener.socket.close()

    async def _open(self) -> None:
        self._listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        self.port = self._listeners[0].socket.getsockname()[1]
        self._accepting.set()

    async def refuse(self, on: bool) -> None:
        """Refuse new connections, or take them again; old ones go on."""
        if on:
            self._accepting = trio.Event()
            for listener in self._listeners:
                await listener.aclose()
        elif not self._accepting.is_set():
            await self._open()

    def stall(self, on: bool) -> None:
        """Let nothing through, or everything that has gathered."""
        if on:
            self._flowing = trio.Event()
        else:
            self._flowing.set()

    def cut(self) -> int:
        """Reset every connection; how many."""
        streams = list(self._streams)
        for stream in streams:
            with contextlib.suppress(OSError):
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            stream.socket.close()
        return len(streams) // 2

    async def clear(self) -> None:
        """Behave."""
        self.delay, self.one_by_one = 0.0, False
        self.stall(False)
        await self.refuse(False)

    async def _serve(self, client: trio.SocketStream) -> None:
        broken = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
        async with client:
            try:
                server = await trio.open_tcp_stream(*self._target)
            except OSError:
                return
            async with server:
                both = {client, server}
                self._streams |= both
                try:
                    async with trio.open_nursery() as nursery:
                        for source, sink in ((client, server), (server, client)):
                            nursery.start_soon(self._pass_on, source, sink, nursery.cancel_scope)
                except* broken:
                    pass  # one side is gone, so the other goes too
                finally:
                    self._streams -= both

    async def _pass_on(
        self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        while data := await source.receive_some(PIECE):
            if self.delay:
                await trio.sleep(self.delay)
            await self._flowing.wait()
            single = min(len(data), SINGLE) if self.one_by_one else 0
            for position in range(single):
                await sink.send_all(data[position : position + 1])
            await sink.send_all(data[single:])
        scope.cancel()
