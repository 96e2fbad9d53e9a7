"""The service that makes the index of the search, behind the writer's back."""

import typing as t

import structlog
import trio

from storage.api import Storage
from storage.errors import StorageError
from supervisor.backoff import Backoff

STEP: t.Final = 500  # messages looked at in one go, at most
SHRINK: t.Final = 4  # so many times fewer after a failure, which may be for want of time
GATHER: t.Final = 0.5  # seconds that news may gather, so that a flood is taken in steps
IDLE: t.Final = 60.0  # seconds between looks when nobody tells of news
REST: t.Final = 1.0  # part of the time that a step took, for everybody else

_AGAIN: t.Final = Backoff(initial=1.0, maximum=60.0)

log: structlog.stdlib.BoundLogger = structlog.get_logger("search")


class Indexer:
    """Makes words of messages, in steps, and rests between them."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._news = trio.Event()
        self._filling = False
        self._limit = STEP

    def wake(self) -> None:
        """There are new messages."""
        self._news.set()

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Index until cancelled; a database that is away, or too slow for the step, is tried again
        with smaller ones."""
        task_status.started()
        failures = 0
        while True:
            self._news = trio.Event()
            began = trio.current_time()
            try:
                more = await self._step()
            except StorageError as error:
                failures += 1
                self._limit = max(1, self._limit // SHRINK)
                log.warning("search.index_failed", error=str(error), failures=failures)
                await trio.sleep(_AGAIN.bound(failures))
                continue
            failures = 0
            self._limit = min(STEP, 2 * self._limit)
            if more:
                await trio.sleep(REST * (trio.current_time() - began))
                continue
            with trio.move_on_after(IDLE):
                await self._news.wait()
            await trio.sleep(GATHER)

    async def _step(self) -> bool:
        step = await self._storage.index_messages(self._limit)
        if step.filling != self._filling:
            self._filling = step.filling
            if step.filling:
                log.info(
                    "search.filling",
                    sentence="older messages are being made searchable, the newest first",
                )
            else:
                log.info("search.complete", sentence="all messages can be searched")
        return step.behind or step.filling
