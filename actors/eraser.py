"""The service that forgets people on order: in small steps, over any number of crashes.

From the order on nothing of the person's past is taken in (``storage/tombstones.py``); what is
stored goes step by step, each a short transaction that knows where the next one begins.
"""

import collections.abc as cabc
import typing as t

import structlog
import trio

from storage.erasure import Erasure, Subject
from storage.errors import StorageError, StorageRejectedError, StorageUnavailableError

PAUSE: t.Final = 0.05  # seconds between two steps, and at least as long as the step took
RETRY: t.Final = 30.0  # seconds after a step that failed
PATIENCE: t.Final = 60.0  # seconds for running connections to let go of erased sessions
INTERVAL: t.Final = 3600.0  # seconds after which unfinished ones are looked for in any case

log: structlog.stdlib.BoundLogger = structlog.get_logger("eraser")


class EraserStorage(t.Protocol):
    """What is asked of storage; see ``storage.erasure.Erasing``."""

    async def erasure_subject(
        self, *, contact: int | None = None, address: str | None = None, connection: str | None
    ) -> Subject | None:
        """Whom it would be about."""
        ...

    async def begin_erasure(
        self,
        *,
        contact: int | None = None,
        address: str | None = None,
        connection: str | None,
        by: str,
        version: str,
    ) -> Erasure | None:
        """Forget a person from now on."""
        ...

    async def continue_erasure(self, erasure_id: int, *, files_gone: bool = False) -> Erasure:
        """One step."""
        ...

    async def unfinished_erasures(self) -> list[int]:
        """Those that are not done."""
        ...


class Eraser:
    """See the module. One per daemon."""

    def __init__(
        self,
        storage: EraserStorage,
        remove_files: cabc.Callable[[], cabc.Awaitable[int]],
        release_records: cabc.Callable[[cabc.Sequence[str]], cabc.Awaitable[None]],
        version: str,
    ) -> None:
        """``remove_files`` gives up the files of erased messages; ``release_records`` makes
        running connections let go of the sessions that they hold; ``version``: of the program."""
        self._storage = storage
        self._remove_files = remove_files
        self._release_records = release_records
        self._version = version
        self._woken = trio.Event()

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Erase until cancelled; what is unfinished is taken up again by the next run."""
        task_status.started()
        while True:
            self._woken = trio.Event()
            try:
                if removed := await self._remove_files():  # left by a crash, or by retention
                    log.info("eraser.files_removed", files=removed)
                refused = await self._work_off()
            except StorageUnavailableError as error:
                log.warning("eraser.waiting", error=str(error))
                await trio.sleep(RETRY)
                continue
            except trio.TooSlowError:
                log.warning("eraser.waiting", error="a connection is busy with what it stores")
                await trio.sleep(RETRY)
                continue
            except StorageError as error:
                log.error("eraser.failed", error=str(error))
                refused = True
            if refused:
                await trio.sleep(RETRY)
                continue
            with trio.move_on_after(INTERVAL):
                await self._woken.wait()

    async def subject(
        self, *, contact: int | None, address: str | None, connection: str | None
    ) -> Subject | None:
        """Whom an order would be about; None: nobody is known there."""
        return await self._storage.erasure_subject(
            contact=contact, address=address, connection=connection
        )

    async def forget(
        self, *, contact: int | None, address: str | None, connection: str | None, by: str
    ) -> Erasure | None:
        """Take the order; it is carried out in the background. None: nobody is known there.

        Raises:
            StorageRejectedError: it is the account of a connection.
            StorageUnavailableError: whether the order was taken is unknown; GET /erasures shows.
        """
        try:
            row = await self._storage.begin_erasure(
                contact=contact,
                address=address,
                connection=connection,
                by=by,
                version=self._version,
            )
        finally:
            self._woken.set()  # it may be taken though whoever gave it has gone, or knows nothing
        if row is not None:
            log.info("eraser.begun", erasure=row.id, connections=len(row.connections))
        return row

    async def _work_off(self) -> bool:
        """Carry out what is unfinished; whether some of it was refused: that keeps nobody else's
        waiting.

        Raises:
            StorageError, trio.TooSlowError: nothing can be done now.
        """
        refused = False
        for number in await self._storage.unfinished_erasures():
            try:
                await self._finish(number)
            except StorageRejectedError as error:
                log.error("eraser.failed", erasure=number, error=str(error))
                refused = True
        return refused

    async def _finish(self, number: int) -> None:
        """All steps of one."""
        while True:
            began = trio.current_time()
            row = await self._storage.continue_erasure(number)
            if row.phase == "files":
                # What a connection has in memory is not stored again, but shall not be there.
                with trio.fail_after(PATIENCE):
                    await self._release_records(row.connections)
                await self._remove_files()
                row = await self._storage.continue_erasure(number, files_gone=True)
            if row.finished_at is not None:
                counts = row.counts
                log.info(
                    "eraser.done",
                    erasure=number,
                    messages=counts.get("messages", 0),
                    naming=counts.get("naming", 0),
                    files=counts.get("files", 0),
                )
                return
            await trio.sleep(max(PAUSE, trio.current_time() - began))
