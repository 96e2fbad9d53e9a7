"""What is watched for alerts: conditions, since when they last, and what explains them. Pure."""

import collections
import collections.abc as cabc
import typing as t

import attrs

from actors.alert_facts import Snapshot
from actors.alert_rules import EXPLAIN_DOWN, MINUTE, RULES, Condition, Thresholds, conditions
from storage.alerts import Severity

EARLIER: t.Final = 2 * MINUTE  # before its cause is noticed, a consequence may begin


@attrs.frozen(kw_only=True)
class AlertSettings:
    """What the operator may set; times in seconds."""

    thresholds: Thresholds = attrs.field(factory=Thresholds)
    severity: Severity = "info"
    """The least that an alert must have."""
    grace: float = 180.0  # after the start, in which connections may take their time
    recovery: float = 180.0  # that all has to be well before an alert resolves
    group: int = 2  # connections that fail alike are one alert


@attrs.define
class Watch:
    """One condition, from when it is first seen until it is forgotten."""

    condition: Condition
    begun: float
    clear_since: float | None = None
    alert: str | None = None
    covered: bool = False  # explained by another alert

    @property
    def lasts(self) -> bool:
        return self.clear_since is None


class Watches:
    """All conditions that last, or did a moment ago."""

    def __init__(self, settings: AlertSettings, started: float) -> None:
        """``started``: when the daemon did, in unix seconds, as all times here."""
        self.settings = settings
        self._started = started
        self._watches: dict[tuple[str, str], Watch] = {}

    def __iter__(self) -> cabc.Iterator[Watch]:
        return iter(self._watches.values())

    def adopt(self, watch: Watch) -> None:
        """Watch what an alert tells of already, unless another one does."""
        known = self._watches.get(watch.condition.key)
        if known is None or known.alert is None:
            self._watches[watch.condition.key] = watch

    def forget(self, watch: Watch) -> None:
        """It is well."""
        del self._watches[watch.condition.key]

    def stood_still(self, seconds: float) -> None:
        """The process did not run for so long: what lasted then says nothing."""
        for watch in self:
            if watch.clear_since is not None:
                watch.clear_since += seconds
            if watch.alert is None:
                watch.begun += seconds

    def see(self, snapshot: Snapshot, untold: cabc.Set[str], now: float) -> None:
        """Bring the watches up to date with what is wrong now."""
        early = now < self._started + self.settings.grace
        found = {each.key: each for each in conditions(snapshot, self.settings.thresholds, now)}
        for key, condition in found.items():
            watch = self._watches.get(key)
            if watch is None:
                if not (early and RULES[condition.rule].of_connections):
                    self._watches[key] = Watch(condition, now)
                continue
            if not watch.lasts and watch.alert is None and self._is_forgotten(watch, now):
                watch.begun = now
            # What began is what is told: later sights of it do not know since when it is so.
            since = min(condition.since, watch.condition.since) if watch.lasts else condition.since
            watch.condition = attrs.evolve(condition, since=since)
            watch.clear_since = None
        for key, watch in [*self._watches.items()]:
            if key in found or key[0] in untold:
                continue
            if watch.clear_since is None:
                watch.clear_since = now
            if watch.alert is None and self._is_forgotten(watch, now):
                del self._watches[key]

    def _is_forgotten(self, watch: Watch, now: float) -> bool:
        away = 0.0 if watch.clear_since is None else now - watch.clear_since
        return away >= RULES[watch.condition.rule].calm

    def cover(self, now: float) -> None:
        """Find out what is explained by something else. It starts to last anew when it no longer
        is, for what follows from a cause may outlive it for a moment."""
        causes = {
            watch.condition.rule: watch
            for watch in self._watches.values()
            if not watch.condition.subject or watch.condition.rule == "disk"
        }
        for watch in self._watches.values():
            watch.covered = self._is_covered(watch, causes)
            if watch.covered and watch.alert is None:
                watch.begun = now

    def _is_covered(self, watch: Watch, causes: cabc.Mapping[str, Watch]) -> bool:
        condition = watch.condition
        for name in RULES[condition.rule].causes:
            cause = causes.get(name)
            if cause is not None and watch.begun >= cause.begun - EARLIER:
                return True
        explains: tuple[str, ...] = ()
        if condition.rule == "down":
            explains = EXPLAIN_DOWN
        elif condition.rule == "phone":
            explains = ("down", *EXPLAIN_DOWN)
        for name in explains:
            other = self._watches.get((name, condition.subject))
            if other is not None and other.lasts and not self._is_shadowed(other):
                return True
        return condition.rule == "parked" and self._is_shadowed(watch)

    def _is_shadowed(self, watch: Watch) -> bool:
        """Whether it says no more than that the connection is down, which was told already."""
        if watch.condition.rule != "parked" or watch.alert is not None:
            return False
        down = self._watches.get(("down", watch.condition.subject))
        return down is not None and down.alert is not None

    def is_well(self, watch: Watch, now: float) -> bool:
        since = watch.clear_since
        return since is not None and now - since >= self.settings.recovery

    def by_alert(self) -> dict[str, list[Watch]]:
        """The watches of each alert."""
        own: dict[str, list[Watch]] = collections.defaultdict(list)
        for watch in self._watches.values():
            if watch.alert is not None:
                own[watch.alert].append(watch)
        return own
