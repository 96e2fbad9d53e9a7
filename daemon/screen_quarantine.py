"""What ``zapvisor quarantine`` shows."""

import collections.abc as cabc
import datetime as dt
import typing as t

from rich.table import Table
from rich.text import Text

from daemon.screen import age, new_table

WAYS_OUT: t.Final = {
    "message": "the message was read and is kept: retry stores it",
    "stanza": "the stanza was never opened: retry reads it again, over the live connection",
    "none": "nothing was kept that could be stored",
    "resolved": "it is stored",
}


def quarantine_table(rows: cabc.Iterable[cabc.Mapping[str, t.Any]], now: dt.datetime) -> Table:
    """The table of ``zapvisor quarantine list``."""
    table = new_table(">id", "connection", "since", ">tries", "way out", "message", "what")
    for row in rows:
        table.add_row(
            str(row["id"]),
            Text(row["connection"]),
            age(row["received_at"], now),
            str(row["attempts"]),
            row["way_out"],
            Text(row["external_id"] or "–"),
            Text(row["error"] if row["resolved_at"] is None else outcome(row)),
        )
    return table


def quarantine_facts(row: cabc.Mapping[str, t.Any]) -> Table:
    """All that is known of one row, line by line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in row.items():
        if value is not None:
            table.add_row(key, Text(str(value)))
    table.add_row("", Text(WAYS_OUT[row["way_out"]]))
    return table


def outcome(row: cabc.Mapping[str, t.Any]) -> str:
    """How an attempt ended, in a line."""
    if row["resolved_at"] is None:
        return f"Row {row['id']} is not stored: {row['error']}"
    if row["message_id"] is None:
        return f"Row {row['id']} is done with; it held no message."
    copy = " already" if row["resolution"] == "duplicate" else ""
    return f"Row {row['id']} is stored{copy}: message {row['message_id']}."
