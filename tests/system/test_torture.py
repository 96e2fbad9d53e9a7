"""The proof as a command, in short: a run with everything, and deaths at some crash points.

All crash points are walked by ``make torture``: with each of them costing a start of the daemon
they take minutes.
"""

import json
import os
import signal
import subprocess
import sys
import typing as t

import attrs
import pytest

from daemon.torture.model import Spread, Summary
from daemon.torture.plan import KINDS, fingerprint, plan
from daemon.torture.stage import kept_on_failure
from daemon.torture.walk import walk

SEED: t.Final = 4
SECONDS: t.Final = 11
TIMEOUT: t.Final = 400.0  # seconds; machines are shared
SOME_POINTS: t.Final = (
    "commit.under_way",
    "placeholder.asked_again",
    "outbox.committed",
    "pairing.stored",
    "media.renamed",
    "gap.announced",
    "pulse.begun",
)
"""Of work of several kinds, where most could go wrong."""


def test_a_short_run_loses_nothing() -> None:
    """Faults of every lane strike, and the command ends with 0 and one line of JSON."""
    options = f"--for {SECONDS}s --seed {SEED} --connections 2 --json"
    command = [sys.executable, "-m", "daemon", "torture", *options.split()]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ZAPVISOR_")}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    line = out.decode().splitlines()[-1] if out else "{}"
    assert process.returncode == 0, f"{line}\n{err.decode()[-3000:]}"
    summary = json.loads(line)
    assert summary["seed"] == SEED
    assert summary["schedule_sha256"] == fingerprint(plan(SEED, SECONDS, frozenset(KINDS), 2))
    for count in ("lost", "stored_twice", "out_of_order", "unexpected", "outbox_sent_twice"):
        assert summary[count] == 0, line
    assert summary["unexplained_restarts"] == 0, line
    assert summary["stored"] == summary["offered"] > 50
    assert summary["kills"] >= 1
    assert len(summary["faults"]) >= 8
    assert summary["recovery_seconds"]["count"] > 0
    assert summary["gaps_open"] == 0, line
    assert summary["quarantined"] == summary["malformed"], line
    assert set(summary) >= {"undecryptable_left", "kills_by_point"}


@pytest.mark.slow
async def test_deaths_at_crash_points_lose_nothing() -> None:
    """The daemon dies at each of them; what it left undone is done by the next."""
    with kept_on_failure(None) as place:
        summary = await walk(place.directory, lambda _sentence: None, SOME_POINTS)
        place.succeeded = not summary.failures
    assert summary.failures == [], summary
    assert summary.reached == list(SOME_POINTS)
    assert summary.findings.stored == summary.findings.offered > 0


def test_a_summary_knows_failure() -> None:
    """Each thing that must be 0 fails the run by itself."""
    assert good().succeeded
    for field in ("lost", "stored_twice", "out_of_order", "unexpected", "outbox_sent_twice"):
        assert not good(**{field: 1}).succeeded, field
    for field in ("outbox_lost", "outbox_failed", "unexplained_restarts", "malformed", "gaps_open"):
        assert not good(**{field: 1}).succeeded, field
    assert not good(stored=0).succeeded
    assert not good(settled=False).succeeded


def good(**changes: t.Any) -> Summary:
    """A summary of a run that went well, but for the changes."""
    numbers = [field.name for field in attrs.fields(Summary) if field.type in (int, float)]
    facts: dict[str, t.Any] = {
        **dict.fromkeys(numbers, 0),
        "schedule_sha256": "",
        "settled": True,
        "stored": 1,
        "kills_by_point": {},
        "points_not_reached": [],
        "faults": {},
        "unexplained": [],
        "errors_logged": {},
        "recovery_seconds": Spread(),
    }
    return Summary(**facts | changes)
