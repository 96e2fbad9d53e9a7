"""Fixtures of the API's tests: the fakes of the daemon behind a real TCP port."""

import collections.abc as cabc
import contextlib
import typing as t
from pathlib import Path

import attrs
import httpx
import pytest
import trio

from api.app import Apps, build_apps
from api.listener import HttpListener
from config.listeners import HttpConfig
from tests.daemon.daemon_fakes import Control, make_control, running


@attrs.define(kw_only=True)
class Served:
    """The app, served over HTTP on any free port."""

    control: Control
    apps: Apps
    port: int
    http: httpx.AsyncClient  # without a token
    operator: httpx.AsyncClient  # as on the control socket, without one

    async def token(self, *scopes: str, name: str = "test", **fields: t.Any) -> str:
        """A new token."""
        body = {"name": name, "scopes": scopes, **fields}
        answer = await self.operator.post("/tokens", json=body)
        assert answer.status_code == 201, answer.text
        text: str = answer.json()["token"]
        return text

    async def headers(self, *scopes: str, name: str = "test") -> dict[str, str]:
        """The headers of somebody with these scopes."""
        return {"authorization": f"Bearer {await self.token(*scopes, name=name)}"}


@contextlib.asynccontextmanager
async def serving(path: Path, config: HttpConfig) -> cabc.AsyncIterator[Served]:
    """Serve the fakes."""
    control = await make_control(path)
    apps = build_apps(control.backend(), config)
    listener = HttpListener(apps.http, ("127.0.0.1", 0))
    async with running(control), trio.open_nursery() as nursery:
        await nursery.start(listener.run)
        assert listener.port is not None
        operator = httpx.AsyncClient(
            transport=httpx.ASGITransport(t.cast("t.Any", apps.control)), base_url="http://control"
        )
        http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}")
        async with http, operator:
            yield Served(
                control=control, apps=apps, port=listener.port, http=http, operator=operator
            )
        listener.stop()


@pytest.fixture
def config() -> HttpConfig:
    """The defaults; a test may have its own."""
    return HttpConfig()


@pytest.fixture
async def served(tmp_path: Path, config: HttpConfig) -> cabc.AsyncIterator[Served]:
    """The app, served for the length of a test."""
    with trio.fail_after(30):
        async with serving(tmp_path / "control.sock", config) as served:
            yield served
