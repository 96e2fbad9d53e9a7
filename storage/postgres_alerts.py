"""Alerts in PostgreSQL: see :class:`storage.alerts.Alerts` for what each method promises."""

import abc
import collections.abc as cabc
import datetime as dt
import json
import typing as t

from storage.alerts import Alert, AlertChange, Backlog, Silence
from storage.identity import clean_text
from storage.prepare_alerts import encode_changes

_TIMES: t.Final = (
    "since",
    "fired_at",
    "last_seen",
    "resolved_at",
    "acknowledged_at",
    "notified_at",
)


class PostgresAlerts(abc.ABC):
    """The part of PostgresStorage that keeps alerts."""

    _clock: cabc.Callable[[], float]

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    async def save_alerts(self, changes: cabc.Sequence[AlertChange]) -> dict[str, int]:
        """See :meth:`storage.alerts.Alerts.save_alerts`."""
        return dict(await self._fetch("save_alerts", encode_changes(changes)))

    async def active_alerts(self) -> list[Alert]:
        """See :meth:`storage.alerts.Alerts.active_alerts`."""
        return [_alert(row) for row in await self._fetch("active_alerts")]

    async def past_alerts(self, *, before: int | None = None, limit: int = 50) -> list[Alert]:
        """See :meth:`storage.alerts.Alerts.past_alerts`."""
        return [_alert(row) for row in await self._fetch("past_alerts", before, limit)]

    async def alert(self, alert_id: int) -> Alert | None:
        """See :meth:`storage.alerts.Alerts.alert`."""
        rows = await self._fetch("alert", alert_id)
        return _alert(rows[0]) if rows else None

    async def touch_alerts(self, keys: cabc.Sequence[str], at: float) -> None:
        """See :meth:`storage.alerts.Alerts.touch_alerts`."""
        await self._fetch("touch_alerts", list(keys), _moment(at))

    async def trim_alerts(self, before: float, limit: int) -> int:
        """See :meth:`storage.alerts.Alerts.trim_alerts`."""
        moment = _moment(before)
        alerts = await self._fetch("trim_alerts", moment, limit)
        return len(alerts) + len(await self._fetch("trim_silences", moment, limit))

    async def add_silence(
        self, connection: str | None, rule: str | None, *, until: float, why: str, by: str
    ) -> Silence:
        """See :meth:`storage.alerts.Alerts.add_silence`."""
        said = (clean_text(why), clean_text(by))
        now = self._clock()
        begins, ends = _moment(now), _moment(max(now, until))
        [row] = await self._fetch("add_silence", connection, rule, *said, begins, ends)
        return Silence(**row)

    async def silences(self, *, since: float, limit: int = 200) -> list[Silence]:
        """See :meth:`storage.alerts.Alerts.silences`."""
        return [Silence(**row) for row in await self._fetch("silences", _moment(since), limit)]

    async def end_silence(self, silence_id: int) -> Silence | None:
        """See :meth:`storage.alerts.Alerts.end_silence`."""
        rows = await self._fetch("end_silence", silence_id, _moment(self._clock()))
        return Silence(**rows[0]) if rows else None

    async def backlogs(
        self, *, undecryptable: float, gaps: float, delivered: float
    ) -> list[Backlog]:
        """See :meth:`storage.alerts.Alerts.backlogs`."""
        moments = [_moment(each) for each in (undecryptable, gaps, delivered)]
        return [Backlog(**row) for row in await self._fetch("backlogs", *moments)]

    async def media_waiting(self) -> int:
        """See :meth:`storage.alerts.Alerts.media_waiting`."""
        [[waiting]] = await self._fetch("media_waiting")
        return int(waiting)

    async def phone_signs(self) -> dict[str, float]:
        """See :meth:`storage.alerts.Alerts.phone_signs`."""
        return {name: seen.timestamp() for name, seen in await self._fetch("phone_signs")}

    async def note_phone_signs(self, signs: cabc.Mapping[str, float]) -> None:
        """See :meth:`storage.alerts.Alerts.note_phone_signs`."""
        moments = [_moment(each) for each in signs.values()]
        await self._fetch("note_phone_signs", list(signs), moments)


def _alert(row: t.Any) -> Alert:
    values = dict(row)
    for name in _TIMES:
        values[name] = None if row[name] is None else row[name].timestamp()
    for name in ("subjects", "told"):
        values[name] = tuple(row[name])
    values["facts"] = json.loads(row["facts"])
    return Alert(**values)


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
