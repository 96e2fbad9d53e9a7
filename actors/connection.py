"""The actor behind one WhatsApp connection."""

import typing as t

import structlog
import trio

from actors.app_state import Asked
from actors.deafness import Hearing
from actors.errors import (
    ConnectionEndedError,
    ConnectionHeldError,
    ConnectionStoppedError,
    PairingFailedError,
)
from actors.fences import pass_fence
from actors.gaps import Outages
from actors.hearing import Ear
from actors.inbound import own_addresses
from actors.life import Life
from actors.line import ConnectionLine, NotOnlineError
from actors.messages import Replay
from actors.pairing import PairingBoard
from actors.pairing_flow import pair
from actors.sender import Sender
from actors.settings import ConnectionSettings, Counts, Report, Tools
from storage.api import RecordKind
from storage.errors import SealError, StorageUnavailableError
from whatsapp.device import Device
from whatsapp.errors import LocalProtocolError
from whatsapp.jid import Jid


class Connection:
    """One WhatsApp connection; ``run`` is one life of it, and the supervisor gives it many.

    Nothing that is stored is kept in memory from one life to the next: a new one waits behind a
    fence until all that the old one posted is settled, and reads its records from storage.
    """

    def __init__(
        self,
        name: str,
        settings: ConnectionSettings,
        tools: Tools,
        *,
        report: Report,
        board: PairingBoard,
        counts: Counts,
    ) -> None:
        self.name = name
        self.jid: str | None = None
        """Whom this is, masked for display; known once it has run."""
        self.device_jid: Jid | None = None
        """The own device while it runs."""
        self.own: tuple[Jid, ...] = ()
        """The account's bare addresses, the phone number first; known once it has run."""
        self.line = ConnectionLine(name)
        self.sender: Sender[t.Any] | None = None
        """Sends the outbox, while there is a life."""
        self.outages = Outages(name, tools.writer, tools.wall_clock)
        self._life: Life | None = None
        ear = Ear(settings.hearing, trio.current_time, tools.wall_clock)
        self.hearing = Hearing(name, ear)
        """Judges whether it hears, from life to life; in memory only."""
        self._asked = Asked()
        counts.deaf_suspicion = lambda: ear.suspicion
        self._settings = settings
        self._tools = tools
        self._report = report
        self._board = board
        self._counts = counts

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, and serve until something ends the connection.

        Raises:
            ConnectionEndedError: always, one way or another; cancellation aside.
        """
        if not self._tools.admission.holding:
            self._report("connecting", "fence", "waits until all that was received is stored")
        await pass_fence(self._tools.writer, self.name)
        if self._board.requested:
            await self._pair(task_status)
            task_status = trio.TASK_STATUS_IGNORED  # reported with the first code to scan
        device = await self._stored_device()
        if device is None or device.jid is None:
            raise ConnectionStoppedError(
                "not_paired",
                f"no phone is linked; run: zapvisor pair {self.name}",
                state="stopped",
            )
        renewing = await self._check_age()
        self.jid = masked(device.jid)
        self.own = own_addresses(device)
        life = Life(
            self.name,
            device,
            device.jid,
            self._settings,
            self._tools,
            self._report,
            self._counts,
            self.line,
            self._asked,
            self.hearing,
            self.outages,
            renewing=renewing,
        )
        self.device_jid, self.sender, self._life = device.jid, life.parts.sender, life
        try:
            await life.run(task_status)
        finally:
            self.device_jid = self.sender = self._life = None

    async def replay(self, replay: Replay) -> None:
        """Read a stanza again in the life that there is.

        Raises:
            NotOnlineError: there is none.
        """
        if self._life is None:
            raise NotOnlineError(f"{self.name} is not online")
        await self._life.replay(replay)

    async def release_records(self) -> None:
        """Hold nothing in memory of sessions that were erased; a new life has none of them."""
        if self._life is not None:
            await self._life.release_records()

    async def _stored_device(self) -> Device | None:
        try:
            found = await self._tools.storage.load_records(self.name, RecordKind.DEVICE, [""])
            return Device.from_bytes(found[""]) if "" in found else None
        except StorageUnavailableError as error:
            raise ConnectionHeldError(
                "storage_unavailable", f"the database is away: {error}"
            ) from error
        except (SealError, LocalProtocolError) as error:
            raise ConnectionStoppedError(
                "keys_unreadable",
                f"the stored keys of this device cannot be read ({error}); put the secret key back"
                " that they were stored with (storage.key_file) and restart the daemon,"
                f" or link the phone anew: zapvisor pair {self.name}",
                state="parked",  # nobody wished it, so health has to tell
            ) from error

    async def _check_age(self) -> bool:
        """Whether the server is to get fresh prekeys, because older keys were accepted."""
        try:
            marks = await self._tools.storage.stale_keys(self.name)
        except StorageUnavailableError as error:
            raise ConnectionHeldError(
                "storage_unavailable", f"the database is away: {error}"
            ) from error
        if marks and not marks[0].accepted:
            raise ConnectionStoppedError(
                "stale_keys",
                "the keys in this database are older than what was sent with them: what they"
                " encrypt now would be lost; put the newer database back, or accept it:"
                f" zapvisor recover {self.name}, or link the phone anew: zapvisor pair {self.name}",
                state="parked",
            )
        return bool(marks)

    async def _pair(self, task_status: "trio.TaskStatus[None]") -> None:
        self._report("pairing", "pairing", "asking WhatsApp for a code to scan")
        try:
            device = await pair(self.name, self._settings, self._tools, self._board, task_status)
        except ConnectionEndedError as error:
            self._board.failed(error.sentence)
            if await self._stored_device() is not None:
                raise PairingFailedError(error.reason, error.sentence) from error
            raise ConnectionStoppedError(error.reason, error.sentence, state="stopped") from error
        except BaseException:
            self._board.failed("it was stopped before a phone was linked")
            raise
        self._tools.admission.wish(self.name)
        self._counts.phone_seen(self._tools.wall_clock())  # it has taken the code
        jid = "nobody" if device.jid is None else masked(device.jid)
        self._board.paired(f"paired as {jid}")
        structlog.get_logger("connection").info("connection.paired", connection=self.name, jid=jid)


def masked(jid: Jid) -> str:
    """A JID with all but the last four digits of the number hidden."""
    return f"***{jid.user[-4:]}:{jid.device}@{jid.server}"
