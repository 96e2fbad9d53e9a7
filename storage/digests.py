"""What is in each table, in a number: how many rows, and a sum of their hashes.

The sum does not depend on the order of the rows, nor on how a server keeps them: each is hashed as
the text that PostgreSQL makes of it, under settings that do not vary. So a database and its copy
have the same, also on servers of different versions.
"""

import collections.abc as cabc
import typing as t

import attrs

from storage.maintenance import Maintenance

SETTINGS: t.Final[cabc.Mapping[str, str]] = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
"""On which the text of a row depends."""


@attrs.frozen
class TableDigest:
    """One table."""

    rows: int
    digest: str  # a decimal number


@attrs.frozen(kw_only=True)
class Difference:
    """A table that is not as it was."""

    table: str
    expected: str  # for people
    found: str


async def digest_tables(session: Maintenance) -> dict[str, TableDigest]:
    """All tables of the schema; within a transaction, which then has the settings."""
    for name, value in SETTINGS.items():
        await session.run("SELECT set_config($1, $2, true)", name, value)
    statement = (await session.fetch_one("digest_statement"))["statement"]
    found = await session.run(statement)
    return {row["name"]: TableDigest(row["rows"], row["digest"]) for row in found}


def differences(
    expected: cabc.Mapping[str, int],
    digests: cabc.Mapping[str, str],
    found: cabc.Mapping[str, TableDigest],
) -> list[Difference]:
    """What is not as it was; a table without an expected digest is compared by its rows alone."""
    told = []
    for table in sorted({*expected, *found}):
        rows, there = expected.get(table), found.get(table)
        if rows is None or there is None:
            said = "no such table"
            told.append(
                Difference(
                    table=table,
                    expected=said if rows is None else f"{rows:,} rows",
                    found=said if there is None else f"{there.rows:,} rows",
                )
            )
        elif rows != there.rows:
            told.append(
                Difference(table=table, expected=f"{rows:,} rows", found=f"{there.rows:,} rows")
            )
        elif table in digests and digests[table] != there.digest:
            told.append(
                Difference(
                    table=table,
                    expected=f"content {digests[table]}",
                    found=f"content {there.digest}",
                )
            )
    return told
