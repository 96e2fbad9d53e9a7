"""``[alerts]`` and ``[[maintenance]]``: what is trouble, and when nobody is told of it."""

import enum
import typing as t

import attrs

from config.kinds import (
    ConnectionName,
    ConnectionNames,
    Count,
    Duration,
    Names,
    Size,
    TimeOfDay,
    TimeZone,
    Url,
)


class Severity(enum.Enum):
    """How much a notification matters at least."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@attrs.frozen(kw_only=True)
class AlertsConfig:
    """``[alerts]``; 0 switches a rule off"""

    link: t.Annotated[str, Url(("https", "http"), allow_empty=True)] = ""
    timezone: t.Annotated[str, TimeZone()] = "UTC"
    severity: Severity = Severity.INFO
    """Of the rules that are applied, the least."""
    grace: t.Annotated[float, Duration(at_least=0, at_most=86400)] = 180.0
    recovery: t.Annotated[float, Duration(at_least=0, at_most=86400)] = 180.0
    group: t.Annotated[int, Count(2, 100_000)] = 2
    down: t.Annotated[float, Duration(at_least=0)] = 300.0
    parked: t.Annotated[float, Duration(at_least=0)] = 60.0
    logged_out: t.Annotated[float, Duration(at_least=0)] = 10.0
    conflict: t.Annotated[float, Duration(at_least=0)] = 60.0
    banned: t.Annotated[float, Duration(at_least=0)] = 10.0
    deaf: t.Annotated[float, Duration(at_least=0)] = 1800.0
    outage: t.Annotated[float, Duration(at_least=0)] = 60.0
    outdated: t.Annotated[float, Duration(at_least=0)] = 60.0
    sync_errors: t.Annotated[int, Count(0, 100)] = 10  # percent
    quarantine: t.Annotated[int, Count(0)] = 1  # rows
    undecryptable: t.Annotated[int, Count(0, 1000)] = 20  # messages
    gap: t.Annotated[float, Duration(at_least=0)] = 3600.0
    phone: t.Annotated[float, Duration(at_least=0)] = 864_000.0
    writer: t.Annotated[float, Duration(at_least=0)] = 300.0
    database: t.Annotated[float, Duration(at_least=0)] = 60.0
    disk: t.Annotated[int, Size(0, 1 << 50)] = 1 << 30
    media: t.Annotated[int, Count(0, 100_000)] = 1000  # files
    webhook: t.Annotated[int, Count(0)] = 1  # deliveries that were given up
    channel: t.Annotated[float, Duration(at_least=0)] = 900.0
    export: t.Annotated[float, Duration(at_least=0)] = 86_400.0


_DAYS: t.Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@attrs.frozen(kw_only=True)
class MaintenanceConfig:
    """One ``[[maintenance]]`` table: nobody is told of alerts in these hours."""

    name: t.Annotated[str, ConnectionName()]
    days: t.Annotated[tuple[str, ...], Names(f"some of {', '.join(_DAYS)}", "|".join(_DAYS))] = (
        _DAYS
    )
    """On which it begins."""
    start: t.Annotated[str, TimeOfDay()]
    end: t.Annotated[str, TimeOfDay()]
    """Not after ``start``: on the next day."""
    timezone: t.Annotated[str, TimeZone()] = "UTC"
    connections: ConnectionNames = ()
    """Empty: all, and what concerns no connection."""
