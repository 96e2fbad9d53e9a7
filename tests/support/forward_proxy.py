"""A proxy of the kind that companies have: HTTP CONNECT and SOCKS 5, obliging or not."""

import collections.abc as cabc
import contextlib
import functools
import typing as t

import attrs
import trio

_NO_AUTH, _PASSWORD, _NONE = 0, 2, 0xFF


@attrs.define
class ForwardProxy:
    """What it was asked for, and how it answers."""

    port: int = 0
    user: str | None = None  # asked for, with ``password``
    password: str = "s3cret"
    http_answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
    socks_reply: int = 0  # code of the answer
    garbage: bytes | None = None  # sent in the place of any answer
    silent: bool = False
    piece: int | None = None  # most bytes of an answer sent at once
    names: dict[str, str] = attrs.field(factory=dict)  # what only the proxy can look up
    asked: list[str] = attrs.field(factory=list)  # the targets, as they were named

    async def serve(self, client: trio.SocketStream) -> None:
        with contextlib.suppress(
            trio.BrokenResourceError, trio.ClosedResourceError, EOFError, OSError
        ):
            if self.silent:
                await client.receive_some(1)
                await trio.sleep_forever()
            first = await _exactly(client, 1)
            if self.garbage is not None:
                await client.send_all(self.garbage)
                return
            target = await (self._socks(client) if first == b"\x05" else self._http(client, first))
            if target is not None:
                await self._forward(client, *target)

    async def _http(self, client: trio.SocketStream, head: bytes) -> tuple[str, int] | None:
        while not head.endswith(b"\r\n\r\n"):
            head += await _exactly(client, 1)
        place = head.split()[1].decode()
        self.asked.append(place)
        if self.user is not None and b"proxy-authorization: basic " not in head.lower():
            await self._say(
                client,
                b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            )
            return None
        await self._say(client, self.http_answer)
        host, _, port = place.rpartition(":")
        return (host, int(port)) if b" 200 " in self.http_answer else None

    async def _socks(self, client: trio.SocketStream) -> tuple[str, int] | None:
        methods = await _exactly(client, (await _exactly(client, 1))[0])
        wanted = _NO_AUTH if self.user is None else _PASSWORD
        if wanted not in methods:
            await self._say(client, bytes([5, _NONE]))
            return None
        await self._say(client, bytes([5, wanted]))
        if wanted == _PASSWORD:
            _version, length = await _exactly(client, 2)
            user = await _exactly(client, length)
            password = await _exactly(client, (await _exactly(client, 1))[0])
            right = (user.decode(), password.decode()) == (self.user, self.password)
            await self._say(client, bytes([1, 0 if right else 1]))
            if not right:
                return None
        _version, _command, _zero, kind = await _exactly(client, 4)
        if kind == 3:
            host = (await _exactly(client, (await _exactly(client, 1))[0])).decode()
        else:
            host = ".".join(str(part) for part in await _exactly(client, 4))
        port = int.from_bytes(await _exactly(client, 2), "big")
        self.asked.append(f"{host}:{port}")
        await self._say(client, bytes([5, self.socks_reply, 0, 1, 0, 0, 0, 0, 0, 0]))
        return None if self.socks_reply else (host, port)

    async def _say(self, client: trio.SocketStream, data: bytes) -> None:
        size = self.piece or len(data)
        for start in range(0, len(data), size):
            await client.send_all(data[start : start + size])
            if self.piece:
                await trio.sleep(0.002)  # so that the pieces arrive apart

    async def _forward(self, client: trio.SocketStream, host: str, port: int) -> None:
        server = await trio.open_tcp_stream(self.names.get(host, host), port)
        async with server, trio.open_nursery() as nursery:
            nursery.start_soon(_pump, client, server)
            nursery.start_soon(_pump, server, client)


async def _exactly(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (more := await stream.receive_some(count - len(data))):
            raise EOFError
        data += more
    return data


async def _pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await sink.send_all(data)
        await sink.send_eof()


@contextlib.asynccontextmanager
async def open_forward_proxy(**options: t.Any) -> cabc.AsyncIterator[ForwardProxy]:
    """A proxy on a free port; see its fields for the options."""
    proxy = ForwardProxy(**options)
    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_tcp, proxy.serve, 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        proxy.port = listeners[0].socket.getsockname()[1]
        yield proxy
        nursery.cancel_scope.cancel()
