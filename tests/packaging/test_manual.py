"""The manual page is made from the commands, and says nothing that a formatter dislikes."""

import pathlib
import shutil
import subprocess

import pytest

from daemon.cli import app
from daemon.manual import commands, manual

PAGE = pathlib.Path(__file__).parents[2] / "deploy" / "man" / "zapvisor.1"


def test_it_is_up_to_date() -> None:
    """Otherwise: make manuals."""
    assert PAGE.read_text() == manual(app), "run: make manuals"


def test_every_command_is_in_it() -> None:
    """Those of groups, too, each with its options."""
    text = PAGE.read_text().replace("\\-", "-")
    paths = [" ".join(path) for path, _ in commands(app)]
    assert {"run", "conversations", "conversations close", "install-systemd"} <= set(paths)
    for path in paths:
        assert f".It Cm {path}" in text, path
    for _, command in commands(app):
        for argument in command.assemble_argument_collection():
            if argument.show and argument.parameter.help:
                assert argument.names[0].lstrip("-") in text


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_mandoc_finds_nothing(tmp_path: pathlib.Path) -> None:
    """No error, warning or matter of style."""
    done = subprocess.run(
        ["mandoc", "-T", "lint", str(PAGE)], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    broken = tmp_path / "broken.1"
    broken.write_text(PAGE.read_text().replace(".El", "", 1))
    done = subprocess.run(["mandoc", "-T", "lint", str(broken)], capture_output=True, check=False)
    assert done.returncode != 0
