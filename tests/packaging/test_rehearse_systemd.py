"""The daemon lives under its unit's hardening, its own PostgreSQL with it."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "rehearse_systemd.py"


def _impossible() -> str | None:
    if os.geteuid() != 0:
        return "mounts need root"
    if shutil.which("systemd-analyze") is None:
        return "systemd-analyze is not installed"
    if subprocess.run(["unshare", "--mount", "true"], check=False, timeout=30).returncode != 0:
        return "no namespaces can be made here"
    if SCRIPT.is_relative_to("/tmp") or SCRIPT.is_relative_to("/var/tmp"):
        return "the checkout lies where the unit has a directory of its own"
    return None


def test_the_daemon_runs_under_its_unit() -> None:
    """Started twice, reloaded, stopped: no rights, a read-only system, a filter of system calls.
    The walls are tried first, so that a rehearsal without them cannot pass."""
    if (reason := _impossible()) is not None:
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["walls_tried"] >= 20
    assert facts["second_stop_seconds"] < 30
