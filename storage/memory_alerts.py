"""The alerts of MemoryStorage: see :class:`storage.alerts.Alerts`."""

import abc
import collections.abc as cabc
import datetime as dt
import itertools
import typing as t

import attrs
import trio

from storage.alerts import Alert, AlertChange, Backlog, Silence
from storage.notifications import Notification
from storage.prepare_alerts import event_data


class MemoryAlerts(abc.ABC):
    """The part of MemoryStorage that keeps alerts. What is undecryptable, missing or waits is not
    counted here: tests set ``alert_backlogs`` and ``alert_media``."""

    _clock: cabc.Callable[[], float]

    def __init__(self) -> None:
        super().__init__()
        self.alert_backlogs: list[Backlog] = []
        self.alert_media = 0
        self._alerts: dict[str, Alert] = {}
        self._silences: dict[int, Silence] = {}
        self._silence_ids = itertools.count(1)
        self._signs: dict[str, float] = {}

    @abc.abstractmethod
    def queue_notifications(self, notifications: cabc.Iterable[Notification]) -> int:
        """See :class:`storage.memory_notifications.MemoryNotifications`."""

    @abc.abstractmethod
    def _tell(self, type_: str, connection: str | None, **data: t.Any) -> int:
        """See :class:`storage.memory_events.MemoryEvents`."""

    async def save_alerts(self, changes: cabc.Sequence[AlertChange]) -> dict[str, int]:
        """See :meth:`storage.alerts.Alerts.save_alerts`."""
        await trio.lowlevel.checkpoint()
        new: list[AlertChange] = []
        for change in changes:
            alert = change.alert
            known = self._alerts.get(alert.key)
            if known is not None and known.step >= alert.step:
                continue
            number = len(self._alerts) + 1 if known is None else known.id
            self._alerts[alert.key] = attrs.evolve(alert, id=number)
            new.append(change)
        self.queue_notifications(each.notification for each in new if each.notification is not None)
        for change in new:
            if (data := event_data(change)) is not None:
                number = self._alerts[change.alert.key].id
                name = change.alert.connection
                self._tell(f"alert.{change.what}", name, alert_id=number, **data)
        return {change.alert.key: self._alerts[change.alert.key].id or 0 for change in changes}

    async def active_alerts(self) -> list[Alert]:
        """See :meth:`storage.alerts.Alerts.active_alerts`."""
        await trio.lowlevel.checkpoint()
        return [each for each in self._alerts.values() if each.resolved_at is None]

    async def past_alerts(self, *, before: int | None = None, limit: int = 50) -> list[Alert]:
        """See :meth:`storage.alerts.Alerts.past_alerts`."""
        await trio.lowlevel.checkpoint()
        found = sorted(self._alerts.values(), key=lambda each: -(each.id or 0))
        return [each for each in found if before is None or (each.id or 0) < before][:limit]

    async def alert(self, alert_id: int) -> Alert | None:
        """See :meth:`storage.alerts.Alerts.alert`."""
        await trio.lowlevel.checkpoint()
        return next((each for each in self._alerts.values() if each.id == alert_id), None)

    async def touch_alerts(self, keys: cabc.Sequence[str], at: float) -> None:
        """See :meth:`storage.alerts.Alerts.touch_alerts`."""
        await trio.lowlevel.checkpoint()
        for key in keys:
            if (known := self._alerts.get(key)) is not None:
                self._alerts[key] = attrs.evolve(known, last_seen=max(known.last_seen, at))

    async def trim_alerts(self, before: float, limit: int) -> int:
        """See :meth:`storage.alerts.Alerts.trim_alerts`."""
        await trio.lowlevel.checkpoint()
        old = [
            key
            for key, each in self._alerts.items()
            if each.resolved_at is not None and each.resolved_at < before
        ][:limit]
        over = [key for key, each in self._silences.items() if each.ends_at < _time(before)]
        for key in old:
            del self._alerts[key]
        for number in over[:limit]:
            del self._silences[number]
        return len(old) + len(over[:limit])

    async def add_silence(
        self, connection: str | None, rule: str | None, *, until: float, why: str, by: str
    ) -> Silence:
        """See :meth:`storage.alerts.Alerts.add_silence`."""
        await trio.lowlevel.checkpoint()
        now = self._clock()
        made = Silence(
            id=next(self._silence_ids),
            connection=connection,
            rule=rule,
            why=why,
            made_by=by,
            begins_at=_time(now),
            ends_at=_time(max(now, until)),
        )
        self._silences[made.id] = made
        return made

    async def silences(self, *, since: float, limit: int = 200) -> list[Silence]:
        """See :meth:`storage.alerts.Alerts.silences`."""
        await trio.lowlevel.checkpoint()
        found = [each for each in self._silences.values() if each.ends_at > _time(since)]
        return sorted(found, key=lambda each: -each.id)[:limit]

    async def end_silence(self, silence_id: int) -> Silence | None:
        """See :meth:`storage.alerts.Alerts.end_silence`."""
        await trio.lowlevel.checkpoint()
        known = self._silences.get(silence_id)
        if known is None:
            return None
        end = max(known.begins_at, min(known.ends_at, _time(self._clock())))
        self._silences[silence_id] = attrs.evolve(known, ends_at=end)
        return self._silences[silence_id]

    async def backlogs(
        self, *, undecryptable: float, gaps: float, delivered: float
    ) -> list[Backlog]:
        """See :meth:`storage.alerts.Alerts.backlogs`."""
        await trio.lowlevel.checkpoint()
        return list(self.alert_backlogs)

    async def media_waiting(self) -> int:
        """See :meth:`storage.alerts.Alerts.media_waiting`."""
        await trio.lowlevel.checkpoint()
        return self.alert_media

    async def phone_signs(self) -> dict[str, float]:
        """See :meth:`storage.alerts.Alerts.phone_signs`."""
        await trio.lowlevel.checkpoint()
        return dict(self._signs)

    async def note_phone_signs(self, signs: cabc.Mapping[str, float]) -> None:
        """See :meth:`storage.alerts.Alerts.note_phone_signs`."""
        await trio.lowlevel.checkpoint()
        for name, at in signs.items():
            self._signs[name] = max(at, self._signs.get(name, at))


def _time(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
