"""From the transitions of a connection to its uptime per day. Pure.

Theory of operation. Each transition puts the connection into one of three kinds of time: up
(online), down, or off: the operator had it stopped, or it was never linked. What was before the
first transition is unknown. Off and unknown time is left out of the percentage. The end of the
daemon is a transition like others, also when it came without a word (``storage.timeline``), so
the time in which there was no daemon is down, unless the connection was off.

Clocks are set: a transition never counts from before the one it follows, and one from the future
(the clock was ahead, and was put right) counts from the one that follows it.
"""

import collections.abc as cabc
import datetime as dt
import enum
import itertools
import typing as t

import attrs

MAX_DAYS: t.Final = 92

_OFF_REASONS: t.Final = frozenset({"stopped", "not_paired", "removed", "logged_out_by_operator"})
_CARRIED_REASONS: t.Final = frozenset({"fence"})
_SETTLED_STATES: t.Final = frozenset({"", "stopped", "pairing", "logged_out"})
_CARRIED_STATES: t.Final = frozenset({"stopped", "pairing"})


class Kind(enum.Enum):
    """What a stretch of time counts as."""

    UP = "up"
    DOWN = "down"
    OFF = "off"


@attrs.frozen
class Change:
    """From ``at`` on (unix seconds) it is ``kind``."""

    at: float
    kind: Kind
    reason: str = attrs.field(default="", eq=False)  # of the transition, a stable code


@attrs.frozen
class Span:
    """A stretch of one kind; unix seconds."""

    since: float
    until: float
    kind: Kind
    reason: str


@attrs.frozen(kw_only=True)
class DayUptime:
    """One day in seconds, as far as it has passed."""

    begins_at: float  # unix seconds
    ends_at: float  # the end of the day, passed or not
    up: float
    down: float
    off: float
    unknown: float

    @property
    def percent(self) -> float | None:
        """Of the time that it should have been online; None: there was none."""
        wanted = self.up + self.down
        return 100.0 * self.up / wanted if wanted > 0 else None


def kind_of(state: str, reason: str, before: Kind) -> Kind:
    """What the time after a transition counts as, given what the time before it did.

    Pairing, and a stop that is none of the operator's, do not make time wanted that was not.
    """
    if state == "online":
        return Kind.UP
    if reason in _OFF_REASONS:
        return Kind.OFF
    if (state in _CARRIED_STATES or reason in _CARRIED_REASONS) and before is Kind.OFF:
        return Kind.OFF
    return Kind.DOWN


def add_change(
    changes: list[Change], at: float, state: str, reason: str, previous: str = ""
) -> None:
    """Append what a transition changes; nothing when the kind of time stays the same. What was
    before the first one is told by the state that it left, if that was one of running."""
    running = previous not in _SETTLED_STATES
    before = changes[-1].kind if changes else (Kind.DOWN if running else Kind.OFF)
    kind = kind_of(state, reason, before)
    if not changes or kind is not before:
        changes.append(Change(at, kind, reason))


def day_starts(now: float, days: int, zone: dt.tzinfo | None = None) -> list[float]:
    """When the last so many days began in a time zone (None: the system's), oldest first, and
    when the last of them ends; unix seconds. A day may have 23 or 25 hours."""
    today = dt.datetime.fromtimestamp(now, zone).date()
    first = today - dt.timedelta(days=days - 1)
    return [day_start(first + dt.timedelta(days=number), zone) for number in range(days + 1)]


def uptime_by_day(
    changes: cabc.Sequence[Change], starts: cabc.Sequence[float], now: float
) -> list[DayUptime]:
    """The days between ``starts``, from changes in the order in which they were recorded."""
    stretches = spans(changes, now)
    days = []
    for begin, end in itertools.pairwise(starts):
        passed = max(begin, min(end, now))
        counted = dict.fromkeys(Kind, 0.0)
        for each in stretches:
            counted[each.kind] += max(0.0, min(each.until, passed) - max(each.since, begin))
        known = stretches[0].since if stretches else now
        days.append(
            DayUptime(
                begins_at=begin,
                ends_at=end,
                up=counted[Kind.UP],
                down=counted[Kind.DOWN],
                off=counted[Kind.OFF],
                unknown=max(0.0, min(known, passed) - begin),
            )
        )
    return days


def spans(changes: cabc.Sequence[Change], now: float) -> list[Span]:
    """Stretches of one kind without gaps between them, the last one up to now; from changes in the
    order in which they were recorded."""
    moments = _moments([change.at for change in changes], now)
    return [
        Span(since, until, change.kind, change.reason)
        for change, since, until in zip(changes, moments, [*moments, now][1:], strict=True)
    ]


def _moments(recorded: cabc.Sequence[float], now: float) -> list[float]:
    """The same moments, none of them in the future and none before the one it follows."""
    moments = list(recorded)
    following = now
    for number in reversed(range(len(moments))):
        if moments[number] > now:
            moments[number] = following
        following = moments[number]
    latest = float("-inf")
    for number, moment in enumerate(moments):
        moments[number] = latest = max(latest, moment)
    return moments


def day_start(day: dt.date, zone: dt.tzinfo | None) -> float:
    """When a day begins; where the clock skips midnight, when it is set forward."""
    return dt.datetime.combine(day, dt.time.min, zone).timestamp()
