"""What ``zapvisor forget`` and ``zapvisor retention`` show."""

import collections.abc as cabc
import datetime as dt
import textwrap
import typing as t

from rich.console import Group
from rich.table import Table
from rich.text import Text

from daemon.screen import age, new_table

WIDTH: t.Final = 88  # characters of a line of a certificate
ERASED: t.Final[cabc.Mapping[str, str]] = {
    "addresses": "addresses",
    "names": "names",
    "messages": "messages of theirs, or in chats with them",
    "naming": "messages of others that quoted or named them, without that",
    "files": "files of messages",
    "quarantine": "stanzas in quarantine",
    "receipts": "receipts",
    "handled": "marks of stanzas that carried no message",
    "memberships": "memberships in groups",
    "settings": "settings and labels of chats",
    "devices": "lists of devices",
    "sessions": "sessions and keys of the encryption",
    "outbox": "messages to send, and sent ones that named them",
    "events": "events",
    "merges": "rows of merged contacts",
}


def subject_lines(row: cabc.Mapping[str, t.Any]) -> list[str]:
    """Whom an order means, for whoever is asked."""
    return [
        f"Name:        {row['name'] or 'none'}",
        f"Addresses:   {', '.join(row['addresses'])}",
        f"Contact on:  {', '.join(row['known_on']) or 'no connection'}",
        f"Erased on:   {', '.join(row['connections'])}",
        f"Messages:    {row['messages']} in chats with them, and theirs in groups",
    ]


def erasures_table(rows: cabc.Iterable[cabc.Mapping[str, t.Any]], now: dt.datetime) -> Table:
    """One line for each erasure."""
    table = new_table(">id", "requested", "by", "state", "connections", ">messages", ">files")
    for row in rows:
        state = row["state"] if row["state"] == "done" else f"{row['state']} ({row['phase']})"
        table.add_row(
            str(row["id"]),
            f"{age(row['requested_at'], now)} ago",
            Text(row["requested_by"]),
            state,
            Text(", ".join(row["connections"])),
            str(row["erased"].get("messages", 0)),
            str(row["erased"].get("files", 0)),
        )
    return table


def certificate_lines(row: cabc.Mapping[str, t.Any]) -> list[str]:
    """A certificate for people; there is nothing personal in it."""
    done = row["state"] == "done"
    lines = [
        f"Certificate of erasure no. {row['id']}",
        "",
        f"Requested:    {row['requested_at']} by {row['requested_by']}",
        f"Finished:     {row['finished_at']}" if done else f"NOT FINISHED:  {row['phase']}",
        f"Connections:  {', '.join(row['connections'])}",
        f"Program:      {row['program']}",
        "Subject:      HMAC-SHA-256 of each address",
        *(f"              {each}" for each in row["subject"]),
        "",
        "Erased:",
    ]
    width = max((len(str(count)) for count in row["erased"].values()), default=1)
    lines += [
        f"  {count:>{width}}  {ERASED.get(kind, kind)}" for kind, count in row["erased"].items()
    ]
    kept = (
        "Kept: one row for each message, with its time and id and without its content; the"
        " hashes above, by which messages from before are not taken in again."
    )
    lines += ["", *textwrap.wrap(kept, WIDTH), "", "Not erased, as the program cannot reach it:"]
    for each in row["not_erased"]:
        lines += textwrap.wrap(each, WIDTH, initial_indent="- ", subsequent_indent="  ")
    return lines


def preview_table(rows: cabc.Iterable[cabc.Mapping[str, t.Any]]) -> Table:
    """What each rule would remove now."""
    table = new_table("rule", "connection", ">messages", ">files")
    for row in rows:
        counts = (str(row["messages"]), str(row["files"]))
        table.add_row(Text(row["rule"]), Text(row["connection"]), *counts)
    return table


def retention_parts(found: cabc.Mapping[str, t.Any], now: dt.datetime) -> Group:
    """The rules, and what they have removed."""
    parts: list[t.Any] = []
    for rule in found["rules"]:
        warning = " (short: see docs/privacy.md)" if rule["short"] else ""
        parts.append(Text(f"{rule['rule']}{warning}"))
    if not parts:
        parts.append(Text("There are no rules of retention: messages are kept for ever."))
    if found["removed"]:
        table = new_table("ended", "connection", "rule", ">messages", ">files")
        for row in found["removed"]:
            table.add_row(
                f"{age(row['ended_at'], now)} ago",
                Text(row["connection"]),
                Text(row["rule"]),
                str(row["messages"]),
                str(row["files"]),
            )
        parts += [Text(""), table]
    else:
        parts += [Text("Nothing was removed so far.")]
    return Group(*parts)
