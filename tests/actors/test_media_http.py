"""Files over HTTPS: verified or not at all, bounded, from the first host that has them."""

import collections.abc as cabc
import os
import pathlib
import ssl
import typing as t

import attrs
import httpx
import media_doubles as doubles
import pytest
import trio
import trio.testing

from actors.composition import UnsendableError
from actors.media_http import (
    PAUSE,
    HttpSettings,
    MediaGoneError,
    MediaHttp,
    MediaTooLargeError,
    MediaUnavailableError,
)
from actors.media_uploads import StoredUploads
from storage.blobs import LocalBlobs
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.media import MediaCorruptError, decrypt
from whatsapp.media_source import MediaSource

PICTURE = bytes(range(256)) * 40
LIMIT = 1 << 20


@pytest.fixture
def servers() -> doubles.Servers:
    """Media servers without files."""
    return doubles.Servers()


@pytest.fixture
def line() -> doubles.FakeLine:
    """The line of a connection that is online."""
    return doubles.FakeLine()


@pytest.fixture
async def http(
    servers: doubles.Servers, line: doubles.FakeLine, tmp_path: pathlib.Path
) -> cabc.AsyncIterator[MediaHttp]:
    """What is tested, in front of those servers."""
    http = MediaHttp(
        HttpSettings(spool=tmp_path, hosts=("fixed.example",)),
        lines=lambda _name: line,
        random=lambda size: b"\7" * size,
        transport=httpx.MockTransport(servers.handle),
    )
    yield http
    await http.aclose()


async def fetch(
    http: MediaHttp, source: MediaSource, line: doubles.FakeLine | None = None
) -> bytes:
    async def collect(chunks: cabc.AsyncIterator[bytes]) -> bytes:
        return b"".join([chunk async for chunk in chunks])

    return await http.fetch(source, collect, line=line, limit=LIMIT)


# ---- downloads


async def test_a_file_is_fetched(
    http: MediaHttp, servers: doubles.Servers, line: doubles.FakeLine
) -> None:
    """From the first host that the connection was told of, with the headers of a browser."""
    source = servers.put("/v/1", PICTURE)
    assert await fetch(http, source, line) == PICTURE
    (request,) = servers.requests
    assert request.url.host == "a.example"
    assert request.url.params["mms-type"] == "image"
    assert request.headers["Origin"] == "https://web.whatsapp.com"
    assert request.headers["Referer"] == "https://web.whatsapp.com/"
    assert request.headers["Accept-Encoding"] == "identity"
    assert await http.fetch_small(line.name, source, LIMIT) == PICTURE


async def test_hosts_are_asked_for_once_in_their_time(
    http: MediaHttp,
    servers: doubles.Servers,
    line: doubles.FakeLine,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As long as the server said; without a line, or offline, the configured one serves."""
    source = servers.put("/v/1", PICTURE)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(fetch, http, source, line)
    assert line.asked == 1
    await trio.sleep(line.ttl - 1)
    await fetch(http, source, line)
    assert line.asked == 1
    await trio.sleep(2)
    await fetch(http, source, line)
    assert line.asked == 2
    await fetch(http, source)
    line.online = False
    await trio.sleep(line.ttl + 1)
    await fetch(http, source, line)
    assert servers.hosts[-2:] == ["fixed.example", "fixed.example"]


async def test_the_next_host_helps(
    http: MediaHttp,
    servers: doubles.Servers,
    line: doubles.FakeLine,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What may pass is tried twice, then the next host; one that recovers is enough."""
    source = servers.put("/v/1", PICTURE)
    servers.statuses["a.example"] = [500, 503]
    assert await fetch(http, source, line) == PICTURE
    assert servers.hosts == ["a.example", "a.example", "b.example"]
    assert trio.current_time() == pytest.approx(PAUSE)
    servers.statuses["a.example"] = [429]
    assert await fetch(http, source, line) == PICTURE
    assert servers.hosts[3:] == ["a.example", "a.example"]


async def test_all_hosts_fail(
    http: MediaHttp,
    servers: doubles.Servers,
    line: doubles.FakeLine,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Then it is for later, when the server said."""
    servers.statuses = {"a.example": [500] * 9, "b.example": [302] * 9}
    with pytest.raises(MediaUnavailableError, match="302") as caught:
        await fetch(http, servers.put("/v/1", PICTURE), line)
    assert caught.value.retry_after == 120
    assert len(servers.requests) == 4


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_gone_is_gone(
    http: MediaHttp, servers: doubles.Servers, line: doubles.FakeLine, status: int
) -> None:
    """At once, on the word of one host."""
    servers.statuses["a.example"] = [status]
    with pytest.raises(MediaGoneError, match=str(status)):
        await fetch(http, servers.put("/v/1", PICTURE), line)
    assert servers.hosts == ["a.example"]


async def test_a_broken_network(
    http: MediaHttp, servers: doubles.Servers, autojump_clock: trio.testing.MockClock
) -> None:
    """Is for later, and no address is in the text."""

    async def break_down(request: httpx.Request) -> None:
        raise httpx.ConnectError("https://secret.example/v/1", request=request)

    servers.before_answer = break_down
    with pytest.raises(MediaUnavailableError) as caught:
        await fetch(http, servers.put("/v/1", PICTURE))
    assert str(caught.value) == "the file's host: ConnectError"


async def test_a_body_that_breaks_off(
    servers: doubles.Servers, tmp_path: pathlib.Path, autojump_clock: trio.testing.MockClock
) -> None:
    """The consumer starts anew with the next try; the pieces of the first one count for nothing."""
    source = servers.put("/v/1", PICTURE)
    file, tries = servers.files["/v/1"], 0

    async def body(whole: bool) -> cabc.AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        yield file[:1000]
        if not whole:
            raise httpx.ReadError("gone")
        yield file[1000:]

    async def handle(_request: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += 1
        return httpx.Response(200, content=body(whole=tries == 2))

    http = MediaHttp(
        HttpSettings(spool=tmp_path),
        lines=lambda _name: doubles.FakeLine(),
        random=bytes,
        transport=httpx.MockTransport(handle),
    )
    assert await fetch(http, source) == PICTURE
    assert tries == 2
    await http.aclose()


async def test_corrupt_files(
    http: MediaHttp, servers: doubles.Servers, line: doubles.FakeLine
) -> None:
    """Every host is asked once; the consumer sees the error before its end."""
    source = servers.put("/v/1", PICTURE)
    servers.files["/v/1"] = servers.files["/v/1"][:-1] + b"\0"
    seen: list[bytes] = []

    async def watch(chunks: cabc.AsyncIterator[bytes]) -> None:
        seen.extend([chunk async for chunk in chunks])
        raise AssertionError("never reached")

    with pytest.raises(MediaCorruptError):
        await http.fetch(source, watch, line=line, limit=LIMIT)
    assert servers.hosts == ["a.example", "b.example"]
    assert seen == []


@pytest.mark.parametrize("claim", [None, len(PICTURE), 5])
async def test_too_large(http: MediaHttp, servers: doubles.Servers, claim: int | None) -> None:
    """By what is claimed before asking, by the header, or as it comes."""
    source = attrs.evolve(servers.put("/v/1", PICTURE), length=claim)
    with pytest.raises((MediaTooLargeError, MediaCorruptError)):
        await http.fetch_small("sales", source, 1000)
    assert len(servers.requests) == (0 if claim == len(PICTURE) else 1)


async def test_too_large_as_it_comes(tmp_path: pathlib.Path, servers: doubles.Servers) -> None:
    """A body without a length is cut off at the limit."""
    source = attrs.evolve(servers.put("/v/1", PICTURE), length=None)
    sent = 0

    async def body() -> cabc.AsyncIterator[bytes]:
        nonlocal sent
        while True:
            await trio.lowlevel.checkpoint()
            sent += 1000
            yield bytes(1000)

    async def handle(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=body())

    http = MediaHttp(
        HttpSettings(spool=tmp_path),
        lines=lambda _name: doubles.FakeLine(),
        random=bytes,
        transport=httpx.MockTransport(handle),
    )
    with pytest.raises(MediaTooLargeError):
        await http.fetch_small("sales", source, 5000)
    assert sent <= 7000
    await http.aclose()


async def test_a_trickle_is_given_up(
    http: MediaHttp, servers: doubles.Servers, autojump_clock: trio.testing.MockClock
) -> None:
    """A transfer has an end, however alive it looks."""

    async def stall(_request: httpx.Request) -> None:
        await trio.sleep_forever()

    servers.before_answer = stall
    source = servers.put("/v/1", PICTURE)
    with pytest.raises(MediaUnavailableError, match="in time"):
        await fetch(http, source)
    assert trio.current_time() == pytest.approx(http.longest(len(PICTURE)))


async def test_a_consumer_must_read_to_the_end(http: MediaHttp, servers: doubles.Servers) -> None:
    """What it took before was not verified: a bug of ours."""

    async def hasty(chunks: cabc.AsyncIterator[bytes]) -> bytes:
        return await anext(chunks)

    with pytest.raises(RuntimeError, match="before its end"):
        await http.fetch(servers.put("/v/1", PICTURE), hasty, limit=LIMIT)


async def test_a_source_that_leads_nowhere(http: MediaHttp) -> None:
    """Is the peer's fault, and nobody is asked."""
    with pytest.raises(RemoteProtocolError):
        await fetch(http, MediaSource(kind="image", direct_path="@evil.example/"))


def test_more_certificates(tmp_path: pathlib.Path) -> None:
    """A file that holds none is told at the start."""
    bad = tmp_path / "ca.pem"
    bad.write_text("none")
    with pytest.raises(ssl.SSLError):
        MediaHttp(
            HttpSettings(spool=tmp_path, ca_file=bad),
            lines=lambda _name: doubles.FakeLine(),
            random=bytes,
        )


# ---- uploads


async def chunks_of(data: bytes) -> cabc.AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


async def test_an_upload(
    http: MediaHttp, servers: doubles.Servers, line: doubles.FakeLine, tmp_path: pathlib.Path
) -> None:
    """Encrypted under a fresh key, under its hash, with the permission; nothing is left here."""
    source = await http.upload(
        line, "document", chunks_of(PICTURE), mimetype="text/plain", file_name="a.txt"
    )
    (request,) = servers.requests
    assert request.method == "POST"
    assert request.url.path.startswith("/mms/document/")
    assert request.url.params["auth"] == "AUTH"
    assert "Transfer-Encoding" not in request.headers
    (body,) = servers.uploads.values()
    assert request.headers["Content-Length"] == str(len(body))
    assert decrypt(source, body) == PICTURE
    assert (source.kind, source.mimetype, source.file_name) == ("document", "text/plain", "a.txt")
    assert source.media_key == b"\7" * 32
    assert (source.direct_path, source.url) == ("/v/1?x=1", "https://a.example/v/1?x=1")
    assert await fetch(http, source, line) == PICTURE
    assert os.listdir(tmp_path) == []


async def test_an_upload_finds_its_host(
    http: MediaHttp, servers: doubles.Servers, line: doubles.FakeLine
) -> None:
    """The next one where one fails, and all with a new permission after that."""
    servers.statuses = {"a.example": [500], "b.example": [401]}
    await http.upload(line, "image", chunks_of(PICTURE))
    assert servers.hosts == ["a.example", "b.example", "a.example"]
    assert line.asked == 2


async def test_uploads_that_fail(
    http: MediaHttp, servers: doubles.Servers, line: doubles.FakeLine, tmp_path: pathlib.Path
) -> None:
    """Offline, refused by all, too large for all."""
    servers.statuses = {"a.example": [500] * 2, "b.example": [401] * 2}
    with pytest.raises(MediaUnavailableError, match="401"):
        await http.upload(line, "image", chunks_of(PICTURE))
    with pytest.raises(MediaTooLargeError):
        await http.upload(line, "image", chunks_of(bytes((1 << 20) + 1)))
    servers.statuses = {"a.example": [413]}
    with pytest.raises(MediaTooLargeError):
        await http.upload(line, "image", chunks_of(PICTURE))
    with pytest.raises(LocalProtocolError):
        await http.upload(line, "poem", chunks_of(PICTURE))
    offline = doubles.FakeLine(name="other", online=False)
    with pytest.raises(MediaUnavailableError, match="no uploads"):
        await http.upload(offline, "image", chunks_of(PICTURE))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"url": "https://a/v", "direct_path": 5},
        {"url": "http://a/v", "direct_path": "/v"},
        {"url": "https://a/v", "direct_path": "v"},
        {"url": "https://a/v", "direct_path": "/" + "v" * 5000},
        "x" * 100_000,
    ],
)
async def test_odd_answers_to_uploads(
    http: MediaHttp, servers: doubles.Servers, line: doubles.FakeLine, answer: t.Any
) -> None:
    """Are no place for a file."""
    servers.answer = answer
    with pytest.raises((MediaUnavailableError, MediaTooLargeError)):
        await http.upload(line, "image", chunks_of(PICTURE))


async def test_stored_files_are_uploaded_by_their_hash(
    http: MediaHttp, servers: doubles.Servers, line: doubles.FakeLine, tmp_path: pathlib.Path
) -> None:
    """What is not there, or never will be taken, is unsendable; the rest may pass."""
    blobs = LocalBlobs(tmp_path / "blobs")
    await blobs.prepare()
    blob = await blobs.put(chunks_of(PICTURE))
    upload = StoredUploads(blobs, http, line)
    source = await upload(blob.sha256.hex(), "image")
    assert await fetch(http, source, line) == PICTURE
    for file, kind in (("no", "image"), ("00", "image"), ("00" * 32, "image")):
        with pytest.raises(UnsendableError):
            await upload(file, kind)
    with pytest.raises(UnsendableError):
        await upload(blob.sha256.hex(), "poem")
    line.online = False
    line.name = "other"
    with pytest.raises(MediaUnavailableError):
        await upload(blob.sha256.hex(), "image")
