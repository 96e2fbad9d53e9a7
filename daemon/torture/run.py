"""``zapvisor torture`` from the command line's side: the plan, exit codes, the last line."""

import json
import sys
from pathlib import Path

import attrs
import trio

from daemon.logs import configure_logs
from daemon.run import one_line_errors
from daemon.screen import print_json
from daemon.torture.model import Summary, TortureOptions
from daemon.torture.plan import as_json, fingerprint, plan
from daemon.torture.play import play
from daemon.torture.stage import kept_on_failure
from daemon.torture.walk import walk


def show_plan(options: TortureOptions) -> int:
    """Print what a run would do; 0."""
    faults = plan(options.seed, options.seconds, options.kinds, options.connections)
    print_json({"schedule_sha256": fingerprint(faults), "faults": as_json(faults)})
    return 0


def run_torture(options: TortureOptions, *, as_json_line: bool, log_level: str) -> int:
    """Run it; 0 when the promise was kept, else 1.

    The last line on stdout is the summary, as one JSON object if wanted; progress and log go to
    stderr.

    Raises:
        CommandError: it could not start.
    """
    configure_logs(level=log_level, stream=sys.stderr)
    with one_line_errors():
        summary = trio.run(play, options, _say, strict_exception_groups=True)
    if summary is None:
        sys.stderr.write("zapvisor: the run was ended before its comparison\n")
        return 1
    if as_json_line:
        sys.stdout.write(json.dumps(attrs.asdict(summary)) + "\n")
    else:
        sys.stdout.write(f"{verdict(summary)}\n")
    return 0 if summary.succeeded else 1


def run_walk(data_dir: Path | None, *, as_json_line: bool, log_level: str) -> int:
    """Die at every crash point; 0 when each was reached and nothing was lost, else 1.

    Raises:
        CommandError: it could not start.
    """
    configure_logs(level=log_level, stream=sys.stderr)
    with one_line_errors(), kept_on_failure(data_dir) as place:
        summary = trio.run(walk, place.directory, _say, strict_exception_groups=True)
        place.succeeded = not summary.failures
    if as_json_line:
        sys.stdout.write(json.dumps(attrs.asdict(summary)) + "\n")
        return 1 if summary.failures else 0
    sys.stdout.write(
        f"{len(summary.reached)} of {summary.points} crash points in {summary.seconds:.0f} s:"
        f" {summary.findings.stored} of {summary.findings.offered} messages stored\n"
    )
    if summary.failures:
        sys.stdout.write(f"FAILED: {', '.join(summary.failures)}\n")
        details = (*summary.not_reached, *summary.findings.discrepancies, *summary.unexplained)
        sys.stdout.writelines(f"- {each}\n" for each in details)
        sys.stdout.write(f"everything is kept in {place.directory}\n")
    return 1 if summary.failures else 0


def _say(sentence: str) -> None:
    sys.stderr.write(f"torture: {sentence}\n")
    sys.stderr.flush()


def verdict(summary: Summary) -> str:
    """The end of a run in words."""
    spread = summary.recovery_seconds
    recovery = (
        "no recovery was measured"
        if spread.p50 is None
        else f"recovered within {spread.p50:.1f} s (median), {spread.p99:.1f} s (99 %)"
    )
    lines = [
        f"{summary.kills} kills, {sum(summary.faults.values())} faults of"
        f" {len(summary.faults)} kinds in {summary.seconds:.0f} s, seed {summary.seed}:"
        f" {summary.stored} of {summary.offered} messages stored, {summary.sends} sent; {recovery}"
    ]
    if summary.succeeded:
        lines.append("ledger and database agree: nothing lost, doubled, or out of order")
    else:
        lines.append(f"FAILED: {', '.join(summary.failures)}")
        lines += [f"- {each}" for each in (*summary.discrepancies, *summary.unexplained)]
        lines.append(f"everything is kept in {summary.evidence}")
    return "\n".join(lines)
