"""Changes of alerts on their way to the database, and to people when it is away.

Theory of operation. Changes are stored in their order, in one transaction with what people are
told, so nothing is told that is not recorded, and nothing twice. While the database is away they
wait here, and what people are to be told is sent past its queue; that is recorded with the change
afterwards, so that the queue does not send it again. What was sent so is forgotten if the daemon
is killed before the database is back: then its recovery is not told.
"""

import collections
import collections.abc as cabc
import typing as t

import attrs
import structlog
import trio

from storage.alerts import AlertChange
from storage.errors import StorageError, StorageUnavailableError
from storage.notifications import Notification
from supervisor.backoff import Backoff

BATCH: t.Final = 200  # changes in one transaction
WAITING: t.Final = 2000  # changes that wait; older ones go
SAVING: t.Final = 8.0  # seconds
AGAIN: t.Final = Backoff(initial=30.0, maximum=900.0)  # after nobody could be told
SENDING: t.Final = 120.0  # seconds for all that waits, on all channels together

log: structlog.stdlib.BoundLogger = structlog.get_logger("alerts")


class Teller(t.Protocol):
    """Who carries notifications to people."""

    async def tell_now(self, notification: Notification, within: float) -> tuple[str, ...]:
        """Send it past the queue; the channels that took it ``within`` so many seconds, and it
        takes no longer. Raises nothing."""
        ...

    def wake(self) -> None:
        """Something was queued."""
        ...


class ChangeStorage(t.Protocol):
    """What is asked of storage here."""

    async def save_alerts(self, changes: cabc.Sequence[AlertChange]) -> dict[str, int]:
        """See :meth:`storage.alerts.Alerts.save_alerts`."""
        ...


@attrs.define
class _Waiting:
    change: AlertChange
    attempts: int = 0
    due: float = 0.0  # trio's clock


class AlertOutbox:
    """What is not stored yet."""

    def __init__(self, storage: ChangeStorage, teller: Teller) -> None:
        self._storage = storage
        self._teller = teller
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._sending = False

    def __len__(self) -> int:
        return len(self._waiting)

    def post(self, changes: cabc.Iterable[AlertChange]) -> None:
        """Changes that happened."""
        self._waiting += [_Waiting(change) for change in changes]
        while len(self._waiting) > WAITING:
            dropped = self._waiting.popleft().change
            log.error("alerts.change_dropped", alert=dropped.alert.key, what=dropped.what)

    async def save(self) -> dict[str, int]:
        """Store what waits; the ids of alerts by their keys. What cannot be stored waits on.

        Raises:
            StorageUnavailableError: the database is away, or does not answer.
        """
        ids: dict[str, int] = {}
        if self._sending:  # what is being sent must be recorded as sent
            return ids
        while self._waiting:
            batch = [each.change for each in self._waiting][:BATCH]
            ids |= await self._save(batch)
            for _ in batch:
                self._waiting.popleft()
            if any(each.notification is not None for each in batch):
                self._teller.wake()
        return ids

    async def _save(self, batch: list[AlertChange]) -> dict[str, int]:
        try:
            with trio.fail_after(SAVING):
                return await self._storage.save_alerts(batch)
        except trio.TooSlowError as error:
            raise StorageUnavailableError(f"no answer within {SAVING:g} s") from error
        except StorageUnavailableError:
            raise
        except StorageError as error:
            if len(batch) == 1:  # nothing that waits behind it may wait for ever
                [change] = batch
                log.error(
                    "alerts.change_refused",
                    alert=change.alert.key,
                    what=change.what,
                    error=str(error),
                )
                return {}
        ids: dict[str, int] = {}
        for change in batch:
            ids |= await self._save([change])
        return ids

    def untold(self, now: float) -> bool:
        """Whether there is something that people could be told without the database, by now."""
        return not self._sending and any(self._is_due(each, now) for each in self._waiting)

    async def tell(self) -> None:
        """Tell people of what cannot be stored; one such call at a time. Raises nothing."""
        self._sending = True
        try:
            until = trio.current_time() + SENDING
            for each in [*self._waiting]:
                now = trio.current_time()
                if now < until and self._is_due(each, now):
                    await self._tell(each, until - now)
        finally:
            self._sending = False

    async def _tell(self, waiting: _Waiting, within: float) -> None:
        notification = waiting.change.notification
        if notification is None:
            return
        waiting.attempts += 1
        waiting.due = trio.current_time() + AGAIN.bound(waiting.attempts)
        taken = await self._teller.tell_now(notification, within)
        log.info("alerts.told_directly", notification=notification.key, channels=list(taken))
        if taken:
            told = attrs.evolve(notification, told=(*notification.told, *taken))
            waiting.change = attrs.evolve(waiting.change, notification=told)

    def _is_due(self, each: _Waiting, now: float) -> bool:
        notification = each.change.notification
        return notification is not None and not notification.told and each.due <= now
