"""What the daemon's own log says of its runs: crashes that no fault explains, and errors."""

import collections
import collections.abc as cabc
import json
import typing as t
from pathlib import Path

import attrs

ROOT: t.Final = "daemon"  # the supervisor whose children may not crash at all
FAULTS_OF_OURS: t.Final = frozenset(
    [
        "storage.postgres_died",
        "storage.postgres_restart_failed",
        "Message quarantined",
        "child.fatal",
    ]
)
"""Errors that the log has to have here."""


@attrs.define
class LogReading:
    """What was found in the logs of all runs."""

    unexplained: list[str] = attrs.field(factory=list)
    """Crashes of a part of the tree, and of a connection for a reason that is none."""
    errors: collections.Counter[str] = attrs.field(factory=collections.Counter)
    """Lines of level error or above, by event, besides those that have to be there."""


def lines_of(directory: Path) -> cabc.Iterator[str]:
    """Every line of every run."""
    for path in sorted(directory.glob("run-*.log")):
        yield from path.read_text("utf-8", "replace").splitlines()


def read_logs(directory: Path) -> LogReading:
    """Read everything."""
    reading = LogReading()
    for line in lines_of(directory):
        try:
            facts = json.loads(line)
        except ValueError:
            if line.startswith("Traceback"):
                reading.unexplained.append("a process of the daemon ended with a traceback")
            continue
        if isinstance(facts, dict):
            _take(reading, facts)
    return reading


def _take(reading: LogReading, facts: dict[str, t.Any]) -> None:
    event = str(facts.get("event"))
    if event == "child.crashed":
        # A connection ends for reasons that it names; anything else has a traceback.
        if facts.get("supervisor") == ROOT or "exception" in facts:
            who = f"{facts.get('supervisor')}/{facts.get('child')}"
            when = facts.get("timestamp")
            reading.unexplained.append(f"{when}: {who} crashed: {facts.get('error')}")
    elif facts.get("level") in ("error", "critical") and event not in FAULTS_OF_OURS:
        reading.errors[event] += 1
