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


def verdict_lines(facts: cabc.Mapping[str, t.Any]) -> list[str]:
    """What came of the test of a backup."""
    told = f"{facts['rows']:,} rows of {facts['tables']} tables in {facts['seconds']:.0f} s"
    if facts["compared_content"]:
        what = "rows and content are compared"
    else:
        what = "only the rows are counted: it was made by an older version"
    lines = [f"{facts['file']}: restored for a test, {told}; {what}."]
    lines += [
        f"DIFFERS: table {each['table']}: {each['expected']} expected, {each['found']} found"
        for each in facts["differences"]
    ]
    keys = facts["credentials"]
    if keys["failed"]:
        names = ", ".join(keys["failed"])
        lines.append(f"DIFFERS: the credentials do not open with the key of here: {names}")
    elif keys["unknown_because"] is not None:
        lines.append(f"Whether its credentials open could not be tried: {keys['unknown_because']}.")
    elif keys["devices"]:
        lines.append(f"The credentials of {keys['devices']} connections open.")
    lines.append("It is whole." if facts["intact"] else "It is not what was backed up.")
    return lines


def restore_lines(facts: cabc.Mapping[str, t.Any]) -> list[str]:
    """What is there now, and what it means."""
    lines = _restored(facts)
    if facts["stale_keys"]:
        lines.append(
            f"Its keys are older than what was sent with them ({facts['stale_keys_because']}):"
            " linked connections will be parked (stale_keys), for what such keys encrypt is lost."
            " Either put a newer backup back, or, for each: zapvisor recover NAME"
        )
    return lines


def _restored(facts: cabc.Mapping[str, t.Any]) -> list[str]:
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
