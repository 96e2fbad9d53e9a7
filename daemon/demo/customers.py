"""The customers: they write in bursts, repeat themselves, and somebody closes conversations."""

import collections.abc as cabc
import typing as t

import attrs
import trio
import trio.lowlevel

from daemon.demo.stage import until
from simulator.core import Simulator
from simulator.entropy import Entropy
from simulator.model import Account, Group
from storage.api import Storage
from storage.errors import StorageError

NAMES: t.Final = (
    "Ana", "Bruno", "Carla", "Diego", "Elena", "Fábio", "Gabi", "Heitor", "Inês", "João",
    "Karen", "Lucas", "Marta", "Nuno", "Olga", "Paulo", "Quim", "Rita", "Sofia", "Tiago",
)  # fmt: skip
PHRASES: t.Final = (
    "Hello! Is anybody there?",
    "Bom dia, quanto custa o frete?",
    "My parcel has not arrived yet 📦",
    "Quero trocar o produto, pode ser?",
    "Obrigada! ❤️",
    "Could you send me the invoice again, please?",
    "Até amanhã 👋",
    "It is the blue one, size 42.",
)
LONGEST_BURST: t.Final = 12
BACKLOG: t.Final = 400  # stanzas under way; then customers wait, whatever the rate


@attrs.define
class Tally:
    """What the customers have done so far."""

    written: int = 0  # texts
    owed: int = 0  # the same, counted once for each connection that gets them


class Customers:
    """Writes through simulated phones until cancelled."""

    def __init__(
        self,
        simulator: Simulator,
        connections: cabc.Sequence[Account],
        backlog: cabc.Callable[[], int],
        *,
        rate: float,
        entropy: Entropy,
    ) -> None:
        """``rate`` is texts per second on average, 0 for as many as are taken in;
        ``backlog`` says how many stanzas the connections have not acknowledged yet."""
        self.tally = Tally()
        self._simulator = simulator
        self._connections = connections
        self._backlog = backlog
        self._rate = rate
        self._entropy = entropy
        names = [
            NAMES[n % len(NAMES)] + (f" {n // len(NAMES) + 1}" if n >= len(NAMES) else "")
            for n in range(4 * len(connections))
        ]
        self._customers = [simulator.create_account(name) for name in names]
        self._group = self._make_group()

    def _make_group(self) -> Group:
        return self._simulator.create_group(
            "Neighbours", [*self._customers[:4], *self._connections[:2]]
        )

    async def write(self) -> None:
        """Bursts of texts at the rate."""
        next_at = trio.current_time()
        while True:
            size = 1 + self._entropy.below(LONGEST_BURST)
            if self._entropy.below(10) == 0:
                await self._to_group(min(size, 3))
            else:
                await self._to_connection(size)
            await until(lambda: self._backlog() <= BACKLOG)
            if self._rate:
                next_at = max(next_at + size / self._rate, trio.current_time() - 1.0)
                await trio.sleep_until(next_at)
            else:
                await trio.lowlevel.checkpoint()

    async def _to_connection(self, size: int) -> None:
        number = self._entropy.below(len(self._customers))
        customer = self._customers[number]
        known = (number + self._entropy.below(2)) % len(self._connections)  # two for each
        connection = self._connections[known]
        address = connection.lid if self._entropy.below(3) == 0 else connection.pn
        for _ in range(size):
            message_id = await customer.phone.send_text(address, self._text())
            self._count(1)
            match self._entropy.below(20):
                case 0:  # the very same stanza once more
                    await customer.phone.repeat(message_id)
                case 1:  # the server delivers something twice
                    self._simulator.faults.duplicate(connection.pn)
                case _:
                    pass

    async def _to_group(self, size: int) -> None:
        customer = self._pick(self._customers[:4])
        for _ in range(size):
            await customer.phone.send_group_text(self._group.jid, self._text())
            self._count(min(2, len(self._connections)))

    def _count(self, owed: int) -> None:
        self.tally.written += 1
        self.tally.owed += owed

    def _text(self) -> str:
        phrase = PHRASES[self._entropy.below(len(PHRASES))]
        return f"{phrase} ({self.tally.written + 1})"

    def _pick(self, accounts: cabc.Sequence[Account]) -> Account:
        return accounts[self._entropy.below(len(accounts))]


async def close_conversations(storage: Storage, every: float, entropy: Entropy) -> t.NoReturn:
    """Somebody works through the list: opens a conversation, or closes it."""
    while True:
        await trio.sleep(every)
        try:
            rows = await storage.conversations(status=None, connection=None, limit=20)
            live = [row for row in rows if row.status != "closed"]
            if live:
                chosen = live[entropy.below(len(live))]
                await storage.open_conversation(chosen.id)
                await storage.close_conversation(chosen.id)
        except StorageError:
            continue  # somebody else, or the next time
