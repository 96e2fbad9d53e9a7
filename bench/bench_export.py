"""How fast are exports written, and how much memory do they take? Prints one JSON object.

An embedded PostgreSQL; ``--messages`` messages in 20 000 conversations, one of them with a tenth of
all. Each form is written in a process of its own, whose greatest resident memory is told
(PostgreSQL's is apart), for a tenth of the messages and for all: the two should be alike. ``idle``
is what the process takes before it begins. Needs no network.
"""

import argparse
import json
import pathlib
import resource
import sys
import tempfile
import time
import typing as t

import structlog
import trio

from storage.api import ConversationRules
from storage.blobs import LocalBlobs
from storage.embedded import EmbeddedPostgres
from storage.exports.check import open_export, verify
from storage.exports.draft import begin
from storage.exports.model import Form, Request, Start
from storage.exports.run import Means, newest_of, write_export
from storage.maintenance import open_maintenance
from storage.postgres import PostgresStorage

KEY: t.Final = bytes(32)
CHATS: t.Final = 20_000
RECIPIENT: t.Final = "age1kef7dahvyvqqx808geqth54etfytgkqudfrjls0vf29m34mkfcgssfz0lj"
REQUESTS: t.Final = {
    "jsonl": Request(form=Form.JSONL),
    "jsonl, zstd, age": Request(form=Form.JSONL, compress=True, recipients=(RECIPIENT,)),
    "csv": Request(form=Form.CSV),
    "html": Request(form=Form.HTML),
    "whatsapp": Request(form=Form.WHATSAPP),
}

FILL: t.Final = (
    """INSERT INTO contacts (connection_id, created_at)
    SELECT c.id, now() FROM connections c, generate_series(1, {chats})""",
    """INSERT INTO contact_addresses (connection_id, address, contact_id, created_at)
    SELECT connection_id, '1555' || lpad(id::text, 7, '0') || '@s.whatsapp.net', id, created_at
    FROM contacts WHERE NOT is_self""",
    """INSERT INTO contact_names (connection_id, address, source, name, at)
    SELECT connection_id, address, 'push', 'Customer ' || contact_id, now()
    FROM contact_addresses""",
    """INSERT INTO chats (connection_id, kind, address, contact_id, created_at)
    SELECT connection_id, 'direct', address, contact_id, created_at FROM contact_addresses""",
    """INSERT INTO conversations (connection_id, chat_id, status, opened_at, last_message_at,
        closed_at)
    SELECT connection_id, id, 'closed', '2026-01-01Z', '2026-12-01Z', '2026-12-01Z' FROM chats""",
    """INSERT INTO messages (connection_id, chat_id, sender_id, external_id, conversation_id,
        arrival, kind, state, from_me, lane, remote_timestamp, sent_at, received_at, text, raw)
    SELECT v.connection_id, v.chat_id, k.contact_id, '3EB0' || upper(md5(n::text)), v.id, n,
        'text', 'stored', false, 'live', 0, '2026-01-01Z'::timestamptz + n * interval '10 seconds',
        now(), repeat(md5(n::text) || ' ', 4), decode(repeat(md5(n::text), 14), 'hex')
    FROM generate_series(1, {messages}) AS n
    JOIN LATERAL (SELECT min(id) AS first FROM conversations) o ON true
    JOIN conversations v ON v.id = o.first
        + CASE WHEN n % 10 = 0 THEN 0 ELSE (n * 7919::bigint) % {chats} END
    JOIN chats k ON k.connection_id = v.connection_id AND k.id = v.chat_id""",
    """UPDATE conversations v SET messages = n.messages
    FROM (SELECT conversation_id, count(*) AS messages FROM messages GROUP BY 1) n
    WHERE v.id = n.conversation_id""",
    "ANALYZE",
)


async def fill(dsn: str, messages: int) -> None:
    """A database with so many messages."""
    async with PostgresStorage.open(dsn, key=KEY) as storage:
        await storage.ensure_connection("bench", ConversationRules())
    async with open_maintenance(dsn) as session:
        for statement in FILL:
            await session.run(statement.format(messages=messages, chats=CHATS))


async def write(dsn: str, directory: pathlib.Path, form: str, share: float) -> int:
    """An export of a part of the messages; how many."""
    async with open_maintenance(dsn) as session:
        bounds = await newest_of(session)
        start = Start(
            name="bench",
            request=REQUESTS[form],
            bounds=(*bounds[:3], int(bounds[3] * share)),
            created_at="",
            program="",
        )
        with begin(directory, start) as draft:
            means = Means(session=session, blobs=LocalBlobs(directory / "media"))
            manifest = await write_export(draft, means, lambda: "")
        return manifest.counts["messages"]


def step(dsn: str, directory: str, form: str, share: str) -> None:
    """One export, in a process of its own."""
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    path = pathlib.Path(directory)
    messages = trio.run(write, dsn, path, form, float(share))
    seconds = time.perf_counter() - started
    told = {
        "messages": messages,
        "per_second": round(messages / seconds),
        "idle_mib": idle // 1024,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    report = verify(open_export(path / "bench"))
    if not report.good:
        raise SystemExit("what was written is damaged")
    print(json.dumps(told | {"files": report.files, "bytes": report.size}))


async def bench(messages: int, forms: list[str]) -> dict[str, t.Any]:
    """All forms."""
    found: dict[str, t.Any] = {}
    with tempfile.TemporaryDirectory(prefix="zv-bench-") as home:
        server = EmbeddedPostgres(pathlib.Path(home), temporary=True)
        async with server as running:
            await fill(running.dsn, messages)
            for form in forms:
                for share in ("0.1", "1"):
                    with tempfile.TemporaryDirectory(prefix="zv-bench-") as target:
                        done = await trio.run_process(
                            [sys.executable, __file__, "--step", running.dsn, target, form, share],
                            capture_stdout=True,
                        )
                    found[f"{form} {share}"] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    if sys.argv[1:2] == ["--step"]:
        step(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--form", action="append", choices=[*REQUESTS])
    arguments = parser.parse_args()
    print(json.dumps(trio.run(bench, arguments.messages, arguments.form or [*REQUESTS]), indent=1))


if __name__ == "__main__":
    main()
