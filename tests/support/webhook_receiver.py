"""An HTTP endpoint that remembers what it was sent, and answers as it is told."""

import collections.abc as cabc
import contextlib
import json
import typing as t

import attrs
import h11
import trio


@attrs.frozen
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, t.Any]:
        found: dict[str, t.Any] = json.loads(self.body)
        return found


@attrs.define
class Receiver:
    """``answer`` gets each request, and says status and headers; it may wait."""

    port: int = 0
    requests: list[Received] = attrs.field(factory=list)
    answer: cabc.Callable[[Received], cabc.Awaitable[tuple[int, dict[str, str]]]] | None = None
    _changed: trio.Event = attrs.field(factory=trio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?key=of-the-query"

    @property
    def ids(self) -> list[int]:
        """Of the events, as they came."""
        return [each.event["id"] for each in self.requests]

    async def until(self, condition: cabc.Callable[[], bool], seconds: float = 30) -> None:
        """Wait until a request makes it true."""
        with trio.fail_after(seconds):
            while not condition():
                await self._changed.wait()

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection."""
        connection = h11.Connection(h11.SERVER)
        async with stream:
            with contextlib.suppress(trio.BrokenResourceError, h11.RemoteProtocolError):
                while await self._one(stream, connection):
                    connection.start_next_cycle()

    async def _one(self, stream: trio.SocketStream, connection: h11.Connection) -> bool:
        request: h11.Request | None = None
        body = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(65536)))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        assert request is not None
        headers = {name.decode(): value.decode() for name, value in request.headers}
        received = Received(request.target.decode(), headers, body)
        self.requests.append(received)
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        status, more = (200, {}) if self.answer is None else await self.answer(received)
        answer = h11.Response(status_code=status, headers=[*more.items(), ("content-length", "0")])
        await stream.send_all(connection.send(answer) or b"")
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
        return connection.our_state is h11.DONE


@contextlib.asynccontextmanager
async def open_receiver() -> cabc.AsyncIterator[Receiver]:
    """An endpoint on the loopback."""
    receiver = Receiver()
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        receiver.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, receiver.serve, [listener])
        yield receiver
        nursery.cancel_scope.cancel()
