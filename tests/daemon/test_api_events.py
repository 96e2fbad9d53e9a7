"""The stream of events over a real socket: pages, WebSocket, server-sent events."""

import collections.abc as cabc
import contextlib
import json
import socket
import typing as t
from pathlib import Path

import httpx
import pytest
import trio
import trio_websocket
from daemon_fakes import Control, open_control, problem
from trio_websocket import ConnectionClosed, WebSocketConnection

from actors.event_hub import AT_ONCE
from api.routes_events import BAD_REQUEST, FLOOD, FULL, GONE, MESSAGES, SLOW
from api.server import Patience


@contextlib.asynccontextmanager
async def follow(control: Control, query: str = "") -> cabc.AsyncIterator[WebSocketConnection]:
    """A WebSocket on the control socket."""
    async with (
        await trio.open_unix_socket(control.path) as stream,
        trio.open_nursery() as nursery,
    ):
        made = await trio_websocket.wrap_client_stream(
            nursery, stream, "zapvisor", f"/events/ws{query}"
        )
        try:
            yield made
        finally:
            nursery.cancel_scope.cancel()


async def frame(made: WebSocketConnection) -> dict[str, t.Any]:
    """The next event."""
    found: dict[str, t.Any] = json.loads(await made.get_message())
    return found


async def closed(made: WebSocketConnection) -> tuple[int, str]:
    """With what it is closed; frames before that are read."""
    with trio.fail_after(20):
        while True:
            try:
                await made.get_message()
            except ConnectionClosed as error:
                reason = error.reason
                return (0, "") if reason is None else (reason.code, reason.reason or "")


async def begin(control: Control) -> None:
    """Until a client from now on has begun, so that it sees what comes."""
    with trio.fail_after(20):
        while control.events.hub.view().newest is None or 0 in positions(control):
            await trio.sleep(0.001)


def positions(control: Control) -> list[int]:
    """The cursors of the clients."""
    return [client.position or 0 for client in control.events.hub._clients]


async def happen(control: Control, number: int = 1, type_: str = "incident.begun") -> int:
    """Some events; the id of the last."""
    last = 0
    for each in range(number):
        last = await control.storage.inbox.append_event(type_, None, {"number": each})
    control.events.signal.wake()
    return last


async def test_pages(client: httpx.AsyncClient, control: Control) -> None:
    """From the beginning, or behind a cursor; the header says where to go on."""
    first = (await client.get("/events", params={"limit": 2})).json()
    assert [event["type"] for event in first] == ["conversation.opened", "message.stored"]
    assert set(first[0]) == {"id", "type", "at", "connection", "data"}
    assert first[0]["at"].endswith("Z")
    answer = await client.get("/events", params={"after": first[-1]["id"], "limit": 200})
    end = (await client.get("/events/cursor")).json()
    assert answer.headers["x-next-cursor"] == str(end["id"])
    assert answer.headers["link"] == f'</events?limit=200&after={end["id"]}>; rel="next"'
    assert min(event["id"] for event in answer.json()) > first[-1]["id"]
    chosen = {"connection": "sales", "types": "message.*,gap.opened", "after": 1, "limit": 1}
    answer = await client.get("/events", params=chosen)
    follows = httpx.URL(answer.links["next"]["url"]).params
    after = answer.headers["x-next-cursor"]
    assert dict(follows) == {key: str(each) for key, each in (chosen | {"after": after}).items()}
    empty = await client.get("/events", params={"after": end["id"]})
    assert (empty.json(), empty.headers["x-next-cursor"]) == ([], str(end["id"]))


async def test_filters(client: httpx.AsyncClient) -> None:
    """By type and connection; the cursor passes what does not fit."""
    query = {"types": "conversation.*,gap.opened", "connection": "sales"}
    answer = await client.get("/events", params=query)
    assert {event["type"] for event in answer.json()} == {"conversation.opened"}
    end = (await client.get("/events/cursor")).json()["id"]
    assert answer.headers["x-next-cursor"] == str(end)
    assert (await client.get("/events", params={"connection": "nobody"})).json() == []
    found = problem(await client.get("/events/sse", headers={"last-event-id": "9" * 5000}))
    assert found["detail"].startswith("Last-Event-ID: ")
    found = problem(await client.get("/events", params={"types": "message.lost"}))
    assert found["status"] == 422
    assert "message.stored" in found["detail"]


async def test_an_old_cursor(client: httpx.AsyncClient, control: Control) -> None:
    """410, and which cursors there are; so do the other two ways."""
    await control.storage.inbox.trim_events(2e9, 3)
    end = (await client.get("/events/cursor")).json()
    for path in ("/events", "/events/sse"):
        found = problem(await client.get(path, params={"after": 1}))
        assert (found["status"], found["type"]) == (410, "urn:zapvisor:cursor-gone")
        assert f"the cursors from {end['oldest']} to {end['id']} can be used" in found["detail"]
    async with follow(control, "?after=1") as made:
        assert await closed(made) == (GONE, f"oldest={end['oldest']} newest={end['id']}")


async def test_from_now_on(control: Control) -> None:
    """One text frame per event, without those of before; what the client says is not read."""
    async with follow(control) as made:
        await begin(control)
        await made.send_message("hello?")
        last = await happen(control)
        told = await frame(made)
        assert (told["id"], told["type"], told["data"]) == (last, "incident.begun", {"number": 0})
    with trio.fail_after(10):
        while control.events.hub.view().clients:
            await trio.sleep(0.01)


async def test_from_a_cursor(control: Control) -> None:
    """All behind it, more than a page, then what comes; filters hold for both."""
    start = await happen(control)
    await happen(control, 3 * AT_ONCE)
    async with follow(control, f"?after={start}&types=incident.*") as made:
        numbers = [(await frame(made))["data"]["number"] for _each in range(3 * AT_ONCE)]
        assert numbers == list(range(3 * AT_ONCE))
        await happen(control, type_="daemon.started")
        last = await happen(control)
        assert (await frame(made))["id"] == last


async def test_server_sent_events(control: Control) -> None:
    """The id of each is the cursor with which a browser comes back."""
    start = await happen(control)
    last = await happen(control, 2)
    for header, query in ((f"last-event-id: {start}\r\n", "?after=0"), ("", f"?after={start}")):
        async with await trio.open_unix_socket(control.path) as plain:
            await plain.send_all(
                f"GET /events/sse{query} HTTP/1.1\r\nhost: zapvisor\r\n{header}\r\n".encode()
            )
            text = ""
            with trio.fail_after(20):
                while f'"id":{last},' not in text:
                    text += (await plain.receive_some()).decode()
        assert "content-type: text/event-stream" in text
        lines = text.splitlines()
        assert "retry: 2000" in lines
        assert [line for line in lines if line.startswith("id")] == [
            f"id: {last - 1}",
            f"id: {last}",
        ]
        assert [line for line in lines if line.startswith("event")] == 2 * ["event: incident.begun"]
    with trio.fail_after(20):
        while control.events.hub.view().clients:
            await trio.sleep(0.01)


@pytest.mark.parametrize(
    "query",
    ["?after=x", "?after=-1", "?types=nothing", f"?after={'9' * 31}", f"?after={'9' * 5000}"],
)
async def test_what_cannot_be_asked(control: Control, query: str) -> None:
    """Is told in the reason."""
    async with follow(control, query) as made:
        code, reason = await closed(made)
        assert (code, reason.partition(":")[0]) == (BAD_REQUEST, query[1:].partition("=")[0])


async def test_a_slow_client_is_dropped_and_comes_back(control: Control) -> None:
    """It is told 4008 once it takes again what it was sent, and goes on from its cursor: nothing
    is missed. The others noticed nothing."""
    control.events.hub._size = 400
    async with follow(control) as other:
        async with follow(control) as slow:
            await begin(control)
            start = await happen(control)
            assert (await frame(slow))["id"] == (await frame(other))["id"] == start
            end = start
            with trio.fail_after(20):
                while min(positions(control)) >= control.events.hub._low:  # nobody reads ``slow``
                    last = await happen(control, 300)
                    while end < last:
                        end = (await frame(other))["id"]
            seen, code = start, 0
            while not code:
                try:
                    event = await frame(slow)
                except ConnectionClosed as error:
                    code = error.reason.code if error.reason else 0
                    break
                assert event["id"] == seen + 1
                seen = event["id"]
            assert code == SLOW
            assert control.events.hub.dropped == 1
        async with follow(control, f"?after={seen}") as again:
            while seen < end:
                event = await frame(again)
                assert event["id"] == seen + 1
                seen = event["id"]


async def test_a_client_that_takes_nothing_ends(short_path: Path) -> None:
    """Its socket is closed after some seconds, whatever was being sent."""
    path = short_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as stalled, trio.fail_after(30):
        async with open_control(path, patience=Patience(stall=0.2)) as control:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.setblocking(False)
            plain = trio.socket.from_stdlib_socket(stalled)
            await plain.connect(str(path))
            await plain.send(
                b"GET /events/ws HTTP/1.1\r\nhost: zapvisor\r\nconnection: upgrade\r\n"
                b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
                b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            while not control.events.hub.view().clients:
                await trio.sleep(0.01)
            while control.events.hub.view().clients:
                await happen(control, 200)
                await trio.sleep(0.01)


async def test_a_flood_of_messages_is_cut(control: Control) -> None:
    """Events go one way."""
    async with follow(control) as made:
        with contextlib.suppress(ConnectionClosed):
            for _message in range(MESSAGES + 10):
                await made.send_message("x")
        assert (await closed(made))[0] == FLOOD


async def test_the_number_of_clients_is_bounded(
    client: httpx.AsyncClient, control: Control
) -> None:
    """One too many is told so; when one leaves there is room."""
    async with contextlib.AsyncExitStack() as stack:
        made = [await stack.enter_async_context(follow(control)) for _each in range(3)]
        with trio.fail_after(20):
            while control.events.hub.view().clients < 3:
                await trio.sleep(0.01)
        async with follow(control) as fourth:
            code, reason = await closed(fourth)
            assert (code, "events.clients" in reason) == (FULL, True)
        assert (await client.get("/events/sse")).status_code == 503
        await made[0].aclose()
        with trio.fail_after(20):
            while control.events.hub.view().clients == 3:
                await trio.sleep(0.01)
        async with follow(control) as fifth:
            await begin(control)
            await happen(control)
            await frame(fifth)


async def test_the_database_goes_away(client: httpx.AsyncClient, control: Control) -> None:
    """Clients stay, and hear what comes once it is back."""
    async with follow(control) as made:
        await begin(control)
        control.storage.away = True
        control.events.signal.wake()
        with trio.fail_after(20):
            while control.events.hub.view().error is None:
                await trio.sleep(0.01)
        assert problem(await client.get("/events"))["status"] == 503
        control.storage.away = False
        last = await happen(control)
        with trio.fail_after(20):
            assert (await frame(made))["id"] == last
        assert control.events.hub.view().error is None
