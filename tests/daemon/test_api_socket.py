"""The control socket's file: its mode, what was there before, and what it is removed for."""

import grp
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


def test_the_group_is_the_operators_choice(short_path: Path) -> None:
    """A group of this user is given the socket; the mode stays what it is to be."""
    own = os.getgroups()[-1] if os.getgroups() else os.getgid()
    group = grp.getgrgid(own).gr_name
    path = short_path / "control.sock"
    with control_socket(path, group=group):
        facts = path.stat()
        assert (facts.st_gid, stat.S_IMODE(facts.st_mode)) == (own, 0o660)


def test_groups_that_cannot_be(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown, or not ours to give: one clear error each, and nothing is left behind."""
    path = short_path / "control.sock"
    with (
        pytest.raises(ControlSocketError, match="no group 'no-such-group'"),
        control_socket(path, group="no-such-group"),
    ):
        pass

    def refuse(*_args: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    group = grp.getgrgid(os.getgid()).gr_name
    with (
        pytest.raises(ControlSocketError, match=f"cannot be given to the group {group}"),
        control_socket(path, group=group),
    ):
        pass
    assert os.listdir(short_path) == []
