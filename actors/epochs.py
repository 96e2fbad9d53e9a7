"""Keeps what the data directory remembers of the database up to date: see ``storage.epochs``."""

import pathlib
import typing as t

import structlog
import trio

from storage.crash_points import crash_point
from storage.epochs import BegunEpoch, Epoch, EpochFileError, Epochs, read_epoch, write_epoch
from storage.errors import StorageError

INTERVAL: t.Final = 30.0  # seconds between two steps: a copy that is older by less may go unnoticed

log: structlog.stdlib.BoundLogger = structlog.get_logger("epochs")


class EpochKeeper:
    """Compares the database with what is remembered, then goes on step by step."""

    def __init__(
        self, storage: Epochs, directory: pathlib.Path, *, interval: float = INTERVAL
    ) -> None:
        self._storage = storage
        self._directory = directory
        self._interval = interval
        self._remembered: Epoch | None = None
        self._trouble: str | None = None

    async def begin(self) -> None:
        """Before any connection runs: an older database marks its connections.

        Raises:
            StorageError: it cannot be asked.
        """
        try:
            self._remembered = await trio.to_thread.run_sync(read_epoch, self._directory)
        except EpochFileError as error:
            log.warning("epochs.unreadable", error=str(error))
        begun = await self._storage.begin_epoch(self._remembered)
        if begun.behind and self._remembered is not None:
            await self._tell_behind(begun, self._remembered)
        elif self._remembered is None and begun.epoch > 0:
            log.info("epochs.trusted", reason="nothing is remembered of this database here")
        elif self._remembered is not None and self._remembered.database != begun.database:
            log.info("epochs.trusted", reason="another database was used here last")
        await self._step()

    async def _tell_behind(self, begun: BegunEpoch, remembered: Epoch) -> None:
        if await self._storage.stale_keys():
            log.error(
                "epochs.stale_keys",
                epoch=begun.epoch,
                remembered=remembered.epoch,
                advice="this database is older than the one that was used here last; put the newer"
                " one back, or accept it for each connection: zapvisor recover NAME",
            )
        else:
            log.info("epochs.trusted", reason="it is older, but no phone was linked in it")

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Go on until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(self._interval)
            try:
                await self._step()
            except StorageError as error:
                log.debug("epochs.missed", error=str(error))

    async def _step(self) -> None:
        """The database goes first: see ``storage.epochs``."""
        epoch = await self._storage.advance_epoch(self._remembered)
        if epoch is None:
            return
        crash_point("epoch.committed")
        try:
            await trio.to_thread.run_sync(write_epoch, self._directory, epoch)
        except EpochFileError as error:
            if str(error) != self._trouble:
                log.warning("epochs.not_remembered", error=str(error))
            self._trouble = str(error)
        else:
            self._remembered, self._trouble = epoch, None
