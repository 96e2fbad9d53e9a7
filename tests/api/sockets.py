"""Clients that do as they like: raw bytes, and WebSockets frame by frame."""

import contextlib
import typing as t

import trio
import wsproto
import wsproto.events


async def drained(stream: trio.SocketStream) -> bytes:
    """All that comes until the other side ends."""
    parts = []
    with contextlib.suppress(trio.BrokenResourceError):
        while part := await stream.receive_some(65536):
            parts.append(part)
    return b"".join(parts)


class WebSocket:
    """A client's side of one WebSocket."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._connection = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)

    @classmethod
    async def open(
        cls, port: int, path: str, headers: t.Mapping[str, str] | None = None
    ) -> "WebSocket":
        """Connect, and ask for a WebSocket."""
        made = cls(await trio.open_tcp_stream("127.0.0.1", port))
        extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        await made.send(
            wsproto.events.Request(host=f"127.0.0.1:{port}", target=path, extra_headers=extra)
        )
        return made

    async def send(self, event: wsproto.events.Event) -> None:
        """Send one event."""
        await self.stream.send_all(self._connection.send(event))

    async def next(self) -> wsproto.events.Event:
        """The next event; pings are answered."""
        while True:
            for event in self._connection.events():
                if not isinstance(event, wsproto.events.Ping):
                    return event
                await self.send(event.response())
            data = await self.stream.receive_some(65536)
            self._connection.receive_data(data or None)

    async def accepted(self) -> "WebSocket":
        """Itself, once the server has taken it."""
        assert isinstance(await self.next(), wsproto.events.AcceptConnection)
        return self

    async def closed(self) -> tuple[int, str | None]:
        """With what code and reason the server closes it; what comes before is skipped."""
        while not isinstance(event := await self.next(), wsproto.events.CloseConnection):
            pass
        return event.code, event.reason
