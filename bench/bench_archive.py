"""How fast is an archive written and put back, and how much memory does it take? Prints JSON.

An embedded PostgreSQL with its durability settings on; ``--messages`` messages of 20 000 contacts
on two connections, three conversations each. Each step is a process of its own, whose greatest
resident memory is told (PostgreSQL's is apart). Meanwhile one message after the other is committed
as the writer does, on a connection that is imported, to see how long that takes beside it. At the
end both databases must give the same archive. Seeded; needs no network.
"""

import argparse
import contextlib
import hashlib
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t

import structlog
import trio

from storage.api import ChatKind, ConversationRules, Envelope, ReceivedMessage, Storage
from storage.archive_import import import_records
from storage.archive_reader import ArchiveReader
from storage.archive_records import encode_record
from storage.archive_source import open_source
from storage.embedded import EmbeddedPostgres
from storage.maintenance import open_maintenance
from storage.postgres import PostgresStorage

KEY = bytes(32)
CONTACTS = 20_000
BUSY = 60.0  # seconds
QUIET = 20.0  # seconds
BESIDE = 0.5  # as daemon/importing.py

FILL: t.Final = (
    """INSERT INTO contacts (connection_id, created_at)
    SELECT c.id, now() FROM connections c, generate_series(1, $1 / 2) ORDER BY 1""",
    """INSERT INTO contact_addresses (connection_id, address, contact_id, created_at)
    SELECT connection_id, '1555' || lpad(id::text, 7, '0') || '@s.whatsapp.net', id, created_at
    FROM contacts WHERE NOT is_self AND $1 > 0""",
    """INSERT INTO contact_names (connection_id, address, source, name, at)
    SELECT connection_id, address, 'push', 'Customer ' || contact_id, now()
    FROM contact_addresses WHERE $1 > 0""",
    """INSERT INTO chats (connection_id, kind, address, contact_id, created_at)
    SELECT connection_id, 'direct', address, contact_id, created_at
    FROM contact_addresses WHERE $1 > 0 ORDER BY contact_id""",
    """INSERT INTO conversations (connection_id, chat_id, status, opened_at, last_message_at,
        closed_at)
    SELECT k.connection_id, k.id, 'closed', at, at + interval '1 day', at + interval '2 days'
    FROM chats k, generate_series(1, 3) AS n,
        LATERAL (SELECT timestamptz '2026-01-01 00:00Z' + n * interval '30 days'
            + k.id * interval '37 seconds' AS at) o
    WHERE $1 > 0 ORDER BY n, k.id""",
    """INSERT INTO messages (connection_id, chat_id, sender_id, external_id, conversation_id,
        arrival, kind, state, from_me, lane, remote_timestamp, sent_at, received_at, text, raw)
    SELECT v.connection_id, v.chat_id, k.contact_id, '3EB0' || upper(md5(n::text)), v.id,
        row_number() OVER (PARTITION BY v.connection_id ORDER BY n), 'text', 'stored', false,
        'live', extract(epoch FROM v.opened_at)::bigint + n % 80000,
        v.opened_at + n % 80000 * interval '1 second',
        v.opened_at + n % 80000 * interval '1 second',
        repeat(md5(n::text) || ' ', 4), decode(repeat(md5(n::text), 14), 'hex')
    FROM generate_series(1, $1) AS n
    JOIN LATERAL (SELECT min(id) AS first, count(*) AS all FROM conversations) o ON true
    JOIN conversations v ON v.id = o.first + (n * 7919::bigint) % o.all
    JOIN chats k ON k.connection_id = v.connection_id AND k.id = v.chat_id
    ORDER BY n""",
    """UPDATE conversations v SET messages = n.messages
    FROM (SELECT conversation_id, count(*) AS messages FROM messages WHERE $1 > 0 GROUP BY 1) n
    WHERE v.id = n.conversation_id""",
    """UPDATE counters c SET arrivals = n.messages, messages = n.messages
    FROM (SELECT connection_id, count(*) AS messages FROM messages WHERE $1 > 0 GROUP BY 1) n
    WHERE c.connection_id = n.connection_id""",
)


async def fill(dsn: str, messages: int) -> None:
    """A database with so many messages."""
    async with PostgresStorage.open(dsn, key=KEY) as storage:
        for name in ("bench0", "bench1"):
            await storage.ensure_connection(name, ConversationRules())
    async with open_maintenance(dsn) as session:
        for statement in FILL:
            await session.run(
                statement, messages if "generate_series(1, $1)" in statement else CONTACTS
            )
        await session.run("ANALYZE")


async def write(dsn: str, path: pathlib.Path) -> None:
    """Export to a file."""
    async with open_maintenance(dsn) as session:
        with path.open("wb") as file:
            async for page in ArchiveReader(session):
                file.write(b"".join(map(encode_record, page.records)))


async def put(dsn: str, path: pathlib.Path) -> None:
    """Import from a file."""
    async with (
        open_maintenance(dsn) as session,
        contextlib.aclosing(open_source(path).records()) as records,
    ):
        counts = await import_records(session, None, records, share=float(sys.argv[5]))
    if counts.refused:
        raise SystemExit(f"refused: {counts.refusals}")


def step(
    work: str, dsn: str, path: pathlib.Path, share: float, seconds: float | None = None
) -> dict[str, float]:
    """Run a step in a process of its own, which is killed when it takes longer."""
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--step", work, dsn, str(path), str(share)],
            check=True,
            stdout=subprocess.PIPE,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return {}
    found: dict[str, float] = json.loads(done.stdout)
    sys.stderr.write(f"{work}: {found}\n")
    return found


async def beside(storage: Storage, stop: trio.Event) -> dict[str, float]:
    """Commit single messages until it is time to stop; how long they took."""
    took = []
    number = 0
    while not stop.is_set():
        number += 1
        address = f"1999{number % 500:07}@s.whatsapp.net"
        message = ReceivedMessage(
            chat=address,
            chat_kind=ChatKind.DIRECT,
            sender=address,
            from_me=False,
            external_id=f"LIVE{number}",
            kind="text",
            text="olá",
            sent_at=int(time.time()),  # noqa: TID251 - measured against the wall
            raw=b"x" * 200,
        )
        started = time.perf_counter()
        await storage.apply([Envelope(connection="bench0", message=message)])
        took.append(time.perf_counter() - started)
        await trio.sleep(0.02)
    took.sort()
    return {
        "commits": len(took),
        "p50_ms": round(1000 * statistics.median(took), 2),
        "p99_ms": round(1000 * took[int(len(took) * 0.99)], 2),
        "max_ms": round(1000 * took[-1], 2),
    }


async def watched(dsn: str, work: t.Callable[[], t.Any]) -> tuple[t.Any, dict[str, float]]:
    """A step, and the commits beside it."""
    stop = trio.Event()
    commits: dict[str, float] = {}

    async def commit() -> None:
        async with PostgresStorage.open(dsn, key=KEY) as storage:
            await storage.ensure_connection("bench0", ConversationRules())
            commits.update(await beside(storage, stop))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit)
        found = await trio.to_thread.run_sync(work)
        stop.set()
    return found, commits


async def run(messages: int) -> dict[str, object]:
    """All steps."""
    with tempfile.TemporaryDirectory(prefix="zv-bench-") as name:
        await trio.Path(name).chmod(0o755)  # when root runs it, the server is somebody else
        home = pathlib.Path(name)
        server = EmbeddedPostgres(home, temporary=True)
        await server.start()
        try:
            return await measure(server, home, messages)
        finally:
            await server.stop()


async def measure(server: EmbeddedPostgres, home: pathlib.Path, messages: int) -> dict[str, object]:
    """All steps on a server."""
    dsns = {}
    async with open_maintenance(server.dsn) as session:
        for database in ("first", "second", "living"):
            await session.run(f"CREATE DATABASE {database}")
            dsns[database] = server.dsn.replace("/postgres?", f"/{database}?")
    for dsn in dsns.values():
        async with PostgresStorage.open(dsn, key=KEY):
            pass
    await fill(dsns["first"], messages)
    first, second = home / "first.jsonl", home / "second.jsonl"
    export = step("write", dsns["first"], first, 1)
    alone = step("put", dsns["second"], first, 1)
    again = step("put", dsns["second"], first, 1)
    step("write", dsns["second"], second, 1)
    _end, commits = await watched(
        dsns["living"], lambda: step("put", dsns["living"], first, BESIDE, seconds=BUSY)
    )
    _nothing, idle = await watched(dsns["living"], lambda: time.sleep(QUIET))
    for found in (export, alone, again):
        found["messages_per_second"] = round(messages / found["seconds"])
    return {
        "messages": messages,
        "bytes": first.stat().st_size,
        "same": _hash(first) == _hash(second),
        "export": export,
        "import_into_an_empty_database": alone,
        "import_once_more": again,
        "commits_beside_it": commits,
        "commits_alone": idle,
    }


def _hash(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    if sys.argv[1:2] == ["--step"]:
        work = {"write": write, "put": put}[sys.argv[2]]
        started = time.perf_counter()
        trio.run(work, sys.argv[3], pathlib.Path(sys.argv[4]))
        took = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": round(took, 1), "peak_memory_mib": round(peak)}))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    given = parser.parse_args()
    print(json.dumps({"bench": "archive", **trio.run(run, given.messages)}, indent=2))


if __name__ == "__main__":
    main()
