"""The alert rules: from how everything is to what is wrong. Pure.

A rule finds *conditions*: of a connection, of a part such as a webhook, or of the daemon as a
whole. When a condition becomes an alert is the business of ``actors.alert_book``.
"""

import collections.abc as cabc
import typing as t

import attrs

from actors.alert_facts import ConnectionHealth, Snapshot, StoredHealth
from storage.alerts import Backlog, Severity, Value

MINUTE: t.Final = 60.0
HOUR: t.Final = 3600.0
DAY: t.Final = 86_400.0
FULL: t.Final = 0.8  # of the writer's mailbox, as in health
STUCK: t.Final = 60.0  # seconds the writer may retry or stand still, as in health
SMALL_DISK: t.Final = 0.05  # such a share of a small disk is enough
FEW_ERRORS: t.Final = 10  # in an hour are no rate
DOWN: t.Final = frozenset({"connecting", "backoff", "parked", "conflict", "logged_out", "banned"})
LINKED: t.Final = frozenset({"connecting", "syncing", "online", "backoff", "parked"})
ON_ORDER: t.Final = "logged_out_by_operator"  # reason of a state that an operator wished


@attrs.frozen(kw_only=True)
class Rule:
    """How one rule is applied; times in seconds."""

    severity: Severity
    hold: float
    """For so long a condition has to last before it is an alert."""
    calm: float = 0.0
    """For so long it has to be away before it begins anew."""
    of_connections: bool = True
    causes: frozenset[str] = frozenset()
    """Rules whose alerts explain this condition, if it begins while they last."""


def _rules() -> dict[str, Rule]:
    database = frozenset({"database"})
    fleet = database | {"outage", "outdated", "writer"}
    return {
        "down": Rule(severity="warning", hold=5 * MINUTE, calm=2 * MINUTE, causes=fleet),
        "parked": Rule(severity="warning", hold=MINUTE, calm=MINUTE, causes=fleet),
        "logged_out": Rule(severity="critical", hold=10.0),
        "conflict": Rule(severity="critical", hold=MINUTE, calm=2 * MINUTE),
        "banned": Rule(severity="critical", hold=10.0),
        "deaf": Rule(severity="warning", hold=30 * MINUTE, causes=fleet),
        "sync_errors": Rule(severity="warning", hold=5 * MINUTE, causes=database),
        "quarantine": Rule(severity="warning", hold=MINUTE),
        "undecryptable": Rule(severity="warning", hold=5 * MINUTE),
        "gap": Rule(severity="warning", hold=MINUTE, causes=fleet),
        "phone": Rule(severity="warning", hold=HOUR),
        "outage": Rule(severity="critical", hold=MINUTE, calm=MINUTE, of_connections=False),
        "outdated": Rule(severity="critical", hold=MINUTE, calm=MINUTE, of_connections=False),
        "writer": Rule(severity="critical", hold=5 * MINUTE, causes=database, of_connections=False),
        "database": Rule(severity="critical", hold=MINUTE, of_connections=False),
        "disk": Rule(severity="critical", hold=MINUTE, of_connections=False),
        "media": Rule(
            severity="warning", hold=30 * MINUTE, causes=database | {"disk"}, of_connections=False
        ),
        "webhook": Rule(severity="warning", hold=MINUTE, of_connections=False),
        "channel": Rule(severity="warning", hold=15 * MINUTE, of_connections=False),
        "export": Rule(
            severity="warning",
            hold=15 * MINUTE,  # it is tried again after five
            causes=database | {"disk"},
            of_connections=False,
        ),
    }


RULES: t.Final[cabc.Mapping[str, Rule]] = _rules()
OUT_OF_THE_DATABASE: t.Final = frozenset(
    {"sync_errors", "undecryptable", "gap", "media", "webhook", "channel"}
)
EXPLAIN_DOWN: t.Final = ("parked", "conflict", "logged_out", "banned")
"""Rules that say of the same connection why it is down."""


@attrs.frozen(kw_only=True)
class Thresholds:
    """From where on something is wrong; 0 switches its rule off. Durations are in seconds, and how
    long it may last unless they say otherwise; the others are counts."""

    down: float = 5 * MINUTE
    parked: float = MINUTE
    logged_out: float = 10.0
    conflict: float = MINUTE
    banned: float = 10.0
    deaf: float = 30 * MINUTE
    sync_errors: int = 10  # percent of the deliveries of an hour
    quarantine: int = 1  # rows
    undecryptable: int = 20  # messages
    gap: float = HOUR  # that the outage has been over
    phone: float = 10 * DAY
    outage: float = MINUTE
    outdated: float = MINUTE
    writer: float = 5 * MINUTE
    database: float = MINUTE
    disk: int = 2**30  # bytes that should be free
    media: int = 1000  # files
    webhook: int = 1  # deliveries that were given up
    channel: float = 15 * MINUTE
    export: float = DAY  # that one of the schedule may be late; one that failed is told soon

    def on(self, rule: str) -> bool:
        """Whether a rule is applied at all."""
        return bool(getattr(self, rule))

    def hold(self, rule: str) -> float:
        """How long a condition of a rule has to last."""
        return float(getattr(self, rule)) if rule in DURATIONS else RULES[rule].hold


DURATIONS: t.Final = frozenset(
    {
        *("down", "parked", "logged_out", "conflict", "banned", "deaf"),
        *("outage", "outdated", "writer", "database", "channel"),
    }
)
"""Rules whose threshold is the time that a condition has to last."""


@attrs.frozen(kw_only=True)
class Condition:
    """Something is wrong now."""

    rule: str
    subject: str = ""  # a connection, a webhook, …; empty: the daemon
    cause: str = ""  # conditions of a rule with the same one have probably the same cause
    since: float  # as far as it is known
    detail: str = ""  # the daemon's own words
    values: cabc.Mapping[str, Value] = attrs.field(factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """Rule and subject."""
        return self.rule, self.subject


def conditions(snapshot: Snapshot, thresholds: Thresholds, now: float) -> list[Condition]:
    """All that is wrong, by the rules that are on."""
    found: list[Condition] = [*_of_daemon(snapshot, thresholds, now)]
    for each in snapshot.connections:
        found += _of_connection(each, thresholds, now)
    if snapshot.stored is not None:
        for backlog in snapshot.stored.backlogs:
            found += _of_backlog(backlog, thresholds, now)
    return [each for each in found if thresholds.on(each.rule)]


def unknown(snapshot: Snapshot) -> frozenset[str]:
    """The rules that cannot be judged just now."""
    exports = frozenset({"export"}) if snapshot.exports is None else frozenset()
    return exports if snapshot.stored is not None else exports | OUT_OF_THE_DATABASE


def _of_daemon(snapshot: Snapshot, limits: Thresholds, now: float) -> cabc.Iterator[Condition]:
    if snapshot.database_error is not None:
        yield Condition(rule="database", since=now, detail=snapshot.database_error)
    writer = snapshot.writer
    if writer.depth > writer.capacity * FULL or max(writer.retrying, writer.stalled) > STUCK:
        since = now - max(writer.retrying, writer.stalled)
        values = {"depth": writer.depth, "capacity": writer.capacity}
        yield Condition(rule="writer", since=since, detail=writer.error, values=values)
    for incident in snapshot.incidents:
        if incident.code in RULES:
            yield Condition(
                rule=incident.code,
                since=incident.since,
                detail=incident.sentence,
                values={"count": incident.connections},
            )
    low = {
        (disk.free, disk.total): disk
        for disk in reversed(snapshot.disks)  # places on the same disk are told once
        if disk.free < min(limits.disk, SMALL_DISK * disk.total)
    }
    for disk in low.values():
        values = {"free": disk.free, "total": disk.total}
        yield Condition(rule="disk", subject=disk.path, since=now, values=values)
    for export in snapshot.exports or ():
        told: dict[str, Value] = {"export": export.name}
        yield Condition(rule="export", since=export.since, detail=export.error, values=told)
    if snapshot.stored is not None:
        yield from _of_services(snapshot.stored, limits, now)


def _of_services(stored: StoredHealth, limits: Thresholds, now: float) -> cabc.Iterator[Condition]:
    if limits.media <= stored.media:
        yield Condition(rule="media", since=now, values={"count": stored.media})
    for hook in stored.webhooks:
        if limits.webhook <= hook.dead:
            values = {"count": hook.dead}
            yield Condition(rule="webhook", subject=hook.name, since=now, values=values)
    for channel in stored.channels:
        if (since := channel.failing_since) is not None:
            yield Condition(rule="channel", subject=channel.name, since=since, detail=channel.error)


def _of_connection(
    health: ConnectionHealth, limits: Thresholds, now: float
) -> cabc.Iterator[Condition]:
    def condition(rule: str, since: float, **changes: t.Any) -> Condition:
        return Condition(rule=rule, subject=health.name, since=since, **changes)

    if health.state in DOWN and health.reason != ON_ORDER:
        told = {
            "cause": health.reason,
            "detail": health.sentence,
            "values": {"state": health.state, "reason": health.reason},
        }
        yield condition("down", health.since, **told)
        if health.state in EXPLAIN_DOWN:
            yield condition(health.state, health.since, **told)
    if health.deaf_since is not None:
        yield condition("deaf", health.deaf_since, detail=health.deaf_why)
    if limits.quarantine <= health.quarantined:
        yield condition("quarantine", now, values={"count": health.quarantined})
    seen = health.phone_seen_at
    if seen is not None and health.state in LINKED and now - seen > limits.phone:
        yield condition("phone", seen, values={"days": int((now - seen) // DAY)})


def _of_backlog(backlog: Backlog, limits: Thresholds, now: float) -> cabc.Iterator[Condition]:
    def condition(rule: str, **values: Value) -> Condition:
        return Condition(rule=rule, subject=backlog.connection, since=now, values=values)

    if limits.undecryptable <= backlog.undecryptable:
        yield condition("undecryptable", count=backlog.undecryptable)
    if backlog.gaps:
        yield condition("gap", count=backlog.gaps, missing=backlog.missing)
    if backlog.errors >= FEW_ERRORS and (
        100 * backlog.errors >= limits.sync_errors * backlog.delivered
    ):
        yield condition("sync_errors", count=backlog.errors, total=backlog.delivered)
