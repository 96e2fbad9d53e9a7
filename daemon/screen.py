"""What the command line shows: tables, ages and QR codes."""

import collections.abc as cabc
import datetime as dt
import json
import sys
import typing as t

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.qr import qr_text

_PIPE_WIDTH: t.Final = 200  # columns where there is no terminal
_COLOURS: t.Final = {
    "online": "green",
    "stopped": "dim",
    "pairing": "cyan",
    "connecting": "cyan",
    "syncing": "cyan",
    "backoff": "yellow",
    "parked": "red",
    "conflict": "red",
    "logged_out": "red",
    "banned": "red",
    "waiting": "yellow",
    "open": "green",
    "closed": "dim",
    "ok": "green",
    "degraded": "yellow",
    "failing": "red",
    "sending": "cyan",
    "sent": "green",
    "delivered": "green",
    "read": "green",
    "played": "green",
    "failed": "red",
    "unknown": "red",
    "undecryptable": "yellow",
    "out": "yellow",
    "draining": "cyan",
    "firing": "red",
    "acknowledged": "yellow",
    "resolved": "dim",
    "warning": "yellow",
    "critical": "red",
}


class _Console(Console):
    """Leaves it to the program what follows when nobody reads on, and with which exit code."""

    def on_broken_pipe(self) -> None:
        """See there."""
        raise BrokenPipeError


def console(stream: t.TextIO | None = None) -> Console:
    """A console on stdout; wide enough for whole rows where there is no terminal."""
    stream = stream or sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return _Console(file=stream, width=width, highlight=False, soft_wrap=False)


def print_json(value: t.Any, stream: t.TextIO | None = None) -> None:
    """One line of JSON."""
    stream = stream or sys.stdout
    stream.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    stream.flush()


def coloured(state: str) -> Text:
    """A state, status or verdict in its colour."""
    return Text(state, style=_COLOURS.get(state, ""))


def age(since: str | dt.datetime | None, now: dt.datetime) -> str:
    """How long ago that was: ``12 s``, ``3 min``, ``2 h``, ``5 d``."""
    if since is None:
        return "–"
    moment = dt.datetime.fromisoformat(since) if isinstance(since, str) else since
    seconds = max(0.0, (now - moment).total_seconds())
    return span(seconds)


def span(seconds: float) -> str:
    """A length of time, in its largest unit."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def history_note(history: cabc.Mapping[str, t.Any] | None) -> str:
    """What is worth saying of an import while it is under way, or has failed in part."""
    if history is None or not (history["waiting"] or history["failed"]):
        return ""
    percent = "" if history["percent"] is None else f" {history['percent']} %,"
    failed = f", {history['failed']} parts failed" if history["failed"] else ""
    return f"; history{percent} {history['messages']} messages{failed}"


def incident_line(incident: cabc.Mapping[str, t.Any], now: dt.datetime) -> Text:
    """What concerns many connections at once, in a line."""
    since = age(incident["since"], now)
    return Text(f"{incident['code']} since {since}: {incident['sentence']}", style="red")


def connections_table(rows: cabc.Iterable[cabc.Mapping[str, t.Any]], now: dt.datetime) -> Table:
    """The table of ``zapvisor status``."""
    table = new_table("name", "state", "for", ">retries", "last message", ">messages")
    for column in (">dupl.", ">undecr.", ">quar.", "what"):
        _add_column(table, column)
    for row in rows:
        sentence = row["sentence"]
        if row["next_attempt_in"] is not None:
            sentence += f"; next try in {span(row['next_attempt_in'])}"
        if suspicion := row.get("deaf_suspicion"):
            sentence += f"; may not hear: {suspicion['why']}"
        sentence += history_note(row.get("history"))
        table.add_row(
            Text(row["name"]),
            coloured(row["state"]),
            age(row["since"], now),
            str(row["retries"]),
            age(row["last_message_at"], now) + (" ago" if row["last_message_at"] else ""),
            str(row["messages"]),
            str(row["duplicates"]),
            str(row["undecryptable"]),
            str(row["quarantined"]),
            Text(sentence),
        )
    return table


def reload_lines(facts: cabc.Mapping[str, t.Any]) -> cabc.Iterator[str]:
    """What came of ``zapvisor reload``."""
    told = [key for key in ("added", "removed", "changed") if facts[key]]
    for key in told:
        yield f"{key}: {', '.join(facts[key])}"
    count = facts["unchanged"]
    yield f"{count} connection{'' if count == 1 else 's'} went on undisturbed"
    if facts["restart"]:
        yield f"in force after a restart of the daemon only: {', '.join(facts['restart'])}"


def conversations_table(rows: cabc.Iterable[cabc.Mapping[str, t.Any]], now: dt.datetime) -> Table:
    """The table of ``zapvisor conversations``."""
    table = new_table(
        ">id", "connection", "status", "who", ">messages", "last message", ">reopened", "hole"
    )
    for row in rows:
        table.add_row(
            str(row["id"]),
            Text(row["connection"]),
            coloured(row["status"]),
            Text(row["shown"]),
            str(row["messages"]),
            age(row["last_message_at"], now) + " ago",
            str(row["reopened"]),
            Text("possible" if row["possible_hole"] else "", style="yellow"),
        )
    return table


def new_table(*columns: str) -> Table:
    """An empty table; ``>`` before a column's name aligns it right, ``what`` may be long."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        _add_column(table, column)
    return table


def _add_column(table: Table, name: str) -> None:
    right = name.startswith(">")
    last = name == "what"
    table.add_column(
        name.removeprefix(">"),
        justify="right" if right else "left",
        no_wrap=not last,
        overflow="fold" if last else "ellipsis",
    )


def flattened(facts: cabc.Mapping[str, t.Any], prefix: str = "") -> cabc.Iterator[tuple[str, str]]:
    """Nested facts as dotted names and texts."""
    for key, value in facts.items():
        if isinstance(value, cabc.Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            shown = f"{value:.3g}" if isinstance(value, float) else str(value)
            yield f"{prefix}{key}", "–" if value is None else shown


def draw_qr(text: str, *, colours: bool) -> str:
    """A QR code out of half blocks; with ``colours`` it is dark on light on every terminal."""
    lines = qr_text(text).splitlines()
    if colours:
        lines = [f"\x1b[97;40m{line}\x1b[0m" for line in lines]
    return "\n".join(lines)
