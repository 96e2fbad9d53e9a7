"""The fan-out of events: one task reads the stream, any number of clients read what it has read.

Theory of operation. The hub keeps a window: the newest events, a bounded number. A client has a
cursor and takes what lies behind it at its own pace: out of the window when its cursor lies there,
else page by page from the database. So clients cost no memory of their own, nobody waits for a
slow one, and none of them is known to whoever writes events.

A client that has caught up and then falls out of the window is too slow: it is told so, and can
come back with its cursor. One that replays the past may take as long as it likes.
"""

import bisect
import collections.abc as cabc
import contextlib
import typing as t

import structlog
import trio

from actors.event_views import EventsView
from storage.errors import CursorGoneError, StorageError
from storage.events import EventPage, EventRange, EventRow

WINDOW: t.Final = 4096  # events
AT_ONCE: t.Final = 100  # events that a client is given at a time
POLL: t.Final = 1.0  # seconds until events are looked for that nobody in this process wrote
LONGEST_PAUSE: t.Final = 10.0  # seconds between two tries while the database is away

log: structlog.stdlib.BoundLogger = structlog.get_logger("events")


class Stream(t.Protocol):
    """What the hub needs of storage."""

    async def events_after(
        self,
        after: int,
        *,
        limit: int = ...,
        connection: str | None = ...,
        types: cabc.Collection[str] | None = ...,
    ) -> EventPage:
        """See ``storage.events.EventStream.events_after``."""
        ...

    async def event_range(self) -> EventRange:
        """See ``storage.events.EventStream.event_range``."""
        ...


class TooManyClientsError(Exception):
    """There is no room for another client."""


class SlowClientError(Exception):
    """A client does not keep up; it may come back with its cursor."""


class EventSignal:
    """The news that there may be new events; any number may wait for it."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def wake(self) -> None:
        """Events were written."""
        event, self._event = self._event, trio.Event()
        event.set()

    async def wait(self, seconds: float) -> None:
        """Until that, or for so long."""
        with trio.move_on_after(seconds):
            await self._event.wait()


class EventHub:
    """Reads the stream once for all clients, while there are any."""

    def __init__(
        self, stream: Stream, signal: EventSignal, *, max_clients: int = 100, window: int = WINDOW
    ) -> None:
        self._stream = stream
        self._signal = signal
        self._max_clients = max_clients
        self._size = window
        self._window: list[EventRow] = []
        self._low = 0  # a cursor in front of the window
        self._top: int | None = None  # a cursor behind it; None: nothing was read yet
        self._changed = trio.Event()
        self._clients: set[Client] = set()
        self.dropped = 0
        """Clients that were too slow, since the daemon started."""
        self.error: str | None = None
        """Why events are not read just now."""

    def view(self) -> EventsView:
        """How it is now."""
        return EventsView(
            newest=self._top, clients=len(self._clients), dropped=self.dropped, error=self.error
        )

    def has_room(self) -> bool:
        """Whether another client may come."""
        return len(self._clients) < self._max_clients

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Read until cancelled."""
        task_status.started()
        pause = POLL
        while True:
            if not self._clients:
                self._top = None  # the next client starts afresh,
                self.error = None  # and nobody waits meanwhile
                await self._changed.wait()
                continue
            try:
                read = await self._read()
            except CursorGoneError as error:
                log.warning("events.reset", error=str(error))
                self._top = None
            except StorageError as error:
                if self.error is None:
                    log.warning("events.unreadable", error=str(error))
                self.error = str(error)
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if self.error is not None:
                    log.info("events.readable")
                self.error, pause = None, POLL
                if not read:
                    await self._signal.wait(POLL)

    async def _read(self) -> bool:
        """Take the next events into the window; whether there were any."""
        if self._top is None:
            newest = (await self._stream.event_range()).newest
            self._window, self._low, self._top = [], newest, newest
            self._tell()
        page = await self._stream.events_after(self._top)
        if page.position == self._top:
            return False
        self._window.extend(page.events)
        self._top = page.position
        if len(self._window) > self._size:
            kept = self._size * 3 // 4
            self._low = self._window[-kept - 1].id
            del self._window[:-kept]
        self._tell()
        return True

    def _tell(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    @contextlib.contextmanager
    def client(
        self,
        after: int | None,
        *,
        connection: str | None = None,
        types: cabc.Collection[str] | None = None,
    ) -> cabc.Iterator["Client"]:
        """A client from behind ``after``, or from now on (None).

        Raises:
            TooManyClientsError: there is no room for it.
        """
        if not self.has_room():
            raise TooManyClientsError(
                f"{self._max_clients} clients follow the events already; see events.clients"
            )
        made = Client(self, after, connection, types)
        self._clients.add(made)
        self._tell()
        try:
            yield made
        finally:
            self._clients.discard(made)


class Client:
    """One reader of events; only its own task uses it."""

    def __init__(
        self,
        hub: EventHub,
        after: int | None,
        connection: str | None,
        types: cabc.Collection[str] | None,
    ) -> None:
        self._hub = hub
        self.position = after
        """Its cursor; None: it has not begun."""
        self._connection = connection
        self._types = types
        self._live = False
        self._pause = POLL

    async def next(self, patience: float) -> list[EventRow]:
        """The next events that fit, at most ``AT_ONCE``; none when there were none for
        ``patience`` seconds, whatever the reason.

        Raises:
            SlowClientError: it had caught up and does not keep up.
            CursorGoneError: its cursor cannot be used.
        """
        with trio.move_on_after(patience):
            while True:
                if found := await self._look():
                    return found
        return []

    async def _look(self) -> list[EventRow]:
        """What there is now; else it waits for something to change."""
        hub = self._hub
        changed = hub._changed
        if hub._top is None:
            await changed.wait()
        elif self.position is None:
            self.position = hub._top
        elif self.position < hub._low:
            if self._live:
                hub.dropped += 1
                raise SlowClientError(f"events behind {self.position} are no longer at hand")
            return await self._replay(self.position)
        elif found := self._from_window():
            return found
        elif self.position > hub._top:  # not of this stream, or the hub has just begun anew
            return await self._replay(self.position)
        else:
            self._live = True
            await changed.wait()
        return []

    def _from_window(self) -> list[EventRow]:
        rows = self._hub._window
        start = bisect.bisect_right(rows, self.position, key=lambda row: row.id)
        found: list[EventRow] = []
        for row in rows[start:]:
            self.position = row.id
            if self._fits(row):
                found.append(row)
                if len(found) == AT_ONCE:
                    break
        return found

    def _fits(self, row: EventRow) -> bool:
        return self._connection in (None, row.connection) and (
            self._types is None or row.type in self._types
        )

    async def _replay(self, after: int) -> list[EventRow]:
        """A page from the database."""
        try:
            page = await self._hub._stream.events_after(
                after, limit=AT_ONCE, connection=self._connection, types=self._types
            )
        except CursorGoneError:
            raise
        except StorageError:  # the hub says so; the client waits
            await trio.sleep(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return []
        self._pause = POLL
        if page.position == after:
            await self._hub._signal.wait(POLL)
        self.position = page.position
        return list(page.events)
