"""One channel at work: one attempt at a time, in a thread that may hang without harm.

Theory of operation. A notification is claimed, then sent, then settled; each step is durable, and
the next one begins only when the one before it is stored. The thread of an attempt is waited for
until the timeout; then it is abandoned, and told so: it sends nothing any more, and what it waits
in is closed under it. One that hangs all the same keeps its place; with all places taken, attempts
fail until one of them ends. Nothing here waits for another channel, and nobody waits for this one.
"""

import collections.abc as cabc
import contextlib
import datetime as dt
import functools
import typing as t

import attrs
import structlog
import trio

from actors.channels import Attempt, Carrier, ChannelSettings, Letter, Outcome
from actors.patience import persist
from storage.errors import StorageError, StorageUnavailableError
from storage.notifications import ClaimedNotification, Notification, Notifications

FIRST_RETRY: t.Final = 10.0  # seconds, threefold with each failure
LAST_RETRY: t.Final = 1800.0
FACTOR: t.Final = 3.0
JITTER: t.Final = 0.2
HOPELESS_ATTEMPTS: t.Final = 3  # of what the service will never take
POLL: t.Final = 5.0  # seconds
HANGING: t.Final = 3  # threads of a channel
CLAIM_SLACK: t.Final = 60.0  # seconds past the timeout until a claim counts for nothing
COUNTING: t.Final = 5.0  # seconds for the figures of what was sent past the queue
LAST_WORD: t.Final = 2.0  # seconds for an attempt that is under way when the daemon ends

log: structlog.stdlib.BoundLogger = structlog.get_logger("channels")

_T = t.TypeVar("_T")


def retry_delay(attempts: int, uniform: float) -> float:
    """Seconds after so many failures, give or take a fifth; ``uniform`` is of [0, 1)."""
    delay = min(LAST_RETRY, FIRST_RETRY * FACTOR ** min(attempts - 1, 20))
    return delay * (1 - JITTER + 2 * JITTER * uniform)


@attrs.define
class _Flight:
    """An attempt in its thread."""

    carrier: Carrier
    letter: Letter
    attempt: Attempt
    token: trio.lowlevel.TrioToken
    outcome: Outcome | None = None
    landed: trio.Event = attrs.field(factory=trio.Event)

    def __call__(self) -> Outcome:
        try:
            self.outcome = self.carrier.send(self.letter, self.attempt)
            return self.outcome
        finally:
            with contextlib.suppress(trio.RunFinishedError):
                self.token.run_sync_soon(self.landed.set)


class Channel:
    """Tells notifications through one carrier, in their order."""

    def __init__(
        self,
        settings: ChannelSettings,
        carrier: Carrier,
        storage: Notifications,
        *,
        wall_clock: cabc.Callable[[], float],
        uniform: cabc.Callable[[], float],
    ) -> None:
        self.settings = settings
        self.carrier = carrier
        self._storage = storage
        self._wall_clock = wall_clock
        self._uniform = uniform
        self._one = trio.Lock()  # an attempt at a time
        self._threads = trio.CapacityLimiter(HANGING)
        self._woken = trio.Event()
        self._failing = False
        self._log = log.bind(channel=settings.name)

    @property
    def hanging(self) -> int:
        """Threads that nobody waits for any more."""
        return max(0, self._threads.borrowed_tokens - int(self._one.locked()))

    def wake(self) -> None:
        """There may be something to tell."""
        self._woken.set()

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Tell what there is until cancelled."""
        task_status.started()
        while True:
            self._woken = trio.Event()
            deadline = self._wall_clock() + self.settings.timeout + CLAIM_SLACK
            claim = self._storage.claim_notification
            claimed = await self._persist(functools.partial(claim, self.settings.name, deadline))
            if claimed is not None:
                await self._tell(claimed)
                continue
            with trio.move_on_after(POLL):
                await self._woken.wait()

    async def _tell(self, claimed: ClaimedNotification) -> None:
        if claimed.attempt > self.settings.attempts:  # the daemon died in each of them
            await self._settle(claimed, Outcome(error="every attempt was interrupted"))
            return
        identity = f"{self.settings.name}:{claimed.notification.key}:{claimed.created_at}"
        letter = self._letter(claimed.notification, identity, claimed.created_at)
        flight = self._flight(letter)
        try:
            async with self._one:
                outcome = await self._fly(flight)
            await self._settle(claimed, outcome)
        except trio.Cancelled:
            with trio.move_on_after(LAST_WORD, shield=True):
                await self._last_word(flight, claimed)
            flight.attempt.abandon()
            raise

    async def _last_word(self, flight: _Flight, claimed: ClaimedNotification) -> None:
        """What is settled now is not sent again after a restart."""
        await flight.landed.wait()
        if flight.outcome is not None:
            with contextlib.suppress(StorageError):
                await self._store(claimed, flight.outcome)

    async def send_now(self, notification: Notification) -> Outcome:
        """Send one past the queue, once, whatever waits there. The outcome is to be counted by
        :meth:`count`; it is not recorded: see ``Notification.told``."""
        now = dt.datetime.fromtimestamp(self._wall_clock(), dt.UTC)
        identity = f"{self.settings.name}:{notification.key}:{now}"
        flight = self._flight(self._letter(notification, identity, now))
        outcome = Outcome(error="another attempt is under way, and does not end")
        with trio.move_on_after(self.settings.timeout) as waiting:
            await self._one.acquire()
        if not waiting.cancelled_caught:
            try:
                outcome = await self._fly(flight)
            finally:
                self._one.release()
                if flight.outcome is None:
                    flight.attempt.abandon()
        self._note(outcome, notification, last=False)
        return outcome

    async def count(self, outcome: Outcome) -> None:
        """Count what came of :meth:`send_now`, if the database is there."""
        with trio.move_on_after(COUNTING):
            try:
                await self._storage.count_sent(self.settings.name, outcome.error)
            except StorageError as error:
                self._log.debug("channel.not_counted", error=str(error))

    def _letter(self, notification: Notification, identity: str, at: dt.datetime) -> Letter:
        return Letter(
            content=notification.content(self.settings.language),
            kind=notification.kind,
            severity=notification.severity,
            identity=identity,
            written_at=at,
        )

    def _flight(self, letter: Letter) -> _Flight:
        attempt = Attempt(self.settings.timeout)
        return _Flight(self.carrier, letter, attempt, trio.lowlevel.current_trio_token())

    async def _fly(self, flight: _Flight) -> Outcome:
        """One attempt, no longer than the timeout."""
        hanging = self._threads.borrowed_tokens
        with trio.move_on_after(self.settings.timeout):
            return await trio.to_thread.run_sync(
                flight, abandon_on_cancel=True, limiter=self._threads
            )
        flight.attempt.abandon()
        error = f"no answer within {self.settings.timeout:g} s"
        if hanging == HANGING:
            error = (
                f"{hanging} earlier attempts hang and do not end; restart the daemon if they stay"
            )
        self._log.warning("channel.hangs", hanging=self._threads.borrowed_tokens)
        return Outcome(error=error)

    async def _settle(self, claimed: ClaimedNotification, outcome: Outcome) -> None:
        """Store what came of it, however long that takes: until then nothing else is sent."""
        self._note(outcome, claimed.notification, last=self._is_last(claimed, outcome))
        await self._persist(lambda: self._store(claimed, outcome))

    async def _store(self, claimed: ClaimedNotification, outcome: Outcome) -> None:
        retry_at = None
        if outcome.error is not None and not self._is_last(claimed, outcome):
            retry_at = self._wall_clock() + retry_delay(claimed.attempt, self._uniform())
        await self._storage.settle_notification(
            self.settings.name, claimed, outcome.error, retry_at
        )

    def _is_last(self, claimed: ClaimedNotification, outcome: Outcome) -> bool:
        allowed = self.settings.attempts
        if outcome.hopeless:
            allowed = min(allowed, HOPELESS_ATTEMPTS)
        return claimed.attempt >= allowed

    def _note(self, outcome: Outcome, notification: Notification, *, last: bool) -> None:
        """Log what changes."""
        key = notification.key
        if outcome.refused is not None:
            self._log.warning("channel.recipients_refused", key=key, error=outcome.refused)
        if outcome.error is None:
            self._log.debug("channel.sent", key=key)
            if self._failing:
                self._log.info("channel.recovered")
            self._failing = False
            return
        if last:
            self._log.error(
                "channel.given_up",
                key=key,
                error=outcome.error,
                advice="see to the channel, then zapvisor channels test tries it",
            )
        elif not self._failing:
            self._log.warning("channel.failing", key=key, error=outcome.error)
        self._failing = True

    async def _persist(self, work: cabc.Callable[[], cabc.Awaitable[_T]]) -> _T:
        """Try until the database is there."""

        def waits(error: StorageUnavailableError) -> None:
            self._log.warning("channel.waits_for_database", error=str(error))

        return await persist(work, self._uniform, waits)
