"""Files over the control socket: up in pieces, down without harm, and no slower than they move."""

import typing as t

import httpx
import pytest
import trio
import trio.testing
from daemon_fakes import Control, problem
from hypothesis import given, settings
from hypothesis import strategies as st

from api.bounds import FILE_DEADLINE, Bounds
from api.downloads import ANY, MAX_NAME, download_headers, safe_name
from storage.queues import MediaResult, MediaState

CONTENT = bytes(range(256)) * 20


async def stored(control: Control, content: bytes = CONTENT) -> int:
    """Ana's photo, fetched; the number of its message."""

    async def pieces() -> t.AsyncIterator[bytes]:
        yield content

    blob = await control.files.put(pieces())
    number = control.storage.numbers["ANA2"]
    result = MediaResult(state=MediaState.STORED, blob_sha256=blob.sha256, blob_size=blob.size)
    assert await control.storage.finish_media("sales", number, result)
    return number


async def test_up_and_down(client: httpx.AsyncClient, control: Control) -> None:
    """A file longer than any other body goes up in pieces; the one of a message comes down."""

    async def pieces() -> t.AsyncIterator[bytes]:
        for _ in range(100):
            yield CONTENT

    uploaded = await client.post("/media", content=pieces())
    assert uploaded.status_code == 201
    assert uploaded.json()["size"] == 100 * len(CONTENT)
    assert control.files.files[bytes.fromhex(uploaded.json()["sha256"])] == CONTENT * 100
    answer = await client.get(f"/messages/{await stored(control)}/media")
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "inline" in answer.headers["content-disposition"]
    assert "praia.jpg" in answer.headers["content-disposition"]


async def test_an_upload_that_is_cut_off(client: httpx.AsyncClient, control: Control) -> None:
    """Half a file is no file, and the next request is served; whenever the peer leaves."""
    head = b"POST /media HTTP/1.1\r\nHost: z\r\nContent-Length: 5000\r\n\r\n"
    for _again in range(20):
        async with await trio.open_unix_socket(str(control.path)) as peer:
            await peer.send_all(head + b"x" * 1000)
    assert (await client.get("/version")).status_code == 200
    assert control.files.files == {}


async def test_an_empty_file(client: httpx.AsyncClient, control: Control) -> None:
    """It is a file too."""
    assert (await client.post("/media", content=b"")).json()["size"] == 0
    number = await stored(control, b"")
    assert (await client.get(f"/messages/{number}/media")).content == b""


@pytest.mark.parametrize(
    ("state", "status", "kind"),
    [
        (None, 409, "file-not-stored"),
        (MediaState.SKIPPED, 409, "file-not-stored"),
        (MediaState.EXPIRED, 410, "file-gone"),
        (MediaState.FAILED, 410, "file-gone"),
    ],
)
async def test_a_file_that_is_not_there(
    client: httpx.AsyncClient, control: Control, state: MediaState | None, status: int, kind: str
) -> None:
    """Not yet, or never: the state and the reason are told; it can be asked for."""
    number = control.storage.numbers["ANA2"]
    if state is not None:
        result = MediaResult(state=state, error="404 on all hosts")
        await control.storage.finish_media("sales", number, result)
    found = problem(await client.get(f"/messages/{number}/media"))
    assert (found["status"], found["type"]) == (status, f"urn:zapvisor:{kind}")
    assert (state is None) or "404 on all hosts" in found["detail"]
    asked = await client.post(f"/messages/{number}/media")
    assert (asked.status_code, asked.json()["message_id"]) == (202, number)
    assert control.actions.asked == [("fetch", "sales", number)]


async def test_a_file_that_the_store_lost(client: httpx.AsyncClient, control: Control) -> None:
    """410: the row says stored, and nothing is there; so after its time of keeping."""
    number = await stored(control)
    control.files.files.clear()
    assert problem(await client.get(f"/messages/{number}/media"))["type"].endswith("file-missing")
    await control.storage.forget_media("sales", number)
    assert problem(await client.get(f"/messages/{number}/media"))["type"].endswith("file-gone")


async def test_a_message_without_a_file(client: httpx.AsyncClient, control: Control) -> None:
    """404."""
    number = control.storage.numbers["ANA1"]
    assert problem(await client.get(f"/messages/{number}/media"))["status"] == 404


@pytest.mark.parametrize(
    ("mimetype", "kind", "shown", "inline"),
    [
        ("image/png", "image", "image/png", True),
        ("IMAGE/JPEG; charset=x", "image", "image/jpeg", True),
        ("audio/ogg; codecs=opus", "audio", "audio/ogg", True),
        ("image/png", "document", "image/png", False),
        ("text/html", "document", ANY, False),
        ("image/svg+xml", "image", ANY, False),
        ("application/pdf", "document", ANY, False),
        ("text/html\r\nset-cookie: a=b", "image", ANY, False),
        (None, "image", ANY, False),
    ],
)
def test_types_that_are_shown(mimetype: str | None, kind: str, shown: str, inline: bool) -> None:
    """What the sender claims is believed only where it cannot hurt."""
    headers = download_headers(kind, mimetype, "a", 1)
    assert headers["content-type"] == shown
    assert headers["content-disposition"].startswith("inline" if inline else "attachment")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("praia.jpg", "praia.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\x.exe", "x.exe"),
        ('a"b;c\r\nd', "a_b;c__d"),
        ("\u202efdp.exe", "_fdp.exe"),
        ("...", "image.jpg"),
        ("", "image.jpg"),
        (None, "image.jpg"),
        ("x" * 300 + ".pdf", "x" * (MAX_NAME - 4) + ".pdf"),
        ("férias.png", "férias.png"),
    ],
)
def test_names(name: str | None, safe: str) -> None:
    """A name stays a name: no path, no control, no surprise."""
    assert safe_name(name, "image", "image/jpeg") == safe


@settings(max_examples=100, deadline=None)
@given(
    name=st.none() | st.text(st.characters(), max_size=200),
    mimetype=st.none() | st.text(st.characters(), max_size=50),
    kind=st.text(st.characters(), max_size=20),
)
def test_headers_of_any_stranger(name: str | None, mimetype: str | None, kind: str) -> None:
    """Whatever is claimed, each header is one line of ASCII."""
    for value in download_headers(kind, mimetype, name, 1).values():
        assert value.isascii()
        assert value.isprintable()


async def test_files_take_as_long_as_they_move(autojump_clock: trio.testing.MockClock) -> None:
    """Pieces keep a transfer alive; one that stands still is given up, and so is an endless one."""

    async def run(path: str, pauses: t.Iterator[float]) -> tuple[float, bool]:
        finished = False

        async def app(_scope: object, receive: t.Any, _send: object) -> None:
            nonlocal finished
            while await receive():
                pass
            finished = True

        async def receive() -> bool:
            pause = next(pauses, None)
            await trio.sleep(pause or 0)
            return pause is not None

        async def send(_message: object) -> None:
            pass

        begun = trio.current_time()
        bounds = Bounds(t.cast("t.Any", app), deadline=30)
        scope: t.Any = {"type": "http", "path": path}
        await bounds(scope, t.cast("t.Any", receive), t.cast("t.Any", send))
        return trio.current_time() - begun, finished

    assert await run("/media", iter([20.0] * 10)) == (200, True)
    assert await run("/messages/1/media", iter([20.0] * 10)) == (200, True)
    assert await run("/messages", iter([20.0] * 10)) == (30, False)
    assert await run("/media", iter([20.0, 40.0])) == (50, False)
    assert await run("/media", iter([20.0] * 1000)) == (FILE_DEADLINE, False)


async def test_a_part_of_a_file(client: httpx.AsyncClient, control: Control) -> None:
    """206 with the bytes that were asked for, 416 where there are none, all for anything odd."""
    path = f"/messages/{await stored(control)}/media"
    size = len(CONTENT)
    for asked, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=100-1299", 100, 1300),
        ("bytes=5000-", 5000, size),
        ("bytes=-20", size - 20, size),
        ("bytes=10-999999999", 10, size),
        (f"bytes=-{size * 2}", 0, size),
    ):
        answer = await client.get(path, headers={"range": asked})
        assert (answer.status_code, answer.content) == (206, CONTENT[start:end]), asked
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert answer.headers["content-length"] == str(end - start)
    for asked in ("bytes=0-1,3-4", "bytes=9-3", "bytes=-", "lines=1-2", "nonsense"):
        answer = await client.get(path, headers={"range": asked})
        assert (answer.status_code, answer.content) == (200, CONTENT), asked
        assert answer.headers["accept-ranges"] == "bytes"
    for asked in (f"bytes={size}-", "bytes=999999-", "bytes=-0"):
        refused = await client.get(path, headers={"range": asked})
        assert problem(refused)["type"] == "urn:zapvisor:no-such-range"
        assert (refused.status_code, refused.headers["content-range"]) == (416, f"bytes */{size}")


async def test_a_file_that_is_known_already(client: httpx.AsyncClient, control: Control) -> None:
    """304 by its ETag; a part of another version is never sent."""
    path = f"/messages/{await stored(control)}/media"
    etag = (await client.get(path)).headers["etag"]
    known = await client.get(path, headers={"if-none-match": f'"x", {etag}'})
    assert (known.status_code, known.content) == (304, b"")
    part = {"range": "bytes=0-9"}
    assert (await client.get(path, headers={**part, "if-range": etag})).status_code == 206
    assert (await client.get(path, headers={**part, "if-range": '"old"'})).status_code == 200


async def test_files_are_listed(client: httpx.AsyncClient, control: Control) -> None:
    """By state, with the hash of what is stored."""
    number = await stored(control)
    [row] = (await client.get("/media?connection=sales&state=stored")).json()
    assert (row["message_id"], row["state"], row["stored_size"]) == (number, "stored", len(CONTENT))
    assert len(row["sha256"]) == 64
    assert (await client.get("/media?state=failed")).json() == []
    assert problem(await client.get("/media?connection=nobody"))["status"] == 404
    assert problem(await client.get("/media?state=lost"))["status"] == 400
