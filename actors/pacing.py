"""How fast messages leave: like a person writes, not like a machine."""

import collections
import collections.abc as cabc
import typing as t

import attrs
import trio

MINUTE: t.Final = 60.0


@attrs.frozen(kw_only=True)
class Pace:
    """The bounds of one connection."""

    gap: float = attrs.field(default=1.0, validator=attrs.validators.ge(0))
    """Seconds from one message to the next, on average."""
    jitter: float = attrs.field(
        default=0.3, validator=[attrs.validators.ge(0), attrs.validators.le(1)]
    )
    """By which part of it the gap varies, either way."""
    per_minute: int = attrs.field(default=30, validator=attrs.validators.ge(1))
    """The most messages within any minute."""


class Pacer:
    """Gives out turns; one task asks for them."""

    def __init__(self, pace: Pace, uniform: cabc.Callable[[], float]) -> None:
        """``uniform`` gives numbers in [0, 1)."""
        self._pace = pace
        self._uniform = uniform
        self._taken: collections.deque[float] = collections.deque(maxlen=pace.per_minute)
        self._next = -float("inf")

    async def turn(self) -> None:
        """Wait until the next message may leave."""
        at = self._next
        if len(self._taken) == self._pace.per_minute:
            at = max(at, self._taken[0] + MINUTE)
        await trio.sleep_until(max(at, trio.current_time()))
        now = trio.current_time()
        self._taken.append(now)
        spread = self._pace.jitter * (2 * self._uniform() - 1)
        self._next = now + self._pace.gap * (1 + spread)
