"""Connections over the control socket: listed, shown, made, changed, deleted, paired."""

import contextlib
import json
import re
import typing as t
import zlib

import httpx
import pytest
import trio
import trio_websocket
from daemon_fakes import Control, connection, problem

from api.qr import qr_text


async def test_listed_by_name(client: httpx.AsyncClient, control: Control) -> None:
    """Page by page, and by state; `/status` has them all as before."""
    for number in range(3):
        control.fleet.connections[f"a{number}"] = connection(f"a{number}", state="backoff")
    names: list[str] = []
    path = "/connections?limit=2"
    while path:
        answer = await client.get(path)
        names += [row["name"] for row in answer.json()]
        link = answer.links.get("next")
        path = link["url"] if link else ""
    assert names == ["a0", "a1", "a2", "sales", "support"]
    some = (await client.get("/connections?state=backoff")).json()
    assert [row["name"] for row in some] == ["a0", "a1", "a2"]
    assert len((await client.get("/status")).json()) == 5


async def test_shown_with_its_settings(client: httpx.AsyncClient, control: Control) -> None:
    """Its own and those in force, with nothing secret in them."""
    made = {"name": "shop", "proxy": "socks5://ana:s3cret@proxy.example:1080", "groups": False}
    answer = await client.post("/connections", json=made)
    assert answer.status_code == 201
    detail = answer.json()
    assert (detail["name"], detail["state"], detail["origin"]) == ("shop", "stopped", "api")
    assert detail["settings"] == {
        "autostart": True,
        "proxy": "socks5://***@proxy.example:1080",
        "reopen_window": None,
        "reopen_from": None,
        "team_reopens": None,
        "groups": False,
    }
    assert detail["effective"]["reopen_window"] == "1d"
    assert (await client.get("/connections/shop")).json() == detail
    assert (await client.get("/connections/sales")).json()["origin"] == "file"
    assert "s3cret" not in answer.text + str(detail)
    changed = await client.patch("/connections/shop", json={"proxy": None, "reopen_window": "2h"})
    assert changed.json()["effective"]["reopen_window"] == "2h"
    assert changed.json()["settings"]["proxy"] is None


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("POST", "/connections", {"name": "sales"}, 409, "connection-exists"),
        ("POST", "/connections", {"name": "Not A Name"}, 422, "bad-connection"),
        ("POST", "/connections", {"name": "x", "reopen_windw": "1h"}, 422, "bad-connection"),
        ("POST", "/connections", {"name": "x", "reopen_window": 5}, 422, "bad-connection"),
        ("POST", "/connections", {}, 422, "bad-connection"),
        ("POST", "/connections", [], 400, "request"),
        ("PATCH", "/connections/sales", {"groups": False}, 409, "from-file"),
        ("DELETE", "/connections/sales", None, 409, "from-file"),
        ("GET", "/connections/nobody", None, 404, "unknown-connection"),
    ],
)
async def test_what_is_refused(
    client: httpx.AsyncClient, method: str, path: str, body: t.Any, status: int, kind: str
) -> None:
    """With what is wrong and what to do."""
    found = problem(await client.request(method, path, json=body))
    assert (found["status"], found["type"]) == (status, f"urn:zapvisor:{kind}")


async def test_deleted(client: httpx.AsyncClient, control: Control) -> None:
    """Only by force while a phone has it."""
    for name in ("shop", "office"):
        await client.post("/connections", json={"name": name})
    control.fleet.connections["shop"] = connection("shop")
    linked = problem(await client.delete("/connections/shop"))
    assert (linked["status"], linked["type"]) == (409, "urn:zapvisor:still-linked")
    assert (await client.delete("/connections/shop?force=true")).status_code == 204
    assert (await client.delete("/connections/office")).status_code == 204
    assert control.registrar.deleted == [("shop", True), ("office", False)]


async def test_a_code_as_a_picture(client: httpx.AsyncClient, control: Control) -> None:
    """As text, SVG and PNG of the same code, never cached; without a code it says so."""
    path = "/connections/support/pairing/qr"
    none = await client.get(f"{path}.svg")
    found = problem(none)
    assert (found["status"], found["type"]) == (409, "urn:zapvisor:no-code")
    assert none.headers["cache-control"] == "no-store"
    control.fleet.tell("support", state="code", qr="2@abc,def==", expires_in=42.5)
    svg, png, text = [await client.get(f"{path}.{form}") for form in ("svg", "png", "txt")]
    for answer in (svg, png, text):
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert (answer.headers["x-expires-in"], answer.headers["x-pairing-version"]) == (
            "42.500",
            "1",
        )
    assert svg.headers["content-type"] == "image/svg+xml"
    assert svg.text.startswith("<svg")
    assert re.search(r'viewBox="0 0 \d+ \d+"', svg.text)
    assert text.text == qr_text("2@abc,def==")
    assert png.headers["content-type"] == "image/png"
    assert modules_of_png(png.content) == modules_of_text(qr_text("2@abc,def=="))
    control.fleet.tell("support", state="code", qr="2@abc", expires_in=0.0)
    assert (await client.get(f"{path}.png")).status_code == 409
    control.fleet.tell("support", state="code", code="ABCD-1234", expires_in=10.0)
    assert "to type" in problem(await client.get(f"{path}.png"))["detail"]
    assert (await client.get("/connections/nobody/pairing/qr.svg")).status_code == 404


def modules_of_png(content: bytes) -> list[list[bool]]:
    """Dark modules of a bilevel picture, without its border."""
    width = int.from_bytes(content[16:20])
    assert content[24:26] == b"\x01\x00"  # one bit per pixel, grey
    at, packed = 8, b""
    while at < len(content):
        size, kind = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        packed += content[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    raw, line = zlib.decompress(packed), (width + 7) // 8
    rows, before = [], bytes(line)
    for start in range(0, len(raw), line + 1):
        form, row = raw[start], raw[start + 1 : start + 1 + line]
        assert form in (0, 2)  # as it is, or added to the row above
        added = zip(row, before, strict=True)
        before = row if form == 0 else bytes((ours + above) % 256 for ours, above in added)
        rows.append(before)
    pixels = [
        [not row[x // 8] >> (7 - x % 8) & 1 for x in range(4, width, 8)] for row in rows[4::8]
    ]
    return [row[4:-4] for row in pixels[4:-4]]


def modules_of_text(text: str) -> list[list[bool]]:
    """The same of a drawing of half blocks, light on dark."""
    upper = {" ": (True, True), "▀": (False, True), "▄": (True, False), "█": (False, False)}
    rows: list[list[bool]] = []
    for drawn in text.splitlines():
        halves = [upper[character] for character in drawn]
        rows += [[half[0] for half in halves], [half[1] for half in halves]]
    width = len(rows[0])
    return [row[2:-2] for row in rows[2 : width - 2]]


async def test_a_picture_can_be_waited_for(client: httpx.AsyncClient, control: Control) -> None:
    """It comes as soon as there is a code."""
    answers: list[httpx.Response] = []

    async def wait() -> None:
        answers.append(await client.get("/connections/support/pairing/qr.txt?wait=20"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await control.fleet.until(lambda: control.fleet.asked.get("support") == 0)
        control.fleet.tell("support", state="code", qr="2@abc", expires_in=60.0)
    assert answers[0].status_code == 200


@contextlib.asynccontextmanager
async def looking_on(
    control: Control, path: str
) -> t.AsyncIterator[trio_websocket.WebSocketConnection]:
    """A WebSocket on the control socket."""
    stream = await trio.open_unix_socket(str(control.path))
    async with stream, trio.open_nursery() as nursery:
        socket = await trio_websocket.wrap_client_stream(nursery, stream, "zapvisor", path)
        yield socket
        await socket.aclose()


async def test_a_pairing_live(control: Control) -> None:
    """Every change as it comes, to the end; then the socket is closed."""
    async with looking_on(control, "/connections/support/pairing/ws") as socket:
        assert json.loads(await socket.get_message())["state"] == "waiting"
        control.fleet.tell("support", state="code", qr="2@abc", expires_in=60.0)
        news = json.loads(await socket.get_message())
        assert (news["state"], news["qr"], news["version"]) == ("code", "2@abc", 1)
        control.fleet.tell("support", state="paired")
        assert json.loads(await socket.get_message())["state"] == "paired"
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await socket.get_message()
        assert closed.value.reason is not None
        assert (closed.value.reason.code, closed.value.reason.reason) == (1000, "paired")


async def test_nobody_who_looks_on_matters(client: httpx.AsyncClient, control: Control) -> None:
    """One that vanishes without a word, one that talks; the pairing and others go on."""
    path = "/connections/support/pairing/ws"
    async with await trio.open_unix_socket(str(control.path)) as rude:
        await rude.send_all(
            f"GET {path} HTTP/1.1\r\nHost: z\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        await control.fleet.until(lambda: control.fleet.asked.get("support", -1) >= 0)
    async with looking_on(control, path) as socket:
        await socket.send_message("hello")
        await socket.get_message()
        control.fleet.tell("support", state="failed", sentence="no phone came")
        assert json.loads(await socket.get_message())["sentence"] == "no phone came"
    async with looking_on(control, "/connections/nobody/pairing/ws") as socket:
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await socket.get_message()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 4404
    assert (await client.get("/version")).status_code == 200
