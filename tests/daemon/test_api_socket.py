"""The control socket's file: its mode, what was there before, and what it is removed for."""

import os
import socket
import stat
from pathlib import Path

import pytest

from api.control_socket import MAX_PATH, control_socket, is_answered
from api.errors import ControlSocketError


def test_mode_and_removal(short_path: Path) -> None:
    """Owner and group may use it, nobody else; it goes when the daemon does."""
    path = short_path / "control.sock"
    with control_socket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert is_answered(path)
        assert os.listdir(short_path) == ["control.sock"]
    assert os.listdir(short_path) == []


def test_another_mode(short_path: Path) -> None:
    """The mode is the operator's choice."""
    with control_socket(short_path / "s", 0o600):
        assert stat.S_IMODE((short_path / "s").stat().st_mode) == 0o600


def test_what_a_dead_daemon_left_is_replaced(short_path: Path) -> None:
    """A socket nobody listens on, finished or half made, is in nobody's way."""
    path = short_path / "control.sock"
    for name in (path, path.with_name("control.sock.new")):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(name))
    assert not is_answered(path)
    with control_socket(path):
        assert is_answered(path)


def test_a_living_daemon_is_not_displaced(short_path: Path) -> None:
    """The second one is told, and the first one goes on."""
    path = short_path / "control.sock"
    with control_socket(path):
        with pytest.raises(ControlSocketError, match="a daemon answers at"), control_socket(path):
            pass
        assert is_answered(path)


def test_a_file_is_not_displaced(short_path: Path) -> None:
    """What is no socket stays."""
    path = short_path / "control.sock"
    path.write_text("mine")
    with pytest.raises(ControlSocketError, match="is no socket"), control_socket(path):
        pass
    assert path.read_text() == "mine"


def test_a_socket_of_somebody_else_stays(short_path: Path) -> None:
    """On exit only our own socket is removed."""
    path = short_path / "control.sock"
    with control_socket(path):
        path.unlink()
        path.write_text("other")
    assert path.read_text() == "other"


def test_paths_that_cannot_work(short_path: Path) -> None:
    """Too long, no directory: one clear error each, and the longest path works."""
    with (
        pytest.raises(ControlSocketError, match="set a shorter one"),
        control_socket(short_path / ("x" * 100)),
    ):
        pass
    with (
        pytest.raises(ControlSocketError, match="No such file or directory"),
        control_socket(short_path / "missing" / "s"),
    ):
        pass
    longest = short_path / ("x" * (MAX_PATH - len(os.fsencode(short_path)) - 1))
    with control_socket(longest):
        assert is_answered(longest)
