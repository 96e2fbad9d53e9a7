"""The alerts of a day, where alerts are kept."""

import collections.abc as cabc
import datetime as dt
import typing as t

from actors.alert_rules import RULES
from actors.alert_texts import LANGUAGES
from actors.alert_words import alert_text
from actors.report_days import utc
from actors.report_values import AlertLine
from storage.alerts import Alert
from storage.notifications import DEFAULT_LANGUAGE

PAGE: t.Final = 200  # alerts read at once
MOST: t.Final = 1000  # of one day


@t.runtime_checkable
class PastAlerts(t.Protocol):
    """A storage that keeps alerts."""

    async def past_alerts(
        self, *, before: int | None = None, limit: int = 50
    ) -> cabc.Sequence[Alert]:
        """All of them, the newest first; those with an id below ``before``."""
        ...


def fired_alerts(
    storage: PastAlerts,
) -> cabc.Callable[[dt.datetime, dt.datetime], cabc.Awaitable[list[AlertLine]]]:
    """Reads the alerts that fired from one moment on and before another, the oldest first."""

    async def fired(begin: dt.datetime, end: dt.datetime) -> list[AlertLine]:
        found: list[AlertLine] = []
        before: int | None = None
        while len(found) < MOST:
            page = await storage.past_alerts(before=before, limit=PAGE)
            found += [_line(each) for each in page if begin <= utc(each.fired_at) < end]
            if len(page) < PAGE or utc(page[-1].fired_at) < begin:
                break
            before = page[-1].id
        return found[MOST - 1 :: -1]

    return fired


def _line(alert: Alert) -> AlertLine:
    resolved = alert.resolved_at
    return AlertLine(
        connection=alert.connection,
        sentence=alert.sentence,
        translations={
            language: alert_text(alert, language).title
            for language in LANGUAGES
            if language != DEFAULT_LANGUAGE and alert.rule in RULES  # others: of another version
        },
        since=utc(alert.fired_at),
        resolved_at=None if resolved is None else utc(resolved),
    )
