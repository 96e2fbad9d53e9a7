"""What the connections do when somebody asks, besides starting and stopping."""

import collections.abc as cabc
import typing as t

import attrs
import trio

from actors.fleet import Fleet
from actors.history import request_older
from actors.line import NotOnlineError
from actors.reprocess import ReprocessReport, reprocess
from actors.sender import TypingState
from actors.services import Services
from storage.api import Storage
from storage.errors import StorageError
from whatsapp.jid import Jid
from whatsapp.sending import message_id

NOBODY: t.Final = Jid("0", "s.whatsapp.net")  # stands for the account before it is known


class Actions:
    """Orders of the API, passed on to whoever carries them out."""

    def __init__(
        self,
        fleet: Fleet,
        services: Services,
        storage: Storage,
        wall_clock: cabc.Callable[[], float],
        random: cabc.Callable[[int], bytes],
    ) -> None:
        self._fleet = fleet
        self._services = services
        self._storage = storage
        self._wall_clock = wall_clock
        self._random = random

    def message_id(self, name: str) -> str:
        """A new stanza id."""
        own = next(iter(self._fleet.own_addresses(name)), NOBODY)
        return message_id(own, int(self._wall_clock()), self._random(16))

    def outbox_changed(self, name: str) -> None:
        """There may be something to send."""
        sender = self._fleet.sender(name)
        if sender is not None:
            sender.wake()

    async def typing(self, name: str, chat: str, state: TypingState) -> None:
        """Show in a chat that somebody types, records, or has stopped.

        Raises:
            NotOnlineError: there is nobody to show it to.
        """
        sender = self._fleet.sender(name)
        if sender is None:
            raise NotOnlineError(f"{name} is not online")
        await sender.typing(Jid.parse(chat), state)

    async def older_history(self, name: str, chat: str, count: int) -> str:
        """Ask the phone for older messages of a chat; see ``actors.history.request_older``."""
        own = self._fleet.own_addresses(name)
        lid = next((str(jid) for jid in own if jid.is_lid), None)
        line = self._fleet.line(name)
        return await request_older(line, self._storage, name, chat, count, lid)

    def history_changed(self, _name: str) -> None:
        """Chunks of history are to be imported again."""
        self._services.history.wake()

    async def fetch_media(self, connection: str, message_id: int) -> bool:
        """Fetch the file of a message soon; see ``actors.media.MediaKeeper.fetch_now``."""
        return await self._services.media.fetch_now(connection, message_id)


@attrs.frozen(kw_only=True)
class ReprocessRun:
    """A reading of stored messages anew, as far as it is."""

    state: t.Literal["idle", "running", "done", "failed"] = "idle"
    connection: str | None = None  # None: all
    report: ReprocessReport = attrs.field(factory=ReprocessReport)
    error: str | None = None


class Reprocessor:
    """The service that reads stored messages anew, one run at a time."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._run = ReprocessRun()
        self._begun = trio.Event()
        self._ended = trio.Event()
        self._ended.set()

    def begin(self, connection: str | None) -> bool:
        """Begin a run over one connection or all; False when one is under way already."""
        if self._run.state == "running":
            return False
        self._run = ReprocessRun(state="running", connection=connection)
        self._ended = trio.Event()
        self._begun.set()
        return True

    def current(self) -> ReprocessRun:
        """The run under way, or the last one."""
        return self._run

    async def finished(self) -> ReprocessRun:
        """Wait until no run is under way."""
        await self._ended.wait()
        return self._run

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; a run that was cut off is begun anew."""
        task_status.started()
        while True:
            await self._begun.wait()
            connection = self._run.connection
            try:
                report = await reprocess(self._storage, connection)
            except StorageError as error:
                self._end(attrs.evolve(self._run, state="failed", error=str(error)))
            else:
                self._end(attrs.evolve(self._run, state="done", report=report))

    def _end(self, run: ReprocessRun) -> None:
        self._run = run
        self._begun = trio.Event()
        self._ended.set()
