"""10,000 messages at once for one connection: what do the customers of another one notice?

The real daemon in a process of its own, with its PostgreSQL, against the simulator: customers write
to a connection that is stopped; it is started, and drains all of that, while somebody writes to
another connection ten times a second. Shown is how long those take from being sent until the
daemon has confirmed that they are stored, before and during the drain, and the daemon's memory.
Both sides share this machine, and the simulator waits for its own turn, too. Seeded.
"""

import argparse
import contextlib
import json
import pathlib
import statistics
import sys
import tempfile
import typing as t

import trio

from daemon.logs import configure_logs
from daemon.torture.process import until
from daemon.torture.stage import Stage, kept_on_failure, open_stage
from simulator.ledger import Record
from simulator.model import Account

PAUSE = 0.1  # seconds between two messages to the quiet connection
BEFORE = 10.0  # seconds
LOOK = 0.05  # seconds
LIMIT = 600.0  # seconds for everything


async def measure(messages: int, seed: int) -> dict[str, t.Any]:
    """One run."""
    with kept_on_failure(None) as place:
        async with open_stage(
            place.directory, ("flooded", "quiet"), seed=seed, say=lambda _sentence: None
        ) as stage:
            facts = await _measure(stage, messages)
        place.succeeded = True
    return facts


async def _measure(stage: Stage, messages: int) -> dict[str, t.Any]:
    keeper, simulator = stage.keeper, stage.simulator
    flooded, quiet = stage.team["flooded"], stage.team["quiet"]
    crowd = [simulator.create_account(f"customer {number}") for number in range(20)]
    await keeper.request("POST", "/connections/flooded/stop")
    for number in range(messages):
        await crowd[number % len(crowd)].phone.send_text(flooded.pn, f"text {number}")
    memory = [_memory(keeper.pid)]

    async def write() -> t.NoReturn:
        while True:
            await crowd[0].phone.send_text(quiet.pn, "are you there?")
            await trio.sleep(PAUSE)

    async def watch() -> t.NoReturn:
        while True:
            memory.append(_memory(keeper.pid))
            await trio.sleep(LOOK)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        nursery.start_soon(watch)
        await trio.sleep(BEFORE)
        calm, began = len(_records(stage, quiet)), trio.current_time()
        await keeper.request("POST", "/connections/flooded/start")
        with trio.fail_after(LIMIT):
            await until(lambda: _drained(stage, flooded, messages), LOOK)
        seconds = trio.current_time() - began
        nursery.cancel_scope.cancel()
    delays = [
        record.acknowledged_at - record.routed_at
        for record in _records(stage, quiet)
        if record.acknowledged_at is not None
    ]
    return {
        "messages": messages,
        "drained_in_seconds": round(seconds, 1),
        "messages_per_second": round(messages / seconds),
        "quiet_before_ms": _spread(delays[:calm]),
        "quiet_during_ms": _spread(delays[calm:]),
        "daemon_mib_before": round(memory[0] / 2**20),
        "daemon_mib_peak": round(max(memory) / 2**20),
    }


def _records(stage: Stage, account: Account) -> list[Record]:
    (device,) = account.companions
    return [r for r in stage.simulator.ledger.records(device.pn) if not r.from_me]


async def _drained(stage: Stage, account: Account, messages: int) -> bool:
    await trio.lowlevel.checkpoint()
    (device,) = account.companions
    return not stage.simulator.ledger.unacknowledged(device.pn) and (
        len(_records(stage, account)) >= messages
    )


def _spread(delays: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(delays, n=100)
    return {
        "count": len(delays),
        "p50": round(cuts[49] * 1000, 1),
        "p99": round(cuts[98] * 1000, 1),
        "longest": round(max(delays) * 1000, 1),
    }


def _memory(pid: int) -> int:
    """Bytes of the process that are in memory."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryFile("w") as nowhere:
        configure_logs(stream=nowhere)
        facts = trio.run(measure, options.messages, options.seed)
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
