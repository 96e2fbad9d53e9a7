"""The way out through a proxy: HTTP CONNECT (RFC 9110), SOCKS5 (RFC 1928, RFC 1929).

Whatever goes wrong is one ``TransportError`` with the reason ``proxy_failed``. Its sentence names
the proxy's address, never its user or password.
"""

import base64
import typing as t
import urllib.parse

import attrs
import h11
import trio
from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError, ProxyType
from python_socks.async_.trio.v2 import Proxy as SocksProxy

from actors.errors import TransportError
from actors.sockets import why

SCHEMES: t.Final = ("http", "socks5", "socks5h")
MAX_ANSWER: t.Final = 16 * 1024  # bytes of a proxy's answer
_PORTS: t.Final = {"http": 8080, "socks5": 1080, "socks5h": 1080}
_ANSWERS: t.Final = {
    401: "it wants a user and a password: check them in the proxy's URL",
    403: "it does not let us there: ask whoever runs it",
    407: "it wants a user and a password: check them in the proxy's URL",
}
_SOCKS_CONFUSED: t.Final = (ValueError, IndexError, TypeError, AssertionError, UnicodeError)


@attrs.frozen(kw_only=True)
class Proxy:
    """One proxy. Shown, it is its address alone."""

    scheme: str
    host: str
    port: int
    user: str = attrs.field(default="", repr=False)
    password: str = attrs.field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> "Proxy | None":
        """The proxy of a URL; None for an empty one. ``socks5h`` leaves names to the proxy.

        Raises:
            ValueError: it is no such URL; the text does not repeat it.
        """
        if not url:
            return None
        try:
            parts = urllib.parse.urlsplit(url)
            port, host = parts.port, parts.hostname
        except ValueError:
            raise ValueError("no URL of a proxy") from None
        if parts.scheme not in SCHEMES or not host or port == 0:
            raise ValueError("no URL of a proxy")
        return cls(
            scheme=parts.scheme,
            host=host,
            port=port or _PORTS[parts.scheme],
            user=urllib.parse.unquote(parts.username or ""),
            password=urllib.parse.unquote(parts.password or ""),
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class ProxyFailedError(TransportError):
    """The proxy cannot be reached, or refuses."""

    def __init__(self, proxy: Proxy, text: str) -> None:
        super().__init__(f"the proxy {proxy}: {text}", reason="proxy_failed")


async def tunnel(proxy: Proxy, host: str, port: int, timeout: float) -> trio.SocketStream:
    """A stream to a host through the proxy; ``timeout`` (seconds) is for all of it.

    Raises:
        ProxyFailedError: see there.
    """
    try:
        with trio.fail_after(timeout):
            if proxy.scheme == "http":
                return await _connect_http(proxy, host, port)
            return await _connect_socks(proxy, host, port)
    except trio.TooSlowError:
        raise ProxyFailedError(proxy, f"no way through it within {timeout:g} s") from None
    except trio.BrokenResourceError as error:
        raise ProxyFailedError(proxy, "it ended the connection") from error


async def _connect_http(proxy: Proxy, host: str, port: int) -> trio.SocketStream:
    try:
        stream = await trio.open_tcp_stream(proxy.host, proxy.port)
    except OSError as error:
        raise _unreachable(proxy, error) from error
    try:
        await _ask_http(stream, proxy, host, port)
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _ask_http(stream: trio.SocketStream, proxy: Proxy, host: str, port: int) -> None:
    """Ask for a tunnel, and read the answer to its end and no further: the server waits for us."""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    headers = [("Host", place)]
    if proxy.user:
        secret = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
        headers.append(("Proxy-Authorization", f"Basic {secret}"))
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER)
    request = http.send(h11.Request(method="CONNECT", target=place, headers=headers))
    await stream.send_all((request or b"") + (http.send(h11.EndOfMessage()) or b""))
    try:
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                if not (data := await stream.receive_some(MAX_ANSWER)):
                    raise ProxyFailedError(proxy, "it ended the connection")
                http.receive_data(data)
            elif isinstance(event, h11.Response):
                break
            elif not isinstance(event, h11.InformationalResponse):
                raise ProxyFailedError(proxy, "it ended the connection")
    except h11.RemoteProtocolError as error:
        raise ProxyFailedError(proxy, "it does not speak HTTP") from error
    if not 200 <= event.status_code < 300:
        told = _ANSWERS.get(event.status_code, "it lets us through to nobody now")
        raise ProxyFailedError(proxy, f"it answers {event.status_code}; {told}")


async def _connect_socks(proxy: Proxy, host: str, port: int) -> trio.SocketStream:
    socks = SocksProxy(
        ProxyType.SOCKS5,
        proxy.host,
        proxy.port,
        proxy.user or None,
        proxy.password if proxy.user else None,
        rdns=proxy.scheme == "socks5h",
    )
    try:
        stream = await socks.connect(host, port, timeout=3600.0)  # the caller's deadline counts
    except ProxyConnectionError as error:
        raise _unreachable(proxy, error.__cause__ or error) from error
    except (ProxyError, ProxyTimeoutError) as error:
        raise ProxyFailedError(proxy, f"{str(error)[:200] or 'it hung up'}") from error
    except OSError as error:  # the name of the host, which we look up for it
        raise TransportError(f"{host}: {error}", reason="dns_failed") from error
    except _SOCKS_CONFUSED as error:
        raise ProxyFailedError(proxy, "it does not speak SOCKS 5") from error
    plain = stream.trio_stream
    if not isinstance(plain, trio.SocketStream):
        raise TypeError("a tunnel without TLS is a plain socket")
    return plain


def _unreachable(proxy: Proxy, error: BaseException) -> ProxyFailedError:
    return ProxyFailedError(proxy, f"it cannot be reached: {why(error)}")
