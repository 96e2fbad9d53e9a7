"""What a report shows, in words: the same for its HTML and for its text."""

import collections.abc as cabc
import datetime as dt
import itertools
import typing as t

import attrs

from actors.report_values import (
    ConnectionDay,
    DayOutage,
    HourCount,
    Report,
    Segment,
    Way,
)
from api.report_rows import CARDS, ROWS, Compared, compared
from api.report_verdict import Level, level_of, verdict_of
from api.report_words import Words

CONNECTIONS: t.Final = 20  # shown one by one; mail clients cut a long mail off
OUTAGES: t.Final = 10
ALERTS: t.Final = 10
NAMES: t.Final = 20
FINEST: t.Final = 16  # segments of a track that are shown to the quarter of an hour


@attrs.frozen
class HourBar:
    """One hour of the chart; shares of the greatest hour, from 0 to 1."""

    label: str
    time: str
    received: int
    sent: int
    received_share: float
    sent_share: float


@attrs.frozen
class TrackPiece:
    """A part of a track, in per cent of the day."""

    way: Way
    percent: int


@attrs.frozen(kw_only=True)
class ListedConnection:
    """A connection in the list."""

    name: str
    online: str
    received: str
    sent: str
    waiting: str
    track: tuple[TrackPiece, ...]
    caption: str


@attrs.frozen
class Happening:
    """An outage or an alert."""

    name: str  # empty: ``what`` says whom it concerns
    when: str
    duration: str  # empty: it is not over
    what: str


@attrs.frozen(kw_only=True)
class View:
    """All of it, in the order in which it matters."""

    language: str
    title: str
    date: str
    subject: str
    level: Level
    verdict: str
    notes: tuple[str, ...]
    cards: tuple[Compared, ...]
    bars: tuple[HourBar, ...]
    busiest: str
    connections: tuple[ListedConnection, ...]
    remarks: tuple[str, ...]  # on the connections
    outages: tuple[Happening, ...]
    more_outages: str
    alerts: tuple[Happening, ...] | None
    more_alerts: str
    rows: tuple[Compared, ...]
    footer: tuple[str, ...]


def view_of(report: Report, words: Words) -> View:
    """The report in a language."""
    verdict = verdict_of(report, words)
    ranked = sorted(report.connections, key=lambda each: (-each.figures.down, each.name))
    shown = sorted(ranked[:CONNECTIONS], key=lambda each: each.name)
    outages = _outages(report)
    alerts = report.alerts
    return View(
        language=words.language,
        title=words.text("title"),
        date=words.date(report.day),
        subject=words.text("subject", day=words.short_date(report.day), verdict=verdict),
        level=level_of(report),
        verdict=verdict,
        notes=tuple(_notes(report, words)),
        cards=compared(report, words, "key", CARDS),
        bars=_bars(report.hours, words),
        busiest=_busiest(report, words),
        connections=tuple(_connection(each, words) for each in shown),
        remarks=tuple(_remarks(report, len(report.connections) - len(shown), words)),
        outages=tuple(_outage(*each, report, words) for each in outages),
        more_outages=_more("outages.more", report.total.outages - len(outages), words),
        alerts=None if alerts is None else tuple(_alerts(report, words)),
        more_alerts=_more("alerts.more", max(0, len(alerts or ()) - ALERTS), words),
        rows=compared(report, words, "row", ROWS),
        footer=(
            words.text("made", time=words.time(report.made_at, report.day), zone=report.zone),
            words.text("defined"),
        ),
    )


def _notes(report: Report, words: Words) -> cabc.Iterator[str]:
    if not report.complete:
        yield words.text("incomplete", time=words.time(report.made_at, report.day))
    if (gone := report.unreported) is not None:
        yield words.text(
            "unreported",
            count=gone.days,
            first=words.short_date(gone.first),
            last=words.short_date(gone.last),
        )


def _bars(hours: cabc.Sequence[HourCount], words: Words) -> tuple[HourBar, ...]:
    greatest = max((each.received + each.sent for each in hours), default=0) or 1
    return tuple(
        HourBar(
            str(each.begins_at.hour),
            words.time(each.begins_at),
            each.received,
            each.sent,
            each.received / greatest,
            each.sent / greatest,
        )
        for each in hours
    )


def _busiest(report: Report, words: Words) -> str:
    ends = [*(each.begins_at for each in report.hours[1:]), report.ends_at]
    both = list(zip(report.hours, ends, strict=True))
    if not both or not any(hour.received + hour.sent for hour in report.hours):
        return words.text("hours.none")
    hour, end = max(both, key=lambda each: each[0].received + each[0].sent)
    return words.text(
        "hours.busiest",
        begin=words.time(hour.begins_at),
        end=words.time(end),
        count=hour.received + hour.sent,
    )


def _connection(day: ConnectionDay, words: Words) -> ListedConnection:
    figures = day.figures
    online = words.percent(figures.uptime)
    return ListedConnection(
        name=day.name,
        online=online,
        received=words.number(figures.received),
        sent=words.number(figures.sent),
        waiting=words.number(day.waiting),
        track=_pieces(day.track),
        caption=words.text("connections.track", name=day.name, percent=online),
    )


def _pieces(track: cabc.Sequence[Segment]) -> tuple[TrackPiece, ...]:
    """Whole per cents that add up to a hundred; each piece can be seen."""
    segments = track if len(track) <= FINEST else _by_hour(track)
    whole = sum(each.quarters for each in segments) or 1
    edges = [0, *itertools.accumulate(each.quarters for each in segments)]
    spare = 100 - len(segments)
    places = [number + round(spare * edge / whole) for number, edge in enumerate(edges)]
    return tuple(
        TrackPiece(each.way, end - begin)
        for each, (begin, end) in zip(segments, itertools.pairwise(places), strict=True)
    )


def _by_hour(track: cabc.Sequence[Segment]) -> list[Segment]:
    """The same, no finer than hours; one with an outage is down."""
    quarters = [each.way for each in track for _ in range(each.quarters)]
    hours = [quarters[begin : begin + 4] for begin in range(0, len(quarters), 4)]
    ways = [(Way.DOWN if Way.DOWN in hour else hour[0], len(hour)) for hour in hours]
    return [
        Segment(way=way, quarters=sum(size for _way, size in alike))
        for way, alike in itertools.groupby(ways, key=lambda each: each[0])
    ]


def _remarks(report: Report, hidden: int, words: Words) -> cabc.Iterator[str]:
    if not report.connections:
        yield words.text("connections.none")
    if hidden:
        yield words.text("connections.more", count=hidden)
    names, rest = ", ".join(report.idle[:NAMES]), len(report.idle) - NAMES
    if rest > 0:
        yield words.text("connections.idleMore", names=names, count=rest)
    elif names:
        yield words.text("connections.idle", names=names)


def _outages(report: Report) -> list[tuple[str, DayOutage]]:
    """The longest of all connections, by when they began."""
    found = [(day.name, outage) for day in report.connections for outage in day.longest]
    found.sort(key=lambda each: -each[1].seconds)
    return sorted(found[:OUTAGES], key=lambda each: (each[1].began_at, each[0]))


def _outage(name: str, outage: DayOutage, report: Report, words: Words) -> Happening:
    when = _when("outages", outage.began_at, outage.ended_at, report, words)
    return Happening(name, when, words.duration(outage.seconds), words.reason(outage.reason))


def _alerts(report: Report, words: Words) -> cabc.Iterator[Happening]:
    for each in (report.alerts or ())[:ALERTS]:
        end = each.resolved_at
        lasted = "" if end is None else words.duration((end - each.since).total_seconds())
        when = _when("alerts", each.since, end, report, words)
        what = each.translations.get(words.language, each.sentence)
        yield Happening("", when, lasted, what)


def _when(
    key: str, begin: dt.datetime, end: dt.datetime | None, report: Report, words: Words
) -> str:
    """From when to when, in the time zone of the report; the day only where it is another."""
    zone = report.made_at.tzinfo
    shown = words.time(begin.astimezone(zone), report.day)
    if end is None:
        return words.text(f"{key}.open", begin=shown)
    return words.text("outages.span", begin=shown, end=words.time(end.astimezone(zone), report.day))


def _more(key: str, count: int, words: Words) -> str:
    return words.text(key, count=count) if count > 0 else ""
