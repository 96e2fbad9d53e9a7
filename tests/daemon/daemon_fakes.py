"""A fleet and a storage that only remember what they are asked, behind a real unix socket."""

import collections.abc as cabc
import contextlib
import datetime as dt
import typing as t
from pathlib import Path

import attrs
import trio

from actors.errors import AlreadyPairedError, UnknownConnectionError
from api.app import Backend, build_app
from api.control_socket import control_socket
from api.server import serve_app
from api.views import ConnectionView, PairingView, WriterView
from storage.api import ConversationRow
from storage.errors import StorageRejectedError, StorageUnavailableError

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def connection(name: str, **changes: t.Any) -> ConnectionView:
    """A connection that is online and has 12 messages."""
    facts: dict[str, t.Any] = {
        "name": name,
        "state": "online",
        "since": NOON,
        "reason": "logged_in",
        "sentence": "logged in",
        "retries": 0,
        "paired": True,
        "jid": "***0001",
        "last_message_at": NOON + dt.timedelta(minutes=5),
        "messages": 12,
        "duplicates": 1,
        "undecryptable": 0,
        "quarantined": 0,
        "in_flight": 0,
        "next_attempt_in": None,
    }
    return ConnectionView(**facts | changes)


class FakeFleet:
    """Two connections, a list of orders, and a pairing that goes as it is told."""

    def __init__(self) -> None:
        self.connections = {
            "sales": connection("sales"),
            "support": connection("support", paired=False, jid=None, state="stopped"),
        }
        self.orders: list[tuple[t.Any, ...]] = []
        self.pairings = {name: [self._view(name, 0)] for name in self.connections}
        self.asked: dict[str, int] = {}
        """The version after which a pairing was last asked for."""
        self.changed = trio.Event()

    def _notify(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    async def until(self, condition: cabc.Callable[[], bool]) -> None:
        """Wait until something asked of the fleet makes the condition true."""
        while not condition():
            await self.changed.wait()

    @staticmethod
    def _view(name: str, version: int, **changes: t.Any) -> PairingView:
        facts: dict[str, t.Any] = {"state": "waiting", "qr": None, "expires_in": None}
        sentence = "waiting for WhatsApp"
        return PairingView(
            **{"name": name, "version": version, "sentence": sentence} | facts | changes
        )

    def tell(self, name: str, **changes: t.Any) -> int:
        """The next step of a pairing; its version."""
        version = len(self.pairings[name])
        self.pairings[name].append(self._view(name, version, **changes))
        self._notify()
        return version

    async def tell_and_wait(self, name: str, **changes: t.Any) -> None:
        """The same, and wait until the client asks for what follows it."""
        version = self.tell(name, **changes)
        await self.until(lambda: self.asked.get(name, -1) >= version)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.connections)

    def status(self, name: str | None = None) -> list[ConnectionView]:
        if name is None:
            return list(self.connections.values())
        self._check(name)
        return [self.connections[name]]

    def _check(self, name: str) -> None:
        if name not in self.connections:
            raise UnknownConnectionError(name, self.connections)

    def _change(self, name: str, **changes: t.Any) -> None:
        self._check(name)
        self.connections[name] = attrs.evolve(self.connections[name], **changes)

    async def start(self, name: str) -> None:
        self._change(name, state="connecting", sentence="connecting")
        self.orders.append(("start", name))

    async def stop(self, name: str) -> None:
        self._change(name, state="stopped", sentence="stopped by an operator")
        self.orders.append(("stop", name))

    async def restart(self, name: str) -> None:
        self._change(name, state="connecting", sentence="connecting")
        self.orders.append(("restart", name))

    async def pair(self, name: str, *, force: bool = False) -> None:
        self._check(name)
        if self.connections[name].paired and not force:
            raise AlreadyPairedError(name)
        self._change(name, state="pairing", sentence="waiting for a scan")
        self.orders.append(("pair", name, force))
        self._notify()

    async def wait_pairing(self, name: str, after: int) -> PairingView:
        self._check(name)
        self.asked[name] = after
        self._notify()
        await self.until(lambda: self.pairings[name][-1].version > after)
        return self.pairings[name][-1]


class FakeStorage:
    """Two conversations and a switch for the database."""

    def __init__(self) -> None:
        self.away = False
        self.silent = False
        row = ConversationRow(
            id=1,
            connection="sales",
            chat="5511999990001@s.whatsapp.net",
            title="Ana",
            status="waiting",
            messages=3,
            opened_at=NOON,
            last_message_at=NOON,
            closed_at=None,
            reopened=0,
        )
        self.rows = {1: row, 2: attrs.evolve(row, id=2, status="closed", closed_at=NOON)}

    async def _answer(self) -> None:
        if self.silent:
            await trio.sleep_forever()
        if self.away:
            raise StorageUnavailableError("db.example refused the connection")
        await trio.lowlevel.checkpoint()

    async def ping(self) -> float:
        await self._answer()
        return 0.001

    async def statistics(self) -> dict[str, t.Any]:
        await self._answer()
        return {"messages": 12, "conversations": {"waiting": 1, "open": 0, "closed": 1}}

    async def events(self, connection: str, limit: int) -> list[dict[str, t.Any]]:
        await self._answer()
        return [{"state": "online", "previous": "syncing", "at": NOON}][:limit]

    async def conversations(
        self, *, status: str | None, connection: str | None, limit: int
    ) -> list[ConversationRow]:
        await self._answer()
        rows = [row for row in self.rows.values() if status in (None, row.status)]
        return [row for row in rows if connection in (None, row.connection)][:limit]

    async def open_conversation(self, conversation_id: int) -> ConversationRow | None:
        await self._answer()
        if conversation_id == 2:
            raise StorageRejectedError("conversation 1 of the same chat is live")
        return self._set(conversation_id, "open")

    async def close_conversation(self, conversation_id: int) -> ConversationRow | None:
        await self._answer()
        return self._set(conversation_id, "closed")

    def _set(self, conversation_id: int, status: str) -> ConversationRow | None:
        if conversation_id not in self.rows:
            return None
        self.rows[conversation_id] = attrs.evolve(self.rows[conversation_id], status=status)
        return self.rows[conversation_id]


@attrs.define(kw_only=True)
class Control:
    """The app, served on a real unix socket in this process."""

    path: Path
    fleet: FakeFleet
    storage: FakeStorage
    writer: WriterView


@contextlib.asynccontextmanager
async def open_control(path: Path) -> cabc.AsyncIterator[Control]:
    """Serve the fakes at ``path``."""
    writer = WriterView(
        depth=0,
        capacity=1000,
        batches=3,
        envelopes=12,
        last_commit_seconds=0.002,
        retrying_seconds=None,
        last_error=None,
    )
    control = Control(path=path, fleet=FakeFleet(), storage=FakeStorage(), writer=writer)
    backend = Backend(
        fleet=control.fleet,
        storage=control.storage,
        writer=lambda: control.writer,
        version="1.2.3",
        started_at=NOON,
    )
    stop = trio.Event()
    with control_socket(path) as listener:
        async with trio.open_nursery() as nursery:
            app = build_app(backend)

            async def serve(task_status: trio.TaskStatus[None]) -> None:
                await serve_app(app, listener, stop=stop, task_status=task_status)

            await nursery.start(serve)
            yield control
            stop.set()
