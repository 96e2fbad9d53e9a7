"""Opens encrypted answers (votes, reactions, edits) once the message that they answer is there.

An answer is stored as it came, so nothing is lost when its message comes later, or when only a
later day tells under which of two addresses it was encrypted. This service goes over the rows
that are still closed: new ones at once, the others again and again, a bounded part each time.
"""

import collections.abc as cabc
import typing as t

import structlog
import trio

from actors.reading import message_of
from actors.rereading import origin_of_row
from storage.errors import StorageRejectedError, StorageUnavailableError
from storage.inbox import Inbox, PendingAddon
from supervisor.backoff import Backoff
from whatsapp import addons
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid

INTERVAL: t.Final = 60.0  # seconds between two looks when nobody wakes the service
PAUSE: t.Final = 1.0  # seconds between two looks at least: wakes come in flocks
PAGE: t.Final = 200  # rows read at once
PAGES: t.Final = 10  # of old rows tried again at each look
BACKOFF: t.Final = Backoff()

OwnAddresses: t.TypeAlias = cabc.Callable[[str], cabc.Sequence[Jid]]
"""The bare addresses of a connection's account, the phone number's first; empty: not known."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("addons")


class AddonResolver:
    """The service; one for all connections. Cancelled anywhere, it loses nothing."""

    def __init__(
        self,
        storage: Inbox,
        own_addresses: OwnAddresses,
        *,
        backoff: Backoff = BACKOFF,
    ) -> None:
        self._storage = storage
        self._own_addresses = own_addresses
        self._backoff = backoff
        self._woken = trio.Event()
        self._newest = 0  # the highest id that was ever looked at
        self._retried = 0  # where the next round over older rows goes on

    def wake(self) -> None:
        """Something came that may open an answer, or is one. Never waits."""
        self._woken.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Resolve what can be resolved, for ever. Outlives a database that is away."""
        task_status.started()
        failures = 0
        while True:
            self._woken = trio.Event()
            try:
                await self._look()
            except StorageUnavailableError as error:
                failures += 1
                delay = self._backoff.bound(failures)
                log.warning("addons.storage_unavailable", error=str(error), delay=delay)
                await trio.sleep(delay)
                continue
            failures = 0
            await trio.sleep(PAUSE)
            with trio.move_on_after(INTERVAL - PAUSE):
                await self._woken.wait()

    async def _look(self) -> None:
        """All new rows, then a part of the older ones."""
        older = self._newest
        while len(page := await self._storage.pending_addons(self._newest, PAGE)):
            await self._resolve_all(page)
            self._newest = page[-1].message.id
        for _page in range(PAGES):
            page = await self._storage.pending_addons(self._retried, PAGE)
            page = [row for row in page if row.message.id <= older]
            if not page:
                self._retried = 0
                break
            await self._resolve_all(page)
            self._retried = page[-1].message.id

    async def _resolve_all(self, page: cabc.Sequence[PendingAddon]) -> None:
        resolved = 0
        for row in page:
            resolved += await self._resolve(row)
        if resolved:
            log.info("addons.resolved", count=resolved)

    async def _resolve(self, row: PendingAddon) -> bool:
        """Whether the row was rewritten; what does not open (yet) stays as it is."""
        message, target = row.message, row.target
        if target is None or not target.raw:
            return False
        origin = origin_of_row(message, self._own_addresses(message.connection))
        if origin is None:
            return False
        parent = addons.Parent(id=target.external_id, authors=target.senders, raw=target.raw)
        try:
            content = addons.resolve(message.raw, parent, message.senders)
        except RemoteProtocolError as error:
            log.debug("addons.closed", connection=message.connection, id=message.id, why=str(error))
            return False
        try:
            return await self._storage.rewrite(
                message.connection,
                message.id,
                message_of(content, origin),
                expected=message.kind,
            )
        except StorageRejectedError as error:
            log.error(
                "addons.rejected", connection=message.connection, id=message.id, error=str(error)
            )
            return False
