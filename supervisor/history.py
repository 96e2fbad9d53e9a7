"""The failures of one child → what to do about the next. Pure: no clock, no randomness."""

import collections
import collections.abc as cabc

import attrs

from supervisor.crash import Crash
from supervisor.spec import RestartPolicy


@attrs.frozen
class Retry:
    """Restart the child after ``delay`` seconds."""

    delay: float


@attrs.frozen
class GiveUp:
    """The child failed too often; try again after ``trial_after`` seconds, or never."""

    trial_after: float | None


class History:
    """Counts the failures of one child against a policy.

    The backoff grows with every end that it follows, counted or not.

    Once given up, a child stays on trial: until it has been stable, each counted failure gives
    up again, whatever the window has forgotten by then.
    """

    def __init__(self, policy: RestartPolicy, uniform: cabc.Callable[[], float]) -> None:
        self._policy = policy
        self._uniform = uniform
        self._recent: collections.deque[float] = collections.deque(
            maxlen=policy.intensity.limit + 1
        )
        self.forget()

    def forget(self) -> None:
        """The child was stable, or somebody wants it to start afresh."""
        self.failures = 0
        self._setbacks = 0
        self._recent.clear()
        self._immediate = 0
        self._on_trial = False

    def add(self, crash: Crash, now: float) -> Retry | GiveUp:
        """Record a crash at ``now`` (seconds) and decide what follows."""
        at_once = crash.at_once and self._immediate < self._policy.immediate_limit
        counted = crash.counted or (crash.at_once and not at_once)
        if counted and self._is_too_many(now):
            return GiveUp(self._policy.trial_interval)
        if at_once:
            self._immediate += 1
            return Retry(0.0)
        if crash.after is not None:
            return Retry(crash.after)
        self._setbacks += 1
        return Retry(self._policy.backoff.delay(self._setbacks, self._uniform()))

    def _is_too_many(self, now: float) -> bool:
        intensity = self._policy.intensity
        self.failures += 1
        self._recent.append(now)
        while now - self._recent[0] > intensity.window:
            self._recent.popleft()
        self._on_trial = self._on_trial or len(self._recent) > intensity.limit
        return self._on_trial
