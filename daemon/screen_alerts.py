"""What ``zapvisor alerts`` and ``zapvisor silences`` show."""

import collections.abc as cabc
import datetime as dt
import typing as t

from rich.table import Table
from rich.text import Text

from daemon.screen import age, coloured, new_table, span

Row: t.TypeAlias = cabc.Mapping[str, t.Any]


def alerts_table(rows: cabc.Iterable[Row], now: dt.datetime) -> Table:
    """One line for each alert."""
    table = new_table(
        ">id", "state", "severity", "since", "lasted", ">told", "what, and what to do"
    )
    for row in rows:
        table.add_row(
            "–" if row["id"] is None else str(row["id"]),
            _state(row),
            coloured(row["severity"]),
            f"{age(row['since'], now)} ago",
            _lasted(row, now),
            str(row["times"]),
            _what(row),
        )
    return table


def alert_page(row: Row, now: dt.datetime) -> Table:
    """All that is known of one."""
    table = new_table("", "")
    table.show_header = False
    facts: list[tuple[str, t.Any]] = [
        ("what", row["title"]),
        ("state", _state(row)),
        ("severity", coloured(row["severity"])),
        ("rule", row["rule"]),
        ("whom", ", ".join(row["subjects"]) or "the daemon"),
        ("since", f"{row['since']} ({age(row['since'], now)} ago)"),
        ("lasted", _lasted(row, now)),
        ("the daemon says", row["detail"] or "–"),
        ("likely cause", row["cause"]),
        ("what to do", row["cure"]),
        ("told", _told(row, now)),
    ]
    if row["acknowledged_by"] is not None:
        facts.append(("acknowledged", f"by {row['acknowledged_by']} at {row['acknowledged_at']}"))
    for name, value in facts:
        table.add_row(name, value if isinstance(value, Text) else Text(value))
    return table


def silences_table(rows: cabc.Iterable[Row], now: dt.datetime) -> Table:
    """One line for each silence."""
    table = new_table(">id", "state", "whom", "rule", "until", "left", "by", "why")
    for row in rows:
        end = dt.datetime.fromisoformat(row["ends_at"])
        left = max(0.0, (end - now).total_seconds())
        table.add_row(
            str(row["id"]),
            coloured("open" if row["active"] else "closed"),
            Text(row["connection"] or "everything"),
            Text(row["rule"] or "all"),
            row["ends_at"],
            span(left) if row["active"] else "–",
            Text(row["made_by"]),
            Text(row["why"]),
        )
    return table


def _what(row: Row) -> Text:
    text = Text(row["title"])
    if row["state"] != "resolved":
        text.append(f"\n{row['cure']}", style="dim")
    return text


def _state(row: Row) -> Text:
    if row["silenced_by"] is not None:
        return Text(f"{row['state']}, silenced by {row['silenced_by']}", style="dim")
    return coloured(row["state"])


def _lasted(row: Row, now: dt.datetime) -> str:
    end = now if row["resolved_at"] is None else dt.datetime.fromisoformat(row["resolved_at"])
    return span(max(0.0, (end - dt.datetime.fromisoformat(row["since"])).total_seconds()))


def _told(row: Row, now: dt.datetime) -> str:
    if not row["times"]:
        return "nobody was told"
    return f"{row['times']} times, the last time {age(row['notified_at'], now)} ago"
