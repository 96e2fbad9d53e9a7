"""The figures of a report beside those of other days, as they are written."""

import collections.abc as cabc
import typing as t

import attrs

from actors.report_values import DayFigures, Report
from api.report_words import DASH, Words


@attrs.frozen(kw_only=True)
class Compared:
    """A figure with what it was on other days."""

    label: str
    value: str
    before: str
    week: str


Shown: t.TypeAlias = cabc.Callable[[DayFigures, Words], str]


def _figure(name: str, form: cabc.Callable[[Words, t.Any], str]) -> Shown:
    """One of the figures as it is written."""
    return lambda day, words: form(words, getattr(day, name))


def _wait(name: str) -> Shown:
    """One of the times until the first answer."""
    return lambda day, words: words.duration(getattr(day.responses, name))


def _answered(day: DayFigures, words: Words) -> str:
    answers = day.responses
    return words.text(
        "answered",
        answered=words.number(answers.answered),
        all=words.number(answers.conversations),
    )


CARDS: t.Final[cabc.Mapping[str, Shown]] = {
    "uptime": _figure("uptime", Words.percent),
    "received": _figure("received", Words.number),
    "sent": _figure("sent", Words.number),
    "response": _wait("median"),
}
ROWS: t.Final[cabc.Mapping[str, Shown]] = {
    "uptime": _figure("uptime", Words.percent),
    "down": _figure("down", Words.duration),
    "outages": _figure("outages", Words.number),
    "received": _figure("received", Words.number),
    "sent": _figure("sent", Words.number),
    "duplicates": _figure("duplicates", Words.number),
    "errors": _figure("errors", Words.number),
    "undecryptable": _figure("undecryptable", Words.number),
    "opened": _figure("opened", Words.number),
    "reopened": _figure("reopened", Words.number),
    "closed": _figure("closed", Words.number),
    "answered": _answered,
    "median": _wait("median"),
    "ninetieth": _wait("ninetieth"),
    "gaps": _figure("gaps", Words.number),
    "announced": _figure("announced", Words.number),
    "missing": _figure("missing", Words.number),
    "files": _figure("files", Words.number),
    "bytes": _figure("bytes", Words.size),
    "failedFiles": _figure("failed_files", Words.number),
}


def compared(
    report: Report, words: Words, prefix: str, figures: cabc.Mapping[str, Shown]
) -> tuple[Compared, ...]:
    """All of them, with their labels."""

    def on(day: DayFigures | None, shown: Shown) -> str:
        return DASH if day is None else shown(day, words)

    return tuple(
        Compared(
            label=words.text(f"{prefix}.{name}"),
            value=shown(report.total, words),
            before=on(report.day_before, shown),
            week=on(report.week_before, shown),
        )
        for name, shown in figures.items()
    )
