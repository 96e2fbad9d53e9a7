"""What a bad network does to a dialled connection, on real sockets: one error, the right reason."""

import collections.abc as cabc
import contextlib
import functools
import pathlib
import socket
import ssl
import threading
import typing as t

import media_doubles as doubles
import pytest
import trio
import trio_websocket

from actors.endings import collapse
from actors.errors import ConnectionEndedError, TransportError
from actors.media_http import HttpSettings, MediaHttp, MediaUnavailableError
from actors.proxy import Proxy
from actors.resolver import BoundedResolver
from actors.transport import websocket_dialer
from simulator import open_simulator
from simulator.tcp_proxy import Flow, Gate, open_tcp_proxy
from tests.support.certificates import authority
from tests.support.forward_proxy import open_forward_proxy
from whatsapp.media import encrypt

HOST = "whatsapp.test"


@contextlib.contextmanager
def hosts(monkeypatch: pytest.MonkeyPatch) -> cabc.Iterator[None]:
    """Every name is this machine."""
    real = socket.getaddrinfo

    def look_up(host: t.Any, port: t.Any, *options: t.Any, **more: t.Any) -> t.Any:
        return real("127.0.0.1" if host == HOST else host, port, *options, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield


async def failure(url: str, **options: t.Any) -> tuple[str, str]:
    """Reason and sentence with which dialling fails, as a connection's life would end."""
    limits = {"connect_timeout": 0.4, "handshake_timeout": 0.4, **options}
    with trio.fail_after(10):
        try:
            async with websocket_dialer(url, **limits)():
                raise AssertionError("it connected")
        except TransportError as error:
            ending = collapse(error)
            assert isinstance(ending, ConnectionEndedError)
            return ending.reason, ending.sentence


async def reply(url: str, **options: t.Any) -> bytes:
    """What an echo behind a WebSocket says."""
    with trio.fail_after(10):
        async with websocket_dialer(url, **options)() as transport:
            await transport.send(b"hello")
            return await transport.receive()


async def echo(request: trio_websocket.WebSocketRequest) -> None:
    with contextlib.suppress(trio_websocket.ConnectionClosed):
        connection = await request.accept()
        while True:
            await connection.send_message(await connection.get_message())


@contextlib.asynccontextmanager
async def echoing(certificate: pathlib.Path | None = None) -> cabc.AsyncIterator[int]:
    """A WebSocket echo, with TLS if there is a certificate; its port."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio_websocket.serve_websocket, echo, "127.0.0.1", 0, context)
        try:
            server = await nursery.start(serve)
            yield server.port
        finally:
            nursery.cancel_scope.cancel()


@pytest.fixture
async def echo_port() -> cabc.AsyncIterator[int]:
    async with echoing() as port:
        yield port


async def test_names_that_do_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nobody knows is told as such, with the name."""

    def look_up(*_arguments: object, **_more: object) -> t.NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    reason, sentence = await failure(f"wss://{HOST}/ws/chat")
    assert reason == "dns_failed"
    assert f"cannot reach wss://{HOST}/ws/chat: its name cannot be looked up" in sentence


async def test_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no name server answers, looking up ends in time, cancelling is immediate, and the
    threads that others need are free."""
    hanging = threading.Event()

    def look_up(_host: object, _port: object, *options: int) -> list[object]:
        if not options[-1] & socket.AI_NUMERICHOST:
            hanging.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    trio.socket.set_custom_hostname_resolver(BoundedResolver(timeout=0.2, threads=2))
    try:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                reason, sentence = await failure(f"ws://{HOST}/", connect_timeout=5)
                assert reason == "dns_failed"
                assert "no name server answered within 0.2 s" in sentence

            for _connection in range(60):  # more than there are threads for all purposes
                nursery.start_soon(fail)
            with trio.move_on_after(0.05) as cancelled:
                await failure(f"ws://{HOST}/", connect_timeout=5)
            assert cancelled.cancelled_caught
            free = trio.to_thread.current_default_thread_limiter().available_tokens
            assert free > 30
        assert trio.current_time() - began < 5
    finally:
        hanging.set()


async def test_a_port_that_refuses_and_an_address_that_swallows() -> None:
    """Refused at once, or no answer to the connection request at all."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    place = listener.getsockname()
    crowd: list[socket.socket] = []
    try:
        for _client in range(2):  # nobody accepts: the kernel's queue is full after these
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(place)
            crowd.append(client)
        reason, sentence = await failure(f"ws://127.0.0.1:{place[1]}/")
        assert reason == "network"
        assert "no answer to the connection request within 0.4 s" in sentence
    finally:
        for each in (*crowd, listener):
            each.close()
    reason, sentence = await failure(f"ws://127.0.0.1:{place[1]}/")
    assert reason == "network"
    assert "refused" in sentence


async def test_tls_that_cannot_be_trusted(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another host's, an expired or a self-signed certificate: each is refused and named, and the
    right one is accepted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority().write(tmp_path)))
    with hosts(monkeypatch):
        cases: dict[str, pathlib.Path] = {
            "ostname mismatch": authority().issue(tmp_path, "other.test"),
            "has expired": authority().issue(tmp_path, HOST, expired=True),
            "self-signed": authority().issue(tmp_path, HOST, own=False),
        }
        for told, certificate in cases.items():
            async with echoing(certificate) as port:
                reason, sentence = await failure(f"wss://{HOST}:{port}/")
            assert reason == "tls_failed"
            assert told in sentence
            assert "certificate is not to be trusted" in sentence
        async with echoing(authority().issue(tmp_path, HOST)) as port:
            assert await reply(f"wss://{HOST}:{port}/") == b"hello"


async def test_tls_that_is_none(echo_port: int) -> None:
    """TLS to a port without it, a handshake that never ends, and one that ends with a reset."""
    url = f"wss://127.0.0.1:{echo_port}/"
    async with open_simulator(listen=("127.0.0.1", 0)) as simulator:
        port = int(simulator.url.rpartition(":")[2].partition("/")[0])
        async with open_tcp_proxy(("127.0.0.1", port)) as proxy:
            proxy.reset_after(200)
            reason, sentence = await failure(f"wss://127.0.0.1:{proxy.port}/")
            assert reason == "network"
            assert "reset" in sentence

    async def mail(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 mail server ready\r\n")
        await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_tcp, mail, 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        url = f"wss://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        reason, sentence = await failure(url)
        assert reason == "tls_failed"
        assert "does not speak TLS" in sentence
        nursery.cancel_scope.cancel()
    async with open_tcp_proxy(("127.0.0.1", echo_port)) as proxy:
        proxy.gate = Gate.SILENT
        for scheme in ("ws", "wss"):
            reason, sentence = await failure(f"{scheme}://127.0.0.1:{proxy.port}/")
            assert reason == "network"
            assert "no handshake in time" in sentence


async def test_bad_lines_carry_and_broken_ones_are_told(echo_port: int) -> None:
    """Byte by byte, slow and late: the connection works. Reset at any byte of the answer: it fails
    as one error, and the next one works."""
    async with open_tcp_proxy(("127.0.0.1", echo_port)) as proxy:
        url = f"ws://127.0.0.1:{proxy.port}/"
        proxy.flow(up=Flow(piece=1), down=Flow(piece=1))
        assert await reply(url) == b"hello"
        proxy.flow(up=Flow(delay=0.01), down=Flow(rate=4000.0))
        assert await reply(url) == b"hello"
        proxy.flow()
        for count in (0, 1, 20, 100):
            proxy.reset_after(count)
            reason, sentence = await failure(url)
            assert reason == "network"
            assert "cannot reach ws://127.0.0.1" in sentence
        assert await reply(url) == b"hello"
        proxy.gate = Gate.RESET
        assert (await failure(url))[0] == "network"
        proxy.clear()
        async with websocket_dialer(url)() as transport:
            proxy.reset()
            with pytest.raises(TransportError, match="socket closed"):
                await transport.receive()


SECRET = "s3cret"


def way(port: int, scheme: str, user: str = "") -> Proxy | None:
    return Proxy.parse(f"{scheme}://{user}127.0.0.1:{port}")


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
async def test_a_way_through_a_proxy(echo_port: int, scheme: str) -> None:
    """With and without a password, also when the answer comes byte by byte; with ``socks5h`` and
    ``http`` the proxy looks up the name."""
    remote = scheme != "socks5"
    url = f"ws://{'only.there' if remote else '127.0.0.1'}:{echo_port}/"
    for user in ("", f"us%40er:{SECRET}@"):
        async with open_forward_proxy(
            user="us@er" if user else None, piece=1, names={"only.there": "127.0.0.1"}
        ) as proxy:
            assert await reply(url, proxy=way(proxy.port, scheme, user)) == b"hello"
            assert proxy.asked == [url.removeprefix("ws://").removesuffix("/")]


@pytest.mark.parametrize(
    ("scheme", "options", "user", "told"),
    [
        ("http", {"user": "u"}, "", "it answers 407; it wants a user and a password"),
        ("http", {"http_answer": b"HTTP/1.1 403 No\r\n\r\n"}, "", "it answers 403; it does not"),
        ("http", {"http_answer": b"HTTP/1.1 502 Bad\r\n\r\n"}, "", "it answers 502; it lets us"),
        ("http", {"garbage": b"\x00\xff garbage\r\n\r\n"}, "", "does not speak HTTP"),
        ("http", {"garbage": b""}, "", "it ended the connection"),
        ("http", {"garbage": b"HTTP/1.1 200 " + b"x" * 40_000}, "", "does not speak HTTP"),
        ("http", {"silent": True}, "", "no way through it within 0.4 s"),
        ("socks5", {"user": "u"}, "", "authentication"),
        ("socks5", {"user": "u"}, "u:wr0ng-s3cret@", "authentication"),
        ("socks5h", {"socks_reply": 2}, "", "not allowed"),
        ("socks5h", {"socks_reply": 5}, "", "refused"),
        ("socks5h", {"socks_reply": 99}, "", "the proxy socks5h://127.0.0.1"),
        ("socks5", {"garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, "", "the proxy socks5://"),
        ("socks5", {"garbage": b""}, "", "the proxy socks5://127.0.0.1"),
        ("socks5", {"silent": True}, "", "no way through it within 0.4 s"),
    ],
)
async def test_a_proxy_that_refuses(
    echo_port: int, scheme: str, options: dict[str, t.Any], user: str, told: str
) -> None:
    """Whatever it does: one error that says what and where, and holds no password."""
    async with open_forward_proxy(**options) as proxy:
        url = f"ws://127.0.0.1:{echo_port}/"
        reason, sentence = await failure(url, proxy=way(proxy.port, scheme, user))
        assert reason == "proxy_failed"
        assert f"the proxy {scheme}://127.0.0.1:{proxy.port}: " in sentence
        assert told.lower() in sentence.lower()
        assert SECRET not in sentence


async def test_a_proxy_that_is_not_there(echo_port: int) -> None:
    """Refused, or unknown by name: told as the proxy's failure."""
    url = f"ws://127.0.0.1:{echo_port}/"
    for scheme in ("http", "socks5"):
        for place in ("127.0.0.1:1", "no-such-proxy.invalid"):
            proxy = Proxy.parse(f"{scheme}://user:{SECRET}@{place}")
            reason, sentence = await failure(url, proxy=proxy, connect_timeout=5)
            assert reason == "proxy_failed"
            assert "cannot be reached" in sentence
            assert SECRET not in sentence + repr(proxy)


async def test_files_take_the_way_of_their_connection(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files go through the proxy of their connection, whose refusal is told as such; those of
    a connection without a proxy go straight."""
    sealed, encryptor = encrypt("image", doubles.KEY, b"picture")
    source = encryptor.source(direct_path="/v/1?ccb=1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority().issue(tmp_path, HOST))

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some(4096):
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(sealed)}\r\n\r\n".encode()
                await stream.send_all(head + sealed)

    async def collect(chunks: cabc.AsyncIterator[bytes]) -> bytes:
        return b"".join([chunk async for chunk in chunks])

    async with (
        trio.open_nursery() as nursery,
        open_forward_proxy(user="u", names={HOST: "127.0.0.1"}) as socks,
        open_forward_proxy(names={HOST: "127.0.0.1"}) as plain,
    ):
        listeners = await nursery.start(
            functools.partial(trio.serve_ssl_over_tcp, serve, 0, context, host="127.0.0.1")
        )
        port = listeners[0].transport_listener.socket.getsockname()[1]
        settings = HttpSettings(
            spool=tmp_path,
            hosts=(f"{HOST}:{port}",),
            ca_file=authority().write(tmp_path),
            proxies={
                "sales": way(socks.port, "socks5h", f"u:{SECRET}@"),
                "support": way(plain.port, "http"),
                "direct": None,
            },
        )
        lines = {name: doubles.FakeLine(name=name, online=False) for name in settings.proxies}
        http = MediaHttp(settings, lines=lines.__getitem__, random=lambda size: b"\7" * size)
        async with contextlib.aclosing(http):

            async def fetch(name: str) -> bytes:
                with trio.fail_after(10):
                    return await http.fetch(source, collect, line=lines[name], limit=1 << 20)

            for name in ("sales", "support"):
                assert await fetch(name) == b"picture"
            assert socks.asked == plain.asked == [f"{HOST}:{port}"]
            monkeypatch.setattr("actors.media_http.TRIES", 1)
        socks.socks_reply, plain.http_answer = 2, b"HTTP/1.1 403 No\r\n\r\n"
        http = MediaHttp(settings, lines=lines.__getitem__, random=lambda size: b"\7" * size)
        async with contextlib.aclosing(http):
            for name, told in (("sales", "the proxy socks5h://"), ("support", "answers 403")):
                with pytest.raises(MediaUnavailableError, match=told) as refused:
                    await fetch(name)
                assert SECRET not in str(refused.value)
            with hosts(monkeypatch):
                assert await fetch("direct") == b"picture"
        assert len(plain.asked) == 2
        nursery.cancel_scope.cancel()
