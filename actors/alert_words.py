"""What people read of an alert: subject and text, plain and as HTML, in their language. Pure."""

import collections
import collections.abc as cabc
import datetime as dt
import html
import typing as t
import urllib.parse

import attrs
import babel.dates

from actors.alert_book import NAMED
from actors.alert_texts import CAUSES, ENGLISH, LANGUAGES
from actors.alert_texts_types import Texts
from storage.alerts import Alert, AlertChange
from storage.notifications import Content, Notification, NotificationKind, Severity

FEW: t.Final = 5  # subjects that a title names
MOST: t.Final = 50  # that a text names
UNKNOWN: t.Final = "–"

_SEVERITY_COLOURS: t.Final = {"info": "#2563eb", "warning": "#b45309", "critical": "#b91c1c"}
_OVER_COLOUR: t.Final = "#15803d"


@attrs.frozen(kw_only=True)
class Wording:
    """How alerts are worded everywhere."""

    link: str = ""
    """Where the dashboard is, without a slash at its end; empty: nowhere."""
    zone: dt.tzinfo = dt.UTC
    """Of the times."""


@attrs.frozen(kw_only=True)
class AlertText:
    """What is said of an alert in one language."""

    title: str
    cause: str
    cure: str


def alert_text(
    alert: Alert, language: str, subjects: cabc.Sequence[str] | None = None
) -> AlertText:
    """Title, likely cause and cure of an alert; of these of its subjects."""
    texts = LANGUAGES.get(language, ENGLISH)
    known = alert.subjects if subjects is None else subjects
    rule = texts.rules.get(alert.rule)
    if rule is None:  # of another version
        return AlertText(title=f"{alert.rule}: {_listed(texts, known, 0)}", cause="", cure="")
    values: dict[str, t.Any] = collections.defaultdict(lambda: UNKNOWN)
    values |= {key: _shown(key, value) for key, value in alert.facts.items()}
    values["who"] = _listed(texts, known, alert.others, FEW)
    values["name"] = known[0] if len(known) == 1 else texts.words["name"]
    cause = rule.cause
    if alert.rule in ("down", "parked") and (group := CAUSES.get(alert.cause)) is not None:
        cause = texts.causes[group]
    return AlertText(
        title=rule.title.format_map(values),
        cause=cause.format_map(values),
        cure=rule.cure.format_map(values),
    )


def notification_of(
    change: AlertChange, subjects: tuple[str, ...], wording: Wording, now: float
) -> Notification:
    """What people are told of a change; ``subjects``: of whom."""
    alert = change.alert
    over = change.what == "resolved"
    english = _content(change, subjects, "en", wording, now)
    alone = _alone(alert, subjects)
    return Notification(
        key=f"alert/{alert.key}/{'over' if over else alert.times}",
        kind=NotificationKind.RECOVERY if over else NotificationKind.ALERT,
        severity=Severity(alert.severity),
        connection=alone,
        concerned=subjects if alert.of_connections and len(subjects) < NAMED else (),
        subject=english.subject,
        text=english.text,
        html=english.html,
        translations={
            language: _content(change, subjects, language, wording, now)
            for language in LANGUAGES
            if language != "en"
        },
        data={
            "alert": alert.key,
            "rule": alert.rule,
            "state": alert.state,
            "severity": alert.severity,
            "subjects": list(subjects[:MOST]),
            "since": dt.datetime.fromtimestamp(alert.since, dt.UTC).isoformat(),
            "times": alert.times,
            "link": link_to(wording, alone),
        },
    )


def _alone(alert: Alert, subjects: cabc.Sequence[str]) -> str | None:
    """The connection that people are told of, if that is one alone."""
    return subjects[0] if alert.of_connections and len(subjects) == 1 else None


def link_to(wording: Wording, connection: str | None) -> str:
    """Where the dashboard shows an alert, of one connection or of others; empty: nowhere."""
    if not wording.link:
        return ""
    place = "alerts"
    if connection is not None:
        place = f"connections/{urllib.parse.quote(connection, safe='')}"
    return f"{wording.link}/dashboard/#/{place}"


def _content(
    change: AlertChange, subjects: tuple[str, ...], language: str, wording: Wording, now: float
) -> Content:
    alert, texts = change.alert, LANGUAGES[language]
    words, said = texts.words, alert_text(alert, language, subjects)
    over = change.what == "resolved"
    end = now if alert.resolved_at is None else alert.resolved_at
    span = _span(end - alert.since, language)
    at = _moment(alert.since, language, wording.zone)
    lines = [words["over" if over else "since"].format(at=at, span=span)]
    if len(subjects) > FEW:
        lines.append(_listed(texts, subjects, alert.others, MOST))
    sections: list[tuple[str, str]] = []
    if not over:
        if alert.detail:
            sections.append((words["says"], alert.detail))
        sections += [(words["cause"], said.cause), (words["cure"], said.cure)]
        lines_after = [words["acknowledge"]]
    else:
        lines_after = []
    link = link_to(wording, _alone(alert, subjects))
    again = "" if change.what == "fired" or over else f"{words['again']}: "
    title = f"{words['resolved']}: {said.title}" if over else f"{again}{said.title}"
    severity = words[f"severity_{alert.severity}"]
    blocks = [
        title,
        " ".join(lines),
        *(f"{name}: {what}" for name, what in sections),
        *lines_after,
        *([link] if link else []),
    ]
    colour = _OVER_COLOUR if over else _SEVERITY_COLOURS[alert.severity]
    return Content(
        subject=title if over else f"[{severity}] {title}",
        text="\n\n".join(blocks) + "\n",
        html=_html(title, lines, sections, lines_after, link, colour, language),
    )


def _html(
    title: str,
    lines: cabc.Sequence[str],
    sections: cabc.Sequence[tuple[str, str]],
    lines_after: cabc.Sequence[str],
    link: str,
    colour: str,
    language: str,
) -> str:
    """Plain tables and inline styles: what every mail program shows."""
    rows = "".join(
        f'<tr><td style="padding:4px 12px 4px 0;vertical-align:top;color:#6b7280;'
        f'white-space:nowrap">{html.escape(name)}</td>'
        f'<td style="padding:4px 0">{html.escape(what)}</td></tr>'
        for name, what in sections
    )
    paragraphs = "".join(f"<p>{html.escape(each)}</p>" for each in lines)
    after = "".join(f'<p style="color:#6b7280">{html.escape(each)}</p>' for each in lines_after)
    anchor = f'<p><a href="{html.escape(link)}">{html.escape(link)}</a></p>' if link else ""
    return (
        f'<!doctype html><html lang="{language}"><body style="font-family:sans-serif;'
        f'font-size:15px;color:#111827"><h2 style="margin:0;padding:0 0 0 10px;'
        f'border-left:5px solid {colour};font-size:18px">{html.escape(title)}</h2>'
        f"{paragraphs}<table>{rows}</table>{after}{anchor}</body></html>"
    )


def _listed(texts: Texts, names: cabc.Sequence[str], others: int, most: int = MOST) -> str:
    shown = [name for name in names[:most] if name]
    rest = len(names) - len(shown) + others if names != ("",) else others
    if rest:
        shown.append(texts.words["more"].format(count=rest))
    if len(shown) < 2:
        return "".join(shown)
    return texts.words["and"].format(first=", ".join(shown[:-1]), last=shown[-1])


def _shown(key: str, value: object) -> object:
    if key in ("free", "total") and isinstance(value, int) and value > 2**20:
        return f"{value / 2**20:,.0f} MiB"
    return value


def _locale(language: str) -> str:
    return language.replace("-", "_")


def _moment(seconds: float, language: str, zone: dt.tzinfo) -> str:
    at = dt.datetime.fromtimestamp(seconds, dt.UTC)
    pattern = "d MMM y, HH:mm z"
    return babel.dates.format_datetime(at, pattern, tzinfo=zone, locale=_locale(language))


def _span(seconds: float, language: str) -> str:
    return babel.dates.format_timedelta(
        dt.timedelta(seconds=max(60.0, seconds)),
        granularity="minute",
        threshold=2,
        locale=_locale(language),
    )
