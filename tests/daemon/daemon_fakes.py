"""A fleet and a storage that only remember what they are asked, behind a real unix socket."""

import collections.abc as cabc
import contextlib
import datetime as dt
import hashlib
import itertools
import json
import typing as t
import zoneinfo
from pathlib import Path

import attrs
import httpx
import trio

from actors.adoption import Adoption
from actors.alerts import AlertPolicy, AlertService
from actors.channels import Carrier, ChannelSettings
from actors.eraser import Eraser
from actors.errors import AlreadyPairedError, StillRunningError, UnknownConnectionError
from actors.event_services import EventServices
from actors.exporter import Exporter
from actors.histogram import COMMIT_BOUNDS, Histogram
from actors.history import NoHistoryError
from actors.line import NotOnlineError
from actors.nats_link import NatsSettings
from actors.notifier import Notifier
from actors.recovery import NotStaleError
from actors.report_days import Schedule
from actors.report_figures import ReportMaker
from actors.reporter import Reporter
from actors.retention import Retention
from actors.webhook_post import WebhookSettings
from api.app import Backend, build_app
from api.control_socket import control_socket
from api.figures import FigureReader
from api.ports_daemon import ReloadFacts, ReprocessFacts, SettingsFacts
from api.ports_logs import LevelFacts
from api.problems import ProblemError
from api.report_mail import mail_of
from api.report_words import LANGUAGES
from api.server import Patience, serve_app
from api.tokens import TokenKeeper
from api.views import ConnectionView, IncidentView, LoopView, PairingView, WriterView
from config.connections import effective_settings, own_settings, read_connection, written
from config.errors import ConfigError
from config.model import Config, ConnectionConfig
from daemon.logs.line import LogLine
from daemon.logs.ring import LogRing
from storage.alerts import Alerts
from storage.api import (
    ChatKind,
    ConversationRow,
    ConversationRules,
    Envelope,
    MediaFile,
    Outcome,
    ReceivedMessage,
)
from storage.blobs import Blob
from storage.changes import Changes
from storage.erasure import Erasing, Rule
from storage.errors import StorageRejectedError, StorageUnavailableError
from storage.events import EventStream
from storage.exports.ledger import ExportRow
from storage.facts import Fact
from storage.figures import Figures
from storage.gaps import Gaps
from storage.inbox import Inbox
from storage.memory import MemoryStorage
from storage.notifications import Notifications
from storage.quarantine import Quarantined, QuarantineRow
from storage.queues import Queues
from storage.reports import Reports
from storage.search import Filter, Found, Position, Query, Search
from storage.timeline import Timeline
from storage.tokens import Tokens
from whatsapp.iq.core import IqError
from whatsapp.pairing_code import phone_digits

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
ANA = "5511999990001@s.whatsapp.net"
ACCOUNT = "5511999990000@s.whatsapp.net"
GROUP = "120363000000000001@g.us"
IN_MEMORY = frozenset().union(
    *map(
        dir,
        (
            *(Inbox, Queues, Gaps, Timeline, Quarantined, Tokens, Figures, EventStream, Search),
            *(Changes, Notifications, Reports, Alerts),
            Notifications,
            Erasing,
        ),
    )
)


KEEP_A_WEEK = Rule(
    kinds=("text",),
    files_only=False,
    after=7 * 86400.0,
    live=True,
    connections=("sales",),
    text="content of text of sales after 7d, live conversations too",
)


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


@attrs.frozen
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> t.Any:
        """What was printed, read as one JSON value."""
        return json.loads(self.out)


Run: t.TypeAlias = cabc.Callable[..., cabc.Awaitable[Result]]


def problem(response: httpx.Response) -> dict[str, t.Any]:
    """The problem in an answer, whose form is checked."""
    assert response.headers["content-type"].startswith("application/problem+json")
    found: dict[str, t.Any] = response.json()
    assert set(found) == {"type", "title", "status", "detail", "instance"}
    assert found["instance"] == f"urn:zapvisor:request:{response.headers['x-request-id']}"
    assert found["status"] == response.status_code
    return found


class FakeFleet:
    """Two connections, a list of orders, and a pairing that goes as it is told."""

    def __init__(self) -> None:
        self.connections = {
            "sales": connection("sales"),
            "support": connection("support", paired=False, jid=None, state="stopped"),
        }
        self.now: list[IncidentView] = []
        """What concerns many connections."""
        self.orders: list[tuple[t.Any, ...]] = []
        self.pairings = {name: [self._view(name, 0)] for name in self.connections}
        self.asked: dict[str, int] = {}
        """The version after which a pairing was last asked for."""
        self.changed = trio.Event()
        self.refusal: NotOnlineError | IqError | None = None  # of logging out

    def _notify(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    async def until(self, condition: cabc.Callable[[], bool]) -> None:
        """Wait until something asked of the fleet makes the condition true."""
        while not condition():
            await self.changed.wait()

    @staticmethod
    def _view(name: str, version: int, **changes: t.Any) -> PairingView:
        facts: dict[str, t.Any] = {"state": "waiting", "qr": None, "code": None, "expires_in": None}
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

    def incidents(self) -> list[IncidentView]:
        return self.now

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

    async def pair(self, name: str, *, force: bool = False, phone: str | None = None) -> None:
        self._check(name)
        digits = None if phone is None else phone_digits(phone)
        if self.connections[name].paired and not force:
            raise AlreadyPairedError(name)
        self._change(name, state="pairing", sentence="waiting for a scan")
        self.orders.append(("pair", name, force) if digits is None else ("code", name, digits))
        self._notify()

    async def adopt(self, name: str, adoption: Adoption, *, force: bool = False) -> None:
        self._check(name)
        if self.connections[name].paired and not force:
            raise AlreadyPairedError(name)
        if self.connections[name].state != "stopped":
            raise StillRunningError(name, self.connections[name].state)
        self._change(name, paired=True, sentence="imported")
        self.orders.append(("adopt", name, adoption))

    async def recover(self, name: str) -> None:
        self._check(name)
        if self.connections[name].reason != "stale_keys":
            raise NotStaleError(name)
        self._change(name, state="connecting", reason="fence", sentence="connecting")
        self.orders.append(("recover", name))

    async def logout(self, name: str) -> None:
        self._check(name)
        if self.refusal is not None:
            raise self.refusal
        self._change(name, state="logged_out", paired=False, sentence="logged out by an operator")
        self.orders.append(("logout", name))

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
        self.inbox = MemoryStorage(NOON.timestamp)
        self.counts: dict[str, t.Any] = {
            "messages": 12,
            "duplicates": 1,
            "undecryptable": 0,
            "quarantined": 0,
            "conversations": {"waiting": 1, "open": 0, "closed": 1},
            "reopened": 0,
            "gaps": dict.fromkeys(
                ("open", "missing", "waiting", "in_quarantine", "device_replaced", "ongoing"), 0
            ),
        }
        self.numbers: dict[str, int] = {}
        """Of the conversations ``ana`` and ``group``, and of the messages by their ids."""

    async def fill(self) -> None:
        """A conversation with Ana, one in a group, and a file."""
        for name in ("sales", "support"):
            await self.inbox.ensure_connection(name, ConversationRules())
        photo = MediaFile(kind="image", mimetype="image/jpeg", name="praia.jpg")
        for fields in (
            {"external_id": "ANA1", "text": "bom dia"},
            {"external_id": "ANA2", "kind": "image", "media": photo},
            {"external_id": "TEAM1", "text": "olá", "from_me": True, "sender": ACCOUNT},
            {"external_id": "GRP1", "chat": GROUP, "chat_kind": ChatKind.GROUP, "text": "oi"},
        ):
            outcome = await self.take(**fields)
            chat = "group" if "chat" in fields else "ana"
            self.numbers[chat] = outcome.conversation_id or 0
            self.numbers[fields["external_id"]] = outcome.message_id or 0

    async def take(self, *facts: Fact, **fields: t.Any) -> Outcome:
        """Store one message, or facts alone."""
        defaults = {
            "chat": ANA,
            "chat_kind": ChatKind.DIRECT,
            "sender": ANA,
            "sender_name": "Ana",
            "from_me": False,
            "kind": "text",
            "sent_at": int(NOON.timestamp()),
            "raw": b"raw",
        }
        message = ReceivedMessage(**{**defaults, **fields}) if fields else None
        envelope = Envelope(connection="sales", message=message, facts=facts)
        [outcome] = await self.inbox.apply([envelope])
        return outcome

    def __getattr__(self, name: str) -> t.Any:
        """What the inbox and the queues are asked is answered by a storage in memory."""
        if name not in IN_MEMORY:
            raise AttributeError(name)

        async def call(*args: t.Any, **kwargs: t.Any) -> t.Any:
            await self._answer()
            return await getattr(self.inbox, name)(*args, **kwargs)

        return call

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
        return self.counts

    async def find_conversations(
        self,
        wanted: Filter,
        *,
        query: Query | None = None,
        before: Position | None = None,
        limit: int = 50,
    ) -> Found:
        await self._answer()
        if query is not None or before is not None or wanted.address is not None:
            return await self.inbox.find_conversations(
                wanted, query=query, before=before, limit=limit
            )
        rows = [row for row in self.rows.values() if wanted.status in (None, row.status)]
        rows = [row for row in rows if wanted.connection in (None, row.connection)]
        return Found(tuple(rows[:limit]))

    async def conversation(self, conversation_id: int) -> ConversationRow | None:
        await self._answer()
        return self.rows.get(conversation_id)

    async def live_conversation(self, conversation_id: int) -> int | None:
        await self._answer()
        return 1

    async def reopen_conversation(self, conversation_id: int) -> ConversationRow | None:
        return await self.open_conversation(conversation_id)

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


class FakeActions:
    """Remembers what it was asked; offline, it refuses."""

    def __init__(self) -> None:
        self.asked: list[tuple[t.Any, ...]] = []
        self.online = True
        self._ids = itertools.count(1)

    def message_id(self, name: str) -> str:
        return f"3EB0{name}{next(self._ids)}"

    def outbox_changed(self, name: str) -> None:
        self.asked.append(("outbox", name))

    def history_changed(self, name: str) -> None:
        self.asked.append(("history", name))

    async def typing(self, name: str, chat: str, state: str) -> None:
        self._check(name)
        self.asked.append(("typing", name, chat, state))

    async def older_history(self, name: str, chat: str, count: int) -> str:
        self._check(name)
        if chat != ANA:
            raise NoHistoryError(chat)
        self.asked.append(("older", name, chat, count))
        return "REQ1"

    async def fetch_media(self, connection: str, message_id: int) -> bool:
        self.asked.append(("fetch", connection, message_id))
        return True

    def _check(self, name: str) -> None:
        if not self.online:
            raise NotOnlineError(f"{name} is not online")


class FakeFiles:
    """Files in a dictionary."""

    def __init__(self) -> None:
        self.files: dict[bytes, bytes] = {}

    async def put(self, chunks: cabc.AsyncIterable[bytes]) -> Blob:
        content = b"".join([chunk async for chunk in chunks])
        sha256 = hashlib.sha256(content).digest()
        self.files[sha256] = content
        return Blob(sha256, len(content))

    async def size(self, sha256: bytes) -> int | None:
        await trio.lowlevel.checkpoint()
        return len(self.files[sha256]) if sha256 in self.files else None

    async def open(
        self, sha256: bytes, start: int = 0, end: int | None = None
    ) -> cabc.AsyncIterator[bytes]:
        content = self.files[sha256][start:end]
        for first in range(0, len(content), 1000):
            await trio.lowlevel.checkpoint()
            yield content[first : first + 1000]


class FakeReprocess:
    """One run, which ends as the test says."""

    def __init__(self) -> None:
        self.now = ReprocessFacts(state="idle")
        self._done = trio.Event()

    def begin(self, connection: str | None) -> bool:
        if self.now.state == "running":
            return False
        self.now = ReprocessFacts(state="running", connection=connection)
        self._done = trio.Event()
        return True

    def end(self, **facts: t.Any) -> None:
        """The run is over."""
        self.now = attrs.evolve(self.now, **{"state": "done"} | facts)
        self._done.set()

    def facts(self) -> ReprocessFacts:
        return self.now

    async def finished(self) -> ReprocessFacts:
        if self.now.state == "running":
            await self._done.wait()
        return self.now


class FakeRestorer:
    """Stores what the storage in memory keeps; or fails as it is told."""

    def __init__(self, storage: FakeStorage) -> None:
        self.storage = storage
        self.error: Exception | None = None
        self.refused: str | None = None

    async def retry(self, row_id: int) -> QuarantineRow | None:
        inbox = self.storage.inbox
        found = await inbox.quarantined_stanza(row_id)
        if self.error is not None:
            raise self.error
        if found is None:
            return None
        envelope = Envelope(connection="sales", message=found.message, resolves=row_id)
        if self.refused is not None:
            await inbox.quarantine(envelope, self.refused)
        else:
            await inbox.resolve(envelope)
        after = await inbox.quarantined_stanza(row_id)
        return None if after is None else after.row


class FakeLogs:
    """The real ring, and a level that only remembers."""

    def __init__(self) -> None:
        self.ring = LogRing(max_lines=1_000)
        self.now = LevelFacts(level="info", configured="info")
        self.tail = self.ring.tail
        self.reader = self.ring.reader

    def say(self, event: str, level: str = "info", **facts: t.Any) -> None:
        """Log something."""
        told = {"timestamp": "2026-03-01T12:00:00Z", "level": level, "event": event, **facts}
        self.ring.append(LogLine.of(told))

    def level(self) -> LevelFacts:
        return self.now

    def set_level(self, level: str | None, seconds: float | None) -> LevelFacts:
        self.now = LevelFacts(level=level or "info", configured="info", seconds_left=seconds)
        return self.now


class FakeExportWorker:
    """Deletes what it is asked to, and writes nothing."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    def s3_place(self) -> str:
        return "s3://backups/whatsapp"

    async def write(self, row: ExportRow, **_more: t.Any) -> t.NoReturn:
        raise AssertionError("nobody runs it")

    async def remove(self, row: ExportRow) -> None:
        await trio.lowlevel.checkpoint()
        self.removed.append(row.name)


class FakeRegistrar:
    """Makes connections that are stopped, from settings that are checked as the real one does."""

    def __init__(self, fleet: FakeFleet) -> None:
        self.fleet = fleet
        self.config = Config(connections=tuple(ConnectionConfig(name=name) for name in fleet.names))
        self.made: set[str] = set()
        self.deleted: list[tuple[str, bool]] = []

    def settings(self, name: str) -> SettingsFacts:
        self.fleet.status(name)
        own = self.config.connection(name)
        assert own is not None
        return SettingsFacts(
            origin="api" if name in self.made else "file",
            own=own_settings(own),
            effective=effective_settings(self.config, name),
        )

    async def create(self, values: cabc.Mapping[str, t.Any]) -> str:
        try:
            new = read_connection(values)
        except ConfigError as error:
            raise ProblemError("bad-connection", 422, str(error)) from error
        if new.name in self.fleet.names:
            raise ProblemError("connection-exists", 409, "there is one")
        self._put(new)
        self.made.add(new.name)
        self.fleet.connections[new.name] = connection(new.name, state="stopped", paired=False)
        return new.name

    async def change(self, name: str, values: cabc.Mapping[str, t.Any]) -> None:
        if name not in self.made:
            raise ProblemError("from-file", 409, "change it there")
        old = self.config.connection(name)
        assert old is not None
        self._put(read_connection({**written(old), **values}))

    async def delete(self, name: str, *, force: bool = False) -> None:
        if name not in self.made:
            raise ProblemError("from-file", 409, "remove it there")
        if self.fleet.connections[name].paired and not force:
            raise ProblemError("still-linked", 409, "log it out first")
        del self.fleet.connections[name]
        self.deleted.append((name, force))

    def _put(self, new: ConnectionConfig) -> None:
        kept = [each for each in self.config.connections if each.name != new.name]
        self.config = attrs.evolve(self.config, connections=(*kept, new))


class FakeReloader:
    """Answers as it is told."""

    def __init__(self) -> None:
        self.facts = ReloadFacts(unchanged=2)
        self.last: tuple[float, ReloadFacts] | None = None

    async def reload(self) -> ReloadFacts:
        return self.facts


@attrs.define(kw_only=True)
class Control:
    """The app, served on a real unix socket in this process."""

    path: Path
    fleet: FakeFleet
    storage: FakeStorage
    writer: WriterView
    actions: FakeActions = attrs.field(factory=FakeActions)
    files: FakeFiles = attrs.field(factory=FakeFiles)
    reprocess: FakeReprocess = attrs.field(factory=FakeReprocess)
    reloader: FakeReloader = attrs.field(factory=FakeReloader)
    logs: FakeLogs = attrs.field(factory=FakeLogs)
    restorer: FakeRestorer = attrs.field(init=False)
    tokens: TokenKeeper = attrs.field(init=False)
    figures: FigureReader = attrs.field(init=False)
    registrar: FakeRegistrar = attrs.field(init=False)
    commits: Histogram = attrs.field(factory=lambda: Histogram(COMMIT_BOUNDS))
    trouble: str | None = None  # of HTTP
    events: EventServices = attrs.field(init=False)
    webhooks: tuple[WebhookSettings, ...] = ()
    nats: NatsSettings | None = None  # nobody runs it
    reporter: Reporter = attrs.field(init=False)
    channels: tuple[tuple[ChannelSettings, Carrier], ...] = ()  # nobody runs them
    notifier: Notifier = attrs.field(init=False)
    alerts: AlertService = attrs.field(init=False)  # nobody runs it
    eraser: Eraser = attrs.field(init=False)
    retention: Retention = attrs.field(init=False)
    files_removed: list[int] = attrs.field(factory=list)
    exporter: Exporter = attrs.field(init=False)  # neither

    def __attrs_post_init__(self) -> None:
        places = (self.path.parent, self.path.parent / "media")
        self.registrar = FakeRegistrar(self.fleet)
        self.restorer = FakeRestorer(self.storage)
        self.tokens = TokenKeeper(self.storage, NOON.timestamp)
        self.eraser = Eraser(
            t.cast("t.Any", self.storage), self._remove_files, self._release_records, "1.2.3"
        )
        self.retention = Retention(
            self.storage.inbox, (KEEP_A_WEEK,), self._remove_files, NOON.timestamp
        )
        self.events = EventServices(
            t.cast("t.Any", self.storage),
            max_clients=3,
            webhooks=self.webhooks,
            nats=self.nats,
            incidents=list,
            wall_clock=NOON.timestamp,
            uniform=lambda: 0.5,
            random=bytes,
        )
        self.notifier = Notifier(
            self.channels,
            t.cast("t.Any", self.storage),
            wall_clock=NOON.timestamp,
            uniform=lambda: 0.5,
        )
        self.exporter = Exporter(
            self.storage.inbox,
            FakeExportWorker(),
            wall_clock=NOON.timestamp,
            deleting_clock=NOON.timestamp,
            directory="/exports",
        )
        utc, storage = zoneinfo.ZoneInfo("UTC"), t.cast("t.Any", self.storage)
        self.reporter = Reporter(
            storage,
            ReportMaker(storage, utc, lambda: NOON.timestamp() + 1),
            Schedule(time=dt.time(8), zone=utc),
            mail_of,
            languages=LANGUAGES,
            channels=("mail",),
            wall_clock=NOON.timestamp,
            uniform=lambda: 0.5,
        )
        self.alerts = AlertService(
            t.cast("t.Any", self.storage),
            t.cast("t.Any", None),
            t.cast("t.Any", self.notifier),
            policy=AlertPolicy(),
            wall_clock=NOON.timestamp,
        )
        self.figures = FigureReader(
            self.storage,
            places,
            kept=0.0,
            webhooks=self.events.webhooks.views,
            channels=self.notifier.views,
        )

    async def _remove_files(self) -> int:
        await trio.lowlevel.checkpoint()
        self.files_removed.append(0)
        return 0

    async def _release_records(self, _names: cabc.Sequence[str]) -> None:
        await trio.lowlevel.checkpoint()

    def backend(self, *, complete: bool = True) -> Backend:
        """What the app works on; unless ``complete``, a daemon that only receives."""
        return Backend(
            fleet=self.fleet,
            storage=self.storage,
            writer=lambda: self.writer,
            version="1.2.3",
            started_at=NOON,
            wall_clock=NOON.timestamp,
            actions=self.actions if complete else None,
            files=self.files if complete else None,
            reprocess=self.reprocess if complete else None,
            restorer=self.restorer if complete else None,
            reloader=self.reloader if complete else None,
            logs=self.logs if complete else None,
            events=self.events if complete else None,
            webhooks=self.events.webhooks if complete else None,
            channels=self.notifier if complete else None,
            registrar=self.registrar if complete else None,
            reports=self.reporter if complete else None,
            alerts=self.alerts if complete else None,
            eraser=self.eraser if complete else None,
            retention=self.retention if complete else None,
            exports=self.exporter if complete else None,
            tokens=self.tokens,
            figures=self.figures,
            commits=self.commits,
            loop=lambda: LoopView(
                lag_seconds=0.0, lag_p99_seconds=0.001, lag_max_seconds=0.002, stalls=0
            ),
            data_place=str(self.path.parent),
            media_place=str(self.path.parent / "media"),
            http_trouble=lambda: self.trouble,
        )


@contextlib.asynccontextmanager
async def running(control: Control) -> cabc.AsyncIterator[None]:
    """Take readings, and follow the events, meanwhile."""
    async with trio.open_nursery() as nursery:
        await nursery.start(control.figures.run)
        await nursery.start(control.events.hub.run)
        await nursery.start(control.eraser.run)
        yield
        nursery.cancel_scope.cancel()


async def make_control(
    path: Path,
    webhooks: tuple[WebhookSettings, ...] = (),
    nats: NatsSettings | None = None,
    channels: tuple[tuple[ChannelSettings, Carrier], ...] = (),
) -> Control:
    """The fakes, filled."""
    writer = WriterView(
        depth=0,
        capacity=1000,
        batches=3,
        envelopes=12,
        last_commit_seconds=0.002,
        retrying_seconds=None,
        last_error=None,
    )
    control = Control(
        path=path,
        fleet=FakeFleet(),
        storage=FakeStorage(),
        writer=writer,
        webhooks=webhooks,
        nats=nats,
        channels=channels,
    )
    await control.storage.fill()
    await control.notifier.begin()
    await control.tokens.load()
    return control


@contextlib.asynccontextmanager
async def open_control(
    path: Path,
    *,
    complete: bool = True,
    webhooks: tuple[WebhookSettings, ...] = (),
    nats: NatsSettings | None = None,
    channels: tuple[tuple[ChannelSettings, Carrier], ...] = (),
    patience: Patience | None = None,
) -> cabc.AsyncIterator[Control]:
    """Serve the fakes at ``path``; unless ``complete``, a daemon that only receives."""
    control = await make_control(path, webhooks, nats, channels)
    stop = trio.Event()
    with control_socket(path) as listener:
        async with running(control), trio.open_nursery() as nursery:
            app = build_app(control.backend(complete=complete))

            async def serve(task_status: trio.TaskStatus[None]) -> None:
                await serve_app(
                    app,
                    listener,
                    stop=stop,
                    patience=patience or Patience(),
                    task_status=task_status,
                )

            await nursery.start(serve)
            yield control
            stop.set()
