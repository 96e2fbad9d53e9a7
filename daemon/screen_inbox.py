"""The tables of the inbox: messages, people, groups, the outbox and the history."""

import collections.abc as cabc
import datetime as dt
import typing as t

from rich.console import Group
from rich.table import Table
from rich.text import Text

from daemon.screen import age, coloured, new_table

Rows: t.TypeAlias = cabc.Sequence[cabc.Mapping[str, t.Any]]

SHOWN: t.Final = 30  # chats of a history


def messages_table(rows: Rows, now: dt.datetime) -> Table:
    """The table of ``zapvisor messages``."""
    table = new_table(">id", "when", "who", "status", "what")
    for row in rows:
        table.add_row(
            str(row["id"]),
            _ago(row["sent_at"], now),
            Text("team" if row["from_me"] else person(row["sender"])),
            coloured(row["status"] or row["state"]),
            Text(said(row)),
        )
    return table


def hits_table(rows: Rows, now: dt.datetime) -> Table:
    """The table of ``zapvisor search``."""
    table = new_table(">conversation", ">message", "connection", "when", "who", "what")
    for row in rows:
        what = Text()
        for piece in row["snippet"]:
            what.append(piece["text"].replace("\n", " "), "bold" if piece["match"] else "")
        if not row["current"]:
            what.append(" (before it was edited)")
        if row["deleted"]:
            what.append(" (deleted)")
        table.add_row(
            str(row["conversation"]),
            str(row["message"]),
            Text(row["connection"]),
            _ago(row["at"], now),
            Text("team" if row["from_me"] else person(row["sender"])),
            what,
        )
    return table


def said(row: cabc.Mapping[str, t.Any]) -> str:
    """A message in one line, with what others made of it."""
    parts = []
    if row["quoted"] is not None:
        parts.append(f"↪ {row['quoted']['text'] or row['quoted']['kind'] or '…'} ·")
    if row["kind"] != "text":
        parts.append(f"[{_kind(row)}]")
    if row["text"]:
        parts.append(row["text"])
    if row["removed"]:
        parts.append(f"(removed: {row['removed']})")
    if row["versions"]:
        parts.append("(edited)")
    if row["deleted"] is not None:
        parts.append("(deleted)")
    parts += [reaction["emoji"] for reaction in row["reactions"]]
    return " ".join(parts)


def _kind(row: cabc.Mapping[str, t.Any]) -> str:
    media = row["media"]
    if media is not None:
        name = f" {media['name']}" if media["name"] else ""
        return f"{row['kind']}{name}, {media['state']}"
    reason = row["verdict"] or row["reason"]
    return f"{row['kind']}: {reason}" if reason else str(row["kind"])


def person(facts: cabc.Mapping[str, t.Any]) -> str:
    """A name, or how somebody without one is called."""
    return str(facts["name"] or facts["shown"])


def outbox_table(rows: Rows, now: dt.datetime) -> Table:
    """The table of ``zapvisor outbox``."""
    table = new_table(">id", "connection", "to", "kind", "state", "since", "what")
    for row in rows:
        table.add_row(
            str(row["id"]),
            Text(row["connection"]),
            Text(row["chat"]),
            Text(row["kind"]),
            coloured(row["state"]),
            _ago(row["updated_at"], now),
            Text(row["reason"] or ""),
        )
    return table


def contacts_table(rows: Rows) -> Table:
    """The table of ``zapvisor contacts``."""
    table = new_table(">id", "connection", "name", "shown as", "what")
    for row in rows:
        table.add_row(
            str(row["id"]),
            Text(row["connection"]),
            Text("the team" if row["is_self"] else row["name"] or "–"),
            Text(row["shown"]),
            Text(", ".join(row["addresses"])),
        )
    return table


def merges_table(rows: Rows, now: dt.datetime) -> Table:
    """The table of ``zapvisor contacts merges``."""
    table = new_table(
        ">id", "connection", ">contact", ">was", "when", ">messages", ">dupl.", "undone", "what"
    )
    for row in rows:
        table.add_row(
            str(row["id"]),
            Text(row["connection"]),
            str(row["survivor"]),
            str(row["merged"]),
            _ago(row["merged_at"], now),
            str(row["messages"]),
            str(row["duplicates"]),
            "–" if row["undone_at"] is None else _ago(row["undone_at"], now),
            Text(f"{row['source']}: {', '.join(row['addresses'])}"),
        )
    return table


def groups_table(rows: Rows) -> Table:
    """The table of ``zapvisor groups``."""
    table = new_table("connection", "address", "who writes", "what")
    for row in rows:
        table.add_row(
            Text(row["connection"]),
            Text(row["address"]),
            "admins" if row["announce"] else "all",
            Text(row["subject"] or "–"),
        )
    return table


def history_table(facts: cabc.Mapping[str, t.Any]) -> Group:
    """What ``zapvisor history`` shows: a summary, then the chats with the most messages."""
    percent = "–" if facts["percent"] is None else f"{facts['percent']} %"
    chunks = ", ".join(f"{count} {state}" for state, count in facts["chunks"].items() if count)
    lines: list[t.Any] = [
        Text(f"{percent} · {facts['position']} of {facts['total']} messages taken in"),
        Text(f"parts: {chunks or 'none offered'}"),
        *(Text(f"failed: {error}") for error in facts["errors"]),
    ]
    chats = sorted(facts["chats"], key=lambda chat: -chat["offered"])
    if chats:
        table = new_table("chat", ">offered", ">stored", ">dupl.", ">failed")
        for chat in chats[:SHOWN]:
            counts = (chat[name] for name in ("offered", "stored", "duplicate", "failed"))
            table.add_row(Text(chat["chat"]), *map(str, counts))
        lines.append(table)
    if len(chats) > SHOWN:
        lines.append(Text(f"and {len(chats) - SHOWN} more chats; --json shows all"))
    return Group(*lines)


def _ago(moment: str, now: dt.datetime) -> str:
    return age(moment, now) + " ago"
