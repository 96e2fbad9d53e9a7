"""How exports are shown."""

import collections.abc as cabc
import datetime as dt
import typing as t

from rich.table import Table
from rich.text import Text

from daemon.screen import age, coloured, new_table

Row: t.TypeAlias = cabc.Mapping[str, t.Any]

_MISSING: t.Final = "files_missing"


def export_lines(row: Row) -> list[str]:
    """What was written."""
    counts = row["counts"]
    lines = [
        f"Exported to {row['path']}",
        f"{counts.get('messages', 0):,} messages, {row['bytes']:,} bytes"
        + (f", {counts['files']:,} files of messages" if counts.get("files") else ""),
    ]
    if counts.get(_MISSING):
        lines.append(f"{counts[_MISSING]:,} files of messages are stored nowhere any more.")
    if row["recipients"]:
        lines.append("Encrypted; only the secret keys of its recipients open it.")
    return lines


def verify_lines(facts: Row) -> list[str]:
    """Whether it is whole."""
    if facts["good"]:
        lines = [f"{facts['name']} is whole: {facts['files']:,} files, {facts['size']:,} bytes."]
    else:
        lines = [
            f"{facts['name']} is damaged: {facts['bad']:,} of {facts['files']:,} files are not as"
            " they were written. Use another copy."
        ]
    lines += [f"  damaged: {name}" for name in facts["damaged"]]
    lines += [f"  missing: {name}" for name in facts["missing"]]
    lines += [f"  not of this export: {name}" for name in facts["extra"]]
    return lines


def exports_table(rows: cabc.Iterable[Row], now: dt.datetime) -> Table:
    """One line for each."""
    table = new_table(">id", "name", "form", "state", "begun", ">messages", ">bytes", "what")
    for row in rows:
        state = "deleted" if row["removed_at"] is not None else row["state"]
        table.add_row(
            str(row["id"]),
            Text(row["name"]),
            row["form"],
            coloured(state),
            f"{age(row['started_at'], now)} ago",
            f"{row['counts'].get('messages', 0):,}",
            f"{row['bytes']:,}",
            Text(row["error"] or row["path"]),
        )
    return table
