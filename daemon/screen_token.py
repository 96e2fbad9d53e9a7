"""The table of ``zapvisor token list``."""

import collections.abc as cabc
import datetime as dt
import typing as t

from rich.table import Table

from daemon.screen import age, new_table


def tokens_table(rows: cabc.Iterable[cabc.Mapping[str, t.Any]], now: dt.datetime) -> Table:
    """One line for each token."""
    table = new_table("id", "name", "scopes", "created", "used", "expires", "state")
    for row in rows:
        used = row["last_used_at"]
        table.add_row(
            row["id"],
            row["name"],
            " ".join(row["scopes"]),
            f"{age(row['created_at'], now)} ago",
            "never" if used is None else f"{age(used, now)} ago",
            (row["expires_at"] or "never")[:16].replace("T", " "),
            state(row, now),
        )
    return table


def state(row: cabc.Mapping[str, t.Any], now: dt.datetime) -> str:
    """Whether a token is taken."""
    if row["revoked_at"] is not None:
        return "revoked"
    expires = row["expires_at"]
    return "expired" if expires and dt.datetime.fromisoformat(expires) <= now else "valid"
