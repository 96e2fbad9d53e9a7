"""The HTTP listener: its trouble is its own."""

import socket
import typing as t
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing

import api.listener
from api.app import build_apps
from api.listener import HttpListener
from config.listeners import HttpConfig
from tests.daemon.daemon_fakes import make_control


async def app(scope: t.Any, receive: t.Any, send: t.Any) -> None:
    """Says hello."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello", "more_body": False})


async def hello(host: str, port: int | None) -> str:
    """What is answered there."""
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://{host}:{port}/")).text


@pytest.mark.parametrize(("host", "written"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
async def test_any_free_port(host: str, written: str) -> None:
    """IPv4 and IPv6; stopping leaves the port free."""
    listener = HttpListener(app, (host, 0))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.run)
            port = listener.port
            assert await hello(written, port) == "hello"
            listener.stop()
    assert listener.port is None
    again = HttpListener(app, (host, port or 0))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(again.run)
            assert again.port == port
            again.stop()


async def test_a_taken_port_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ready without it, says why nobody is served, and serves once the port is free."""
    monkeypatch.setattr(api.listener, "RETRY_PAUSE", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        listener = HttpListener(app, ("127.0.0.1", port))
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                await nursery.start(listener.run)
                assert listener.port is None
                assert listener.trouble is not None
                assert f"127.0.0.1:{port}" in listener.trouble
                other.close()
                while listener.port is None:
                    await trio.sleep(0.01)
                assert await hello("127.0.0.1", port) == "hello"
                assert listener.trouble is None
                listener.stop()


async def test_a_server_that_fails_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else ends with it."""
    monkeypatch.setattr(api.listener, "RETRY_PAUSE", 0.02)
    serve_app, failures = api.listener.serve_app, [RuntimeError("a fault"), OSError("another")]

    async def serve(*args: t.Any, **kwargs: t.Any) -> None:
        if failures:
            raise failures.pop()
        await serve_app(*args, **kwargs)

    monkeypatch.setattr(api.listener, "serve_app", serve)
    listener = HttpListener(app, ("127.0.0.1", 0))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.run)
            assert listener.trouble is not None
            while listener.port is None or listener.trouble:
                await trio.sleep(0.01)
            assert await hello("127.0.0.1", listener.port) == "hello"
            listener.stop()


async def test_a_server_that_fails_after_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready was said, and is not said again; the trouble is told until it serves once more. The
    errors of a server come in groups, and are named all the same."""
    monkeypatch.setattr(api.listener, "RETRY_PAUSE", 0.02)
    serve_app, starts, ready = api.listener.serve_app, 0, 0
    fail, told = trio.Event(), trio.Event()

    async def serve(*args: t.Any, task_status: trio.TaskStatus[None], **kwargs: t.Any) -> None:
        nonlocal starts
        starts += 1
        if starts == 3:
            await told.wait()
            await serve_app(*args, task_status=task_status, **kwargs)
            return
        task_status.started()
        if starts == 1:
            await fail.wait()
        raise ExceptionGroup("a nursery", [KeyError("a fault")])

    class Status:
        def started(self, _value: object = None) -> None:
            nonlocal ready
            ready += 1

    monkeypatch.setattr(api.listener, "serve_app", serve)
    listener = HttpListener(app, ("127.0.0.1", 0))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await listener.run(task_status=t.cast("t.Any", Status()))

            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked()
            assert (ready, listener.trouble) == (1, None)
            fail.set()
            while listener.trouble is None:
                await trio.sleep(0.01)
            assert "failed: KeyError" in listener.trouble
            told.set()
            while listener.port is None or listener.trouble:
                await trio.sleep(0.01)
            assert await hello("127.0.0.1", listener.port) == "hello"
            assert (starts, ready) == (3, 1)
            listener.stop()


async def test_a_name_that_cannot_be_found() -> None:
    """Is trouble of the same kind."""
    listener = HttpListener(app, ("no-such-host.invalid", 0))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.run)
            assert listener.trouble is not None
            listener.stop()


async def test_two_listeners_of_one_app(tmp_path: Path) -> None:
    """The control socket and HTTP serve the same app; either may end before the other, and both
    end without a word of complaint."""
    control = await make_control(tmp_path / "control.sock")
    apps = build_apps(control.backend(), HttpConfig())
    for first, second in ((0, 1), (1, 0)):
        listeners = [HttpListener(app, ("127.0.0.1", 0)) for app in (apps.control, apps.http)]
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for listener in listeners:
                    await nursery.start(listener.run)
                listeners[first].stop()
                while listeners[first].port is not None:
                    await trio.sleep(0.01)
                assert await hello("127.0.0.1", listeners[second].port)
                listeners[second].stop()
        assert [listener.trouble for listener in listeners] == [None, None]
