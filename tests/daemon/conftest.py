"""Fixtures of the daemon's tests."""

import collections.abc as cabc
import tempfile
from pathlib import Path

import httpx
import pytest
import structlog.testing
import trio
from daemon_fakes import Control, Result, Run, open_control

from daemon.__main__ import execute


@pytest.fixture
def short_path() -> cabc.Iterator[Path]:
    """A directory whose name is short enough for unix sockets."""
    with tempfile.TemporaryDirectory(prefix="zv-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
async def control(short_path: Path) -> cabc.AsyncIterator[Control]:
    """The fakes, served for the length of a test."""
    with trio.fail_after(30):
        async with open_control(short_path / "control.sock") as control:
            yield control


@pytest.fixture
async def client(control: Control) -> cabc.AsyncIterator[httpx.AsyncClient]:
    """An HTTP client on the control socket."""
    transport = httpx.AsyncHTTPTransport(uds=str(control.path))
    async with httpx.AsyncClient(transport=transport, base_url="http://zapvisor") as client:
        yield client


@pytest.fixture
def zapvisor(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> cabc.Iterator[Run]:
    """Runs one command in this process, in a thread, from an empty directory."""
    monkeypatch.chdir(short_path)
    monkeypatch.setenv("ZAPVISOR_CONTROL_SOCKET", str(short_path / "control.sock"))

    async def call(*tokens: str) -> Result:
        with trio.fail_after(20):
            code = await trio.to_thread.run_sync(execute, tokens)
        out, err = capsys.readouterr()
        return Result(code, out, err)

    with structlog.testing.capture_logs():  # the daemon's, which is in this process, too
        yield call
