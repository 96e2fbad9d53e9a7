"""The table of ``zapvisor gaps``."""

import collections.abc as cabc
import datetime as dt
import typing as t

from rich.table import Table
from rich.text import Text

from daemon.screen import age, coloured, new_table, span

COUNTS: t.Final = (
    ("announced", "announced"),
    ("stored", "stored"),
    ("dupl.", "duplicate"),
    ("undecr.", "undecryptable"),
    ("quar.", "quarantined"),
    ("other", "other"),
    ("later", "covered"),
    ("missing", "missing"),
)


def gaps_table(rows: cabc.Iterable[cabc.Mapping[str, t.Any]], now: dt.datetime) -> Table:
    """One line for each outage."""
    counts = [f">{title}" for title, _key in COUNTS]
    table = new_table(">id", "connection", "state", "began", "lasted", *counts, "what")
    for row in rows:
        table.add_row(
            str(row["id"]),
            Text(row["connection"]),
            coloured(row["state"]),
            f"{age(row['from_at'], now)} ago",
            _lasted(row, now),
            *("–" if row[key] is None else str(row[key]) for _title, key in COUNTS),
            Text(explanation(row)),
        )
    return table


def explanation(row: cabc.Mapping[str, t.Any]) -> str:
    """How it began, and what it waits for or how it was closed."""
    reason = "" if row["reason"] == row["kind"] else f" ({row['reason']})"
    parts = [f"{BEGINNINGS.get(row['kind'], row['kind'])}{reason}"]
    if row["state"] == "closed":
        parts.append(RESOLUTIONS.get(row["resolution"], str(row["resolution"])))
        if row["accepted_by"]:
            parts[-1] += f" by {row['accepted_by']}"
    else:
        parts += [text for key, text in OPEN.items() if row["state"] == "open" and row[key]]
        if row["interrupted"]:
            parts.append("the rest waits for the next complete queue")
    return "; ".join(parts)


BEGINNINGS: t.Final[cabc.Mapping[str, str]] = {
    "ended": "the connection ended",
    "silent": "nothing came any more",
    "died": "the daemon died",
    "stopped": "it was stopped",
    "linked": "first login",
}
RESOLUTIONS: t.Final[cabc.Mapping[str, str]] = {
    "complete": "everything came",
    "covered": "everything came, some of it with a later queue",
    "given_up": "everything came, some of it will never be readable",
    "accepted": "accepted",
}
OPEN: t.Final[cabc.Mapping[str, str]] = {
    "device_replaced": "another device was linked: what the old one was owed is unknown",
    "missing": "some were announced and never sent",
    "waiting": "some cannot be read yet",
    "in_quarantine": "some are in quarantine",
}


def _lasted(row: cabc.Mapping[str, t.Any], now: dt.datetime) -> str:
    end = now if row["to_at"] is None else dt.datetime.fromisoformat(row["to_at"])
    return span(max(0.0, (end - dt.datetime.fromisoformat(row["from_at"])).total_seconds()))
