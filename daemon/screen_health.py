"""What ``zapvisor health`` and ``zapvisor stats`` show."""

import collections
import collections.abc as cabc
import datetime as dt
import typing as t

from rich.console import Console
from rich.table import Table
from rich.text import Text

from daemon.screen import age, coloured, new_table, span

SHOWN: t.Final = 40  # connections in the table of health
_CALM: t.Final = ("online", "stopped")
Facts: t.TypeAlias = cabc.Mapping[str, t.Any]


def print_health(screen: Console, facts: Facts, now: dt.datetime) -> None:
    """The verdict, its reasons, every connection, and what else there is to know."""
    screen.print(coloured(facts["verdict"]))
    for reason in facts["reasons"]:
        screen.print(f"- {reason}", markup=False)
    if rows := facts["connections"]:
        screen.print()
        screen.print(connections_health(rows, now))
        if len(rows) > SHOWN:
            screen.print(f"and {len(rows) - SHOWN} more; see zapvisor status")
    screen.print()
    screen.print(facts_grid(fact_lines(facts, now)))


def by_trouble(rows: cabc.Iterable[Facts]) -> list[Facts]:
    """What needs attention first; else in their order."""
    return sorted(
        rows,
        key=lambda row: (row["state"] in _CALM) + (row["deaf_suspicion"] is None),
    )


def connections_health(rows: cabc.Sequence[Facts], now: dt.datetime) -> Table:
    """The table of connections; why one is in trouble is among the reasons above it."""
    table = new_table(
        "connection",
        "state",
        "for",
        ">retries",
        "heartbeat",
        "last message",
        ">lag",
        ">in flight",
        ">dupl.",
        "what",
    )
    for row in by_trouble(rows)[:SHOWN]:
        suspicion = row["deaf_suspicion"]
        table.add_row(
            Text(row["name"]),
            coloured(row["state"]),
            age(row["since"], now),
            str(row["retries"]),
            ago(row["last_heartbeat_at"], now),
            ago(row["last_message_at"], now),
            seconds(row["lag_seconds"]),
            str(row["in_flight"]),
            str(row["duplicates"]),
            Text(f"may not hear: {suspicion['why']}" if suspicion else "", style="yellow"),
        )
    return table


def fact_lines(facts: Facts, now: dt.datetime) -> cabc.Iterator[tuple[str, str]]:
    """Each with its name; what the database does not tell just now is left out."""
    states = ", ".join(f"{count} {state}" for state, count in sorted(facts["states"].items()))
    yield "connections", states or "none are configured"
    if (sync := facts["sync"]) is not None:
        yield "last hour", sync_line(sync["hour"])
        yield "last day", sync_line(sync["day"])
    if (messages := facts["messages"]) is not None:
        yield (
            "messages",
            f"{messages['stored']} stored (not every delivery holds one),"
            f" {messages['duplicates']} duplicates skipped,"
            f" {messages['undecryptable']} cannot be read yet",
        )
    if (conversations := facts["conversations"]) is not None:
        told = ", ".join(f"{count} {status}" for status, count in conversations.items())
        yield "conversations", f"{told}; reopened {facts['reopened']} times"
    if (gaps := facts["gaps"]) is not None:
        yield "gaps", gaps_line(gaps)
    if facts["quarantine"] is not None:
        yield "quarantine", f"{facts['quarantine']} unresolved"
    if (outbox := facts["outbox"]) is not None:
        yield "outbox", ", ".join(f"{count} {state}" for state, count in outbox.items())
    yield from event_lines(facts)
    if (search := facts["search"]) is not None and search["waiting"]:
        yield "search", f"{search['waiting']} messages cannot be found yet"
    yield "writer", writer_line(facts["writer"])
    yield "database", database_line(facts["database"])
    if (loop := facts["loop"]) is not None:
        yield (
            "event loop",
            f"late by {seconds(loop['lag_p99_seconds'])} (p99), at most"
            f" {seconds(loop['lag_max_seconds'])}; stood still {loop['stalls']} times",
        )
    for disk in disks(facts):
        yield (
            "disk",
            f"{size(disk['free_bytes'])} of {size(disk['total_bytes'])} free: {disk['path']}",
        )
    if (reload := facts["reload"]) is not None:
        done = "done" if reload["ok"] else "refused"
        waiting = f"; a restart is needed for {', '.join(reload['restart'])}"
        yield "reload", f"{done} {ago(reload['at'], now)}{waiting if reload['restart'] else ''}"
    yield "daemon", f"zapvisor {facts['version']}, up {age(facts['started_at'], now)}"


def event_lines(facts: Facts) -> cabc.Iterator[tuple[str, str]]:
    """How those who follow the events are; what is not configured is left out."""
    if (events := facts["events"]) is not None:
        trouble = "" if events["error"] is None else f"; cannot be read: {events['error']}"
        newest = "–" if events["newest"] is None else events["newest"]
        yield (
            "events",
            f"newest {newest}, {events['clients']} clients, {events['dropped']} dropped{trouble}",
        )
    if webhooks := facts["webhooks"]:
        yield "webhooks", deliveries_line(webhooks, "dead")
    if (nats := facts["nats"]) is not None:
        yield "nats", nats_line(nats)
    if channels := facts.get("channels"):
        yield "channels", deliveries_line(channels, "given_up")


def deliveries_line(rows: cabc.Sequence[Facts], given_up: str) -> str:
    """All webhooks or channels: how many are in which state, and what they have left to do."""
    states = collections.Counter(row["state"] for row in rows)
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    sums = {name: sum(row[name] for row in rows) for name in ("pending", "retrying", given_up)}
    return (
        f"{told}; {sums['pending']} waiting, {sums['retrying']} of them failed before,"
        f" {sums[given_up]} given up"
    )


def nats_line(nats: Facts) -> str:
    """How publishing to NATS is."""
    behind = "–"
    if nats["position"] is not None and nats["newest"] is not None:
        behind = str(max(0, nats["newest"] - nats["position"]))
    trouble = "" if nats["error"] is None else f": {nats['error']}"
    return f"{nats['state']}, {nats['published']} published, {behind} behind{trouble}"


def facts_grid(lines: cabc.Iterable[tuple[str, str]]) -> Table:
    """Names and facts, side by side."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, line in lines:
        grid.add_row(name, Text(line))
    return grid


def disks(facts: Facts) -> list[Facts]:
    """Each disk once."""
    found = [disk for disk in (facts["disk"], facts["media_disk"]) if disk is not None]
    same = len(found) == 2 and _sizes(found[0]) == _sizes(found[1])
    return found[:1] if same else found


def _sizes(disk: Facts) -> tuple[int, int]:
    return disk["free_bytes"], disk["total_bytes"]


def sync_line(counts: Facts) -> str:
    """Sync statistics in a line."""
    total = counts["total"]
    return (
        f"{total} {'delivery' if total == 1 else 'deliveries'}: {counts['processed']} processed,"
        f" {counts['skipped']} skipped, {counts['errors']} errors"
    )


def gaps_line(gaps: Facts) -> str:
    """What outages left behind."""
    if not (gaps["open"] or gaps["ongoing"]):
        return "none open"
    return (
        f"{gaps['open']} open, {gaps['ongoing']} ongoing; {gaps['missing']} never came,"
        f" {gaps['waiting']} cannot be read yet, {gaps['in_quarantine']} in quarantine"
    )


def writer_line(writer: Facts) -> str:
    """How the writer keeps up."""
    retrying = writer["retrying_seconds"]
    trouble = "" if retrying is None else f"; retrying for {span(retrying)}"
    stalled = writer["stalled_seconds"]
    standing = f"; no step for {span(stalled)}" if stalled >= 5 else ""
    return (
        f"{writer['depth']} of {writer['capacity']} places taken, {writer['batches']} batches,"
        f" the last in {seconds(writer['last_commit_seconds'])}{trouble}{standing}"
    )


def database_line(database: Facts) -> str:
    """Whether the database answers, and how large it is."""
    if database["error"] is not None:
        return f"does not answer: {database['error']}"
    return f"answers in {seconds(database['ping_seconds'])}, {size(database['size_bytes'])}"


def ago(moment: str | None, now: dt.datetime) -> str:
    """How long ago, or a dash."""
    return age(moment, now) + (" ago" if moment else "")


def seconds(value: float) -> str:
    """A short time: ``0.4 ms``, ``12 ms``, ``3.2 s``."""
    if value >= 100:
        return span(value)
    if value >= 1:
        return f"{value:.1f} s"
    milliseconds = value * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"


def size(count: float) -> str:
    """Bytes in a unit that makes them short."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def sync_table(points: cabc.Sequence[Facts], step: str) -> Table:
    """The table of ``zapvisor stats``, in local time, with the sums below."""
    table = new_table(step, ">total", ">processed", ">skipped", ">errors")
    form = "%Y-%m-%d" if step == "day" else "%Y-%m-%d %H:%M"
    for point in points:
        moment = dt.datetime.fromisoformat(point["at"]).astimezone()
        table.add_row(moment.strftime(form), *_counts(point))
    total = {name: sum(point[name] for point in points) for name in _COUNTED}
    table.add_section()
    table.add_row("together", *_counts(total))
    return table


_COUNTED: t.Final = ("total", "processed", "skipped", "errors")


def sums_by_connection(points: cabc.Iterable[Facts]) -> list[dict[str, t.Any]]:
    """The sums of each connection that took anything in, by name."""
    sums: dict[str, dict[str, t.Any]] = {}
    for point in points:
        known = sums.setdefault(
            point["connection"], {"connection": point["connection"]} | dict.fromkeys(_COUNTED, 0)
        )
        for name in _COUNTED:
            known[name] += point[name]
    return [sums[name] for name in sorted(sums)]


def sums_table(sums: cabc.Iterable[Facts]) -> Table:
    """The table of ``zapvisor stats --by connection``."""
    table = new_table("connection", ">total", ">processed", ">skipped", ">errors")
    for row in sums:
        table.add_row(Text(row["connection"]), *_counts(row))
    return table


def _counts(point: Facts) -> list[str]:
    errors = Text(str(point["errors"]), style="red" if point["errors"] else "")
    return [*(str(point[name]) for name in _COUNTED[:-1]), t.cast("str", errors)]
