"""The table of ``zapvisor channels``."""

import collections.abc as cabc
import datetime as dt
import typing as t

from rich.table import Table
from rich.text import Text

from daemon.screen import age, coloured, new_table

Facts: t.TypeAlias = cabc.Mapping[str, t.Any]


def channels_table(rows: cabc.Iterable[Facts], now: dt.datetime) -> Table:
    """One line for each channel."""
    table = new_table(
        "name", "state", ">sent", ">waiting", ">failed", ">given up", "last sent", "what"
    )
    for row in rows:
        sent_at = row["sent_at"]
        table.add_row(
            Text(row["name"]),
            coloured(row["state"]),
            *(str(row[key]) for key in ("sent", "pending", "failed", "given_up")),
            "never" if sent_at is None else f"{age(sent_at, now)} ago",
            Text(_what(row, now)),
        )
    return table


def _what(row: Facts, now: dt.datetime) -> str:
    if row["failing_since"] is None:
        return str(row["service"])
    hanging = f"; {row['hanging']} attempts hang" if row["hanging"] else ""
    return f"for {age(row['failing_since'], now)}: {row['error']}{hanging}"
