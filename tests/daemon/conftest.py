"""Fixtures of the daemon's tests."""

import collections.abc as cabc
import tempfile
from pathlib import Path

import pytest
import trio
from daemon_fakes import Control, open_control


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
