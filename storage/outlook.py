"""What migrations would do to a database, before they do it."""

import collections.abc as cabc
import re
import typing as t

import attrs

from storage.errors import StorageRejectedError
from storage.maintenance import Maintenance
from storage.migrate import FUNCTIONS, Migration, load_migrations, pending
from storage.queries import functions

PACE: t.Final = 50 * 1024 * 1024  # bytes a second at which a table is read or written anew
TESTED: t.Final = range(16, 19)
"""Major versions of PostgreSQL that this code is tested with."""

_COMMENT: t.Final = re.compile(r"(?:^--.*\n)+", re.MULTILINE)
_READS: t.Final = (  # statements that read or write a whole table
    re.compile(r"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+\w+\s+ON\s+(\w+)", re.IGNORECASE),
    re.compile(r"^UPDATE\s+(\w+)", re.IGNORECASE | re.MULTILINE),
    re.compile(r"^INSERT\s+INTO\s+\w+[^;]*?\bFROM\s+(\w+)", re.IGNORECASE | re.MULTILINE),
    re.compile(r"^DELETE\s+FROM\s+(\w+)", re.IGNORECASE | re.MULTILINE),
    re.compile(
        r"\bALTER\s+TABLE\s+(\w+)[^;]*\b(?:CHECK|FOREIGN\s+KEY|TYPE|SET\s+NOT\s+NULL|REFERENCES)\b",
        re.IGNORECASE,
    ),
)


@attrs.frozen(kw_only=True)
class Step:
    """A migration that is to come."""

    number: int
    name: str
    sentence: str
    tables: tuple[str, ...] = ()  # that are there, and that it reads or writes as a whole
    bytes: int = 0  # of those
    seconds: float = 0.0  # about


@attrs.frozen(kw_only=True)
class Outlook:
    """A database as an upgrade would find it."""

    server_version: str
    server_major: int
    schema: int  # 0: nothing of ours is there
    code: int  # the schema of this code
    steps: tuple[Step, ...] = ()
    functions: bool = False  # functions and views are made anew
    refused: str | None = None  # why this code would not run on it
    paired: int = 0
    bytes: int = 0


async def outlook(
    session: Maintenance, migrations: cabc.Sequence[Migration] | None = None
) -> Outlook:
    """What :func:`storage.migrate.migrate` would do; nothing is changed.

    Raises:
        StorageError: the database cannot say.
    """
    migrations = load_migrations() if migrations is None else migrations
    facts = await session.fetch_one("database_facts")
    common: dict[str, t.Any] = {
        "server_version": facts["server_version"],
        "server_major": facts["server_major"],
        "code": len(migrations),
        "bytes": facts["bytes"],
    }
    if not facts["ours"]:
        steps = tuple(_step(migration, {}) for migration in migrations)
        return Outlook(schema=0, steps=steps, functions=True, **common)
    applied = {row["number"]: row["checksum"] for row in await session.fetch("applied_migrations")}
    known = applied.pop(FUNCTIONS, None)
    common["schema"] = max(applied, default=0)
    try:
        todo = pending(applied, migrations)
    except StorageRejectedError as error:
        return Outlook(refused=str(error), **common)
    sizes = {row["name"]: row["total_bytes"] for row in await session.fetch("table_sizes")}
    made_anew = Migration(FUNCTIONS, "functions", functions()).checksum
    return Outlook(
        steps=tuple(_step(migration, sizes) for migration in todo),
        functions=bool(todo) or known != made_anew,
        paired=(await session.fetch_one("worth_keeping"))["paired"],
        **common,
    )


def _step(migration: Migration, sizes: cabc.Mapping[str, int]) -> Step:
    named = {table for pattern in _READS for table in pattern.findall(_bare(migration.sql))}
    tables = tuple(sorted(named & set(sizes)))
    total = sum(sizes[table] for table in tables)
    return Step(
        number=migration.number,
        name=migration.name,
        sentence=sentence(migration.sql),
        tables=tables,
        bytes=total,
        seconds=round(total / PACE, 1),
    )


def sentence(sql: str) -> str:
    """What a migration says of itself: the first sentence of its first comment."""
    found = _COMMENT.search(sql)
    if found is None:
        return ""
    text = " ".join(line.removeprefix("--").strip() for line in found[0].splitlines())
    return re.split(r"(?<=[.!?])\s", text.strip())[0]


def _bare(sql: str) -> str:
    return re.sub(r"--.*", "", sql)
