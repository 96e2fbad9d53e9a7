"""Heartbeat deadlines: a pulse that an actor beats from its own loop, and who watches it.

Beat from the loop that does the work: a side task would keep beating while the loop hangs.
"""

import collections.abc as cabc
import typing as t

import trio

from supervisor.errors import PulseOverdueError


class Pulse:
    """When something last showed life, and how long it may be silent. All in seconds."""

    def __init__(self, name: str, timeout: float, now: float) -> None:
        if timeout <= 0:
            raise ValueError("a pulse needs a timeout above 0")
        self.name = name
        self.timeout = timeout
        self._last = now

    def beat(self, now: float) -> None:
        """It lives at ``now``; a time earlier than the last beat changes nothing."""
        self._last = max(self._last, now)

    def age(self, now: float) -> float:
        """Seconds since the last beat."""
        return now - self._last

    def overdue(self, now: float) -> bool:
        """Whether it has been silent for longer than its timeout."""
        return self.age(now) > self.timeout

    def due_at(self) -> float:
        """The time after which it is overdue, unless it beats."""
        return self._last + self.timeout


async def watch(pulse: Pulse, interval: float) -> t.NoReturn:
    """Look at a pulse every ``interval`` seconds; meant as a subtask of what it watches.

    Raises:
        PulseOverdueError: it is overdue; the supervisor then restarts the actor.
    """
    while True:
        await trio.sleep(interval)
        now = trio.current_time()
        if pulse.overdue(now):
            raise PulseOverdueError(pulse.name, pulse.age(now))


async def watch_all(
    pulses: cabc.Callable[[], cabc.Iterable[Pulse]],
    interval: float,
    report: cabc.Callable[[Pulse, float], None],
) -> t.NoReturn:
    """Look at many pulses every ``interval`` seconds.

    ``report(pulse, age)`` is called once when a pulse becomes overdue, and again only after it
    has beaten in between.
    """
    reported: set[Pulse] = set()
    while True:
        await trio.sleep(interval)
        now = trio.current_time()
        overdue = {pulse for pulse in pulses() if pulse.overdue(now)}
        for pulse in overdue - reported:
            report(pulse, pulse.age(now))
        reported = overdue
