"""From the transitions of a day to its outages and its track. Pure."""

import collections
import collections.abc as cabc
import itertools
import math
import typing as t

from actors.report_days import QUARTER, utc
from actors.report_values import DayOutage, Segment, Way
from actors.uptime import Change, Kind, Span, add_change
from storage.reports import ReportTransition

BRIEF: t.Final = 5.0  # seconds without WhatsApp that are no outage yet: a new socket takes that
SHORTEST: t.Final = 60.0  # seconds of an outage that can be seen in a track
_WAYS: t.Final = {Kind.UP: Way.ONLINE, Kind.DOWN: Way.DOWN, Kind.OFF: Way.OFF}


def changes_of(transitions: cabc.Iterable[ReportTransition]) -> dict[str, list[Change]]:
    """What the transitions of each connection changed."""
    changes: dict[str, list[Change]] = collections.defaultdict(list)
    for each in transitions:
        add_change(changes[each.connection], each.at.timestamp(), each.state, each.reason)
    return changes


def outages_of(stretches: cabc.Iterable[Span], begin: float, end: float) -> list[DayOutage]:
    """Those in a stretch of time that ends no later than now, by when they began."""
    return [
        DayOutage(
            began_at=utc(each.since),
            ended_at=utc(each.until) if each.until < end else None,
            seconds=min(each.until, end) - max(each.since, begin),
            reason=each.reason,
        )
        for each in stretches
        if each.kind is Kind.DOWN and each.until > begin and each.until - each.since >= BRIEF
    ]


def track_of(stretches: cabc.Iterable[Span], begin: float, end: float) -> tuple[Segment, ...]:
    """How the quarters of an hour of a day were: down with a minute of outage, else as most of
    their time was."""
    count = round((end - begin) / QUARTER)
    ways = [dict.fromkeys(Way, 0.0) for _ in range(count)]
    for each in stretches:
        first = max(0, int((each.since - begin) // QUARTER))
        for number in range(first, min(count, math.ceil((each.until - begin) / QUARTER))):
            since = begin + number * QUARTER
            passed = min(each.until, since + QUARTER) - max(each.since, since)
            ways[number][_WAYS[each.kind]] += max(0.0, passed)
    return tuple(
        Segment(way=way, quarters=len(list(group)))
        for way, group in itertools.groupby(map(_way, ways))
    )


def _way(passed: cabc.Mapping[Way, float]) -> Way:
    if passed[Way.DOWN] >= SHORTEST:
        return Way.DOWN
    longest = max(passed, key=lambda way: passed[way])
    return longest if passed[longest] > 0 else Way.UNKNOWN
