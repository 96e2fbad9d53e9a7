"""The actor behind one WhatsApp connection."""

import structlog
import trio

from actors.errors import ConnectionEndedError, ConnectionStoppedError
from actors.life import Life
from actors.messages import Fence
from actors.pairing import PairingBoard
from actors.pairing_flow import pair
from actors.settings import ConnectionSettings, Counts, Report, Tools
from storage.api import RecordKind
from whatsapp.device import Device


class Connection:
    """One WhatsApp connection; ``run`` is one life of it, and the supervisor gives it many.

    Nothing is kept in memory from one life to the next: a new one waits behind a fence until
    all that the old one posted is settled, and reads its records from storage.
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
        self._report("connecting", "fence", "waiting until everything received is stored")
        fence = Fence(trio.Event())
        await self._tools.writer.post(fence)
        await fence.passed.wait()
        if self._board.requested:
            await self._pair(task_status)
        device = await self._stored_device()
        if device is None or device.jid is None:
            raise ConnectionStoppedError(
                "not_paired",
                f"no phone is linked; run: zapvisor pair {self.name}",
                state="stopped",
            )
        life = Life(
            self.name, device, device.jid, self._settings, self._tools, self._report, self._counts
        )
        await life.run(task_status)

    async def _stored_device(self) -> Device | None:
        found = await self._tools.storage.load_records(self.name, RecordKind.DEVICE, [""])
        return Device.from_bytes(found[""]) if "" in found else None

    async def _pair(self, task_status: "trio.TaskStatus[None]") -> None:
        self._report("pairing", "pairing", "asking WhatsApp for a code to scan")
        try:
            device = await pair(self.name, self._settings, self._tools, self._board, task_status)
        except ConnectionEndedError as error:
            self._board.failed(error.sentence)
            if await self._stored_device() is not None:
                raise  # the next life goes on with the device of before
            raise ConnectionStoppedError(error.reason, error.sentence, state="stopped") from error
        self._board.paired(f"paired as {masked(device)}")
        structlog.get_logger("connection").info(
            "connection.paired", connection=self.name, jid=masked(device)
        )


def masked(device: Device) -> str:
    """The device's JID with all but the last four digits of the number hidden."""
    if device.jid is None:
        return "nobody"
    number = device.jid.user
    return f"***{number[-4:]}:{device.jid.device}@{device.jid.server}"
