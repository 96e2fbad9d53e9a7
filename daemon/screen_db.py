"""What the commands of the database show."""

import collections.abc as cabc
import datetime as dt
import typing as t

from rich.table import Table

from daemon.screen import age, new_table
from daemon.screen_health import size

TELLING: t.Final = 1000
"""Messages from which on an average says something: an empty database takes 10 MiB, too."""


def tables_table(facts: cabc.Mapping[str, t.Any], now: dt.datetime) -> Table:
    """Where the room goes; tables of less than 64 KiB together."""
    table = new_table("table", ">rows", ">data", ">indexes", ">together", ">vacuumed")
    shown = [row for row in facts["tables"] if row["total_bytes"] >= 65536]
    rest = [row for row in facts["tables"] if row["total_bytes"] < 65536]
    for row in shown:
        table.add_row(
            row["name"],
            "?" if row["rows"] is None else f"{row['rows']:,}",
            size(row["table_bytes"]),
            size(row["index_bytes"]),
            size(row["total_bytes"]),
            "never" if row["vacuumed_at"] is None else age(row["vacuumed_at"], now) + " ago",
        )
    if rest:
        total = sum(row["total_bytes"] for row in rest)
        table.add_row(f"{len(rest)} small ones", "", "", "", size(total), "")
    return table


def counts_table(facts: cabc.Mapping[str, t.Any], now: dt.datetime) -> Table:
    """What each connection has stored."""
    table = new_table("connection", ">messages", ">undecryptable", ">last message")
    for row in facts["connections"]:
        last = row["last_message_at"]
        table.add_row(
            row["name"],
            f"{row['messages']:,}",
            f"{row['undecryptable']:,}",
            "never" if last is None else age(last, now) + " ago",
        )
    return table


def size_lines(facts: cabc.Mapping[str, t.Any]) -> list[str]:
    """The sums."""
    lines = [f"The database takes {size(facts['bytes'])} (PostgreSQL {facts['server_version']})."]
    if count := facts["messages"]:
        text = f"{count:,} {'message is' if count == 1 else 'messages are'} stored"
        if count >= TELLING:
            text += f", {size(facts['bytes_per_message'])} each with all that goes with them"
        lines.append(f"{text}.")
    growth = facts["growth"]
    if growth is None:
        lines.append("It has not run for long enough to tell how fast it grows.")
    else:
        text = f"In the last {growth['days']:g} days: {growth['messages_per_day']:,} messages"
        if growth["bytes_per_day"] is not None:
            text += f" and about {size(growth['bytes_per_day'])}"
        lines.append(f"{text} a day.")
    return lines


def backup_lines(facts: cabc.Mapping[str, t.Any]) -> list[str]:
    """What was backed up, and what was not."""
    lines = [
        f"{facts['file']}: {facts['messages']:,} messages, {facts['rows'].get('connections', 0)}"
        f" connections, {size(facts['archive_bytes'])}, schema {facts['schema']}"
    ]
    if facts["key"] is None:
        lines.append(f"It is not known which key it belongs to: {facts['key_unknown_because']}.")
    else:
        lines.append(
            f"The secret key (fingerprint {facts['key']}) is not in it: keep a copy of the key file"
            " elsewhere; without it every connection has to be paired again."
        )
    if stored := facts["rows"].get("media", 0):
        lines.append(f"Files of messages ({stored:,} known) are not in it either: copy them, too.")
    return lines


def restore_lines(facts: cabc.Mapping[str, t.Any]) -> list[str]:
    """What is there now, and what it means."""
    return [
        f"{facts['messages']:,} messages of {facts['created_at']} are in place"
        f" (schema {facts['schema']}); {facts['replaced_messages']:,} were replaced.",
        "What came after that moment is not: it was acknowledged, and WhatsApp does not send it"
        " again. Ask the phone for it: zapvisor history NAME --older CHAT",
    ]


def vacuum_lines(facts: cabc.Mapping[str, t.Any]) -> list[str]:
    """What it did, table by table."""
    lines = [
        f"{table['name']}: {size(table['bytes_before'])} → {size(table['bytes_after'])},"
        f" {table['dead_rows_before']:,} dead rows"
        for table in facts["tables"]
    ]
    whole = f"{size(facts['bytes_before'])} → {size(facts['bytes_after'])}"
    return [*lines, f"The database: {whole}."]
