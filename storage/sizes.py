"""How big a database is, what takes the room, and how fast it grows."""

import typing as t

from storage.errors import StorageRejectedError
from storage.maintenance import Maintenance

WINDOW: t.Final = 14.0  # days whose figures tell how fast it grows
TOO_SHORT: t.Final = 0.25  # days: less tells nothing
_VACUUM: t.Final = {
    False: "VACUUM (ANALYZE)",  # takes no lock that others would notice
    True: "VACUUM (FULL, ANALYZE)",  # writes every table anew, and keeps others out meanwhile
}


async def sizes(session: Maintenance) -> dict[str, t.Any]:
    """All of it, for people and programs; bytes, rows (about; None: not known yet), and days.

    Raises:
        StorageError: the database cannot say.
    """
    facts = await session.fetch_one("database_facts")
    if not facts["ours"]:
        raise StorageRejectedError("this database holds nothing of zapvisor yet")
    tables = [dict(row) for row in await session.fetch("table_sizes")]
    for table in tables:
        table["rows"] = None if table["rows"] < 0 else table["rows"]
    connections = [dict(row) for row in await session.fetch("connection_counts")]
    messages = sum(row["messages"] + row["undecryptable"] for row in connections)
    total = sum(table["total_bytes"] for table in tables)
    return {
        "bytes": facts["bytes"],
        "server_version": facts["server_version"],
        "tables": tables,
        "connections": connections,
        "messages": messages,
        "bytes_per_message": round(total / messages) if messages else None,
        "growth": await _growth(session, total / messages if messages else None),
    }


async def _growth(session: Maintenance, bytes_per_message: float | None) -> dict[str, t.Any] | None:
    """Per day; None: it has not run for long enough to tell."""
    told = await session.fetch_one("growth", WINDOW)
    if told["days"] < TOO_SHORT:
        return None
    per_day = told["messages"] / told["days"]
    return {
        "days": round(told["days"], 2),
        "messages_per_day": round(per_day, 1),
        "bytes_per_day": None if bytes_per_message is None else round(per_day * bytes_per_message),
    }


async def vacuum(session: Maintenance, *, full: bool) -> dict[str, t.Any]:
    """Give room back to the tables (``full``: to the disk), and learn what is in them.

    Returns the sizes before and after, of the whole and of each table that changed.

    Raises:
        StorageError: it failed; what was done by then stays done.
    """
    before = await sizes(session)
    await session.run(_VACUUM[full])
    after = await sizes(session)
    former = {table["name"]: table for table in before["tables"]}
    changed = [
        {
            "name": table["name"],
            "bytes_before": former[table["name"]]["total_bytes"],
            "bytes_after": table["total_bytes"],
            "dead_rows_before": former[table["name"]]["dead_rows"],
        }
        for table in after["tables"]
        if table["name"] in former
        and (
            former[table["name"]]["total_bytes"] != table["total_bytes"]
            or former[table["name"]]["dead_rows"]
        )
    ]
    return {
        "full": full,
        "bytes_before": before["bytes"],
        "bytes_after": after["bytes"],
        "tables": changed,
    }
