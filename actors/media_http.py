"""Files to and from WhatsApp's servers over HTTPS: streamed, bounded, verified.

Which hosts there are is asked of a connection while one is online, and kept as long as the
server allows; otherwise the configured ones serve. Source: docs/protocol.md#media-http
"""

import collections.abc as cabc
import contextlib
import functools
import json
import pathlib
import ssl
import typing as t

import attrs
import httpx
import structlog
import trio

from actors.errors import ActorError, TransportError
from actors.line import Line, NotOnlineError
from actors.media_tunnel import TunnelTransport
from actors.proxy import Proxy
from storage.blobs import PIECE, Spool, spooling
from whatsapp.e2ee.primitives import BLOCK
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq.media_conn import MediaConnection, media_conn_request, parse_media_conn
from whatsapp.media import (
    KEY_LENGTH,
    MAC_LENGTH,
    MAX_PATH,
    ORIGIN_HEADERS,
    MediaCorruptError,
    MediaDecryptor,
    MediaEncryptor,
    download_urls,
    upload_url,
)
from whatsapp.media_source import MediaSource

TRIES: t.Final = 2  # per host, of what may pass
PAUSE: t.Final = 1.0  # seconds between them
LEAST_TTL: t.Final = 60.0  # seconds the hosts are kept at least, also when none were told
MAX_ANSWER: t.Final = 64 * 1024  # bytes of the answer to an upload
MAX_RETRY_AFTER: t.Final = 3600.0  # seconds

T = t.TypeVar("T")
Consume: t.TypeAlias = cabc.Callable[[cabc.AsyncIterator[bytes]], cabc.Awaitable[T]]
"""Takes a file's plaintext to its end. It is verified only then: what the iterator gave counts
for nothing if it raises, and the whole may be tried again."""

FetchMedia: t.TypeAlias = cabc.Callable[[str, MediaSource, int], cabc.Awaitable[bytes]]
"""Connection, source, most bytes → the plaintext: see :meth:`MediaHttp.fetch_small`."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("media")


class MediaError(ActorError):
    """A file could not be fetched or put."""


class MediaGoneError(MediaError):
    """It is not on the servers any more: only the phone can help."""


class MediaTooLargeError(MediaError):
    """It has more bytes than are wanted."""


class MediaUnavailableError(MediaError):
    """Not now: the same may succeed later."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after  # seconds, as the server asked


@attrs.frozen(kw_only=True)
class HttpSettings:
    """What the operator may set; times in seconds."""

    spool: pathlib.Path  # directory for files on their way to the servers
    hosts: tuple[str, ...] = ("mmg.whatsapp.net",)
    """Asked while no connection is online."""
    ca_file: pathlib.Path | None = None  # more certificates to trust
    proxy: Proxy | None = None  # of whoever has none of its own
    proxies: cabc.Mapping[str, Proxy | None] = attrs.field(factory=dict)
    """By connection, where it differs from ``proxy``."""
    connect_timeout: float = 10.0
    idle_timeout: float = 30.0  # without a byte
    least_rate: float = 64 * 1024.0
    """Bytes per second below which a transfer is given up in the end."""
    grace: float = 60.0  # on top of that


@attrs.frozen
class _Hosts:
    granted: MediaConnection | None  # None: refused; not asked again for a while
    until: float  # trio clock


class MediaHttp:
    """Fetches and puts files. Close it (``aclose``) in the end."""

    def __init__(
        self,
        settings: HttpSettings,
        *,
        lines: cabc.Callable[[str], Line],
        random: cabc.Callable[[int], bytes],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """``lines`` gives the line of a connection; ``random`` is secret randomness;
        ``transport`` takes the place of the network.

        Raises:
            OSError: the file of certificates cannot be read, or is none.
        """
        context = ssl.create_default_context()
        if settings.ca_file is not None:
            context.load_verify_locations(settings.ca_file)
        self._settings = settings
        self._lines = lines
        self._random = random
        self._known: dict[str, _Hosts] = {}
        self._asking: dict[str, trio.Lock] = {}
        self._open = functools.partial(_client, settings, context, transport)
        self._proxies: cabc.Mapping[str, Proxy | None] = {}
        self._clients = {settings.proxy: self._open(settings.proxy)}
        self.use_proxies(settings.proxies)

    def use_proxies(self, proxies: cabc.Mapping[str, Proxy | None]) -> None:
        """The ways of the connections from now on; what is under way goes on as it began."""
        self._proxies = dict(proxies)
        for proxy in set(proxies.values()) - set(self._clients):
            self._clients[proxy] = self._open(proxy)

    async def aclose(self) -> None:
        """Close the sockets."""
        for client in self._clients.values():
            await client.aclose()

    def _client(self, line: Line | None) -> httpx.AsyncClient:
        """The client that takes the way of a connection."""
        own = None if line is None else line.name
        return self._clients[self._proxies.get(own or "", self._settings.proxy)]

    def longest(self, size: int) -> float:
        """Seconds after which the transfer of so many bytes is given up."""
        return self._settings.grace + size / self._settings.least_rate

    # ---- from the servers

    async def fetch(
        self, source: MediaSource, consume: Consume[T], *, line: Line | None = None, limit: int
    ) -> T:
        """Hand a file's plaintext to ``consume``, from the first host that has it whole; what
        ``consume`` gives, once the file is verified.

        ``consume`` is called anew for every try. ``limit``: most bytes of plaintext.

        Raises:
            MediaGoneError: it is not there any more.
            MediaTooLargeError: more than ``limit`` bytes.
            MediaUnavailableError: not now.
            MediaCorruptError: it is not the file that was announced, on any host.
            RemoteProtocolError: the source leads nowhere.
        """
        if source.length is not None and source.length > limit:
            raise MediaTooLargeError(f"{source.length} bytes, more than {limit}")
        urls = download_urls(source, await self._download_hosts(line))
        with trio.move_on_after(self.longest(limit if source.length is None else source.length)):
            return await self._fetch_from(self._client(line), urls, source, consume, limit)
        raise MediaUnavailableError("the file did not come in time")

    async def fetch_small(self, connection: str, source: MediaSource, limit: int) -> bytes:
        """A small file in memory, verified; raises what :meth:`fetch` raises."""

        async def collect(chunks: cabc.AsyncIterator[bytes]) -> bytes:
            return b"".join([chunk async for chunk in chunks])

        return await self.fetch(source, collect, line=self._lines(connection), limit=limit)

    async def _fetch_from(
        self,
        client: httpx.AsyncClient,
        urls: tuple[str, ...],
        source: MediaSource,
        consume: Consume[T],
        limit: int,
    ) -> T:
        failure: MediaUnavailableError | MediaCorruptError | None = None
        for url in urls:
            for attempt in range(TRIES):
                if attempt:
                    await trio.sleep(PAUSE)
                try:
                    with _ours():
                        return await _fetch(client, url, source, consume, limit)
                except MediaCorruptError as error:
                    failure = failure or error
                    break
                except MediaUnavailableError as error:
                    failure = error
        raise failure or MediaUnavailableError("there is no host to ask")

    # ---- to the servers

    async def upload(
        self,
        line: Line,
        kind: str,
        chunks: cabc.AsyncIterable[bytes],
        *,
        mimetype: str | None = None,
        file_name: str | None = None,
    ) -> MediaSource:
        """Encrypt a file under a fresh key and put it on the servers; how a message describes it.

        Raises:
            MediaTooLargeError: no host takes so much.
            MediaUnavailableError: not now.
            LocalProtocolError: there is no such kind.
            StorageUnavailableError: no room for the encrypted file.
        """
        encryptor = MediaEncryptor(kind, self._random(KEY_LENGTH))
        async with spooling(self._settings.spool) as spool:
            async for chunk in chunks:
                await spool.write(encryptor.feed(chunk))
            await spool.write(encryptor.finish())
            await spool.flush()
            direct_path, url = await self._put(line, kind, spool)
        return encryptor.source(
            direct_path=direct_path, url=url, mimetype=mimetype, file_name=file_name
        )

    async def _put(self, line: Line, kind: str, spool: Spool) -> tuple[str, str]:
        failure: MediaUnavailableError | None = None
        for renew in (False, True):
            granted = await self._granted(line, renew=renew)
            if granted is None:
                raise MediaUnavailableError("WhatsApp grants no uploads now")
            hosts = [
                host
                for host in granted.host_names
                if all(
                    spool.size <= (each.max_length or spool.size)
                    for each in granted.hosts
                    if each.name == host
                )
            ]
            if not hosts:
                raise MediaTooLargeError(f"no host takes {spool.size} bytes")
            for host in hosts:
                try:
                    with _ours(), trio.fail_after(self.longest(spool.size)):
                        url = upload_url(host, kind, spool.sha256, granted.auth)
                        return await _post(self._client(line), url, spool)
                except trio.TooSlowError:
                    failure = MediaUnavailableError("the upload did not end in time")
                except MediaUnavailableError as error:
                    failure = error
        raise failure or MediaUnavailableError("there is no host to ask")

    # ---- hosts

    async def _download_hosts(self, line: Line | None) -> tuple[str, ...]:
        granted = None if line is None else await self._granted(line)
        return self._settings.hosts if granted is None else granted.host_names

    async def _granted(self, line: Line, *, renew: bool = False) -> MediaConnection | None:
        """The hosts for one connection; None: they cannot be asked for now."""
        async with self._asking.setdefault(line.name, trio.Lock()):
            known = self._known.get(line.name)
            if known is not None and not renew and trio.current_time() < known.until:
                return known.granted
            if not line.online:
                return None
            granted: MediaConnection | None = None
            try:
                granted = parse_media_conn(await line.request(media_conn_request))
            except (NotOnlineError, TransportError):
                return None
            except RemoteProtocolError as error:
                log.warning("media.hosts_refused", connection=line.name, error=str(error))
            valid = LEAST_TTL if granted is None else max(LEAST_TTL, granted.ttl)
            self._known[line.name] = _Hosts(granted, trio.current_time() + valid)
            return granted


async def _fetch(
    client: httpx.AsyncClient, url: str, source: MediaSource, consume: Consume[T], limit: int
) -> T:
    decryptor = MediaDecryptor(source)
    async with client.stream("GET", url) as response:
        _require_file(response)
        overhead = MAC_LENGTH + BLOCK if source.media_key else 0
        async with (
            bounded_body(response, limit + overhead) as raw,
            contextlib.aclosing(_plaintext(raw, decryptor)) as chunks,
        ):
            consumed = await consume(chunks)
            async for _ in chunks:
                raise RuntimeError("the consumer of a file left before its end")
            return consumed


async def _post(client: httpx.AsyncClient, url: str, spool: Spool) -> tuple[str, str]:
    body = _SpoolStream(spool)
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(spool.size),
    }
    request = client.build_request("POST", url, content=body, headers=headers)
    request.stream = body  # as it is: the client would wrap it in a generator
    async with contextlib.aclosing(await client.send(request, stream=True)) as response:
        if response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            raise MediaTooLargeError(f"the host does not take {spool.size} bytes")
        if response.status_code != httpx.codes.OK:
            raise _refusal(response)
        async with bounded_body(response, MAX_ANSWER) as raw:
            return _read_answer(b"".join([chunk async for chunk in raw]))


def _client(
    settings: HttpSettings,
    context: ssl.SSLContext,
    transport: httpx.AsyncBaseTransport | None,
    proxy: Proxy | None,
) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=context,
        transport=transport or _way(proxy, context),
        headers={**ORIGIN_HEADERS, "Accept-Encoding": "identity"},
        follow_redirects=False,
        trust_env=False,
        timeout=httpx.Timeout(settings.idle_timeout, connect=settings.connect_timeout),
    )


def _way(proxy: Proxy | None, context: ssl.SSLContext) -> httpx.AsyncBaseTransport | None:
    return None if proxy is None else TunnelTransport(proxy, context)


@contextlib.contextmanager
def _ours() -> cabc.Iterator[None]:
    """What the HTTP library raises becomes ours; addresses stay out of the texts."""
    try:
        yield
    except httpx.ProxyError as error:
        raise MediaUnavailableError(str(error)) from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise MediaUnavailableError(f"the file's host: {type(error).__name__}") from error


def _require_file(response: httpx.Response) -> None:
    match response.status_code:
        case httpx.codes.OK:
            return
        case httpx.codes.FORBIDDEN | httpx.codes.NOT_FOUND | httpx.codes.GONE:
            raise MediaGoneError(f"the file's host answered {response.status_code}")
        case _:
            raise _refusal(response)


def _refusal(response: httpx.Response) -> MediaUnavailableError:
    after = response.headers.get("Retry-After", "")
    seconds = min(float(after), MAX_RETRY_AFTER) if after.isascii() and after.isdigit() else None
    return MediaUnavailableError(f"the file's host answered {response.status_code}", seconds)


@contextlib.asynccontextmanager
async def bounded_body(
    response: httpx.Response, most: int
) -> cabc.AsyncIterator[cabc.AsyncGenerator[bytes, None]]:
    """The body as it comes, up to so many bytes; it may be left at any time."""
    announced = response.headers.get("Content-Length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:19]) > most:
        raise MediaTooLargeError(f"{announced[:19]} bytes, more than {most}")
    pieces = response.aiter_raw()
    try:
        async with contextlib.aclosing(_bounded(pieces, most)) as bounded:
            yield bounded
    finally:
        await _unwind(pieces)


async def _bounded(
    pieces: cabc.AsyncIterator[bytes], most: int
) -> cabc.AsyncGenerator[bytes, None]:
    received = 0
    async for piece in pieces:
        received += len(piece)
        if received > most:
            raise MediaTooLargeError(f"more than {most} bytes")
        yield piece


async def _unwind(pieces: cabc.AsyncIterator[bytes]) -> None:
    """Leave the body of an answer.

    The HTTP library nests generators, and closing the outermost leaves the inner ones to the
    garbage collector. Going on in a cancelled scope makes the innermost, which waits for the
    network, end them all; before that at most what was received already comes out.
    """
    with trio.CancelScope() as scope, contextlib.suppress(httpx.TransportError):
        scope.cancel()
        async for _ in pieces:
            pass


async def _plaintext(
    raw: cabc.AsyncIterator[bytes], decryptor: MediaDecryptor
) -> cabc.AsyncGenerator[bytes, None]:
    """The file's plaintext; ends only if all of it is as announced."""
    async for chunk in raw:
        if plain := decryptor.feed(chunk):
            yield plain
    if rest := decryptor.finish():
        yield rest


class _SpoolStream(httpx.AsyncByteStream):
    """The body of an upload; no generator, so that it may be left at any time."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._start = 0

    def __aiter__(self) -> cabc.AsyncIterator[bytes]:
        self._start = 0
        return self

    async def __anext__(self) -> bytes:
        if self._start >= self._spool.size:
            raise StopAsyncIteration
        piece = await self._spool.read(self._start, PIECE)
        self._start += len(piece)
        return piece


def _read_answer(data: bytes) -> tuple[str, str]:
    """Direct path and URL out of the answer to an upload."""
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MediaUnavailableError("the host's answer to an upload is no JSON") from error
    fields = answer if isinstance(answer, dict) else {}
    direct_path, url = fields.get("direct_path"), fields.get("url")
    if not (isinstance(direct_path, str) and isinstance(url, str)):
        raise MediaUnavailableError("the host does not say where it put the file")
    fine = direct_path.startswith("/") and url.startswith("https://")
    if not fine or max(len(direct_path), len(url)) > MAX_PATH:
        raise MediaUnavailableError("the host put the file at no usable place")
    return direct_path, url
