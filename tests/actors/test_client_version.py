"""The look-up of the current client version: what is believed of a page, and what is not."""

import collections.abc as cabc
import contextlib

import httpx
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from actors import version
from actors.version import VersionUnknownError, revision_in, web_look_up
from config.model import Config

URL = Config().whatsapp.version_url


@pytest.mark.parametrize(
    "page",
    [
        rb'JSON.parse("{\"SiteData\":{\"server_revision\":1,\"client_revision\":1047769893,\"x\":1}}")',
        b'["SiteData",[],{"server_revision":1047769893,"client_revision":1047769893,"tier":""}]',
        b'"client_revision": 1047769893}',
        b'"client_revision":1047769893,{"client_revision":1047769893}',
    ],
)
def test_the_revision_is_found_in_both_kinds_of_page(page: bytes) -> None:
    """As plain JSON, and as JSON within a string of JavaScript."""
    assert revision_in(page) == (2, 3000, 1047769893)


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"<html>blocked by the proxy</html>",
        b'"client_revision":"1047769893"',
        b'"client_revision":0',
        b'"client_revision":-1047769893',
        b'"client_revision":12345',
        b'"client_revision":9999999999',
        b'"client_revision":10477698931',
        b'"client_revision":1047769893,"client_revision":1047769894',
        '"client_revision":１０４７７６９８９３'.encode(),
    ],
)
def test_anything_else_is_not_believed(page: bytes) -> None:
    """What is absent, malformed, out of range or contradicts itself is no version."""
    with pytest.raises(VersionUnknownError):
        revision_in(page)


@given(st.binary(max_size=300))
def test_no_page_breaks_it(noise: bytes) -> None:
    """Bytes from the web raise nothing else."""
    for text in (noise, b'"client_revision":' + noise):
        with contextlib.suppress(VersionUnknownError):
            revision_in(text)


def answering(answer: cabc.Callable[[httpx.Request], httpx.Response]) -> httpx.MockTransport:
    return httpx.MockTransport(answer)


async def test_the_page_is_fetched(autojump_clock: trio.testing.MockClock) -> None:
    """As a browser would, from the configured address."""
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=page(b'"client_revision":', b"1047769999,"))

    assert await web_look_up(URL, lambda: answering(answer))() == (2, 3000, 1047769999)
    [request] = asked
    assert str(request.url) == "https://web.whatsapp.com/sw.js"
    assert request.headers["sec-fetch-site"] == "none"


async def page(*pieces: bytes) -> cabc.AsyncIterator[bytes]:
    for piece in pieces:
        await trio.lowlevel.checkpoint()
        yield piece


async def endless() -> cabc.AsyncIterator[bytes]:
    while True:
        await trio.lowlevel.checkpoint()
        yield bytes(1 << 16)


async def silent() -> cabc.AsyncIterator[bytes]:
    await trio.sleep_forever()
    yield b""


def broken(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route to host")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _request: httpx.Response(403, content=b'"client_revision":1047769999'), "403"),
        (lambda _request: httpx.Response(302, headers={"Location": "http://x/"}), "302"),
        (lambda _request: httpx.Response(200, content=endless()), "larger"),
        (lambda _request: httpx.Response(200, content=silent()), "longer"),
        (broken, "no route"),
    ],
    ids=["refused", "redirected", "endless", "silent", "unreachable"],
)
async def test_every_failure_is_told_the_same_way(
    autojump_clock: trio.testing.MockClock,
    answer: cabc.Callable[[httpx.Request], httpx.Response],
    why: str,
) -> None:
    """Bounded in size and time; what went wrong is in the error."""
    began = trio.current_time()
    with pytest.raises(VersionUnknownError, match=why):
        await web_look_up(URL, lambda: answering(answer))()
    assert trio.current_time() - began <= version.LOOK_UP_TIMEOUT


async def test_an_impossible_address_is_a_failure_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Whatever the configuration let through."""
    with pytest.raises(VersionUnknownError):
        await web_look_up("https://[::bad/")()
