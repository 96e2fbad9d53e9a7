"""How many messages per second does one writer commit? Prints one JSON object.

An embedded PostgreSQL with its durability settings on; texts of some 200 characters out of 20 000
words, one in five a redelivery, one session record per message, chats of 2000 customers on 5
connections, in batches as the writer would form them. ``--indexing`` makes the index of the search
meanwhile, as the daemon does. Seeded; needs no network.
"""

import argparse
import collections.abc as cabc
import json
import pathlib
import random  # noqa: TID251 - seeded
import statistics
import tempfile
import time

import structlog
import trio

from actors.indexer import Indexer
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

CONNECTIONS = 5
CUSTOMERS = 2_000
REDELIVERED = 0.2


def envelopes(rng: random.Random, now: int) -> cabc.Iterator[Envelope]:
    """An endless stream of arrivals."""
    recent: list[Envelope] = []
    words = ["".join(rng.choices("aáeiouçbdlmnrst", k=rng.randint(2, 10))) for _ in range(20_000)]
    while True:
        if recent and rng.random() < REDELIVERED:
            yield rng.choice(recent)
            continue
        number = rng.randrange(CUSTOMERS)
        address = f"1555{number:07}@s.whatsapp.net"
        item = Envelope(
            connection=f"bench{number % CONNECTIONS}",
            message=ReceivedMessage(
                chat=address,
                chat_alt=f"9000{number:07}@lid",
                chat_kind=ChatKind.DIRECT,
                sender=address,
                sender_alt=f"9000{number:07}@lid",
                sender_name=f"Customer {number}",
                from_me=False,
                external_id=f"3EB0{rng.getrandbits(64):016X}",
                kind="text",
                text=" ".join(rng.choices(words, k=30)),
                sent_at=now,
                raw=rng.randbytes(220),
            ),
            records=(RecordChange(RecordKind.SESSION, f"1555{number:07}.0", rng.randbytes(600)),),
        )
        recent.append(item)
        del recent[:-500]
        yield item


async def measure(
    storage: Storage,
    stream: cabc.Iterator[Envelope],
    size: int,
    seconds: float,
    news: cabc.Callable[[], None],
) -> dict[str, float]:
    """Apply batches of ``size`` for ``seconds``; ``news`` is told of each."""
    took: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        batch = [next(stream) for _ in range(size)]
        started = time.perf_counter()
        await storage.apply(batch)
        took.append(time.perf_counter() - started)
        news()
    took.sort()
    return {
        "messages_per_second": round(size * len(took) / sum(took)),
        "apply_p50_ms": round(1000 * statistics.median(took), 2),
        "apply_p99_ms": round(1000 * took[int(len(took) * 0.99)], 2),
    }


async def run(seconds: float, indexing: bool) -> dict[str, object]:
    """All batch sizes on one server."""
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
            for number in range(CONNECTIONS):
                await storage.ensure_connection(f"bench{number}", ConversationRules())
            stream = envelopes(random.Random(1), int(time.time()))  # noqa: TID251
            indexer = Indexer(storage)
            async with trio.open_nursery() as nursery:
                if indexing:
                    nursery.start_soon(indexer.run)
                await measure(
                    storage, stream, 256, seconds, indexer.wake
                )  # people, chats and plans are made
                results: dict[str, object] = {
                    f"batch_{size}": await measure(storage, stream, size, seconds, indexer.wake)
                    for size in (1, 16, 128, 512)
                }
                nursery.cancel_scope.cancel()
            return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="per batch size")
    parser.add_argument("--indexing", action="store_true", help="make the index meanwhile")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    found = trio.run(run, given.seconds, given.indexing)
    print(json.dumps({"bench": "writer_storage", "indexing": given.indexing, **found}))


if __name__ == "__main__":
    main()
