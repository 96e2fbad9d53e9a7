"""The mark in the database that the daemon is alive, so that its death leaves a date."""

import typing as t

import structlog
import trio

from storage.crash_points import crash_point
from storage.errors import StorageError
from storage.timeline import Timeline

INTERVAL: t.Final = 30.0  # seconds between two marks
LAST_WORD: t.Final = 2.0  # seconds that the mark of an orderly end may take

log: structlog.stdlib.BoundLogger = structlog.get_logger("pulse")


class Pulse:
    """Marks one run of the daemon: one row, written every half minute."""

    def __init__(self, storage: Timeline, *, interval: float = INTERVAL) -> None:
        self._storage = storage
        self._interval = interval
        self._life: int | None = None
        self._stopping = trio.Event()

    async def begin(self) -> None:
        """Before any connection runs.

        Raises:
            StorageError: the run cannot be recorded.
        """
        self._life = await self._storage.begin_life()
        crash_point("pulse.begun")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Mark until stopped; then say that it was in order, unless the database is away."""
        if self._life is None:
            self._life = await self._storage.begin_life()
        task_status.started()
        ended = False
        while not ended:
            with trio.move_on_after(self._interval):
                await self._stopping.wait()
            ended = self._stopping.is_set()
            await self._mark(self._life, ended)

    def stop(self) -> None:
        """Everything has been recorded that was to be."""
        self._stopping.set()

    async def _mark(self, life: int, ended: bool) -> None:
        try:
            if ended:
                with trio.move_on_after(LAST_WORD):
                    await self._storage.end_life(life)
                    crash_point("pulse.ended")
            else:
                await self._storage.mark_alive(life)
                crash_point("pulse.marked")
        except StorageError as error:
            log.warning("pulse.missed", error=str(error))
