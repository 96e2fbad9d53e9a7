"""Clients that are slow, silent, greedy or gone: none of them takes more than its share."""

import collections.abc as cabc
import contextlib
import typing as t

import attrs
import httpx
import pytest
import structlog.testing
import trio
import wsproto.events
from hypercorn.protocol.ws_stream import WebsocketBuffer
from litestar import Litestar, WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.params import FromPath

from api.auth import HttpDoorway, TellingWebSockets, guard, note_refusal
from api.auth_sessions import Sessions
from api.bounds import Bounds
from api.limits import BURST, MOST, Buckets
from api.server import MAX_FRAME, Patience, serve_app
from config.listeners import HttpConfig
from tests.api.conftest import Served
from tests.api.sockets import WebSocket as Client
from tests.api.sockets import drained
from tests.daemon.daemon_fakes import problem

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


@attrs.define
class App:
    """An ASGI app that notes who is there, and does as the path says."""

    there: int = 0
    ended: trio.Event = attrs.field(factory=trio.Event)
    sent: int = 0

    async def __call__(self, scope: t.Any, receive: t.Any, send: t.Any) -> None:
        self.there += 1
        try:
            await getattr(self, scope["path"].strip("/") or "hello")(receive, send)
        finally:
            self.there -= 1
            self.ended.set()

    async def hello(self, _receive: t.Any, send: t.Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello", "more_body": False})

    async def wait(self, _receive: t.Any, _send: t.Any) -> None:
        await trio.sleep_forever()

    async def flood(self, _receive: t.Any, send: t.Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            self.sent += 1

    async def tell(self, receive: t.Any, send: t.Any) -> None:
        """A WebSocket that is only sent to, as fast as it reads."""
        await receive()
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        while True:
            await send({"type": "websocket.send", "text": "x" * 65536, "bytes": None})
            self.sent += 1

    async def quiet(self, receive: t.Any, send: t.Any) -> None:
        """A WebSocket to which nothing is ever sent, and from which nothing is read."""
        await receive()
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        await trio.sleep_forever()


@contextlib.asynccontextmanager
async def serving(app: t.Any, **patience: t.Any) -> cabc.AsyncIterator["Clients"]:
    """Serve an app to clients."""
    stop = trio.Event()
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    with trio.fail_after(30), listener:
        async with trio.open_nursery() as nursery:

            async def serve(task_status: trio.TaskStatus[None]) -> None:
                await serve_app(
                    app,
                    t.cast("t.Any", listener)._sock,
                    stop=stop,
                    patience=Patience(**patience),
                    task_status=task_status,
                )

            await nursery.start(serve)
            clients = Clients(listener.getsockname()[1])
            yield clients
            await clients.close()
            stop.set()


async def greeted(stream: trio.SocketStream) -> None:
    """Return once the app has said hello."""
    got = b""
    while not got.endswith(b"hello\r\n0\r\n\r\n"):
        got += await stream.receive_some()


class Clients:
    """What connects to a port; all is closed at the end."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: list[trio.SocketStream] = []

    async def connect(self) -> trio.SocketStream:
        """A connection that asks for nothing yet."""
        self._streams.append(await trio.open_tcp_stream("127.0.0.1", self.port))
        return self._streams[-1]

    async def websocket(self, path: str, headers: dict[str, str] | None = None) -> Client:
        """A WebSocket that is asked for."""
        made = await Client.open(self.port, path, headers)
        self._streams.append(made.stream)
        return made

    async def get(self) -> bytes:
        """The answer to a request."""
        stream = await self.connect()
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        return await drained(stream)

    async def served(self) -> None:
        """Return once there is a place again."""
        while b"hello" not in await self.get():
            await trio.sleep(0.01)

    async def close(self) -> None:
        for stream in self._streams:
            await trio.aclose_forcefully(stream)


async def test_a_silent_client_is_sent_away() -> None:
    """It takes a place for a while only."""
    async with serving(App(), idle=0.2) as clients:
        assert await drained(await clients.connect()) == b""


async def test_a_slow_client_is_sent_away() -> None:
    """A byte now and then is no request: all of it has to come in time."""
    async with serving(App(), idle=0.3) as clients:
        stream = await clients.connect()
        with contextlib.suppress(trio.BrokenResourceError):
            for byte in GET * 1000:
                await stream.send_all(bytes([byte]))
                await trio.sleep(0.02)
            pytest.fail("it was listened to for too long")


async def test_a_request_may_take_longer_than_that() -> None:
    """Only clients are hurried, not answers."""
    app = App()
    async with serving(app, idle=0.05) as clients:
        stream = await clients.connect()
        await stream.send_all(GET.replace(b"/ ", b"/wait "))
        with trio.move_on_after(0.3) as waited:
            await stream.receive_some()
        assert waited.cancelled_caught
        await stream.aclose()


async def test_a_client_that_reads_nothing_is_cut_off() -> None:
    """A download that nobody takes ends, and its place is free again."""
    app = App()
    async with serving(app, stall=0.3, idle=60, places=1) as clients:
        stalled = await clients.connect()
        await stalled.send_all(GET.replace(b"/ ", b"/flood "))
        await app.ended.wait()
        assert b"xxx" in await drained(stalled)
        await clients.served()


async def test_a_body_that_nobody_reads() -> None:
    """An answer before the end of the request's body leaves nothing behind, however long that is
    and whatever the client does then."""
    async with serving(App(), idle=60, places=1) as clients:
        stream = await clients.connect()
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_all(
                        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99000000\r\n\r\n"
                    )
                    while True:
                        await stream.send_all(b"x" * 65536)

            nursery.start_soon(send)
            await stream.receive_some()
        await clients.served()


async def test_who_is_idle_makes_room() -> None:
    """When all places are taken, the one that has been idle longest goes."""
    async with serving(App(), idle=60, places=3) as clients:
        streams = [await clients.connect() for _ in range(3)]
        for stream in streams:
            await stream.send_all(GET)
            await greeted(stream)
        assert b"hello" in await clients.get()
        assert await drained(streams[0]) == b""
        await streams[1].send_all(GET)
        await greeted(streams[1])


async def test_who_is_busy_does_not() -> None:
    """Newcomers are told to come again."""
    app = App()
    async with serving(app, idle=60, places=2) as clients:
        for _ in range(2):
            await (await clients.connect()).send_all(GET.replace(b"/ ", b"/wait "))
        while app.there < 2:
            await trio.sleep(0.01)
        assert (await clients.get()).startswith(b"HTTP/1.1 503")


async def test_only_http_1() -> None:
    """HTTP/2 is not spoken: it would be another hundred requests per connection."""
    async with serving(App()) as clients:
        stream = await clients.connect()
        await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert b"HTTP/1.1 505" in await drained(stream)
        stream = await clients.connect()
        await stream.send_all(
            b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: h2c\r\n\r\n"
        )
        assert (await drained(stream)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"x" * 20_000, b"431"),
        (GET[:-2] + b"a: " + b"x" * 20_000, b"431"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400"),
    ],
)
async def test_what_is_no_request(request_: bytes, status: bytes) -> None:
    """Endless addresses and headers, or another protocol: refused, and the connection ends."""
    async with serving(App(), idle=60) as clients:
        stream = await clients.connect()
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(request_)
        assert (await drained(stream)).startswith(b"HTTP/1.1 " + status)
        assert b"hello" in await clients.get()


async def test_a_websocket_ends_with_its_client() -> None:
    """Even if the app only sends, or does nothing at all."""
    for path in ("/tell", "/quiet"):
        app = App()
        async with serving(app) as clients:
            client = await (await clients.websocket(path)).accepted()
            await trio.aclose_forcefully(client.stream)
            await app.ended.wait()
            assert app.there == 0


async def test_a_websocket_that_reads_nothing_is_cut_off() -> None:
    """So is one that sends what nobody reads."""
    app = App()
    async with serving(app, stall=0.2) as clients:
        await (await clients.websocket("/tell")).accepted()
        await app.ended.wait()
        app.ended = trio.Event()
        client = await (await clients.websocket("/quiet")).accepted()
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await client.send(wsproto.events.TextMessage(data="x" * 1000))
        await app.ended.wait()
        assert app.there == 0


@attrs.define
class Listening:
    """A WebSocket that hears what it is sent; and how large what is kept for it was."""

    heard: list[object] = attrs.field(factory=list)
    ended: trio.Event = attrs.field(factory=trio.Event)

    async def __call__(self, _scope: t.Any, receive: t.Any, send: t.Any) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        try:
            while (message := await receive())["type"] == "websocket.receive":
                self.heard.append(message["text"] or message["bytes"])
        finally:
            self.ended.set()


@pytest.mark.parametrize("kind", [wsproto.events.TextMessage, wsproto.events.BytesMessage])
@pytest.mark.parametrize("piece", [1000, MAX_FRAME, 10 * MAX_FRAME])
async def test_a_message_that_is_too_large(
    kind: t.Any, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused with 1009, in one frame or in many, and the connection ends: however much is
    still sent, no more than one message was ever kept."""
    most = 0
    extend = WebsocketBuffer.extend

    def watch(buffer: WebsocketBuffer, event: t.Any) -> None:
        nonlocal most
        extend(buffer, event)
        most = max(most, len(t.cast("t.Any", buffer.value).getvalue()))

    monkeypatch.setattr(WebsocketBuffer, "extend", watch)
    monkeypatch.setattr("api.server.GRACE", 0.1)
    app = Listening()
    text = "x" * piece
    data: t.Any = text if kind is wsproto.events.TextMessage else text.encode()
    async with serving(app, idle=60) as clients:
        client = await (await clients.websocket("/")).accepted()
        for _ in range(2 + 2 * MAX_FRAME // piece):
            await client.send(kind(data=data, message_finished=False))
        assert (await client.closed())[0] == 1009
        await app.ended.wait()
        client = await (await clients.websocket("/")).accepted()
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await client.send(kind(data=data, message_finished=False))
        await app.ended.wait()
        assert app.heard == []
        assert most <= MAX_FRAME


async def test_a_message_that_just_fits() -> None:
    """Bytes count, not characters; the next message has all the room again."""
    app = Listening()
    fits = "ã" * (MAX_FRAME // 2)
    async with serving(app) as clients:
        client = await (await clients.websocket("/")).accepted()
        for _ in range(3):
            await client.send(wsproto.events.TextMessage(data=fits))
        await client.send(wsproto.events.TextMessage(data=fits + "x"))
        assert (await client.closed())[0] == 1009
        await app.ended.wait()
    assert app.heard == [fits] * 3


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-websocket-extensions": "permessage-deflate"},
        {"sec-websocket-extensions": "permessage-deflate; server_max_window_bits=x"},
        {"sec-websocket-extensions": "permessage-deflate; client_max_window_bits=99, \xff"},
        {"sec-websocket-protocol": "\xff"},
        {"connection": "\xff"},
    ],
)
async def test_nothing_is_compressed(headers: dict[str, str]) -> None:
    """Extensions are not taken, so nothing small is large inside; and what is malformed in the
    handshake is no fault of the server."""
    app = Listening()
    async with serving(app) as clients:
        stream = await clients.connect()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with structlog.testing.capture_logs() as logs:
            await stream.send_all(
                b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n"
                b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
                + lines.replace("connection:", "x:").encode("latin-1")
                + b"connection: upgrade"
                + (b", \xff" if "connection" in headers else b"")
                + b"\r\n\r\n"
            )
            answer = await stream.receive_some()
        assert answer.startswith(b"HTTP/1.1 101")
        assert b"extensions" not in answer.lower()
        assert logs == []


async def test_websockets_have_a_ceiling_of_their_own() -> None:
    """One too many is told to come later; requests are served all the while."""
    app = Bounds(App(), max_requests=1, max_sockets=2)
    async with serving(app) as clients:
        for _ in range(2):
            await (await clients.websocket("/quiet")).accepted()
        code, reason = await (await clients.websocket("/quiet")).closed()
        assert code == 1013
        assert "try again" in (reason or "")
        assert b"hello" in await clients.get()


async def test_a_websocket_is_told_why_it_is_refused(served: Served) -> None:
    """4401 without a token, 4403 without the scope; a browser needs a page of ours, too."""
    who = []

    @websocket("/tell")
    async def tell(socket: WebSocket[t.Any, t.Any, t.Any]) -> None:
        await socket.accept()
        who.append("here")
        await socket.close(code=4000)

    sessions = Sessions(trio.current_time)
    inner = TellingWebSockets(Litestar([tell], guards=[guard]))
    app = HttpDoorway(inner, served.control.tokens, sessions, ())
    sender, reader = await served.headers("send"), await served.headers("read", name="reader")
    async with serving(app) as clients:
        session = sessions.open(served.control.tokens.check(reader["authorization"][7:]).id)
        cookie = {"cookie": f"zapvisor_session_{clients.port}={session}"}
        ours = {"origin": f"http://127.0.0.1:{clients.port}"}
        for headers, expected in (
            ({}, 4401),
            ({"authorization": "Bearer zv_x"}, 4401),
            (sender, 4403),
            (cookie, 4403),
            (cookie | {"origin": "http://evil.example"}, 4403),
            (cookie | ours, 4000),
            (reader, 4000),
        ):
            code, reason = await (await clients.websocket("/tell", headers)).closed()
            assert code == expected
            assert expected == 4000 or reason
    assert who == ["here"] * 2


@pytest.mark.parametrize(
    ("path", "expected", "said"),
    [
        ("/logs/ws?lines=x", 4400, "lines: "),
        (f"/logs/ws?lines={'9' * 5000}", 4400, "lines: "),
        (f"/connections/sales/pairing/ws?after={'9' * 5000}", 4400, "after: "),
        ("/nothing/ws", 4404, "Not Found"),
    ],
)
async def test_a_websocket_that_cannot_be(
    served: Served, path: str, expected: int, said: str
) -> None:
    """A parameter that does not fit is the client's fault, and named; so is a wrong address."""
    client = await Client.open(served.port, path, await served.headers("operate"))
    code, reason = await client.closed()
    await client.stream.aclose()
    assert code == expected
    assert (reason or "").startswith(said)


async def test_a_websocket_that_fails_is_logged() -> None:
    """Its client hears of a fault, and the log says where; to leave is none."""

    @websocket("/fail/{how:str}")
    async def fail(socket: WebSocket[t.Any, t.Any, t.Any], how: FromPath[str]) -> None:
        await socket.accept()
        if how == "defect":
            async with trio.open_nursery():
                raise KeyError("a defect")
        raise WebSocketDisconnect(detail="it left")

    app = TellingWebSockets(Litestar([fail], after_exception=[note_refusal]))
    with structlog.testing.capture_logs() as logs:
        async with serving(app) as clients:
            for how, expected in (("leave", 1000), ("defect", 4500)):
                code, _reason = await (await clients.websocket(f"/fail/{how}")).closed()
                assert code == expected
    [line] = [line for line in logs if line["event"] == "api.failed"]
    assert line["request"] == "WEBSOCKET /fail/{how}"


class TestRateLimit:
    """With hardly any requests allowed."""

    @pytest.fixture
    def config(self) -> HttpConfig:
        return HttpConfig(rate_limit=1)

    async def test_too_many_requests(self, served: Served) -> None:
        """429 tells when to come again; others, and the control socket, are not kept waiting."""
        headers = await served.headers("read")
        others = await served.headers("read", name="other")
        for _ in range(100):
            refused = await served.http.get("/version", headers=headers)
            if refused.status_code != 200:
                break
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert problem(refused)["type"] == "urn:zapvisor:too-many-requests"
        assert (await served.http.get("/version", headers=others)).status_code == 200
        for _ in range(10):
            assert (await served.operator.get("/version")).status_code == 200


def test_buckets() -> None:
    """Full at first; then as many as flow in; and there are never too many of them."""
    now = 0.0
    buckets = Buckets(10, lambda: now)
    assert [buckets.take("a") for _ in range(int(10 * BURST))] == [0.0] * int(10 * BURST)
    assert buckets.take("a") == pytest.approx(0.1)
    now = 0.1
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0
    for number in range(2 * MOST):
        now += 0.001
        assert buckets.take(str(number)) == 0
    assert len(buckets._levels) <= MOST


async def test_every_answer_has_an_id_and_protection(served: Served) -> None:
    """Refusals, too; the id may be the client's, if it is one."""
    for path in ("/version", "/nothing", "/session"):
        answer = await served.http.get(path, headers={"x-request-id": "abc-1"})
        assert answer.headers["x-request-id"] == "abc-1"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert problem(answer)["instance"].endswith("abc-1")
    ids = {
        (await served.http.get("/version", headers={"x-request-id": bad})).headers["x-request-id"]
        for bad in ("", "a b", "x" * 65, "a/b")
    }
    assert len(ids) == 4
    assert all(len(each) == 16 for each in ids)


async def test_httpx_and_the_server_agree(served: Served) -> None:
    """Many requests on one connection."""
    headers = await served.headers("read")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}") as client:
        for _ in range(20):
            assert (await client.get("/version", headers=headers)).status_code == 200
