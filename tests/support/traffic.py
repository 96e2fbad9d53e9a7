"""Customers who write all the time, and what has become of it."""

import typing as t

import attrs
import trio

from simulator import Simulator
from simulator.model import Account
from tests.support.daemon_process import DaemonProcess


@attrs.define(eq=False)
class Traffic:
    """Steady one-to-one messages to an account of the team."""

    simulator: Simulator
    team: Account
    customers: list[Account]
    pause: float = 0.2  # seconds between two rounds
    sent: dict[str, str] = attrs.field(factory=dict)  # text by id

    @classmethod
    def to(cls, simulator: Simulator, team: Account, count: int = 3, **more: t.Any) -> "Traffic":
        """From new customers."""
        names = [f"{team.name}'s customer {number}" for number in range(count)]
        return cls(simulator, team, [simulator.create_account(name) for name in names], **more)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled."""
        task_status.started()
        while True:
            await self.write()
            await trio.sleep(self.pause)

    async def write(self) -> None:
        """A message from each."""
        for customer in self.customers:
            text = f"{customer.name}: {len(self.sent)}"
            self.sent[await customer.phone.send_text(self.team.pn, text)] = text

    @property
    def unacknowledged(self) -> int:
        """Messages that the daemon's device has not acknowledged."""
        return len(self.simulator.ledger.unacknowledged(self.team.companions[0].pn))

    async def settled(self, daemon: DaemonProcess) -> None:
        """Wait until all is acknowledged; it is all stored then, each once, in order."""

        async def nothing_left() -> bool:
            return not self.unacknowledged

        await daemon.until(nothing_left, "everything is acknowledged")
        rows = [row for row in await daemon.messages() if row["external_id"] in self.sent]
        assert {row["external_id"]: row["text"] for row in rows} == self.sent
        assert len(rows) == len(self.sent)
        for customer in self.customers:
            texts = [row["text"] for row in rows if row["text"].startswith(f"{customer.name}: ")]
            assert texts == [
                text for text in self.sent.values() if text.startswith(f"{customer.name}: ")
            ]
