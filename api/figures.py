"""The stored part of health, read by one task however many ask, and for a few seconds the same.

Theory of operation. Requests never ask the database themselves: they ring for a reading and wait
for it, each no longer than its own deadline. The reader takes one reading at a time, and only when
somebody rang; so a storm of requests costs one reading every few seconds, a client that vanishes
changes nothing, and a database that hangs holds up the reader alone. Scrapes do not even wait:
they get the last reading, with its age, and ring for the next one.
"""

import collections.abc as cabc
import os
import typing as t
from pathlib import Path

import attrs
import structlog
import trio

from actors.channel_views import ChannelView
from actors.event_views import WebhookView
from api.views_health import DiskView
from storage.errors import StorageError
from storage.events import EventRange
from storage.figures import SyncTotals

KEPT: t.Final = 3.0  # seconds for which a reading is as good as a new one
LIMIT: t.Final = 3.0  # seconds a reading may take
PATIENCE: t.Final = 4.0  # seconds a request waits for one; answers are due within 5
SIZE_KEPT: t.Final = 60.0  # seconds between two looks at the size of the database
DISK_LIMIT: t.Final = 1.0  # seconds a file system may take to say how full it is

log: structlog.stdlib.BoundLogger = structlog.get_logger("health")


class FiguresPort(t.Protocol):
    """What is read of storage here; see ``storage.api.Storage``."""

    async def ping(self) -> float: ...
    async def statistics(self) -> dict[str, t.Any]: ...
    async def sync_totals(self) -> SyncTotals: ...
    async def outbox_unsettled(self) -> dict[str, int]: ...
    async def database_size(self) -> int: ...
    async def event_range(self) -> EventRange: ...
    async def search_waiting(self) -> int: ...


async def no_webhooks() -> list[WebhookView]:
    """None is configured."""
    return []


async def no_channels() -> list[ChannelView]:
    """None is configured."""
    return []


@attrs.frozen(kw_only=True)
class Stored:
    """What the database told."""

    ping_seconds: float
    statistics: dict[str, t.Any]  # see ``Storage.statistics``
    sync: SyncTotals
    outbox: dict[str, int]  # by state, of what is not sent
    size_bytes: int
    newest_event: int
    webhooks: tuple[WebhookView, ...]
    channels: tuple[ChannelView, ...]
    search_waiting: int  # messages; see ``storage.search.Search.search_waiting``


@attrs.frozen(kw_only=True)
class Reading:
    """How things were at one moment."""

    at: float  # trio's clock
    stored: Stored | None  # None: see ``error``
    error: str | None
    disks: tuple[DiskView, ...] = ()  # one for each place; fewer if a file system is silent


class FigureReader:
    """Takes readings on request; :meth:`run` has to run for that."""

    def __init__(
        self,
        storage: FiguresPort,
        places: cabc.Sequence[Path] = (),
        *,
        webhooks: cabc.Callable[[], cabc.Awaitable[list[WebhookView]]] = no_webhooks,
        channels: cabc.Callable[[], cabc.Awaitable[list[ChannelView]]] = no_channels,
        kept: float = KEPT,
        limit: float = LIMIT,
        patience: float = PATIENCE,
    ) -> None:
        """``places``: directories whose disks are looked at. ``webhooks`` and ``channels`` ask
        the same database. Times in seconds."""
        self._storage = storage
        self._webhooks = webhooks
        self._channels = channels
        self._places = places
        self._kept = kept
        self._limit = limit
        self._patience = patience
        self._rung = trio.Event()
        self._read = trio.Event()
        self._newest: Reading | None = None
        self._good: Reading | None = None
        self._size: tuple[float, int] | None = None
        self._disk_thread = trio.CapacityLimiter(1)
        self.readings = 0
        """How many were taken."""

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Take readings until cancelled."""
        task_status.started()
        while True:
            await self._rung.wait()
            try:
                self._tell(await self._take())
            except Exception as error:
                what = f"the reading failed ({type(error).__name__}); the daemon's log tells more"
                self._tell(Reading(at=trio.current_time(), stored=None, error=what))
                raise
            finally:
                self._rung = trio.Event()  # who rang meanwhile has it, too

    def _tell(self, reading: Reading) -> None:
        """Give it to all who wait."""
        self.readings += 1
        self._newest = reading
        if reading.stored is not None:
            self._good = reading
        read, self._read = self._read, trio.Event()
        read.set()

    async def reading(self) -> Reading:
        """A reading that is a few seconds old at most; one without stored figures when there is
        none in time."""
        newest = self._newest
        if newest is not None and trio.current_time() - newest.at < self._kept:
            return newest
        read = self._read
        self._rung.set()
        with trio.move_on_after(self._patience):
            await read.wait()
            assert self._newest is not None  # noqa: S101 - it was set before the event
            return self._newest
        return Reading(
            at=trio.current_time(),
            stored=None,
            error=f"no answer within {self._patience:g} s",
            disks=() if newest is None else newest.disks,
        )

    def newest(self) -> Reading | None:
        """The newest reading, however old, without waiting; a fresher one will follow."""
        newest = self._newest
        if newest is None or trio.current_time() - newest.at >= self._kept:
            self._rung.set()
        return newest

    def newest_good(self) -> Reading | None:
        """The newest one in which the database answered."""
        return self._good

    async def _take(self) -> Reading:
        disks = await self._look_at_disks()
        error = (
            f"no answer within {self._limit:g} s: it hangs, or all connections of the pool"
            " (storage.pool_size) are busy"
        )
        stored = None
        with trio.move_on_after(self._limit):
            try:
                stored = await self._ask()
            except StorageError as failure:
                error = str(failure)
        return Reading(
            at=trio.current_time(),
            stored=stored,
            error=None if stored is not None else error,
            disks=disks,
        )

    async def _ask(self) -> Stored:
        storage = self._storage
        seconds = await storage.ping()
        return Stored(
            ping_seconds=seconds,
            statistics=await storage.statistics(),
            sync=await storage.sync_totals(),
            outbox=await storage.outbox_unsettled(),
            size_bytes=await self._database_size(),
            newest_event=(await storage.event_range()).newest,
            webhooks=tuple(await self._webhooks()),
            channels=tuple(await self._channels()),
            search_waiting=await storage.search_waiting(),
        )

    async def _database_size(self) -> int:
        now = trio.current_time()
        if self._size is None or now - self._size[0] >= SIZE_KEPT:
            self._size = (now, await self._storage.database_size())
        return self._size[1]

    async def _look_at_disks(self) -> tuple[DiskView, ...]:
        if not self._places:
            return ()
        with trio.move_on_after(DISK_LIMIT):
            return await trio.to_thread.run_sync(
                look_at_disks,
                self._places,
                abandon_on_cancel=True,
                limiter=self._disk_thread,
            )
        log.warning("health.disk_silent", places=[str(place) for place in self._places])
        return ()


def look_at_disks(places: cabc.Iterable[Path]) -> tuple[DiskView, ...]:
    """How full the disks of some directories are; a place that cannot be looked at is left out."""
    return tuple(view for place in places if (view := _look_at(place)) is not None)


def _look_at(place: Path) -> DiskView | None:
    for path in (place, *place.parents):  # it may not have been made yet
        try:
            found = os.statvfs(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("health.disk_unknown", path=str(path), error=str(error))
            return None
        return DiskView(
            path=str(place),
            free_bytes=found.f_bavail * found.f_frsize,
            total_bytes=found.f_blocks * found.f_frsize,
        )
    return None
