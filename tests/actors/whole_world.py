"""A whole daemon in virtual time: fleet, services, files on a disk, and what they stored."""

import collections.abc as cabc
import contextlib
import json
import pathlib
import random
import ssl
import typing as t
from unittest import mock

import attrs
import httpx
import trio

from actors.media import MediaSettings
from actors.media_http import HttpSettings, MediaHttp
from actors.services import Outside, Services, history_filter
from actors.settings import Files
from actors.writer import Writer, WriterSettings
from actors.writer_inbox import writer_inbox
from simulator import Account, MediaUnavailableError, Simulator, open_simulator
from simulator.phone import Phone
from storage import blobs
from storage.api import Storage
from storage.blobs import LocalBlobs
from storage.inbox import MessageDetail
from storage.memory import MemoryStorage
from storage.queues import OutboxRequest, OutboxRow
from tests.actors.conftest import NAME
from tests.actors.world import DEADLINE, START, World, make_fleet
from whatsapp.iq import prekeys
from whatsapp.jid import Jid
from whatsapp.sending import message_id

T = t.TypeVar("T")
TRUST: t.Final = ssl.create_default_context()  # takes long to make
PREKEYS: t.Final = 60  # instead of hundreds, which take long too
Where: t.TypeAlias = Account | Jid | str


@attrs.define(kw_only=True)
class WholeWorld(World):
    """A world whose daemon has all its services; its connection is called ``sales``."""

    directory: pathlib.Path
    media: MediaSettings = attrs.field(factory=MediaSettings)
    services: Services = attrs.field(init=False)
    _asked: int = attrs.field(init=False, default=0)

    # ---- the daemon

    async def start_daemon(self) -> None:
        """Run a new daemon over the same storage and the same files."""
        seeded = random.Random(3)
        self.writer = Writer(self.storage, writer_inbox(), WriterSettings(), seeded.random)
        self.services = Services(
            Outside(
                storage=self.storage,
                writer=self.writer,
                blobs=LocalBlobs(self.directory),
                http=lambda lines: MediaHttp(
                    HttpSettings(spool=self.directory),
                    lines=lines,
                    random=seeded.randbytes,
                    transport=httpx.MockTransport(self._answer),
                ),
                wall_clock=wall_clock,
                random=seeded.randbytes,
                uniform=seeded.random,
            ),
            self.media,
            history_wanted=history_filter(True),
            keep_payloads=7 * 86_400.0,
            keep_events=400 * 86_400.0,
            keep_stream=14 * 86_400.0,
            keep_accesses=400 * 86_400.0,
        )
        self.files: Files = self.services.files
        self.fleet = await make_fleet(self, self.names)
        self.services.bind(self.fleet)
        self.scope = trio.CancelScope()

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.writer.run)
                    await nursery.start(self.fleet.run)
                    for child in self.services.children():
                        await nursery.start(child.start)
                    task_status.started()

        await self.nursery.start(run)

    async def restart_daemon(self) -> None:
        """Lose everything in memory, and be online again."""
        await self.kill_daemon()
        await self.start_daemon()
        await self.until_state(NAME, "online")

    def _all_acknowledged(self) -> bool:
        queues = [device.queue for each in self.accounts.values() for device in each.companions]
        return not any(map(len, queues))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        """The media host, in this process."""
        media = self.simulator.media
        if request.method == "POST":
            stored = media.put(await request.aread(), request.url.path.split("/")[2])
            answer = {"url": stored.url, "direct_path": stored.direct_path}
            return _streamed(json.dumps(answer).encode())
        try:
            return _streamed(media.get(request.url.raw_path.decode()))
        except MediaUnavailableError as error:
            return httpx.Response(error.status)

    # ---- people

    @property
    def team(self) -> Account:
        """The account that the connection belongs to."""
        return self.accounts[NAME]

    @property
    def phone(self) -> Phone:
        """The team's phone."""
        return self.team.phone

    async def send(self, chat: Where, kind: str, /, **body: t.Any) -> OutboxRow:
        """Have the connection send something, up to the answer of the server."""
        self._asked += 1
        row, _made = await self.storage.enqueue(
            NAME,
            f"key {self._asked}",
            OutboxRequest(kind=kind, chat=address(chat), body=body),
            external_id=message_id(self.team.pn, self._asked, bytes(16)),
        )
        if (sender := self.fleet.sender(NAME)) is not None:
            sender.wake()

        async def done() -> OutboxRow | None:
            now = await self.storage.outbox_row(NAME, row.id)
            return now if now is not None and now.state not in ("queued", "sending") else None

        return await self.eventually(done, f"{kind} was sent")

    # ---- what is stored

    async def eventually(self, look: cabc.Callable[[], cabc.Awaitable[T | None]], what: str) -> T:
        """What a look at storage shows, as soon as it shows anything."""
        began = trio.current_time()
        with trio.move_on_after(2 * DEADLINE):
            while not (found := await look()):
                await trio.sleep(max(0.25, (trio.current_time() - began) / 20))
            return found
        raise AssertionError(f"never happened: {what}; {self.fleet.status()}")

    async def talk(self, chat: Where) -> list[MessageDetail]:
        """All that a chat shows, the oldest first."""
        stored = await self.storage.chat(NAME, address(chat))
        if stored is None:
            return []
        rows = await self.storage.conversations(status=None, connection=NAME, limit=500)
        own = sorted((row for row in rows if row.chat == stored.address), key=lambda row: row.id)
        pages = [await self.storage.conversation_messages(row.id, limit=500) for row in own]
        return [message for page in pages for message in page]

    async def find(self, external_id: str) -> MessageDetail | None:
        """A message as it looks now, side messages too."""
        stored = await self.storage.find_message(NAME, None, external_id)
        return None if stored is None else await self.storage.message(stored.id)

    async def shown(
        self,
        external_id: str,
        condition: cabc.Callable[[MessageDetail], object] = lambda _message: True,
    ) -> MessageDetail:
        """The same once it is there, and a condition holds."""

        async def look() -> MessageDetail | None:
            found = await self.find(external_id)
            return found if found is not None and condition(found) else None

        return await self.eventually(look, f"{external_id} as expected")


def address(where: Where) -> str:
    """How requests name somebody."""
    return str(where.pn if isinstance(where, Account) else where)


def wall_clock() -> float:
    """The time of the world, in unix seconds."""
    return START + trio.current_time()


def _streamed(data: bytes) -> httpx.Response:
    async def pieces() -> cabc.AsyncIterator[bytes]:
        for start in range(0, len(data), 4096):
            await trio.lowlevel.checkpoint()
            yield data[start : start + 4096]

    return httpx.Response(200, headers={"Content-Length": str(len(data))}, content=pieces())


async def _at_once(work: cabc.Callable[[], T]) -> T:
    """In the place of a thread, for which virtual time does not wait."""
    await trio.lowlevel.checkpoint()
    return work()


@contextlib.asynccontextmanager
async def open_whole(
    directory: pathlib.Path,
    *,
    storage: Storage | None = None,
    prepare: cabc.Callable[[Simulator], object] = lambda _simulator: None,
    media: MediaSettings | None = None,
    **settings: t.Any,
) -> cabc.AsyncIterator[WholeWorld]:
    """A running world, paired; ``prepare`` comes before the pairing."""
    async with (
        open_simulator(seed="whole", now=wall_clock) as simulator,
        trio.open_nursery() as nursery,
    ):
        world = WholeWorld(
            simulator=simulator,
            storage=storage or MemoryStorage(clock=wall_clock),
            nursery=nursery,
            settings=dict(settings),
            names=(NAME,),
            directory=directory,
            media=media or MediaSettings(),
        )
        with (
            mock.patch.object(blobs, "in_thread", _at_once),
            mock.patch.object(ssl, "create_default_context", return_value=TRUST),
            mock.patch.object(prekeys, "INITIAL_UPLOAD", PREKEYS),
        ):
            await world.start_daemon()
            prepare(simulator)
            await world.pair(NAME)
            yield world
            nursery.cancel_scope.cancel()
