"""HTTP through a proxy: the streams that the HTTP library gets instead of its own."""

import collections.abc as cabc
import contextlib
import ssl
import typing as t

import httpcore
import httpx
import trio

from actors.errors import TransportError
from actors.proxy import Proxy, ProxyFailedError, tunnel

CONNECT_TIMEOUT: t.Final = 20.0  # seconds, where the library says nothing

_Options: t.TypeAlias = cabc.Iterable[t.Any] | None
_Raised: t.TypeAlias = type[Exception]


class TunnelTransport(httpx.AsyncHTTPTransport):
    """httpx's transport, all of whose connections go through one proxy."""

    def __init__(self, proxy: Proxy, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)
        # The library takes a way of connecting only one layer below.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context, network_backend=_Backend(proxy)
        )


class _Backend(httpcore.AsyncNetworkBackend):
    """Connects through the proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: _Options = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            limit = CONNECT_TIMEOUT if timeout is None else timeout
            return _Stream(await tunnel(self._proxy, host, port, limit))
        except ProxyFailedError as error:
            raise httpcore.ProxyError(str(error)) from error
        except TransportError as error:
            raise httpcore.ConnectError(str(error)) from error

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """One of trio's streams in the words of the library."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _told(timeout, httpcore.ReadTimeout, httpcore.ReadError):
            return bytes(await self._stream.receive_some(max_bytes))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _told(timeout, httpcore.WriteTimeout, httpcore.WriteError):
            await self._stream.send_all(buffer)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        encrypted = trio.SSLStream(
            self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True
        )
        try:
            with _told(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
                await encrypted.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(self._stream)
            raise
        return _Stream(encrypted)

    def get_extra_info(self, info: str) -> t.Any:
        stream = self._stream
        if info == "ssl_object" and isinstance(stream, trio.SSLStream):
            return stream
        plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        if info == "is_readable" and isinstance(plain, trio.SocketStream):
            return plain.socket.is_readable()
        return None


@contextlib.contextmanager
def _told(timeout: float | None, late: _Raised, broken: _Raised) -> cabc.Iterator[None]:
    """Bound it, and raise what the library expects."""
    try:
        with trio.fail_after(float("inf") if timeout is None else timeout):
            yield
    except trio.TooSlowError as error:
        raise late(str(error)) from error
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise broken(str(error.__cause__ or error)) from error
