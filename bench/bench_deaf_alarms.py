"""False alarms and time to detection of the deaf detection, over simulated weeks of accounts.

The judging code is the real one (actors.hearing, actors.traffic); the accounts, the phone and the
socket are a light model in virtual time. Each account first lives through four weeks, then through
the weeks that count. Two runs per account: one in which nothing is wrong, and one in which it goes
deaf once a week, at a random moment. Prints a table and one JSON object.

Usage: bench_deaf_alarms.py [--accounts N] [--weeks N] [--seed N]
"""

import argparse
import bisect
import collections.abc as cabc
import json
import random  # noqa: TID251 - seeded
import typing as t

import attrs

from actors.hearing import Ear
from actors.hearing_words import HearingSettings, Kind, Load, Order

START = 1_789_948_800.0  # a Monday, 00:00 UTC
MINUTE, HOUR, DAY, WEEK = 60.0, 3600.0, 86_400.0, 7 * 86_400.0
LEARNING = 4  # weeks
TICK = 60.0  # seconds between two judgements
RECONNECT = 2.0  # seconds
ANSWER = 3.0  # seconds that a phone takes
FINE = Load()


# ---- accounts: sorted arrival times, in seconds from the start


def bursts(
    rng: random.Random, begins: float, until: float, per_hour: float, size: float
) -> list[float]:
    """Conversations that begin at random, each with some messages a minute or so apart."""
    found, at = [], begins
    while per_hour > 0 and (at := at + rng.expovariate(per_hour / HOUR)) < until:
        moment = at
        found.append(moment)
        while rng.random() < 1 - 1 / size:
            moment += rng.expovariate(1 / MINUTE)
            found.append(moment)
    return found


def office(rng: random.Random, day: int, factor: float) -> list[float]:
    """A day of a helpdesk: 9 to 18 h, with a lunch break, and little besides."""
    at, weekday = day * DAY, day % 7 < 5
    if not weekday:
        return bursts(rng, at + 8 * HOUR, at + 20 * HOUR, 0.3 * factor, 3)
    opens, closes = 9 + rng.uniform(-0.3, 0.3), 18 + rng.uniform(-0.5, 0.5)
    parts = [(7, opens, 0.5), (opens, 12, 12), (12, 13, 5), (13, closes, 10), (closes, 22, 1)]
    return [
        moment
        for begins, until, rate in parts
        for moment in bursts(rng, at + begins * HOUR, at + until * HOUR, rate * factor, 5)
    ]


def quiet(rng: random.Random, days: int) -> list[float]:
    """One or two messages a day."""
    return [
        day * DAY + rng.uniform(8, 22) * HOUR
        for day in range(days)
        for _ in range(rng.choice((1, 1, 2)))
    ]


def helpdesk(rng: random.Random, days: int) -> list[float]:
    """Office hours with bursts; a holiday every other week; a summer time that ends."""
    holidays = {14 * n + rng.randrange(12) for n in range(days // 14 + 1)}
    turn = rng.randrange(days)
    return [
        moment + (HOUR if day >= turn else 0)
        for day in range(days)
        for moment in office(rng, day, 0.05 if day in holidays else rng.gammavariate(8, 1 / 8))
    ]


def busy(rng: random.Random, days: int) -> list[float]:
    """Around the clock."""
    return [
        moment
        for hour in range(days * 24)
        for moment in bursts(
            rng, hour * HOUR, (hour + 1) * HOUR, 30 if 7 <= hour % 24 < 23 else 8, 3
        )
    ]


def seasonal(rng: random.Random, days: int) -> list[float]:
    """Days that differ much, campaigns, and one week in five closed altogether."""
    found, level = [], 0.0
    for day in range(days):
        level = 0.8 * level + rng.gauss(0, 0.5)
        closed = day // 7 % 5 == 4
        factor = 0.0 if closed else 2.0**level * (4 if rng.random() < 0.03 else 1)
        found += office(rng, day, factor)
    return found


@attrs.frozen
class Sort:
    """A kind of account: its messages, and hours that its phone is on and off in turn."""

    arrivals: cabc.Callable[[random.Random, int], list[float]]
    phone_on: float
    phone_off: float


SORTS: t.Final = {
    "quiet": Sort(quiet, 16, 8),
    "helpdesk": Sort(helpdesk, 24, 1),
    "busy": Sort(busy, 48, 1),
    "seasonal": Sort(seasonal, 24, 1),
    "phone often off": Sort(helpdesk, 2, 10),
}


# ---- a light socket under the real ear


@attrs.define
class Account:
    """One account in virtual time."""

    arrivals: list[float]
    phone_switches: list[float]  # on first
    deaf_from: list[float] = attrs.field(factory=list)
    deaf_kind: str = "deaf"
    now: float = 0.0
    ear: Ear = attrs.field(init=False)
    waiting: list[float] = attrs.field(factory=list)  # unix seconds, held back by the server
    deaf_since: float | None = None
    first_missed: float | None = None
    answer_at: float | None = None
    since_deaf: list[float] = attrs.field(factory=list)  # seconds to each finding
    since_missed: list[float] = attrs.field(factory=list)  # from the first message held back
    missed: list[int] = attrs.field(factory=list)  # messages held back until then
    in_time: int = 0  # deafness that ended before any message was held back
    alarms: int = 0  # findings that people see and that are not true

    def __attrs_post_init__(self) -> None:
        self.ear = Ear(HearingSettings(), lambda: self.now, lambda: START + self.now)
        self.connect()

    @property
    def phone_is_on(self) -> bool:
        return bisect.bisect_right(self.phone_switches, self.now) % 2 == 0

    def connect(self) -> None:
        """A new socket hears again, the queue first."""
        deaf, self.deaf_since, self.answer_at = self.deaf_since, None, None
        missed, self.first_missed = self.first_missed, None
        self.ear.logged_in(int(START + self.now))
        self.ear.announced(len(self.waiting))
        for sent_at in self.waiting:
            self.ear.take(Kind.MESSAGE, offline=True, sent_at=int(sent_at))
            self.ear.usual_message()
        self.ear.drained()
        if self.ear.online() is not None:
            if deaf is None or missed is None:
                self.alarms += 1
            else:
                self.since_deaf.append(self.now - deaf)
                self.since_missed.append(self.now - missed)
                self.missed.append(len(self.waiting))
        elif deaf is not None:
            self.in_time += 1
        self.waiting.clear()

    def live(self, until: float) -> None:
        """Everything up to a moment."""
        deaf_from = [moment for moment in self.deaf_from if moment >= self.now]
        position = bisect.bisect_left(self.arrivals, self.now)
        tick = self.now + TICK
        while tick <= until:
            while position < len(self.arrivals) and self.arrivals[position] < tick:
                self.now = self.arrivals[position]
                position += 1
                self.go_deaf(deaf_from)
                self.message()
            self.now = tick
            tick += TICK
            self.go_deaf(deaf_from)
            self.answer()
            self.judge()

    def go_deaf(self, moments: list[float]) -> None:
        if moments and self.now >= moments[0]:
            moment = moments.pop(0)
            if self.deaf_since is None:
                self.deaf_since = moment

    def message(self) -> None:
        self.answer()
        if self.deaf_since is None:
            self.ear.take(Kind.MESSAGE, sent_at=int(START + self.now))
            self.ear.usual_message()
            return
        self.waiting.append(START + self.now)
        if self.first_missed is None:
            self.first_missed = self.now

    def answer(self) -> None:
        if self.answer_at is None or self.answer_at > self.now:
            return
        self.answer_at = None
        if self.deaf_since is None:
            self.ear.receipt("probe", "own")
            self.ear.take(Kind.PEER)
        elif self.deaf_kind == "deaf_messages":
            self.ear.take(Kind.OTHER)
            self.ear.receipt("probe", "own")

    def judge(self) -> None:
        match self.ear.consider(FINE):
            case Order.PROBE:
                self.ear.probe_sent("probe")
                if self.phone_is_on:
                    self.answer_at = self.now + ANSWER
            case Order.RESET:
                self.ear.ended()
                self.now += RECONNECT
                self.connect()


def switches(rng: random.Random, on: float, off: float, until: float) -> list[float]:
    """When a phone goes off, on, off …"""
    found, at, is_on = [], 0.0, True
    while at < until:
        at += rng.expovariate(1 / ((on if is_on else off) * HOUR))
        is_on = not is_on
        found.append(at)
    return found


def percentile(values: list[float], share: float) -> float | None:
    """The value below which so many are; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)


def both(values: cabc.Sequence[float], unit: float) -> list[float | None]:
    """Median and 99th percentile."""
    return [percentile([value / unit for value in values], share) for share in (0.5, 0.99)]


def run(name: str, accounts: int, weeks: int, seed: int) -> dict[str, t.Any]:
    """The figures of one kind of account."""
    sort = SORTS[name]
    begins, ends = LEARNING * WEEK, (LEARNING + weeks) * WEEK
    counts: dict[str, float] = dict.fromkeys(("suspicions", "probes", "answered", "resets"), 0)
    alarms = injected = in_time = 0
    since_deaf: list[float] = []
    since_missed: list[float] = []
    missed: list[float] = []
    for number in range(accounts):
        rng = random.Random(f"{seed}/{name}/{number}")
        arrivals = sorted(sort.arrivals(rng, int(ends // DAY) + 7))
        phone = switches(rng, sort.phone_on, sort.phone_off, ends + WEEK)
        well = Account(arrivals, phone)
        well.live(begins)
        before = attrs.asdict(well.ear.tally)
        well.live(ends)
        after = attrs.asdict(well.ear.tally)
        for key in counts:
            counts[key] += after[key] - before[key]

        moments = [begins + n * WEEK + rng.uniform(0, WEEK) for n in range(weeks)]
        ill = Account(arrivals, phone, moments, rng.choice(("deaf", "deaf_messages")))
        ill.live(ends + WEEK)
        injected += len(moments)
        in_time += ill.in_time
        alarms += well.alarms + ill.alarms
        since_deaf += ill.since_deaf
        since_missed += ill.since_missed
        missed += ill.missed
    total = accounts * weeks
    return {
        "account_weeks": total,
        **{f"{key}_per_week": round(value / total, 3) for key, value in counts.items()},
        "false_alarms": alarms,
        "deaf": injected,
        "found": len(since_deaf),
        "before_a_message": in_time,
        "hours_from_deaf": both(since_deaf, HOUR),
        "hours_from_first_missed": both(since_missed, HOUR),
        "messages_held_back": both(missed, 1),
        "spread": round(ill.ear.traffic.spread, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--accounts", type=int, default=6, help="of each kind")
    parser.add_argument("--weeks", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    results = {name: run(name, wanted.accounts, wanted.weeks, wanted.seed) for name in SORTS}
    columns = list(next(iter(results.values())))
    print(f"{'':16}" + "".join(f"{column.replace('_', ' '):>27}" for column in columns))
    for name, row in results.items():
        print(f"{name:16}" + "".join(f"{row[column]!s:>27}" for column in columns))
    print(json.dumps({"seed": wanted.seed, "kinds": results}))


if __name__ == "__main__":
    main()
