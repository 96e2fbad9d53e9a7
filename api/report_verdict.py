"""The day in one sentence, and how good it was."""

import datetime as dt
import typing as t

from actors.report_values import Report
from api.report_words import Words

POOR: t.Final = 99.0  # per cent online, below which a day was bad
FAIR: t.Final = 99.9
MOMENT: t.Final = 60.0  # seconds offline, of all connections together, that say nothing of a day
STALE: t.Final = dt.timedelta(days=1)  # that a conversation waits

Level: t.TypeAlias = t.Literal["good", "fair", "bad"]


def level_of(report: Report) -> Level:
    """How good the day was, at a glance."""
    total = report.total
    uptime = total.uptime if total.down >= MOMENT else None
    if total.missing or (uptime is not None and uptime < POOR):
        return "bad"
    stale = report.waiting_since is not None and report.made_at - report.waiting_since > STALE
    if total.undecryptable or stale or (uptime is not None and uptime < FAIR):
        return "fair"
    return "good"


def verdict_of(report: Report, words: Words) -> str:
    """The day in one sentence."""
    total = report.total
    waiting = words.text("waiting", count=report.waiting)
    if report.waiting and report.waiting_since is not None:
        since = report.waiting_since.astimezone(report.made_at.tzinfo)
        waiting = words.text("waitingSince", waiting=waiting, time=words.time(since, report.day))
    parts = [_online(report, words), waiting]
    if total.missing:
        parts.append(words.text("missing", count=total.missing))
    if total.undecryptable:
        parts.append(words.text("undecryptable", count=total.undecryptable))
    return "; ".join(parts) + "."


def _online(report: Report, words: Words) -> str:
    wanted = [each for each in report.connections if each.figures.uptime is not None]
    if not wanted:
        return words.text("nothing")
    worst = max(wanted, key=lambda each: each.figures.down)
    hit = sum(each.figures.down >= 1 for each in wanted)
    percent = words.percent(report.total.uptime)
    if hit == 0 and report.complete:
        return words.text("online", count=len(wanted), name=worst.name)
    if hit == 0 or all((each.figures.uptime or 0.0) >= POOR for each in wanted):
        return words.text("mostly", count=len(wanted), name=worst.name, percent=percent)
    return words.text(
        "down",
        count=hit,
        all=words.number(len(wanted)),
        name=worst.name,
        duration=words.duration(worst.figures.down),
    )
