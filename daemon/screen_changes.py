"""What ``zapvisor changes`` shows."""

import collections.abc as cabc
import datetime as dt
import typing as t

from rich.console import Group
from rich.table import Table
from rich.text import Text

from daemon.screen import age, new_table
from daemon.screen_inbox import person

Rows: t.TypeAlias = cabc.Sequence[cabc.Mapping[str, t.Any]]


def changes_table(rows: Rows, now: dt.datetime) -> Table:
    """One line for each deletion or edit."""
    table = new_table(">message", "when", "what", "who", "chat", "of", "said before")
    for row in rows:
        kind = row["message_kind"]
        what = row["kind"] if kind == "text" else f"{row['kind']} ({kind})"
        table.add_row(
            str(row["message"]),
            f"{age(row['at'], now)} ago",
            Text(what),
            Text(person(row["by"])),
            Text(row["title"] or row["chat"]),
            Text(f"{_moment(row['sent_at'])} {person(row['author'])}"),
            Text((row["former"] or "").replace("\n", " ")),
        )
    return table


def message_lines(facts: cabc.Mapping[str, t.Any]) -> Group:
    """All that a message said, in the order of time, and what was done to it."""
    message = facts["message"]
    head = f"Message {message['id']} of {message['connection']}, conversation"
    lines = [Text(f"{head} {message['conversation']}, by {person(message['sender'])}", "bold")]
    versions = message["versions"] or [{"at": message["sent_at"], "text": message["text"]}]
    for number, version in enumerate(versions):
        told = "said" if number == 0 else "edited to"
        text = version["text"] or f"(no text: {message['kind']})"
        lines.append(Text(f"{_moment(version['at'])}  {told}: {text}"))
    media = message["media"]
    if media is not None:
        name = media["name"] or media["kind"]
        lines.append(Text(f"file: {name}, {media['state']}; GET /messages/{message['id']}/media"))
    lines += [
        Text(f"{_moment(change['at'])}  deleted by {person(change['by'])}")
        for change in facts["changes"]
        if change["kind"] == "deleted"
    ]
    return Group(*lines)


def accesses_table(rows: Rows) -> Table:
    """One line for each look at former content."""
    table = new_table("when", "who", "user", "what", "messages", "request")
    for row in rows:
        what = row["what"] if row["query"] is None else f"{row['what']}: {row['query']}"
        messages = [str(number) for number in row["messages"]]
        more = f" and {len(messages) - 8} more" if len(messages) > 8 else ""
        table.add_row(
            _moment(row["at"]),
            Text(row["who"]),
            "" if row["uid"] is None else str(row["uid"]),
            Text(what),
            " ".join(messages[:8]) + more,
            Text(row["request_id"] or ""),
        )
    return table


def _moment(text: str) -> str:
    return f"{dt.datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"
