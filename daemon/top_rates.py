"""Messages per minute, out of what the daemon counted between two answers, or stored before."""

import collections
import collections.abc as cabc
import typing as t

WINDOW: t.Final = 60.0  # seconds over which a rate is taken
ENOUGH: t.Final = 10.0  # seconds from which on our own counts say more than the stored minutes

Facts: t.TypeAlias = cabc.Mapping[str, t.Any]


class Rates:
    """Learns from each answer."""

    def __init__(self) -> None:
        self._seen: collections.deque[tuple[float, str, dict[str, int]]] = collections.deque()
        self._last_minute: dict[str, int] = {}
        self.minutes: list[int] = []
        """All connections together, oldest first; the last one is under way. 60 of them, or none
        while nothing is known."""

    def learn(self, at: float, health: Facts, points: cabc.Sequence[Facts] | None) -> None:
        """Take an answer into account; ``at``: seconds of any clock that only goes forward.
        ``points``: the last hour by minute and connection; None: not known just now."""
        counts = {
            row["name"]: row["processed"] + row["skipped"] + row["errors"]
            for row in health["connections"]
        }
        started = health["started_at"]
        if self._seen and self._seen[-1][1] != started:
            self._seen.clear()  # another daemon counts from nothing
        self._seen.append((at, started, counts))
        while at - self._seen[0][0] > WINDOW:
            self._seen.popleft()
        if points is not None:
            self._learn_minutes(health["now"], points)

    def per_minute(self, name: str) -> float:
        """Of one connection."""
        first_at, _, first = self._seen[0]
        last_at, _, last = self._seen[-1]
        elapsed = last_at - first_at
        if elapsed < ENOUGH or name not in first or name not in last:
            return float(self._last_minute.get(name, 0))
        return (last[name] - first[name]) * 60.0 / elapsed

    def _learn_minutes(self, now: str, points: cabc.Sequence[Facts]) -> None:
        minute = _minute(now)
        by_minute: collections.Counter[int] = collections.Counter()
        self._last_minute = {}
        for point in points:
            number = _minute(point["at"])
            by_minute[number] += point["total"]
            if number == minute - 1:
                self._last_minute[point["connection"]] = point["total"]
        self.minutes = [by_minute[minute - age] for age in range(59, -1, -1)]


def _minute(moment: str) -> int:
    import datetime as dt

    return int(dt.datetime.fromisoformat(moment).timestamp() // 60)
