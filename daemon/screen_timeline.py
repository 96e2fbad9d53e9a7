"""What ``zapvisor timeline`` shows."""

import collections.abc as cabc
import datetime as dt
import typing as t

from rich.table import Table
from rich.text import Text

from daemon.screen import coloured, new_table, span


def transitions_table(rows: cabc.Iterable[cabc.Mapping[str, t.Any]]) -> Table:
    """Every transition with its local time."""
    table = new_table("when", "from", "to", ">try", "reason", "what")
    for row in rows:
        moment = dt.datetime.fromisoformat(row["at"]).astimezone()
        table.add_row(
            f"{moment:%Y-%m-%d %H:%M:%S}",
            coloured(row["previous"]),
            coloured(row["state"]),
            str(row["retry"] or ""),
            Text(row["reason"]),
            Text(row["sentence"]),
        )
    return table


def days_table(days: cabc.Iterable[cabc.Mapping[str, t.Any]]) -> Table:
    """The uptime of every day."""
    table = new_table("day", ">uptime", ">online", ">down", ">stopped", "what")
    for day in days:
        begin = dt.datetime.fromisoformat(day["begins_at"])
        table.add_row(
            f"{begin:%a %Y-%m-%d}",
            percentage(day["percent"]),
            _length(day["online"]),
            _length(day["down"]),
            _length(day["stopped"]),
            Text(f"nothing on record for {span(day['unknown'])}" if day["unknown"] >= 1 else ""),
        )
    return table


def summary(timeline: cabc.Mapping[str, t.Any]) -> str:
    """One line on all of it."""
    name, percent = timeline["connection"], timeline["percent"]
    if percent is None:
        return f"{name}: no time on record in which it should have been online"
    return f"{name}: {percentage(percent)} of the time in which it should have been online"


def percentage(percent: float | None) -> str:
    """With two digits, never rounded up to a perfection that was none."""
    if percent is None:
        return "–"
    if percent < 100:
        percent = min(percent, 99.99)
    return f"{percent:.2f} %"


def _length(seconds: float) -> str:
    """Hours, minutes and seconds, as far as there are any."""
    whole = round(seconds)
    if whole == 0:
        return "–"
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {whole % 60:02} s" if minutes else f"{whole} s"
