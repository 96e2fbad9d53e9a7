"""What only a real database can show: sealed rows, lost connections, errors, the schema."""

import asyncpg
import attrs
import pytest
import trio
from st_helpers import ACCOUNT, CUSTOMER, KEY, Clock, Cluster, envelope, take

from storage.api import ConversationRules, Envelope, RecordChange, RecordKind, Verdict
from storage.errors import (
    SealError,
    StorageBrokenError,
    StorageRejectedError,
    StorageUnavailableError,
)
from storage.migrate import load_migrations
from storage.open import open_storage
from storage.postgres import PostgresStorage
from storage.queries import SQL, queries
from storage.sessions import translate
from whatsapp.proto.records_pb2 import DeviceRecord

SECRET = b"secret of the ratchet, 32 bytes."


async def test_secrets_are_sealed(postgres: PostgresStorage, cluster: Cluster, dsn: str) -> None:
    """No sealed column holds the secret; another key, row or connection does not open it."""
    records = tuple(RecordChange(kind, "1", SECRET) for kind in list(RecordKind)[1:])
    device = RecordChange(RecordKind.DEVICE, "", DeviceRecord(jid=ACCOUNT).SerializeToString())
    await postgres.apply([Envelope(connection="sales", records=(*records, device))])
    for table in (
        "signal_sessions",
        "signal_identities",
        "signal_prekeys",
        "signal_sender_keys",
        "peer_messages",
    ):
        [row] = await cluster.sql(dsn, f"SELECT sealed FROM {table}")
        assert SECRET not in row["sealed"]
    await cluster.sql(
        dsn,
        "INSERT INTO signal_sessions SELECT id, '1', sealed, now() FROM connections, "
        "signal_sessions WHERE name = 'support'",
    )
    with pytest.raises(SealError, match="session"):
        await postgres.load_records("support", RecordKind.SESSION, ["1"])
    async with PostgresStorage.open(dsn, key=bytes(32)) as other:
        with pytest.raises(SealError):
            await other.load_records("sales", RecordKind.SESSION, ["1"])


async def test_everything_survives_a_new_start(
    postgres: PostgresStorage, dsn: str, clock: Clock
) -> None:
    """A second storage on the same database answers as the first."""
    await postgres.apply(
        [envelope("A1", records=(RecordChange(RecordKind.SESSION, "1.0", SECRET),))]
    )
    await postgres.set_wanted("sales", False)
    async with PostgresStorage.open(dsn, key=KEY, clock=clock) as again:
        assert await again.connections() == await postgres.connections()
        assert await again.load_records("sales", RecordKind.SESSION, ["1.0"]) == {"1.0": SECRET}
        assert (await take(again, "A1")).verdict is Verdict.DUPLICATE


async def test_a_lost_connection_comes_back(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """After the server ended our connections the next calls make new ones."""
    await take(postgres, "A1")
    await cluster.sql(
        dsn,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    with trio.fail_after(10):
        for call in (lambda: take(postgres, "A1"), postgres.ping):
            while True:
                try:
                    await call()
                    break
                except StorageUnavailableError:
                    await trio.lowlevel.checkpoint()
    assert (await take(postgres, "A1")).verdict is Verdict.DUPLICATE


async def test_cancelling_does_not_tear_a_batch(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """A batch cancelled at any point is stored whole or not at all, and can be repeated."""
    batch = [envelope(f"A{number}") for number in range(20)]
    for delay in (0.0, 0.0005, 0.001, 0.002, 0.004):
        with trio.move_on_after(delay):
            await postgres.apply(batch)
        [row] = await cluster.sql(dsn, "SELECT count(*) FROM messages")
        assert row["count"] in (0, 20)
    await postgres.apply(batch)
    statistics = await postgres.statistics()
    assert (statistics["messages"], statistics["conversations"]["waiting"]) == (20, 1)


async def test_a_database_that_hangs(cluster: Cluster, dsn: str, clock: Clock) -> None:
    """A batch that is not answered in time is unavailable, and succeeds when it goes on."""
    async with PostgresStorage.open(dsn, key=KEY, command_timeout=0.3, clock=clock) as storage:
        await storage.ensure_connection("sales", ConversationRules())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                cluster.sql,
                dsn,
                "WITH held AS MATERIALIZED (SELECT FROM counters FOR UPDATE) "
                "SELECT pg_sleep(1.5), count(*) FROM held",
            )
            [locked] = [False]
            while not locked:
                [[locked]] = await cluster.sql(
                    dsn, "SELECT count(*) > 0 FROM pg_locks WHERE mode = 'RowShareLock'"
                )
            with trio.fail_after(5), pytest.raises(StorageUnavailableError):
                await take(storage, "A1")
        assert (await take(storage, "A1")).verdict is Verdict.STORED


async def test_many_tasks_at_once(postgres: PostgresStorage) -> None:
    """Writers and readers of any task are served; batches do not mix."""

    async def write(connection: str, first: int) -> None:
        for number in range(first, first + 5):
            await take(postgres, f"A{number}", connection=connection)
            await postgres.conversations(status=None, connection=connection, limit=5)

    async with trio.open_nursery() as nursery:
        for first in range(0, 20, 5):
            nursery.start_soon(write, "sales", first)
            nursery.start_soon(write, "support", first)
    assert [row.messages for row in await postgres.connections()] == [20, 20]


async def test_two_daemons_write_the_same(dsn: str, clock: Clock) -> None:
    """Two storages given the same messages at once store each one once."""
    async with (
        PostgresStorage.open(dsn, key=KEY, clock=clock) as one,
        PostgresStorage.open(dsn, key=KEY, clock=clock) as two,
    ):
        await one.ensure_connection("sales", ConversationRules())
        verdicts: list[Verdict] = []

        async def write(storage: PostgresStorage, start: int) -> None:
            for number in range(10):
                outcome = await take(storage, f"A{number}", chat=f"{number % 3}@s.whatsapp.net")
                verdicts.append(outcome.verdict)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, one, 0)
            nursery.start_soon(write, two, 0)
        assert verdicts.count(Verdict.STORED) == verdicts.count(Verdict.DUPLICATE) == 10
        assert (await one.statistics())["conversations"]["waiting"] == 3


async def test_closed_storage(dsn: str) -> None:
    """After its context a storage says so."""
    async with PostgresStorage.open(dsn, key=KEY) as storage:
        pass
    with pytest.raises(StorageUnavailableError):
        await storage.ping()
    with pytest.raises(StorageUnavailableError):
        await storage.apply([])


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://nobody@127.0.0.1:1/none",
        "postgresql://nobody@/none?host=/nonexistent",
        "postgresql://nobody@no-such-host.invalid/none",
    ],
)
async def test_unreachable_database(address: str) -> None:
    """One clear error, not a group of them."""
    with trio.fail_after(20), pytest.raises(StorageUnavailableError):
        async with PostgresStorage.open(address, key=KEY, command_timeout=5):
            pytest.fail("opened")


async def test_missing_database(cluster: Cluster) -> None:
    """A database that does not exist (yet) is unavailable."""
    with pytest.raises(StorageUnavailableError, match="does not exist"):
        async with PostgresStorage.open(cluster.dsn("missing"), key=KEY):
            pytest.fail("opened")


async def test_an_error_of_the_body_is_itself(dsn: str) -> None:
    """What the user of a storage raises comes out as it is."""
    with pytest.raises(KeyError, match="mine"):
        async with PostgresStorage.open(dsn, key=KEY):
            raise KeyError("mine")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (asyncpg.ConnectionDoesNotExistError("gone"), StorageUnavailableError),
        (asyncpg.CannotConnectNowError("starting"), StorageUnavailableError),
        (asyncpg.AdminShutdownError("down"), StorageUnavailableError),
        (asyncpg.DiskFullError("full"), StorageUnavailableError),
        (asyncpg.SerializationError("again"), StorageUnavailableError),
        (asyncpg.DeadlockDetectedError("again"), StorageUnavailableError),
        (asyncpg.TooManyConnectionsError("many"), StorageUnavailableError),
        (asyncpg.QueryCanceledError("slow"), StorageUnavailableError),
        (asyncpg.ReadOnlySQLTransactionError("standby"), StorageBrokenError),
        (asyncpg.InvalidPasswordError("login"), StorageBrokenError),
        (asyncpg.InterfaceError("closed"), StorageUnavailableError),
        (asyncpg.InternalClientError("state 15"), StorageUnavailableError),
        (ConnectionRefusedError("no"), StorageUnavailableError),
        (TimeoutError(), StorageUnavailableError),
        (asyncpg.DataError("bad argument"), StorageRejectedError),
        (asyncpg.UniqueViolationError("twice"), StorageRejectedError),
        (asyncpg.CheckViolationError("check"), StorageRejectedError),
        (asyncpg.CharacterNotInRepertoireError("NUL"), StorageRejectedError),
        (asyncpg.ProgramLimitExceededError("index row"), StorageRejectedError),
        (asyncpg.UndefinedColumnError("not our schema"), StorageBrokenError),
        (asyncpg.UndefinedTableError("not our schema"), StorageBrokenError),
        (asyncpg.UndefinedFunctionError("not our schema"), StorageBrokenError),
        (asyncpg.InsufficientPrivilegeError("grant"), StorageBrokenError),
        (asyncpg.InvalidCachedStatementError("plan"), StorageUnavailableError),
        (asyncpg.OutOfMemoryError("memory"), StorageUnavailableError),
    ],
)
def test_errors_of_the_driver(error: Exception, expected: type[Exception]) -> None:
    """Later, or never: every error of the database is one of the two."""
    assert type(translate(error)) is expected


async def test_every_query_is_sound_and_used(cluster: Cluster, dsn: str) -> None:
    """Each named statement prepares on the real schema, and some module asks for it."""
    sources = "".join(
        path.read_text(encoding="utf-8")
        for path in SQL.parent.rglob("*.py")  # type: ignore[attr-defined]
    )
    for number, (name, statement) in enumerate(queries().items()):
        assert f'"{name}"' in sources or name.startswith("load_"), name
        if name != "create_migrations":
            await cluster.sql(dsn, f"PREPARE statement_{number} AS {statement}")
    assert {f"load_{kind.value}" for kind in RecordKind} <= set(queries())


SHAPE = """
SELECT 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
    || ' ' || a.attnotnull || ' ' || a.attidentity::text || ' '
    || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || ' ' || coalesce(c.reloptions::text, '')
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'i')
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
    AND c.relname !~ '^schema_migrations'
UNION ALL
SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 0
    AND contype <> 't'  -- triggers come with the functions
    AND conrelid::regclass::text <> 'schema_migrations'
UNION ALL
SELECT 'index ' || indexdef FROM pg_indexes
WHERE schemaname = 'public' AND tablename <> 'schema_migrations'
ORDER BY 1
"""


async def test_schema_file_is_all_migrations(cluster: Cluster, dsn: str) -> None:
    """``schema.sql`` and the migrations make the same tables."""
    by_file = await cluster.create()
    schema = (SQL / "schema.sql").read_text(encoding="utf-8")
    await cluster.script(by_file, schema)
    assert await cluster.sql(by_file, SHAPE) == await cluster.sql(dsn, SHAPE)


async def test_migrating_twice_does_nothing(cluster: Cluster, dsn: str) -> None:
    """A start on a migrated database records nothing anew."""
    select = "SELECT * FROM schema_migrations ORDER BY number"
    before = await cluster.sql(dsn, select)
    async with PostgresStorage.open(dsn, key=KEY):
        pass
    assert await cluster.sql(dsn, select) == before
    assert [row["number"] for row in before] == [0, *(item.number for item in load_migrations())]


async def test_changed_functions_are_replaced(cluster: Cluster, dsn: str, clock: Clock) -> None:
    """Functions of another version give way to this one's."""
    await cluster.sql(dsn, "UPDATE schema_migrations SET checksum = 'older' WHERE number = 0")
    await cluster.sql(dsn, "DROP FUNCTION apply_batch")
    async with PostgresStorage.open(dsn, key=KEY, clock=clock) as storage:
        await storage.ensure_connection("sales", ConversationRules())
        assert (await take(storage, "A1")).verdict is Verdict.STORED


async def test_newer_database_is_refused(cluster: Cluster, dsn: str) -> None:
    """A schema from the future is left alone, with a clear message."""
    await cluster.sql(dsn, "INSERT INTO schema_migrations VALUES (9999, 'future', 'x')")
    with pytest.raises(StorageRejectedError, match="schema 9999"):
        async with PostgresStorage.open(dsn, key=KEY):
            pytest.fail("opened")


async def test_altered_migration_is_refused(cluster: Cluster, dsn: str) -> None:
    """What was applied under another text is named."""
    await cluster.sql(dsn, "UPDATE schema_migrations SET checksum = 'x' WHERE number = 1")
    with pytest.raises(StorageRejectedError, match=r"migration 1 \(initial\)"):
        async with PostgresStorage.open(dsn, key=KEY):
            pytest.fail("opened")


async def test_two_daemons_migrate_at_once(cluster: Cluster) -> None:
    """The advisory lock lets one migrate while the other waits."""
    dsn = await cluster.create()

    async def start() -> None:
        async with PostgresStorage.open(dsn, key=KEY) as storage:
            await storage.ping()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        nursery.start_soon(start)


async def test_only_utf8(cluster: Cluster) -> None:
    """A database in another encoding cannot hold every message."""
    await cluster.sql(
        cluster.server.dsn,
        "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc "
        "LOCALE 'C'",
    )
    with pytest.raises(StorageRejectedError, match="LATIN1"):
        async with PostgresStorage.open(cluster.dsn("latin"), key=KEY):
            pytest.fail("opened")


async def test_open_storage_on_an_address(
    dsn: str, public_dir: "object", clock: Clock, tmp_path: "object"
) -> None:
    """A server of one's own is served like the embedded one."""
    async with open_storage(
        dsn=dsn, data_dir=tmp_path, key=KEY, pool_size=1, command_timeout=10, clock=clock
    ) as storage:
        await storage.ensure_connection("sales", ConversationRules())
        assert (await take(storage, "A1")).opened


async def test_quarantine_keeps_the_bytes(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """The stanza, the plaintext and the error are there, once, with the attempts."""
    bad = envelope("A\0" * 400, sender="", raw=bytes(range(256)), chat="x" * 5000)
    for _ in range(2):
        outcome = await postgres.quarantine(bad, "sender\0of 0 characters" + "!" * 5000)
        assert outcome.verdict is Verdict.QUARANTINED
    [row] = await cluster.sql(dsn, "SELECT * FROM quarantine")
    assert (row["stanza"], row["raw"], row["attempts"]) == (b"stanza", bytes(range(256)), 2)
    assert row["error"].startswith("sender␀of 0 characters!")
    assert row["external_id"].startswith("A␀")
    other = attrs.evolve(bad, message=None, stanza=b"other")
    await postgres.quarantine(other, "never parsed")
    [sales, _support] = await postgres.connections()
    assert sales.quarantined == 2
    assert sales.messages == 0


async def test_plans_of_a_new_database(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """Also plans made while the tables were empty find each row by its own index."""
    for start in range(0, 2000, 100):
        await postgres.apply(
            [
                envelope(f"A{number}", chat=f"{number % 200}@s.whatsapp.net")
                for number in range(start, start + 100)
            ]
        )
    await cluster.sql(
        dsn,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )  # flushes its counts
    with trio.fail_after(10):
        counted = 0
        while counted < 2000:
            rows = await cluster.sql(
                dsn, "SELECT indexrelname, idx_scan, idx_tup_read FROM pg_stat_user_indexes"
            )
            counted = max(row["idx_scan"] for row in rows)
    assert {row["indexrelname"] for row in rows if row["idx_tup_read"] > 20_000} == set()


async def test_constraints_hold_by_themselves(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """The database refuses a second live conversation and a second row of a message."""
    await take(postgres, "A1", chat=CUSTOMER)
    with pytest.raises(asyncpg.UniqueViolationError, match="conversations_live"):
        await cluster.sql(
            dsn,
            "INSERT INTO conversations (connection_id, chat_id, status, opened_at, "
            "last_message_at) SELECT connection_id, chat_id, 'open', now(), now() "
            "FROM conversations",
        )
    with pytest.raises(asyncpg.UniqueViolationError, match="messages_once"):
        await cluster.sql(
            dsn,
            "INSERT INTO messages (connection_id, chat_id, sender_id, external_id, "
            "conversation_id, arrival, kind, state, from_me, lane, remote_timestamp, sent_at, "
            "received_at, raw) SELECT connection_id, chat_id, sender_id, external_id, "
            "conversation_id, 2, kind, state, from_me, lane, 0, now(), now(), '' FROM messages",
        )


@pytest.mark.parametrize("order", ["open_conversation", "close_conversation"])
async def test_orders_wait_for_the_running_batch(
    postgres: PostgresStorage, cluster: Cluster, dsn: str, order: str
) -> None:
    """A conversation changes between two batches: no message slips into one just closed."""
    conversation = (await take(postgres, "A1")).conversation_id

    async def seen(activity: str) -> None:
        while not await cluster.sql(dsn, f"SELECT FROM pg_stat_activity WHERE {activity}"):
            await trio.lowlevel.checkpoint()

    holding = trio.CancelScope()

    async def hold_what_a_batch_holds() -> None:
        with holding:
            await cluster.sql(
                dsn,
                "SELECT pg_sleep(60) "
                "FROM (SELECT count(*) FROM (SELECT FROM counters FOR UPDATE) AS rows) AS held",
            )

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold_what_a_batch_holds)
            await seen("wait_event = 'PgSleep'")
            nursery.start_soon(getattr(postgres, order), conversation)
            await seen("wait_event_type = 'Lock'")
            holding.cancel()
    [row] = await postgres.conversations(status=None, connection="sales", limit=9)
    assert row.status == ("open" if order == "open_conversation" else "closed")
