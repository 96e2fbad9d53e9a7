"""Brings a database up to the schema of this code: numbered migrations, forward only."""

import collections.abc as cabc
import contextlib
import hashlib
import re
import typing as t

import attrs

from storage.errors import StorageRejectedError
from storage.queries import SQL, functions, queries

FUNCTIONS: t.Final = 0  # the number under which functions and views are recorded

_FILE_NAME: t.Final = re.compile(r"(\d{4})_(\w+)\.sql")


class MigrationConnection(t.Protocol):
    """What migrating asks of a database connection, whatever its event loop."""

    async def execute(self, statement: str, *arguments: t.Any) -> t.Any:
        """Run a statement; without arguments, several of them."""
        ...

    async def fetch(self, statement: str, *arguments: t.Any) -> cabc.Sequence[t.Any]:
        """Run a statement and return its rows."""
        ...

    def transaction(self) -> contextlib.AbstractAsyncContextManager[t.Any]:
        """Commit at the end, roll back on an error."""
        ...


@attrs.frozen
class Migration:
    """One file of ``sql/migrations``."""

    number: int
    name: str
    sql: str = attrs.field(repr=False)

    @property
    def checksum(self) -> str:
        """SHA-256 of the text: what was applied must not change afterwards."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations() -> tuple[Migration, ...]:
    """All migrations in order; their numbers run from 1 without a gap."""
    found = [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in (SQL / "migrations").iterdir()
        if (match := _FILE_NAME.fullmatch(file.name))
    ]
    return tuple(sorted(found, key=lambda migration: migration.number))


def checksums() -> dict[int, str]:
    """What is recorded of a database that is up to date: checksums by number."""
    made_anew = Migration(FUNCTIONS, "functions", functions())
    return {each.number: each.checksum for each in (made_anew, *load_migrations())}


def pending(
    applied: cabc.Mapping[int, str], migrations: cabc.Sequence[Migration]
) -> list[Migration]:
    """What is left to apply; ``applied`` maps numbers to checksums.

    Raises:
        StorageRejectedError: the database is newer than this code, or a migration that was
            applied reads differently now.
    """
    newest = max(applied, default=0)
    if newest > len(migrations):
        raise StorageRejectedError(
            f"the database has schema {newest}, this version of zapvisor knows only up to "
            f"{len(migrations)}: start a version at least as new as the one that migrated it"
        )
    for migration in migrations:
        if applied.get(migration.number, migration.checksum) != migration.checksum:
            raise StorageRejectedError(
                f"migration {migration.number} ({migration.name}) was applied with another text"
            )
    return [migration for migration in migrations if migration.number not in applied]


async def migrate(
    connection: MigrationConnection, migrations: cabc.Sequence[Migration] | None = None
) -> list[Migration]:
    """Apply what is pending, each migration in a transaction of its own.

    An advisory lock keeps other daemons out meanwhile. Returns what was applied.

    Raises:
        StorageRejectedError: see :func:`pending`; or the database is not in UTF-8.
    """
    migrations = load_migrations() if migrations is None else migrations
    sql = queries()
    [[encoding]] = await connection.fetch(sql["server_encoding"])
    if encoding != "UTF8":
        raise StorageRejectedError(f"the database is encoded in {encoding}; it must be UTF8")
    await connection.fetch(sql["lock_schema"])
    try:
        await connection.execute(sql["create_migrations"])
        rows = await connection.fetch(sql["applied_migrations"])
        applied = {row["number"]: row["checksum"] for row in rows}
        made_anew = Migration(FUNCTIONS, "functions", functions())
        known = applied.pop(FUNCTIONS, None)
        todo = pending(applied, migrations)
        if todo or known != made_anew.checksum:
            todo.append(made_anew)
        for migration in todo:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    sql["record_migration"], migration.number, migration.name, migration.checksum
                )
    finally:
        await connection.fetch(sql["unlock_schema"])
    return todo
