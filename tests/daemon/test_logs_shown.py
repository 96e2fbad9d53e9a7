"""The log over the control socket, and ``zapvisor logs``."""

import contextlib
import json
import re
import typing as t
import urllib.parse

import httpx
import pytest
import structlog.testing
import trio
import trio_websocket as ws
from daemon_fakes import Control, Run, open_control, problem

from api.ports_logs import LogQuery
from daemon import follow_logs
from daemon.errors import NoDaemonError, RefusedError

Line: t.TypeAlias = dict[str, t.Any]


@contextlib.asynccontextmanager
async def follower(control: Control, query: str = "") -> t.AsyncIterator[ws.WebSocketConnection]:
    """A WebSocket on the control socket."""
    stream = await trio.open_unix_socket(str(control.path))
    async with trio.open_nursery() as nursery:
        yield await ws.wrap_client_stream(nursery, stream, "zapvisor", f"/logs/ws?{query}")
        nursery.cancel_scope.cancel()
    await stream.aclose()


async def frame(socket: ws.WebSocketConnection) -> t.Any:
    """The next frame."""
    return json.loads(await socket.get_message())


async def test_the_newest_lines(control: Control, client: httpx.AsyncClient) -> None:
    """Of all, of a connection, of a level; the oldest first."""
    for number in range(5):
        control.logs.say("x", n=number, connection="sales" if number % 2 else "support")
    control.logs.say("bad", level="error")

    async def numbers(**params: t.Any) -> list[t.Any]:
        answer = await client.get("/logs", params=params)
        return [line.get("n", line["event"]) for line in answer.json()]

    assert await numbers() == [0, 1, 2, 3, 4, "bad"]
    assert await numbers(lines=2) == [4, "bad"]
    assert await numbers(connection="sales") == [1, 3]
    assert await numbers(level="warning") == ["bad"]
    assert problem(await client.get("/logs", params={"connection": "x"}))["status"] == 404
    assert problem(await client.get("/logs", params={"level": "loud"}))["status"] == 400
    assert problem(await client.get("/logs", params={"lines": 10_001}))["status"] == 400


async def test_following_over_a_websocket(control: Control) -> None:
    """The tail, then what comes; with a cursor nothing comes twice; leaving makes room."""
    control.logs.say("before")
    async with follower(control) as socket:
        first = await frame(socket)
        assert first["line"]["event"] == "before"
        control.logs.say("after", connection="sales")
        assert (await frame(socket))["line"]["event"] == "after"
        async with follower(control, f"after={first['cursor']}&connection=sales") as other:
            assert (await frame(other))["line"]["event"] == "after"
    await readers(control, 0)


async def test_followers_that_cannot_be_served_are_told(short_path: t.Any) -> None:
    """An unknown connection, a daemon without a log, one follower too many: by a code."""

    async def code(control: Control, query: str = "") -> int:
        async with follower(control, query) as socket:
            with pytest.raises(ws.ConnectionClosed) as caught:
                await socket.get_message()
        assert caught.value.reason is not None
        return int(caught.value.reason.code)

    async with open_control(short_path / "a.sock") as control:
        assert await code(control, "connection=nobody") == 4404
        with contextlib.ExitStack() as stack:
            for _turn in range(32):
                stack.enter_context(control.logs.reader(LogQuery()))
            assert await code(control) == 4029
    async with open_control(short_path / "b.sock", complete=False) as control:
        assert await code(control) == 4503


async def test_a_stalled_follower_delays_nobody(control: Control) -> None:
    """It does not read: the daemon goes on logging, without a buffer of its own for it, and others
    get every line."""
    stalled = await trio.open_unix_socket(str(control.path))
    await stalled.send_all(
        b"GET /logs/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with trio.fail_after(20):
        async with follower(control, "lines=0&level=error") as socket:
            await readers(control, 2)
            for _turn in range(900):
                control.logs.say("x", padding="y" * 4_000)
            control.logs.say("last", level="error")
            assert (await frame(socket))["line"]["event"] == "last"
        await stalled.aclose()
        await readers(control, 0)


async def readers(control: Control, count: int) -> None:
    """Wait until the server knows of so many followers."""
    with trio.fail_after(20):
        while control.logs.ring._readers != count:
            await trio.sleep(0.01)


async def test_the_level_is_changed_for_a_while(control: Control, zapvisor: Run) -> None:
    """Shown, set with an end, set for good, and taken back."""
    assert (await zapvisor("logs", "level")).out == "The daemon logs from info on.\n"
    for_a_while = await zapvisor("logs", "level", "debug", "--for", "10m")
    assert "debug on for 600 s more, then from info on" in " ".join(for_a_while.out.split())
    for_good = await zapvisor("logs", "level", "warning")
    assert "until it ends; its configuration says info" in " ".join(for_good.out.split())
    assert (await zapvisor("logs", "level", "--reset", "--json")).json["level"] == "info"
    for wrong in (["--for", "10m"], ["debug", "--for", "x"], ["debug", "--reset"], ["loud"]):
        assert (await zapvisor("logs", "level", *wrong)).code == 2


async def test_the_level_needs_one_for_its_seconds(client: httpx.AsyncClient) -> None:
    """An order that makes no sense is refused."""
    answer = await client.post("/logs/level", params={"seconds": 5})
    assert "there is no level" in problem(answer)["detail"]


async def test_lines_for_people_and_for_programs(control: Control, zapvisor: Run) -> None:
    """Text, or one JSON object a line; of a connection."""
    control.logs.say("Message saved", connection="sales", message=7)
    control.logs.say("Message saved", connection="support", message=8)
    shown = await zapvisor("logs", "sales")
    assert re.search(r"info\s*\] Message saved\s+connection=sales message=7", shown.out)
    assert "support" not in shown.out
    printed = await zapvisor("logs", "--json", "-n", "1")
    assert json.loads(printed.out)["message"] == 8
    assert (await zapvisor("logs", "-n", "10001")).code == 2
    assert (await zapvisor("logs", "nobody")).code == 1


async def test_following_goes_on_over_a_restart(short_path: t.Any) -> None:
    """While the daemon is away it waits; of the next one it shows everything from the start."""
    path = short_path / "control.sock"
    seen: list[str] = []
    changed = trio.Event()

    def show(line: Line) -> None:
        nonlocal changed
        seen.append(line["event"])
        changed.set()
        changed = trio.Event()

    async def until(*expected: str) -> None:
        with trio.fail_after(20):
            while seen != list(expected):
                await changed.wait()

    async with trio.open_nursery() as nursery:
        async with open_control(path) as control:
            control.logs.say("old")
            nursery.start_soon(follow_logs._follow, path, {"lines": "0", "level": "info"}, show)
            await readers(control, 1)
            control.logs.say("one")
            await until("one")
        async with open_control(path) as control:
            control.logs.say("two")
            await until("one", "two")
        nursery.cancel_scope.cancel()


async def test_following_ends_where_it_is_of_no_use(control: Control) -> None:
    """Nobody to follow, or nothing."""

    def run(path: t.Any, connection: str) -> None:
        follow_logs.follow_logs(path, {"connection": connection}, print)

    with pytest.raises(NoDaemonError):
        await trio.to_thread.run_sync(run, control.path.with_name("none.sock"), "sales")
    with pytest.raises(RefusedError, match="nobody"), trio.fail_after(20):
        await trio.to_thread.run_sync(run, control.path, "nobody")


def test_skipped_lines_are_told_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    """In the place where they are missing."""
    show = follow_logs.Printer(as_json=False)
    show({"timestamp": "t", "level": "warning", "event": "logs.skipped", "count": 12})
    assert capsys.readouterr().out == "--- 12 lines skipped ---\n"


@pytest.mark.parametrize(
    "cursor", ["9" * 5000, f"1f2e3d4c.{'9' * 5000}", "nonsense", "1f2e3d4c.٣", "1f2e3d4c.-1", "."]
)
async def test_what_is_no_cursor(control: Control, cursor: str) -> None:
    """Is said to be none; one of this process with so many digits, too."""
    own = cursor.replace("1f2e3d4c", control.logs.ring.run)
    for each in (cursor, own):
        query = urllib.parse.urlencode({"after": each})
        with structlog.testing.capture_logs() as logs:
            async with follower(control, query) as socket:
                with pytest.raises(ws.ConnectionClosed) as caught:
                    await socket.get_message()
        assert caught.value.reason is not None
        assert caught.value.reason.code == 4400
        assert "after: the cursor of a line" in (caught.value.reason.reason or "")
        assert not [line for line in logs if line["log_level"] == "error"]
