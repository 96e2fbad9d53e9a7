"""What follows when a life of a connection ends: the policy for each cause.

    restart_required    at once, uncounted (the error says so itself)
    network, servers    backoff with full jitter, counted; in an outage uncounted, see actors.outage
    rate_limited        counted, but minutes instead of seconds
    conflict            a slow trial; each one that is replaced again doubles the wait
    temporarily_banned  until the ban is over, and a little longer
    outdated            waits with the whole fleet, see actors.version
    logged_out, banned  for good: a person has to act (the error says so itself)

Source: docs/protocol.md#failures
"""

import collections.abc as cabc
import datetime as dt
import typing as t

from actors.errors import (
    ConnectionEndedError,
    ConnectionPausedError,
    ConnectionStoppedError,
    PairingFailedError,
)

LONGEST_TRIAL: t.Final = 4 * 3600.0  # seconds between two trials of a conflict, at most
TRIAL_JITTER: t.Final = 0.1  # of the wait, on top
LONGEST_BAN: t.Final = 3650 * 86_400.0  # seconds that are believed of an expiry
BAN_JITTER: t.Final = (10.0, 60.0)  # seconds after the expiry
RECOVERY: t.Final = (0.5, 5.0)  # seconds between tries, until it is clear that an outage is over
RATE_LIMITED: t.Final = (60.0, 300.0)  # seconds


class Aftermath:
    """The policies of one connection, and what they remember of its past."""

    def __init__(
        self,
        name: str,
        *,
        park_interval: float | None,
        stable_after: float,
        wall_clock: cabc.Callable[[], float],
        uniform: cabc.Callable[[], float],
    ) -> None:
        self.dead: ConnectionStoppedError | None = None
        """Why its keys do not work any more, until others do."""
        self._name = name
        self._park_interval = park_interval
        self._stable_after = stable_after
        self._wall_clock = wall_clock
        self._uniform = uniform
        self._trials = 0  # since the connection was last stable

    def forget(self) -> None:
        """An operator starts it: the past does not count."""
        self._trials = 0

    def works(self) -> None:
        """It is logged in: its keys are good."""
        self.dead = None

    def of(
        self, ended: ConnectionEndedError, *, online_for: float, innocent: bool, held: bool
    ) -> ConnectionEndedError:
        """The end of a life, with what its supervisor shall do about it.

        ``online_for``: seconds; ``innocent``: it ended in an outage of many; ``held``: the outage
        goes on, so that there is no use in waiting elsewhere.
        """
        if online_for >= self._stable_after:
            self._trials = 0
        match ended:
            case PairingFailedError():
                return self._as_before(ended)
            case ConnectionStoppedError(state="logged_out" | "banned"):
                self.dead = ended
                return ended
            case ConnectionStoppedError():
                return ended
            case ConnectionPausedError(reason="conflict"):
                return self._conflict(ended)
            case ConnectionPausedError(reason="temporarily_banned"):
                return self._ban(ended)
            case ConnectionPausedError(reason="outdated"):
                return ended.after(0.0, ended.sentence)
            case _:
                pass
        if innocent:
            paused = ConnectionPausedError(ended.reason, ended.sentence, state=ended.state)
            return paused.after(0.0 if held else self._between(*RECOVERY), ended.sentence)
        if ended.reason == "rate_limited":
            ended.restart_after = self._between(*RATE_LIMITED)
        return ended

    def _as_before(self, failed: PairingFailedError) -> ConnectionEndedError:
        """Nothing came of a pairing: the keys of before are as good or as bad as they were."""
        sentence = f"the pairing failed: {failed.sentence}"
        if (dead := self.dead) is not None:
            return ConnectionStoppedError(
                dead.reason, f"{sentence}; still, {dead.sentence}", state=dead.state
            )
        paused = ConnectionPausedError(failed.reason, sentence)
        return paused.after(0.0, f"{sentence}; the device of before goes on")

    def _conflict(self, ended: ConnectionPausedError) -> ConnectionEndedError:
        cure = (
            f"find the other one (a second zapvisor, a copy of the database) and stop it, then run:"
            f" zapvisor start {self._name}"
        )
        wait = self._next_trial()
        if wait is None:
            return ConnectionStoppedError(
                ended.reason, f"{ended.sentence}; {cure}; it is not tried again", state=ended.state
            )
        return ended.after(
            wait, f"{ended.sentence}; {cure}; otherwise one careful try in {minutes(wait)}"
        )

    def _ban(self, ended: ConnectionPausedError) -> ConnectionEndedError:
        if ended.expires is not None and ended.expires > 0:
            left = min(float(ended.expires), LONGEST_BAN)
            return banned_until(ended, self._wall_clock() + left, left + self._between(*BAN_JITTER))
        wait = self._next_trial()
        if wait is None:
            return ConnectionStoppedError(
                ended.reason,
                f"{ended.sentence}; it does not say for how long; once WhatsApp works on the"
                f" phone again, run: zapvisor start {self._name}",
                state=ended.state,
            )
        return ended.after(
            wait, f"{ended.sentence}; it does not say for how long; one try in {minutes(wait)}"
        )

    def restored(
        self, state: str, reason: str, sentence: str, until: float | None
    ) -> ConnectionEndedError | None:
        """What still holds of the state before the daemon stopped; None: start as usual."""
        if until is not None:
            left = until - self._wall_clock()
            if left <= 0:
                return None
            ended = ConnectionPausedError(reason, sentence, state=state, until=until)
            return ended.after(left + self._between(*BAN_JITTER), sentence, until=until)
        if state in ("logged_out", "banned") and reason != "temporarily_banned":
            self.dead = ConnectionStoppedError(reason, sentence, state=state)
            return self.dead
        return None

    def _next_trial(self) -> float | None:
        """Seconds to the next trial: twice as long each time; None: there is none."""
        if self._park_interval is None:
            return None
        longest = max(LONGEST_TRIAL, self._park_interval)
        wait = min(self._park_interval * 2.0 ** min(self._trials, 32), longest)
        self._trials += 1
        return wait * (1 + TRIAL_JITTER * self._uniform())

    def _between(self, least: float, most: float) -> float:
        return least + (most - least) * self._uniform()


def banned_until(
    ended: ConnectionPausedError, until: float, seconds: float
) -> ConnectionPausedError:
    """A ban whose end is known."""
    moment = dt.datetime.fromtimestamp(until, dt.UTC)
    return ended.after(
        seconds,
        f"{ended.sentence}, until {moment:%Y-%m-%d %H:%M} UTC; it tries again by itself then;"
        " from then on write only to people who know this number",
        until=until,
    )


def minutes(seconds: float) -> str:
    """A wait for people."""
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
