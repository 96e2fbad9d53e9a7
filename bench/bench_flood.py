"""How long does a quiet connection's message take while others flood? Prints one JSON object.

An embedded PostgreSQL with its durability settings on, the real writer, and connections that
post as much as they may have under way: texts of 200 characters to 500 customers each, with one
session record per message. One connection beside them posts a message every 50 ms and waits for
its COMMIT; its delays are what is shown, with the messages per second of all, and the peak
memory of the process. Seeded; needs no network.
"""

import argparse
import itertools
import json
import pathlib
import random  # noqa: TID251 - seeded
import resource
import statistics
import tempfile
import time
import typing as t

import attrs
import structlog
import trio

from actors.in_flight import InFlight
from actors.records import RecordCache
from actors.writer import Writer, WriterSettings
from actors.writer_inbox import writer_inbox
from storage.api import (
    ChatKind,
    ConversationRules,
    Envelope,
    ReceivedMessage,
    RecordChange,
    RecordKind,
    Storage,
)
from storage.open import open_storage

CUSTOMERS = 500
FLOODS = (0, 1, 10, 100)
PAUSE = 0.05  # seconds between two messages of the quiet connection


@attrs.define
class Source:
    """Makes the messages of one connection."""

    name: str
    rng: random.Random
    big: int = 0
    numbers: "itertools.count[int]" = attrs.field(factory=itertools.count)

    def next(self) -> Envelope:
        """A text of one of its customers; with ``big``, of so many bytes."""
        address = f"1555{self.rng.randrange(CUSTOMERS):07}@s.whatsapp.net"
        return Envelope(
            connection=self.name,
            message=ReceivedMessage(
                chat=address,
                chat_kind=ChatKind.DIRECT,
                sender=address,
                from_me=False,
                external_id=f"{self.name}-{next(self.numbers)}",
                kind="text",
                text="x" * 200,
                sent_at=int(time.time()),  # noqa: TID251
                raw=self.rng.randbytes(220 + self.big),
            ),
            records=(RecordChange(RecordKind.SESSION, address, self.rng.randbytes(600)),),
            stanza=b"x" * 300,
        )


async def measure(
    storage: Storage, floods: int, seconds: float, run: int, big: int
) -> dict[str, float]:
    """Flood with so many connections; the delays of the quiet one in milliseconds."""
    delays: list[float] = []
    writer = Writer(storage, writer_inbox(), WriterSettings(), random.Random(run).random)

    async def connection(nursery: trio.Nursery, name: str) -> InFlight[None]:
        await storage.ensure_connection(name, ConversationRules())
        in_flight = InFlight[None](writer.inbox, RecordCache(storage, name), 256)

        async def settle() -> None:
            while True:
                await in_flight.next_settled()

        nursery.start_soon(settle)
        return in_flight

    async def flood(in_flight: InFlight[None], source: Source) -> None:
        while True:
            await in_flight.post(source.next(), None)

    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        quiet = await connection(nursery, "quiet")
        quiet_source = Source(f"quiet-{run}", random.Random(run))
        for number in range(floods):
            name = f"flood{number}"
            source = Source(name, random.Random(1000 * run + number), big)
            source.numbers = itertools.count(run * 10**9)
            nursery.start_soon(flood, await connection(nursery, name), source)
        await trio.sleep(seconds / 4)  # until the queues are full
        before, began = writer.status.envelopes, time.perf_counter()
        while time.perf_counter() - began < seconds:
            posted = time.perf_counter()
            await quiet.commit(attrs.evolve(quiet_source.next(), connection="quiet"), None)
            delays.append(1000 * (time.perf_counter() - posted))
            await trio.sleep(PAUSE)
        rate = (writer.status.envelopes - before) / (time.perf_counter() - began)
        nursery.cancel_scope.cancel()
    delays.sort()
    return {
        "quiet_p50_ms": round(statistics.median(delays), 1),
        "quiet_p99_ms": round(delays[int(len(delays) * 0.99)], 1),
        "quiet_max_ms": round(delays[-1], 1),
        "messages_per_second": round(rate),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


async def run_all(seconds: float, big: int) -> dict[str, t.Any]:
    """All numbers of floods on one server, few first: the peak of memory only grows."""
    with tempfile.TemporaryDirectory(prefix="zv-bench-") as name:
        await trio.Path(name).chmod(0o755)  # when root runs it, the server is somebody else
        async with open_storage(
            dsn="embedded",
            data_dir=pathlib.Path(name),
            key=bytes(32),
            pool_size=1,
            command_timeout=60,
            temporary=True,
        ) as storage:
            await measure(storage, 5, seconds / 4, 1, 0)  # plans are made
            return {
                f"floods_{floods}": await measure(storage, floods, seconds, run, big)
                for run, floods in enumerate(FLOODS, start=2)
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="per number of floods")
    parser.add_argument("--big", type=int, default=0, help="more bytes in each flooding message")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    print(json.dumps({"bench": "flood", **trio.run(run_all, options.seconds, options.big)}))


if __name__ == "__main__":
    main()
