"""Schedules for as long as one likes: ``python -m tests.simulation --hours 1000 --seed 7``."""

import argparse
import json
import sys
import time

import hypothesis
import pytest_trio.plugin  # noqa: F401 - makes trio's order of tasks follow the seed
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.machine import FleetMachine, simulated

ROUND = 50  # schedules between two looks at the clock


def main() -> int:
    """Run schedules until so many hours were simulated; what they were, as one JSON object."""
    parser = argparse.ArgumentParser(prog="tests.simulation")
    parser.add_argument("--hours", type=float, default=1000.0, help="simulated hours")
    parser.add_argument("--steps", type=int, default=50, help="the longest schedule")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    rounds = 0
    while simulated["seconds"] < options.hours * 3600:
        machine = hypothesis.seed(options.seed + rounds)(type("Machine", (FleetMachine,), {}))
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=ROUND,
                stateful_step_count=options.steps,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        rounds += 1
        sys.stderr.write(_summary(options.seed, began) + "\n")
    sys.stdout.write(_summary(options.seed, began) + "\n")
    return 0


def _summary(seed: int, began: float) -> str:
    return json.dumps(
        {
            "seed": seed,
            "simulated_hours": round(simulated["seconds"] / 3600, 1),
            "schedules": simulated["schedules"],
            "messages": simulated["messages"],
            "real_seconds": round(time.monotonic() - began, 1),
        }
    )


if __name__ == "__main__":
    sys.exit(main())
