"""The tables of ``zapvisor webhooks``."""

import collections.abc as cabc
import datetime as dt
import typing as t

from rich.table import Table
from rich.text import Text

from daemon.screen import age, coloured, new_table


def webhooks_table(rows: cabc.Iterable[cabc.Mapping[str, t.Any]], now: dt.datetime) -> Table:
    """One line for each webhook."""
    table = new_table(
        "name", "state", ">delivered", ">waiting", ">retrying", ">dead", ">lost", "last", "what"
    )
    for row in rows:
        table.add_row(
            Text(row["name"]),
            coloured(row["state"]),
            *(str(row[key]) for key in ("delivered", "pending", "retrying", "dead", "lost")),
            _ago(row["succeeded_at"], now),
            Text(_what(row)),
        )
    return table


def _what(row: cabc.Mapping[str, t.Any]) -> str:
    if row["paused"]:
        return str(row["paused"])
    if row["retrying"] and row["error"]:
        return str(row["error"])
    return str(row["url"])


def deliveries_table(rows: cabc.Iterable[cabc.Mapping[str, t.Any]], now: dt.datetime) -> Table:
    """One line for each event that was not delivered."""
    table = new_table(">event", "type", "connection", "happened", ">attempts", "last", "error")
    for row in rows:
        event = row["event"]
        table.add_row(
            str(row["event_id"]),
            "–" if event is None else event["type"],
            Text(row["lane"] or "–"),
            "–" if event is None else f"{age(event['at'], now)} ago",
            str(row["attempts"]),
            "never"
            if row["last_attempt_at"] is None
            else f"{age(row['last_attempt_at'], now)} ago",
            Text(row["error"] or ""),
        )
    return table


def _ago(moment: str | None, now: dt.datetime) -> str:
    return "never" if moment is None else f"{age(moment, now)} ago"
