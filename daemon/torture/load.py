"""What people do meanwhile: they write, answer, change their minds, send files; the team, too.

Everything that has to be in the database afterwards is in the simulator's ledger, or here.
"""

import collections
import contextlib
import typing as t

import attrs
import httpx
import trio

from daemon.torture.process import DaemonKeeper, until
from simulator.core import Simulator
from simulator.entropy import Entropy
from simulator.letters import Wrapping
from simulator.model import Account
from simulator.phone import Chunk
from simulator.replies import Attributes
from whatsapp import compose
from whatsapp.content import TargetKey
from whatsapp.history import HistoryConversation
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.web_message import HistoryMessage

PER_CONNECTION: t.Final = 4  # customers
BACKLOG: t.Final = 400  # stanzas under way; then people wait
SEND_EVERY: t.Final = 1.2  # seconds between two messages of a connection's own
SEND_AGAIN: t.Final = 0.2  # seconds until a request that failed is made again
MAX_OPEN_SENDS: t.Final = 40  # requests of one connection that are not taken in yet
OLD: t.Final = 1_700_000_000  # unix seconds, when histories were
FILE: t.Final = 20_000  # bytes
_REMEMBERED: t.Final = 50  # messages of a customer that edits and the like are about
_LOOK: t.Final = 0.05  # seconds

Key: t.TypeAlias = tuple[str, str, str, str]
"""Connection, chat, author, id; persons by their phone number."""


@attrs.frozen(kw_only=True)
class Send:
    """A message asked for through the API."""

    connection: str
    to: Jid
    text: str
    external_id: str


@attrs.frozen
class _Written:
    chat: Jid
    id: str


class Load:
    """People, and what they do, until cancelled."""

    def __init__(
        self,
        simulator: Simulator,
        keeper: DaemonKeeper,
        team: dict[str, Account],
        *,
        rate: float,
        entropy: Entropy,
    ) -> None:
        """``team``: the accounts of the connections, by name; ``rate``: things per second."""
        self.sends: dict[str, Send] = {}
        """What the API has taken in, by idempotency key."""
        self.asked = 0
        """Idempotency keys so far."""
        self.conflicting: list[str] = []
        """Keys that were answered with two different messages."""
        self.history: dict[Key, str] = {}
        """Texts that phones offered as history."""
        self.malformed = 0
        self.done: collections.Counter[str] = collections.Counter()
        self._simulator = simulator
        self._keeper = keeper
        self._team = team
        self._rate = rate
        self._entropy = entropy.fork("people")
        self._sending = entropy.fork("sends")
        self.customers = [
            simulator.create_account(f"Customer {number}")
            for number in range(PER_CONNECTION * len(team))
        ]
        self._accounts = list(team.values())
        self.group = simulator.create_group(
            "Neighbours", [*self.customers[:4], *self._accounts[:3]]
        )
        self._open: dict[str, tuple[str, Jid, str]] = {}  # requests, by key
        self._own: dict[Jid, collections.deque[_Written]] = {}
        self._written = 0

    def backlog(self) -> int:
        """Stanzas that the connections have not acknowledged."""
        return sum(len(device.queue) for account in self._accounts for device in account.companions)

    async def _has_room(self) -> bool:
        await trio.lowlevel.checkpoint()
        return self.backlog() <= BACKLOG

    # ---- writing

    async def write(self) -> t.NoReturn:
        """One thing after the other, at the rate; a backlog holds people back."""
        acts = [act for act, weight in self._acts() for _ in range(weight)]
        next_at = trio.current_time()
        while True:
            act = acts[self._entropy.below(len(acts))]
            await act()
            self.done[act.__name__] += 1
            await until(self._has_room, _LOOK)
            next_at = max(next_at + 1 / self._rate, trio.current_time() - 1.0)
            await trio.sleep_until(next_at)

    def _acts(self) -> tuple[tuple[t.Callable[[], t.Awaitable[None]], int], ...]:
        return (
            (self.text, 40),
            (self.burst, 3),
            (self.group_text, 14),
            (self.repeat, 3),
            (self.picture, 4),
            (self.reaction, 5),
            (self.edit, 5),
            (self.revoke, 3),
            (self.from_phone, 6),
            (self.read, 3),
            (self.setting, 4),
            (self.forget, 1),
            (self.old_messages, 2),
            (self.nonsense, 1),
        )

    async def text(self, to: Account | None = None) -> None:
        """A customer writes to one of two connections, or to this one."""
        customer, address = self._pair()
        await self._write(customer, address if to is None else to.pn, self._words())

    async def burst(self) -> None:
        """A customer writes in one go."""
        customer, to = self._pair()
        for _ in range(8):
            await self._write(customer, to, self._words())

    async def _write(self, customer: Account, to: Jid, text: str) -> None:
        self._remember(customer, to, await customer.phone.send_text(to, text))

    async def group_text(self) -> None:
        """Somebody writes to the group."""
        customer = self._pick(self.customers[:4])
        text = self._words()
        message_id = await customer.phone.send_group_text(self.group.jid, text)
        self._remember(customer, self.group.jid, message_id)

    async def repeat(self) -> None:
        """The very same stanza once more."""
        customer = self._pick(self.customers)
        if known := self._own.get(customer.pn):
            await customer.phone.repeat(known[-1].id)

    async def picture(self) -> None:
        """A customer sends a file."""
        customer, to = self._pair()
        data = self._entropy(32) * (FILE // 32)
        source = customer.phone.upload("image", data, mimetype="image/jpeg")
        content = compose.media(source, caption=self._words())
        wrapping = Wrapping(type="media", mediatype="image")
        await customer.phone.send_message(to, content, wrapping)

    async def reaction(self) -> None:
        """A customer reacts to what they wrote."""
        await self._about(
            lambda key, now: compose.reaction(key, "👍", now),
            Wrapping(type="reaction", hidden=True),
        )

    async def edit(self) -> None:
        """A customer changes what they wrote."""
        text = self._words()
        await self._about(lambda key, now: compose.edit(key, text, now), Wrapping(edit="1"))

    async def revoke(self) -> None:
        """A customer deletes what they wrote."""
        await self._about(lambda key, _now: compose.revoke(key), Wrapping(edit="7"))

    async def _about(self, build: t.Callable[[TargetKey, int], bytes], wrapping: Wrapping) -> None:
        """Something about an earlier message of the same customer's."""
        customer = self._pick(self.customers)
        if known := self._own.get(customer.pn):
            target = known[self._entropy.below(len(known))]
            key = TargetKey(remote_jid=str(target.chat), from_me=True, id=target.id)
            now = int(self._simulator.world.now() * 1000)
            await customer.phone.send_message(target.chat, build(key, now), wrapping)

    async def from_phone(self) -> None:
        """The team writes on the phone; its companions get copies."""
        account, customer = self._pick(self._accounts), self._pick(self.customers)
        await account.phone.send_text(customer.lid, self._words())

    async def read(self) -> None:
        """A customer reads what a connection sent."""
        customer = self._pick(self.customers)
        for received in reversed(customer.phone.inbox):
            if not received.chat.is_group:
                await customer.phone.read(received.chat, received.id)
                return

    async def setting(self) -> None:
        """A change of app state."""
        account, customer = self._pick(self._accounts), self._pick(self.customers)
        await account.phone.archive(customer.pn, self._entropy.below(2) == 0)

    async def forget(self) -> None:
        """A customer's phone loses its sessions with a connection, and asks for what it cannot
        read to be sent again."""
        await trio.lowlevel.checkpoint()
        self._pick(self.customers).phone.forget(self._pick(self._accounts))

    async def old_messages(self, most: int = 150) -> None:
        """A chunk of history, told to one connection."""
        name = self._pick_name()
        account, customer = self._team[name], self._pick(self.customers)
        chat = str(customer.lid)
        messages = []
        for _ in range(1 + self._entropy.below(most)):
            text = self._words()
            message_id = f"OLD{self._entropy(8).hex().upper()}"
            self.history[name, str(customer.pn), str(customer.pn), message_id] = text
            messages.append(
                HistoryMessage(
                    key=TargetKey(remote_jid=chat, from_me=False, id=message_id),
                    timestamp=OLD + self._written,
                    message=compose.text(text),
                )
            )
        chunk = Chunk(
            sync_type="recent",
            chunk_order=self._written,
            inline=self._entropy.below(2) == 0,
            conversations=(HistoryConversation(chat=chat, messages=tuple(reversed(messages))),),
        )
        await account.phone.push_history(chunk)

    async def nonsense(self) -> None:
        """A stanza that is no message, though it says so."""
        await trio.lowlevel.checkpoint()
        account, customer = self._pick(self._accounts), self._pick(self.customers)
        self.malformed += 1
        told: Attributes = {
            "from": customer.pn,
            "id": f"BAD{self.malformed}",
            "t": 1,
            "type": "text",
        }
        for device in account.companions:
            self._simulator.world.owe(device, Node("message", told))

    # ---- sending

    async def send(self, name: str) -> None:
        """Let a connection send, until cancelled; each request is made until it is taken in."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(SEND_EVERY * (0.5 + self._sending.below(1000) / 1000))
                if len(self._open) < MAX_OPEN_SENDS:
                    nursery.start_soon(self._take_in, self._new_request(name))

    async def send_once(self, name: str) -> None:
        """One message, until it is taken in."""
        await self._take_in(self._new_request(name))

    async def finish(self) -> None:
        """Make the requests that nobody has taken in yet, until they are."""
        for key in list(self._open):
            await self._take_in(key)

    def _new_request(self, name: str) -> str:
        self.asked += 1
        key = f"torture-{self.asked}"
        to = self.customers[self._sending.below(len(self.customers))].pn
        if self._sending.below(5) == 0 and self._team[name].lid in self.group.members:
            to = self.group.jid
        self._open[key] = (name, to, f"answer {self.asked}")
        return key

    async def _take_in(self, key: str) -> None:
        name, to, text = self._open[key]
        while True:
            if (row := await self._ask(name, key, to, text)) is not None:
                break
            await trio.sleep(SEND_AGAIN)
        self.sends[key] = Send(connection=name, to=to, text=text, external_id=row["external_id"])
        del self._open[key]
        if self._sending.below(4) == 0:  # the client did not hear the answer, and asks again
            again = await self._ask(name, key, to, text)
            if again is not None and again["external_id"] != row["external_id"]:
                self.conflicting.append(key)

    async def _ask(self, name: str, key: str, to: Jid, text: str) -> dict[str, t.Any] | None:
        """The row, once the request is taken in; None when nobody, or not now."""
        body = {"to": str(to), "kind": "text", "text": text}
        with contextlib.suppress(httpx.HTTPError):
            answer = await self._keeper.request(
                "POST", f"/connections/{name}/messages", body, {"Idempotency-Key": key}
            )
            if answer.is_success:
                row: dict[str, t.Any] = answer.json()
                return row
        return None

    # ---- choosing

    def _pair(self) -> tuple[Account, Jid]:
        """A customer, and one of the two connections that it writes to."""
        number = self._entropy.below(len(self.customers))
        account = self._accounts[(number + self._entropy.below(2)) % len(self._accounts)]
        address = account.lid if self._entropy.below(3) == 0 else account.pn
        return self.customers[number], address

    def _pick(self, accounts: t.Sequence[Account]) -> Account:
        return accounts[self._entropy.below(len(accounts))]

    def _pick_name(self) -> str:
        return list(self._team)[self._entropy.below(len(self._team))]

    def _words(self) -> str:
        self._written += 1
        return f"message {self._written}"

    def _remember(self, author: Account, chat: Jid, message_id: str) -> None:
        known = self._own.setdefault(author.pn, collections.deque(maxlen=_REMEMBERED))
        known.append(_Written(chat, message_id))
