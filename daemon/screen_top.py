"""What ``zapvisor top`` draws; a pure function of what is known."""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs
from rich.console import Group, RenderableType
from rich.text import Text

from daemon.screen import age, coloured, new_table
from daemon.screen_health import (
    Facts,
    ago,
    by_trouble,
    database_line,
    deliveries_line,
    facts_grid,
    gaps_line,
    nats_line,
    seconds,
    sync_line,
    writer_line,
)
from daemon.top_rates import Rates

BARS: t.Final = "▁▂▃▄▅▆▇█"
REASONS: t.Final = 5  # shown at once
OTHER_LINES: t.Final = 16  # beside the rows of connections, webhooks and NATS
NARROW, MEDIUM = 64, 100  # columns below which less is shown


@attrs.frozen(kw_only=True)
class Picture:
    """All that is drawn from."""

    health: Facts | None  # None: nobody has answered yet
    rates: Rates
    now: dt.datetime
    error: str | None = None  # why nobody answers just now
    asked_at: dt.datetime | None = None  # when somebody did
    width: int = 80
    height: int | None = None  # lines; None: as many as there are


def draw(picture: Picture) -> RenderableType:
    """The whole picture."""
    parts: list[RenderableType] = []
    if picture.error is not None:
        parts.append(Text(f"not answering, retrying: {picture.error}", style="bold red"))
    health = picture.health
    if health is None:
        return Group(*parts)
    if picture.error is not None and picture.asked_at is not None:
        since = age(picture.asked_at, picture.now)
        parts.append(Text(f"what follows is from {since} ago", style="yellow"))
    parts += [_header(health, picture), *_reasons(health), Text()]
    parts.append(_connections(health, picture))
    parts += [Text(), facts_grid(_lines(health, picture))]
    return Group(*parts)


def sparkline(values: cabc.Sequence[float]) -> str:
    """A row of bars, the highest for the largest value."""
    most = max(values, default=0)
    if most <= 0:
        return BARS[0] * len(values)
    return "".join(BARS[min(7, int(value * 7.999 / most))] for value in values)


def _header(health: Facts, picture: Picture) -> Text:
    up = age(health["started_at"], picture.now)
    states = ", ".join(f"{count} {state}" for state, count in sorted(health["states"].items()))
    return Text.assemble(
        coloured(health["verdict"]), f"  zapvisor {health['version']}, up {up}  ", states
    )


def _reasons(health: Facts) -> cabc.Iterator[Text]:
    reasons = health["reasons"]
    for reason in reasons[:REASONS]:
        yield Text(f"- {reason}", overflow="ellipsis", no_wrap=True)
    if len(reasons) > REASONS:
        yield Text(f"- and {len(reasons) - REASONS} more; see zapvisor health")


def _connections(health: Facts, picture: Picture) -> RenderableType:
    rows = by_trouble(health["connections"])
    others = (
        OTHER_LINES
        + bool(health["webhooks"])
        + bool(health.get("channels"))
        + (health["nats"] is not None)
    )
    room = len(rows) if picture.height is None else max(3, picture.height - others)
    columns = ["connection", "state", "for", ">/min"]
    if picture.width >= NARROW:
        columns += [">retries", "last message"]
    if picture.width >= MEDIUM:
        columns += ["heartbeat", ">lag", ">in flight", ">messages"]
    table = new_table(*columns)
    for row in rows[:room]:
        table.add_row(*_cells(row, picture)[: len(columns)])
    if len(rows) <= room:
        return table
    return Group(table, Text(f"and {len(rows) - room} more", style="dim"))


def _cells(row: Facts, picture: Picture) -> list[RenderableType]:
    state = coloured(row["state"])
    if row["deaf_suspicion"] is not None:
        state = Text.assemble(state, Text(" deaf?", style="yellow"))
    if row["next_attempt_in"] is not None:
        state = Text.assemble(state, f" {seconds(row['next_attempt_in'])}")
    return [
        Text(row["name"]),
        state,
        age(row["since"], picture.now),
        f"{picture.rates.per_minute(row['name']):.0f}",
        str(row["retries"]),
        ago(row["last_message_at"], picture.now),
        ago(row["last_heartbeat_at"], picture.now),
        seconds(row["lag_seconds"]),
        str(row["in_flight"]),
        str(row["messages"]),
    ]


def _lines(health: Facts, picture: Picture) -> cabc.Iterator[tuple[str, str]]:
    if minutes := picture.rates.minutes:
        *_, before, current = minutes
        bars = sparkline(minutes[-max(10, min(60, picture.width - 46)) :])
        yield "per minute", f"{bars} {current} in this one, {before} in the last"
    if (sync := health["sync"]) is not None:
        yield "last hour", sync_line(sync["hour"])
    yield "writer", writer_line(health["writer"])
    yield "database", database_line(health["database"])
    if (loop := health["loop"]) is not None:
        yield "event loop", f"late by {seconds(loop['lag_p99_seconds'])} (p99)"
    if health["gaps"] is not None:
        yield "gaps", gaps_line(health["gaps"])
    if health["outbox"] is not None:
        outbox = ", ".join(f"{count} {state}" for state, count in health["outbox"].items())
        yield "outbox", f"{outbox}; quarantine: {health['quarantine']}"
    if webhooks := health["webhooks"]:
        yield "webhooks", deliveries_line(webhooks, "dead")
    if health["nats"] is not None:
        yield "nats", nats_line(health["nats"])
    if channels := health.get("channels"):
        yield "channels", deliveries_line(channels, "given_up")
