"""Crash points: every name is used, none can be triggered from outside, and they do kill."""

import ast
import collections
import os
import pathlib
import signal
import subprocess
import sys
import typing as t

import pytest

from storage import crash_points

ROOT: t.Final = pathlib.Path(crash_points.__file__).parent.parent
PACKAGES: t.Final = ("actors", "storage", "api", "daemon", "supervisor")


def run(target: str | None, code: str) -> int:
    """The status of a process that runs this with the variable set."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ZAPVISOR_")}
    if target is not None:
        environment[crash_points.VARIABLE] = target
    program = f"from storage.crash_points import crash_point\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, check=False
    )
    return done.returncode


def names_in_code() -> collections.Counter[str]:
    """The arguments of all calls."""
    found: collections.Counter[str] = collections.Counter()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and _called(node) == "crash_point":
                    (name,) = node.args
                    assert isinstance(name, ast.Constant), f"{path}:{node.lineno}"
                    found[name.value] += 1
    return found


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_every_point_is_somewhere_and_nowhere_else() -> None:
    """The registry and the code name the same points, each in one place."""
    assert names_in_code() == dict.fromkeys(crash_points.POINTS, 1)


def test_nothing_happens_without_the_variable() -> None:
    """The call is empty in a process that was started like any other."""
    assert not crash_points.armed
    assert crash_points.crash_point is crash_points._ignore
    assert run(None, "[crash_point('message.posted') for _ in range(9)]") == 0


@pytest.mark.parametrize(
    ("target", "passed", "dies"),
    [
        ("message.posted", 1, True),
        ("message.posted:3", 3, True),
        ("message.posted:3", 2, False),
        ("message.parsed", 9, False),
    ],
)
def test_the_process_dies_there(target: str, passed: int, dies: bool) -> None:
    """As from ``kill -9``, the first time or the one that was told."""
    status = run(target, f"[crash_point('message.posted') for _ in range({passed})]")
    assert status == (-signal.SIGKILL if dies else 0)


@pytest.mark.parametrize("target", ["", "nowhere", "message.posted:", "message.posted:-1"])
def test_a_wrong_target_is_refused(target: str) -> None:
    """A process that would never die does not start."""
    with pytest.raises(crash_points.UnknownPointError, match="ZAPVISOR_CRASH_AT"):
        crash_points.parse_target(target)
    assert run(target, "pass") == 1
