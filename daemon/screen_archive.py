"""What the import of an archive shows."""

import collections.abc as cabc
import typing as t

from rich.console import Group
from rich.table import Table
from rich.text import Text

from daemon.screen import new_table


def import_table(facts: cabc.Mapping[str, t.Any]) -> Group:
    """Counts by kind, and below them what needs somebody's eye."""
    table: Table = new_table("records", ">stored", ">already there")
    for kind, stored in facts["stored"].items():
        present = facts["present"][kind]
        table.add_row(kind.replace("_", " "), f"{stored:,}", f"{present:,}")
    return Group(table, *map(Text, _lines(facts)))


def chat_table(facts: cabc.Mapping[str, t.Any]) -> Group:
    """The same of a chat that a phone has exported."""
    chat = facts["chat"]
    lines = [
        f"{facts['stored'].get('message', 0):,} messages stored,"
        f" {facts['present'].get('message', 0):,} were there already."
    ]
    if chat["files"] or chat["files_missing"]:
        lines.append(f"{chat['files']:,} files, {chat['files_missing']:,} not in the export.")
    if chat["later"]:
        lines.append(
            f"{chat['later']:,} lines left out: from then on messages are stored as WhatsApp sent"
            " them (--all takes them, too)."
        )
    if chat["notices"] or chat["deleted"]:
        lines.append(
            f"{chat['notices']:,} lines that nobody wrote and {chat['deleted']:,} deleted messages"
            " were left out."
        )
    lines += list(_forgotten(facts))
    lines += [f"  {each['where']}: {each['why']}" for each in facts["refusals"]]
    return Group(*map(Text, lines))


def _forgotten(facts: cabc.Mapping[str, t.Any]) -> cabc.Iterator[str]:
    if facts["forgotten"]:
        yield f"{facts['forgotten']:,} records of people who were forgotten here are left out."


def _lines(facts: cabc.Mapping[str, t.Any]) -> cabc.Iterator[str]:
    if facts["filled"]:
        yield f"{facts['filled']:,} messages that could not be read got their content."
    if facts["files"]:
        yield f"{facts['files']:,} files came to messages that were there."
    if facts["files_missing"]:
        yield f"{facts['files_missing']:,} files of messages are neither here nor in the archive."
    yield from _forgotten(facts)
    yield "Statistics, events and gaps are as before: they tell of what this daemon has seen."
    if not facts["refused"]:
        return
    yield f"{facts['refused']:,} records could not be stored:"
    for each in facts["refusals"]:
        yield f"  {each['where']}: {each['why']}"
    if (more := facts["refused"] - len(facts["refusals"])) > 0:
        yield f"  and {more:,} more"
