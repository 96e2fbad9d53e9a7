"""The service that forgets what is kept for a time only."""

import collections.abc as cabc
import typing as t

import structlog
import trio

from storage.api import Storage
from storage.errors import StorageError

INTERVAL: t.Final = 3600.0  # seconds between two rounds
BATCH: t.Final = 2000  # old rows deleted at once
PAUSE: t.Final = 0.2  # seconds between two batches, for everybody else

log: structlog.stdlib.BoundLogger = structlog.get_logger("housekeeping")


class Housekeeper:
    """Deletes in rounds, some rows at a time; a round that fails is made up for by the next."""

    def __init__(
        self,
        storage: Storage,
        wall_clock: cabc.Callable[[], float],
        *,
        keep_payloads: float,
        keep_events: float,
        keep_stream: float,
        keep_accesses: float,
    ) -> None:
        """How long, in seconds: sent messages can be encrypted again; transitions, statistics,
        closed gaps and notifications are kept; the stream of events is; who looked at former
        content is."""
        self._storage = storage
        self._wall_clock = wall_clock
        self._keep_payloads = keep_payloads
        self._keep_events = keep_events
        self._keep_stream = keep_stream
        self._keep_accesses = keep_accesses

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Keep house until cancelled."""
        task_status.started()
        while True:
            try:
                payloads, events = await self._round(self._wall_clock())
            except StorageError as error:
                log.warning("housekeeping.failed", error=str(error))
            else:
                log.debug("housekeeping.done", payloads=payloads, events=events)
            await trio.sleep(INTERVAL)

    async def _round(self, now: float) -> tuple[int, int]:
        payloads = await self._storage.forget_payloads(now - self._keep_payloads)
        events = 0
        for trim, keep in (
            (self._storage.forget_events, self._keep_events),
            (self._storage.forget_gaps, self._keep_events),
            (self._storage.trim_events, self._keep_stream),
            (self._storage.trim_notifications, self._keep_events),
            (self._storage.forget_accesses, self._keep_accesses),
            (self._storage.trim_alerts, self._keep_events),
        ):
            while gone := await trim(now - keep, BATCH):
                events += gone
                await trio.sleep(PAUSE)
        return payloads, events
