"""From what is wrong to alerts: when one fires, is told, told again, and resolves. Pure.

Theory of operation. A *watch* follows one condition: one rule at one subject. It begins when the
condition is first seen, and is forgotten once that has been away for a moment (``Rule.calm``), so
what comes and goes lasts. A watch that has lasted (``Thresholds.hold``) becomes an *alert*, or
joins one: watches of connections with the same rule and cause that are as good as due come
together, so what hits many is one alert. What an alert that lasts explains does not become one.

An alert resolves when all its watches have been away for ``recovery`` seconds. It is told when it
fires, again and again at growing intervals until somebody acknowledges it, and once more when it
resolves, if it ever was told. Somebody who is silenced is not told, but the alert is there.

Every change gives the alert the next ``step``: storage applies each step once, in its order, so
that a change may be stored twice. Nothing else is durable: after a restart the alerts that were
not resolved are loaded, and what only lasted begins to last anew.
"""

import collections
import collections.abc as cabc
import typing as t

import attrs

from actors.alert_facts import SEVERITIES, Snapshot
from actors.alert_rules import (
    HOUR,
    MINUTE,
    RULES,
    Condition,
    unknown,
)
from actors.alert_watches import AlertSettings, Watch, Watches
from storage.alerts import Alert, Value, What

INTERVALS: t.Final = (HOUR, 4 * HOUR, 12 * HOUR, 24 * HOUR)  # between tellings; then the last one
GROWTH: t.Final = 5 * MINUTE  # after which more connections of an alert are told
AS_GOOD_AS_DUE: t.Final = 0.5  # of the time that a condition has to last
NAMED: t.Final = 200  # subjects that an alert keeps by name
ADDED: t.Final = frozenset({"count", "total", "missing"})  # figures of one that are those of many

Silenced: t.TypeAlias = cabc.Callable[[str, str | None], bool]
"""Takes a rule and a connection, or None for what concerns no connection."""


@attrs.frozen(kw_only=True)
class Change:
    """An alert after a change of it."""

    what: What
    alert: Alert
    tell: tuple[str, ...] | None = None
    """Tell people, of these subjects; None: nobody is told."""


class AlertBook:
    """All that is watched, and the alerts that are not resolved."""

    def __init__(self, settings: AlertSettings, started: float) -> None:
        """``started``: when the daemon did, in unix seconds, as all times here."""
        self._watches = Watches(settings, started)
        self._alerts: dict[str, Alert] = {}

    @property
    def settings(self) -> AlertSettings:
        """The ones in force."""
        return self._watches.settings

    def use(self, settings: AlertSettings) -> None:
        """Others are in force."""
        self._watches.settings = settings

    @property
    def alerts(self) -> list[Alert]:
        """Those that are not resolved, the oldest first."""
        return list(self._alerts.values())

    def load(self, alerts: cabc.Iterable[Alert]) -> None:
        """Take up those that were not resolved when the daemon stopped."""
        for alert in alerts:
            if alert.rule not in RULES:  # of another version; it stays as it is
                continue
            self._alerts[alert.key] = alert
            for subject in alert.subjects or ("",):
                condition = Condition(
                    rule=alert.rule,
                    subject=subject,
                    cause=alert.cause,
                    since=alert.since,
                    detail=alert.detail,
                    values=alert.facts,
                )
                # Unless it fires already, while this one could not be read.
                self._watches.adopt(Watch(condition, alert.since, alert=alert.key))

    def acknowledge(self, key: str, by: str, at: float) -> Alert | None:
        """Somebody takes care of it; it is told no more until it resolves. None: that changes
        nothing, for it is resolved, or somebody does already."""
        alert = self._alerts.get(key)
        if alert is None or alert.acknowledged_at is not None:
            return None
        self._alerts[key] = _next(alert, acknowledged_at=at, acknowledged_by=by)
        return self._alerts[key]

    def unacknowledge(self, key: str) -> None:
        """It is not known whether that was stored: so it does not count, but its step is used."""
        if (alert := self._alerts.get(key)) is not None:
            self._alerts[key] = attrs.evolve(alert, acknowledged_at=None, acknowledged_by=None)

    def stored(self, key: str, number: int) -> None:
        """The database knows it by a number."""
        if (alert := self._alerts.get(key)) is not None:
            self._alerts[key] = attrs.evolve(alert, id=number)

    def stood_still(self, seconds: float) -> None:
        """The process did not run for so long."""
        self._watches.stood_still(seconds)

    # ---- what happens ----------------------------------------------------------------------

    def evaluate(
        self, snapshot: Snapshot, now: float, silenced: Silenced = lambda _rule, _name: False
    ) -> list[Change]:
        """What changed, in its order."""
        untold = unknown(snapshot)
        self._watches.see(snapshot, untold, now)
        self._watches.cover(now)
        changes = [*self._fire(now)]
        changes += self._resolve(now)
        return [*self._tell(changes, untold, silenced, now)]

    # ---- firing ----------------------------------------------------------------------------

    def _fire(self, now: float) -> cabc.Iterator[Change]:
        groups: dict[tuple[str, str], list[Watch]] = collections.defaultdict(list)
        for watch in self._watches:
            if watch.alert is None and watch.lasts and not watch.covered and self._counts(watch):
                condition = watch.condition
                rule = RULES[condition.rule]
                alike = condition.cause if rule.of_connections else condition.subject
                groups[condition.rule, alike].append(watch)
        joinable = self._joinable()
        for (name, cause), watches in groups.items():
            hold = self.settings.thresholds.hold(name)
            due = [watch for watch in watches if now - watch.begun >= hold]
            if not due:
                continue
            joined = joinable.get((name, cause))
            soon = [watch for watch in watches if now - watch.begun >= AS_GOOD_AS_DUE * hold]
            if joined is not None:
                yield self._join(joined, due, now)
            elif RULES[name].of_connections and len(soon) >= self.settings.group:
                yield self._begin(soon, now)
            else:
                for watch in due:
                    yield self._begin([watch], now)

    def _counts(self, watch: Watch) -> bool:
        least = SEVERITIES.index(self.settings.severity)
        return SEVERITIES.index(RULES[watch.condition.rule].severity) >= least

    def _joinable(self) -> dict[tuple[str, str], Alert]:
        """Alerts that tell of many connections already, by rule and cause."""
        return {
            (alert.rule, alert.cause): alert
            for alert in self._alerts.values()
            if alert.of_connections and len(alert.subjects) + alert.others >= self.settings.group
        }

    def _begin(self, watches: cabc.Sequence[Watch], now: float) -> Change:
        first = min(watches, key=lambda each: each.condition.since)
        condition, rule = first.condition, RULES[first.condition.rule]
        subject = condition.subject if len(watches) == 1 else f"{len(watches)} {condition.cause}"
        alert = Alert(
            key=f"{condition.rule}/{subject}/{now:.3f}",
            rule=condition.rule,
            severity=rule.severity,
            cause=condition.cause,
            since=condition.since,
            fired_at=now,
            last_seen=now,
            detail=condition.detail,
            facts=_figures(condition, watches),
            of_connections=rule.of_connections,
            **_named(watches),
        )
        return self._put("fired", alert, watches)

    def _join(self, alert: Alert, watches: cabc.Sequence[Watch], now: float) -> Change:
        for watch in watches:
            watch.alert = alert.key
        own = [watch for watch in self._watches if watch.alert == alert.key]
        return self._put("noted", _next(alert, last_seen=now, **_named(own)), watches)

    def _put(self, what: What, alert: Alert, watches: cabc.Iterable[Watch] = ()) -> Change:
        self._alerts[alert.key] = alert
        for watch in watches:
            watch.alert = alert.key
        return Change(what=what, alert=alert)

    # ---- resolving -------------------------------------------------------------------------

    def _resolve(self, now: float) -> cabc.Iterator[Change]:
        own = self._watches.by_alert()
        for alert in self.alerts:
            well = [watch for watch in own[alert.key] if self._watches.is_well(watch, now)]
            if len(well) < len(own[alert.key]):
                left = [watch for watch in own[alert.key] if not self._watches.is_well(watch, now)]
                if well:  # some of many are well: that is noted, and told with the others
                    yield self._put("noted", _next(alert, **_named(left)))
            else:
                del self._alerts[alert.key]
                yield Change(what="resolved", alert=_next(alert, resolved_at=now))
            for watch in well:
                self._watches.forget(watch)

    # ---- telling ---------------------------------------------------------------------------

    def _tell(
        self,
        changes: cabc.Iterable[Change],
        untold: cabc.Set[str],
        silenced: Silenced,
        now: float,
    ) -> cabc.Iterator[Change]:
        """The changes, with those that people are told of marked, and what is told again."""
        changed: dict[str, Change] = {}
        for change in changes:
            alert = change.alert
            if change.what == "resolved":
                changed.pop(alert.key, None)
                yield attrs.evolve(change, tell=alert.told if alert.times else None)
            else:
                known = changed.get(alert.key)
                what = change.what if known is None else known.what
                changed[alert.key] = attrs.evolve(change, what=what)
        own = self._watches.by_alert()
        for alert in self.alerts:
            note, watches = changed.get(alert.key), own[alert.key]
            audible = _audible(alert, watches, untold, silenced)
            if audible and self._is_due(alert, audible, now):
                fired = note is not None and note.what == "fired"
                told = tuple(dict.fromkeys((*alert.told, *audible)))[:NAMED]
                latest = attrs.evolve(
                    _latest(alert, watches), notified_at=now, times=alert.times + 1, told=told
                )
                if note is None:
                    latest = _next(latest)
                self._alerts[alert.key] = latest
                yield Change(what="fired" if fired else "repeated", alert=latest, tell=audible)
            elif note is not None:
                yield attrs.evolve(note, alert=self._alerts[alert.key])

    def _is_due(self, alert: Alert, audible: cabc.Collection[str], now: float) -> bool:
        if alert.notified_at is None:
            return True
        interval = INTERVALS[min(alert.times, len(INTERVALS)) - 1]
        if not set(audible) <= set(alert.told) and len(alert.told) < NAMED:
            interval = min(interval, GROWTH)
        return now - alert.notified_at >= interval


def _next(alert: Alert, **changes: t.Any) -> Alert:
    return attrs.evolve(alert, step=alert.step + 1, **changes)


def _named(watches: cabc.Sequence[Watch]) -> dict[str, t.Any]:
    names = sorted(watch.condition.subject for watch in watches if watch.condition.subject)
    return {"subjects": tuple(names[:NAMED]), "others": max(0, len(names) - NAMED)}


def _latest(alert: Alert, watches: cabc.Iterable[Watch]) -> Alert:
    """With the newest words about it."""
    lasting = [watch for watch in watches if watch.lasts]
    if not lasting:
        return alert
    condition = lasting[0].condition
    return attrs.evolve(alert, detail=condition.detail, facts=_figures(condition, lasting))


def _figures(condition: Condition, watches: cabc.Sequence[Watch]) -> dict[str, Value]:
    """Those of one of the watches, with what can be added of all of them."""
    figures = dict(condition.values)
    for name in ADDED & figures.keys():
        every = [watch.condition.values.get(name) for watch in watches]
        figures[name] = sum(each for each in every if isinstance(each, int))
    return figures


def _audible(
    alert: Alert, watches: cabc.Iterable[Watch], untold: cabc.Set[str], silenced: Silenced
) -> tuple[str, ...]:
    """The subjects that people can be told of now; nothing: none."""
    if alert.rule in untold or alert.acknowledged_at is not None:
        return ()
    return tuple(
        watch.condition.subject
        for watch in watches
        if watch.lasts
        and not watch.covered
        and not silenced(alert.rule, watch.condition.subject if alert.of_connections else None)
    )
