"""The sender's tests: an outbox in memory, and a fleet that writes from it."""

import collections.abc as cabc
import contextlib
import datetime as dt
import typing as t

import attrs
import trio

from actors.media_http import MediaUnavailableError
from actors.sender import Sender
from actors.settings import Files
from simulator import Account
from storage.api import ConversationRules, Envelope, MessageRow, Outcome, RecordKind
from storage.facts import OutboxStep
from storage.queues import OutboxRequest, OutboxRow
from tests.actors.conftest import NAME, START, FaultyStorage
from tests.actors.world import World, open_world
from whatsapp.media_source import MediaSource
from whatsapp.sending import message_id

NOW: t.Final = dt.datetime.fromtimestamp(START, dt.UTC)
DONE: t.Final = ("sent", "delivered", "read", "played", "failed", "unknown")


class OutboxStorage(FaultyStorage):
    """Stops for good before or after the commit of a step, when told."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[OutboxStep] = []
        self.uploads: list[tuple[str, str]] = []
        self.hold_before: str | None = None
        self.hold_after: str | None = None
        self.holding = trio.Event()

    @property
    def rows(self) -> dict[int, OutboxRow]:
        """The outbox of the connection that writes."""
        return {key: item.row for key, item in self._queues_of(NAME).outbox.items()}

    @property
    def lists(self) -> dict[str, tuple[int, ...]]:
        """The device lists that it knows."""
        return {key: item.devices for key, item in self._queues_of(NAME).devices.items()}

    # ---- commits

    async def apply(self, batch: cabc.Sequence[Envelope]) -> list[Outcome]:
        facts = [fact for item in batch for fact in item.facts]
        steps = [fact for fact in facts if isinstance(fact, OutboxStep)]
        if any(step.state == self.hold_before for step in steps):
            await self._hold()
        outcomes = await super().apply(batch)
        self.steps += steps
        if any(step.state == self.hold_after for step in steps):
            await self._hold()
        return outcomes

    async def _hold(self) -> None:
        self.holding.set()
        await trio.sleep_forever()

    async def upload(self, _connection: str, file: str, kind: str) -> MediaSource:
        """Any file, but a broken one."""
        self.uploads.append((file, kind))
        if file == "broken":
            raise ZeroDivisionError
        if file == "late" and len(self.uploads) < 3:
            raise MediaUnavailableError("not now", retry_after=100.0)
        return MediaSource(
            kind=kind,
            media_key=b"k" * 32,
            direct_path="/v/1",
            url="https://media.example/v/1",
            sha256=b"s" * 32,
            enc_sha256=b"e" * 32,
            length=5,
            mimetype="image/jpeg",
        )


@attrs.define
class SendingWorld:
    """A world whose connection ``sales`` writes to a customer with a phone and a companion."""

    world: World
    storage: OutboxStorage

    @property
    def team(self) -> Account:
        """The account that writes."""
        return self.world.accounts[NAME]

    @property
    def customer(self) -> Account:
        """Phone, and the companion that is our connection ``buyer``."""
        return self.world.accounts["buyer"]

    @property
    def sender(self) -> Sender[t.Any]:
        """That of the present life."""
        sender = self.world.fleet._members[NAME].connection.sender
        assert sender is not None
        return sender

    async def enqueue(self, chat: object, kind: str, key: str | None, body: t.Any) -> OutboxRow:
        """Queue something without waking anybody."""
        number = len(self.storage.rows) + 1
        row, _made = await self.storage.enqueue(
            NAME,
            key or f"key {number}",
            OutboxRequest(kind=kind, chat=str(chat), body=body),
            external_id=message_id(self.team.pn, number, bytes(16)),
        )
        return row

    async def put(
        self, chat: object, kind: str = "text", /, *, key: str | None = None, **body: t.Any
    ) -> int:
        """Queue a message; its row."""
        row = await self.enqueue(chat, kind, key, body)
        self.sender.wake()
        return row.id

    async def send(self, chat: object, kind: str = "text", /, **body: t.Any) -> OutboxRow:
        """Queue a message and wait until its fate is known."""
        number = await self.put(chat, kind, **body)
        await self.until_done(number)
        return self.storage.rows[number]

    async def until_done(self, *numbers: int) -> None:
        """Wait until rows are in a state that is final as far as sending goes."""
        await self.world.until(
            lambda: all(self.storage.rows[number].state in DONE for number in numbers),
            f"rows {numbers} are sent",
        )

    async def held(self) -> None:
        """Wait until a commit is held."""
        with trio.fail_after(60):
            await self.storage.holding.wait()

    async def until_state(self, number: int, *states: str) -> None:
        """Wait for a state of one row."""
        await self.world.until(lambda: self.storage.rows[number].state in states, f"{states}")

    async def restart_after_hold(self) -> None:
        """The same, out of a commit that was held."""
        self.storage.hold_before = self.storage.hold_after = None
        self.storage.holding = trio.Event()
        await self.restart()

    async def restart(self) -> None:
        """Lose everything in memory and start again, all connections online."""
        await self.world.kill_daemon()
        await self.world.start_daemon()
        for name in self.world.names:
            await self.world.until_state(name, "online")
        await trio.sleep(1)

    async def stored(self, connection: str) -> list[MessageRow]:
        """The messages of a connection, in the order of their rows."""
        rows = await self.storage.list_messages(connection, after=0, limit=500)
        return [row for row in rows if row.kind not in ("system", "protocol")]

    async def texts(self, connection: str) -> list[str]:
        """What a connection has stored."""
        return [row.text or "" for row in await self.stored(connection)]

    def phone_texts(self, account: Account) -> list[str | None]:
        """What a phone could read."""
        return [item.text for item in account.phone.inbox]

    def records(self, kind: RecordKind) -> dict[str, bytes]:
        """What is stored of the writing connection."""
        return self.storage._connections[NAME].records[kind]


@contextlib.asynccontextmanager
async def sending_world(**settings: t.Any) -> cabc.AsyncIterator[SendingWorld]:
    """Two connections online: ``sales`` writes, ``buyer`` is a device of the customer."""
    storage = OutboxStorage()
    for name in (NAME, "buyer"):
        await storage.ensure_connection(name, ConversationRules())
    files = Files(upload=storage.upload)
    async with open_world(storage, NAME, "buyer", files=files, **settings) as world:
        await trio.sleep(1)
        yield SendingWorld(world, storage)
