"""The verdict on the health of the whole: a pure function of what was measured."""

import collections
import collections.abc as cabc
import typing as t

from api.ports_connections import ConnectionFacts, IncidentFacts
from api.views import DatabaseView, HealthView, IncidentView, LoopView, Verdict, WriterView
from api.views_health import DiskView

WORKING: t.Final = frozenset({"stopped", "pairing", "connecting", "syncing", "online"})
"""States that are as they should be; ``stopped`` is an operator's wish."""

IN_INCIDENTS: t.Final = frozenset({"outage", "outdated"})
"""Reasons of connections that an incident tells of already."""

RETRYING_LIMIT: t.Final = 30.0  # seconds the writer may retry before the whole is failing
STALL_LIMIT: t.Final = 60.0  # seconds the writer may take for one step
LAG_LIMIT: t.Final = 1.0  # seconds the event loop may be late
FULL: t.Final = 0.8  # of the writer's mailbox
LOW_DISK: t.Final = 2**30  # bytes that should be free,
LOW_DISK_SHARE: t.Final = 0.05  # or of a small disk such a share


ABSENT: t.Final = {
    "missing": "never came",
    "waiting": "cannot be read yet",
    "in_quarantine": "in quarantine",
    "device_replaced": "of a device that was replaced",
}


def _gaps(counts: cabc.Mapping[str, int]) -> list[str]:
    """The reason of gaps that are open although their outage is over."""
    if not counts.get("open"):
        return []
    told = [f"{counts[key]} {what}" for key, what in ABSENT.items() if counts.get(key)]
    noun = "gap is" if counts["open"] == 1 else "gaps are"
    absent = ", ".join(told) or "a queue was interrupted, the next one covers it"
    return [f"{counts['open']} {noun} open ({absent}); see zapvisor gaps --open"]


def _full(disks: cabc.Sequence[DiskView]) -> list[str]:
    """The reasons of disks that are nearly full; places on the same disk are told once."""
    low = {(disk.free_bytes, disk.total_bytes): disk for disk in reversed(disks) if _is_low(disk)}
    return [
        f"the disk of {disk.path} is nearly full: {disk.free_bytes / 2**20:.0f} MiB are free"
        for disk in low.values()
    ]


def _is_low(disk: DiskView) -> bool:
    return disk.free_bytes < min(LOW_DISK, LOW_DISK_SHARE * disk.total_bytes)


def unready(writer: WriterView, database_error: str | None) -> cabc.Iterator[str]:
    """Why the daemon does not serve just now; nothing: it does. Everybody may read it, so it names
    no addresses."""
    if database_error is not None:
        yield "the database does not answer"
    if writer.retrying_seconds is not None and writer.retrying_seconds > RETRYING_LIMIT:
        yield f"the writer has been retrying for {writer.retrying_seconds:.0f} s"
    if writer.stalled_seconds > STALL_LIMIT:
        yield f"the writer has made no progress for {writer.stalled_seconds:.0f} s"


def judge(
    connections: cabc.Sequence[ConnectionFacts],
    writer: WriterView,
    database: DatabaseView,
    statistics: dict[str, t.Any],
    loop: LoopView | None = None,
    incidents: cabc.Sequence[IncidentFacts] = (),
    *,
    disks: cabc.Sequence[DiskView] = (),
    reload_problems: cabc.Sequence[str] = (),
    http_trouble: str | None = None,
    part_troubles: cabc.Iterable[str] = (),
    event_troubles: cabc.Iterable[str] = (),
    channel_troubles: cabc.Iterable[str] = (),
) -> HealthView:
    """Weigh the measurements; every verdict but ``ok`` comes with its reasons."""
    failing: list[str] = []
    degraded: list[str] = []
    if database.error is not None:
        failing.append(f"the database does not answer: {database.error}")
    if writer.retrying_seconds is not None:
        reason = f"the writer has been retrying for {writer.retrying_seconds:.0f} s"
        late = writer.retrying_seconds > RETRYING_LIMIT
        (failing if late else degraded).append(f"{reason}: {writer.last_error}")
    if writer.depth > writer.capacity * FULL:
        degraded.append(f"the writer lags: {writer.depth} of {writer.capacity} places are taken")
    degraded += [f"{each.code}: {each.sentence}" for each in incidents]
    if writer.stalled_seconds > STALL_LIMIT:
        failing.append(f"the writer has made no progress for {writer.stalled_seconds:.0f} s")
    if loop is not None and loop.lag_max_seconds > LAG_LIMIT:
        degraded.append(
            f"the event loop was {loop.lag_max_seconds:.1f} s late within the last minute"
        )
    degraded += _full(disks)
    if http_trouble is not None:
        degraded.append(http_trouble)
    degraded += part_troubles
    if reload_problems:
        degraded.append(
            f"the changed configuration was refused, the old one is in force: {reload_problems[0]}"
        )
    troubled = [facts for facts in connections if facts.state not in WORKING]
    alone = [facts for facts in troubled if facts.reason not in IN_INCIDENTS]
    degraded += [f"{facts.name} is {facts.state}: {facts.sentence}" for facts in alone]
    degraded += event_troubles
    degraded += channel_troubles
    degraded += _gaps(statistics.get("gaps", {}))
    wanted = [facts for facts in connections if facts.state != "stopped"]
    if wanted and len(troubled) == len(wanted):
        failing.append("no connection works")
    verdict = Verdict.FAILING if failing else Verdict.DEGRADED if degraded else Verdict.OK
    return HealthView(
        verdict=verdict,
        reasons=(*failing, *degraded),
        connections=dict(collections.Counter(facts.state for facts in connections)),
        statistics=statistics,
        writer=writer,
        database=database,
        incidents=tuple(IncidentView.of(each) for each in incidents),
        loop=loop,
    )
