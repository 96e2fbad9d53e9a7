"""Whether erasing disturbs the writer: how long its commits take, at a steady pace of live
messages, while nothing else goes on, while a rule of retention sweeps, and while a person is
forgotten. On an embedded, durable PostgreSQL that is filled first.

Usage: bench_erasing.py [--messages N] [--seconds S]
"""

import argparse
import collections.abc as cabc
import contextlib
import json
import pathlib
import tempfile
import time
import typing as t

import asyncpg
import trio
import trio_asyncio

from actors.eraser import Eraser
from actors.retention import Retention
from storage.api import ChatKind, ConversationRules, Envelope, ReceivedMessage
from storage.embedded import EmbeddedPostgres
from storage.erasure import Rule
from storage.postgres import PostgresStorage

KEY = bytes(range(32))
CONTACTS = 1000
PACE = 0.02  # seconds between two batches
BATCH = 10  # messages
RULE = Rule(
    kinds=None, files_only=False, after=365 * 86400.0, live=False, connections=(), text="all"
)
FILL = """
INSERT INTO messages (connection_id, chat_id, sender_id, external_id, conversation_id, arrival,
    kind, state, from_me, lane, remote_timestamp, sent_at, received_at, text, raw)
SELECT 1, k.id, k.contact_id, 'old' || n, v.id, 1000000 + n, 'text', 'stored', false, 'history',
    0, now() - interval '800 days' + n * interval '50 seconds', now(),
    repeat('words of a message ', 6), decode(repeat('00ff', 150), 'hex')
FROM generate_series($1::integer, $2::integer) AS n
JOIN chats k ON k.connection_id = 1 AND k.id = (SELECT min(id) FROM chats) + n % $3
JOIN conversations v ON v.connection_id = 1 AND v.chat_id = k.id
"""


async def main(directory: pathlib.Path, messages: int, seconds: float) -> dict[str, t.Any]:
    """Each phase with its latencies."""
    async with (
        EmbeddedPostgres(directory, temporary=True) as server,
        PostgresStorage.open(server.dsn, key=KEY) as storage,
    ):
        await storage.ensure_connection("c", ConversationRules())
        await storage.apply([message(f"first{n}", n) for n in range(CONTACTS)])
        await fill(server.dsn, messages)
        retention = Retention(storage, [RULE], no_files, now)
        eraser = Eraser(storage, no_files, no_records, "bench")
        found: dict[str, t.Any] = {"messages": messages}
        found["nothing else"] = await measured(storage, seconds, trio.sleep_forever)
        began = time.perf_counter()
        found["preview"] = {
            "removes": [each.messages for each in (await retention.preview(600))[0]],
            "seconds": round(time.perf_counter() - began, 1),
        }
        found["retention"] = await measured(storage, seconds, retention.sweep)
        found["forgetting"] = await measured(storage, seconds, lambda: forgetting(storage, eraser))
        return found


async def forgetting(storage: PostgresStorage, eraser: Eraser) -> None:
    """One person, to the end."""
    row = await eraser.forget(contact=None, address=number(3), connection=None, by="bench")
    assert row is not None
    await eraser._finish(row.id)


def now() -> float:
    return time.time()  # noqa: TID251 - the edge


async def no_files() -> int:
    return 0


async def no_records(_names: cabc.Sequence[str]) -> None:
    """No connection runs here."""


async def measured(
    storage: PostgresStorage, seconds: float, work: cabc.Callable[[], cabc.Awaitable[t.Any]]
) -> dict[str, float]:
    """Milliseconds of the commits while the work goes on, and how long that took."""
    took: list[float] = []
    ended: list[float] = []

    async def other() -> None:
        began = time.perf_counter()
        await work()
        ended.append(time.perf_counter() - began)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        until = trio.current_time() + seconds
        serial = 0
        while trio.current_time() < until:
            batch = [message(f"{seconds}-{id(took)}-{serial}-{n}", 5 + n) for n in range(BATCH)]
            serial += 1
            began = time.perf_counter()
            await storage.apply(batch)
            took.append(1000 * (time.perf_counter() - began))
            await trio.sleep(PACE)
        nursery.cancel_scope.cancel()
    took.sort()
    return {
        "commits": len(took),
        "p50 ms": round(took[len(took) // 2], 1),
        "p99 ms": round(took[int(len(took) * 0.99)], 1),
        "max ms": round(took[-1], 1),
        "work took s": round(ended[0], 1) if ended else -1.0,
    }


def number(n: int) -> str:
    return f"1555{n:07d}@s.whatsapp.net"


def message(external_id: str, n: int) -> Envelope:
    return Envelope(
        connection="c",
        message=ReceivedMessage(
            chat=number(n),
            chat_kind=ChatKind.DIRECT,
            sender=number(n),
            from_me=False,
            external_id=external_id,
            kind="text",
            text="words of a message",
            sent_at=int(now()),
            raw=b"x" * 100,
        ),
    )


async def fill(dsn: str, messages: int) -> None:
    """Old messages in closed conversations, past the writer."""

    async def work() -> None:
        connection = await asyncpg.connect(dsn, timeout=60, command_timeout=600)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(connection.close)
            await connection.execute(
                "UPDATE conversations SET status = 'closed', closed_at = now()"
            )
            for begin in range(0, messages, 50_000):
                await connection.fetch(FILL, begin + 1, begin + 50_000, CONTACTS)
            await connection.execute("VACUUM ANALYZE")

    async with trio_asyncio.open_loop() as loop:
        await trio_asyncio.aio_as_trio(work, loop=loop)()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zv-bench-") as name:
        place = pathlib.Path(name)
        place.chmod(0o755)
        print(json.dumps(trio.run(main, place, options.messages, options.seconds), indent=2))
