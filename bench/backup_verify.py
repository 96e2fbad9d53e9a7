"""How long a backup takes, and its test: ``python -m bench.backup_verify [MESSAGES]``."""

import pathlib
import sys
import tempfile
import time

import trio

from storage.backup import back_up, check_backup
from storage.backup_file import Draft
from storage.digests import digest_tables
from storage.embedded import EmbeddedPostgres
from storage.maintenance import Maintenance, open_maintenance
from storage.postgres import PostgresStorage
from storage.verify import verify_backup

KEY = bytes(32)

FILL = """
WITH c AS (
    INSERT INTO connections (name, reopen_window, reopen_from, team_reopens, created_at)
    VALUES ('sales', '1 day', 'closed_at', false, now()) RETURNING id
), n AS (
    INSERT INTO counters (connection_id, arrivals, messages) SELECT id, $1, $1 FROM c
), p AS (
    INSERT INTO contacts (connection_id, created_at)
    SELECT c.id, now() FROM c, generate_series(1, 1000) RETURNING connection_id, id
), k AS (
    INSERT INTO chats (connection_id, kind, address, contact_id, created_at)
    SELECT connection_id, 'direct', id || '@s.whatsapp.net', id, now() FROM p
    RETURNING connection_id, id, contact_id
), v AS (
    INSERT INTO conversations (
        connection_id, chat_id, status, opened_at, last_message_at, closed_at)
    SELECT connection_id, id, 'closed', now(), now(), now() FROM k
    RETURNING connection_id, id, chat_id
)
INSERT INTO messages (connection_id, chat_id, sender_id, external_id, conversation_id, arrival,
    kind, state, from_me, lane, remote_timestamp, sent_at, received_at, text, raw)
SELECT v.connection_id, v.chat_id, k.contact_id, '3EB0' || md5(g::text), v.id,
    g * 1000 + v.chat_id, 'text', 'stored', false, 'live', 1790000000, now(), now(),
    left(repeat(md5(g::text) || ' ', 4), (20 + g % 100)::integer),
    decode(repeat(md5(g::text), 5), 'hex')
FROM v JOIN k ON k.connection_id = v.connection_id AND k.id = v.chat_id
CROSS JOIN generate_series(1, $1::bigint / 1000) g
"""


async def main(messages: int) -> None:
    """Fill, back up, test; what each took, in seconds."""
    with tempfile.TemporaryDirectory(prefix="zv-bench-") as name:
        place = pathlib.Path(name)
        place.chmod(0o755)  # noqa: ASYNC240 - before anything runs
        async with EmbeddedPostgres(place / "data", temporary=True, durable=False) as server:
            async with PostgresStorage.open(server.dsn, key=KEY):
                pass
            async with open_maintenance(server.dsn) as session:
                await session.run(FILL, messages)
                await _measure(session, server.dsn, place)


async def _measure(session: Maintenance, dsn: str, place: pathlib.Path) -> None:
    began = time.perf_counter()
    async with session.frozen():
        await digest_tables(session)
    _tell("counting and hashing all rows", began)
    began = time.perf_counter()
    path = place / "backup"
    with Draft(path) as draft:
        made = await back_up(session, draft.file, version="bench", created_at="", key=None)
        manifest = await trio.to_thread.run_sync(draft.publish, made)
    _tell(
        f"backup ({manifest.archive_bytes / 1e6:.0f} MB of {made.database_bytes / 1e6:.0f})", began
    )
    began = time.perf_counter()
    with path.open("rb") as archive:
        verdict = await verify_backup(archive, check_backup(path), place, "no key")
    _tell(f"test, {verdict.rows:,} rows, intact: {verdict.intact}", began)


def _tell(what: str, began: float) -> None:
    sys.stdout.write(f"{what}: {time.perf_counter() - began:.1f} s\n")


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
