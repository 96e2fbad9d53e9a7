"""A daemon in virtual time that is there to be watched: fleet, alerts, reports and notifications.

All of it is real but the connections beyond the dial, the database, and what carries the mails.
"""

import collections.abc as cabc
import contextlib
import datetime as dt
import functools
import inspect
import math
import threading
import types
import typing as t
import zoneinfo
from pathlib import Path

import attrs
import trio
import trio.testing

from actors.alerts import AlertService
from actors.channels import Attempt, ChannelSettings, Letter, Outcome
from actors.notifier import Notifier
from api.figures import FigureReader
from config.load import load_config
from config.model import Config
from daemon.alert_wiring import make_alerts
from daemon.report_wiring import make_reporter, report_children
from daemon.wiring import Core
from storage.api import Storage
from storage.errors import StorageUnavailableError
from storage.memory import MemoryStorage
from storage.notifications import ChannelRule, NotificationKind, Severity
from tests.actors.light_fleet import LightFleet, Network, light_fleet
from tests.actors.world import wall_clock

ZONE: t.Final = zoneinfo.ZoneInfo("Australia/Sydney")  # its clocks are set on 4 October 2026
NAMES: t.Final = tuple(f"c{number}" for number in range(6))
SIGN: t.Final = 6 * 3600.0  # seconds between two signs of a phone
REAL: t.Final = 20.0  # seconds that a real thread may take
METHODS: t.Final = frozenset(
    name for name, each in inspect.getmembers(Storage) if inspect.iscoroutinefunction(each)
)
CONFIG: t.Final = """
[report]
timezone = "Australia/Sydney"
time = "08:00"

[alerts]
timezone = "Australia/Sydney"

[[maintenance]]
name = "backup"
days = ["sun"]
start = "01:00"
end = "04:00"
timezone = "Australia/Sydney"

[[channels]]
name = "mail"
url = "json://localhost"

[[channels]]
name = "pager"
url = "json://localhost"
language = "pt-BR"
"""
KINDS: t.Final = frozenset(
    {NotificationKind.ALERT, NotificationKind.RECOVERY, NotificationKind.REPORT}
)


class FickleStorage(MemoryStorage):
    """A database that may be away."""

    away = False

    async def statistics(self) -> dict[str, t.Any]:
        """Counting everything takes long, and alerts do not look at it."""
        await trio.lowlevel.checkpoint()
        return {}


def _fickle(work: t.Any) -> t.Any:
    async def method(self: FickleStorage, *args: t.Any, **more: t.Any) -> t.Any:
        if self.away:
            await trio.lowlevel.checkpoint()
            raise StorageUnavailableError("connection refused")
        return await work(self, *args, **more)

    return method


for _name in METHODS:
    setattr(FickleStorage, _name, _fickle(getattr(FickleStorage, _name)))


@attrs.frozen
class Mail:
    """What arrived, and when by the clock on the wall."""

    at: dt.datetime
    kind: NotificationKind
    subject: str
    text: str
    key: str  # of the notification, and when it was made


@attrs.define
class Carrier:
    """Takes everything, or hangs until it is abandoned."""

    service: str
    hangs: bool = False
    mails: list[Mail] = attrs.field(factory=list)
    tries: int = 0
    taken_at: float = 0.0  # trio's clock; a thread cannot ask it

    def send(self, letter: Letter, attempt: Attempt) -> Outcome:
        """See :class:`actors.channels.Carrier`."""
        self.tries += 1
        if self.hangs:
            ended = threading.Event()
            attempt.ends_by(ended.set)
            assert ended.wait(REAL)
            return Outcome(error="abandoned")
        content = letter.content
        moment = dt.datetime.fromtimestamp(self.taken_at, ZONE)
        key = letter.identity.removeprefix(f"{self.service}:")
        self.mails.append(Mail(moment, letter.kind, content.subject, content.text, key))
        return Outcome()


@attrs.define
class Daemon:
    """One life of it."""

    light: LightFleet
    alerts: AlertService


@attrs.define
class Month:
    """The world around the daemon."""

    clock: trio.testing.MockClock
    nursery: trio.Nursery
    config: Config
    storage: FickleStorage = attrs.field(factory=lambda: FickleStorage(clock=wall_clock))
    network: Network = attrs.field(factory=Network)
    carriers: dict[str, Carrier] = attrs.field(
        factory=lambda: {name: Carrier(name) for name in ("mail", "pager")}
    )
    phones_away: set[str] = attrs.field(factory=set)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _over: trio.Event = attrs.field(factory=trio.Event)
    _daemon: Daemon | None = None
    _life: int | None = None
    _flying: int = 0

    @property
    def daemon(self) -> Daemon:
        """The one that runs."""
        assert self._daemon is not None
        return self._daemon

    async def start(self) -> None:
        """Start the daemon over the same database."""
        self._life = await self.storage.begin_life()
        self._scope, self._over = trio.CancelScope(), trio.Event()
        await self.nursery.start(self._live)

    async def kill(self) -> None:
        """What is only in memory is gone; the next start notes since when."""
        self._scope.cancel()
        await self._over.wait()
        if self._life is not None:
            await self.storage.mark_alive(self._life)  # its pulse, at the last moment

    async def until(self, moment: dt.datetime) -> None:
        """Let time pass until the clock on the wall shows a moment."""
        left = moment.timestamp() - wall_clock()
        assert left >= 0, f"{moment} is over"
        await trio.sleep(left)

    def fail(self, name: str, reason: str = "unavailable") -> None:
        """WhatsApp sends a connection away until it is :meth:`well`."""
        self.network.bad.add(name)
        self.network.reasons[name] = reason
        self.network.drop(name)

    def well(self, name: str) -> None:
        """WhatsApp takes it again, when it tries."""
        self.network.bad.discard(name)

    async def _live(self, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            with self._scope:
                async with self._parts() as self._daemon:
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            self._over.set()

    @contextlib.asynccontextmanager
    async def _parts(self) -> cabc.AsyncIterator[Daemon]:
        storage, config = self.storage, self.config
        fleet = light_fleet(NAMES, network=self.network, storage=storage)
        async with fleet as light, trio.open_nursery() as nursery:
            notifier = Notifier(
                [
                    (self._settings(channel), self.carriers[channel.name])
                    for channel in config.channels
                ],
                storage,
                wall_clock=wall_clock,
                uniform=lambda: 0.5,
            )
            await notifier.begin()
            figures = FigureReader(storage, channels=notifier.views)
            core = types.SimpleNamespace(
                storage=storage,
                fleet=light.fleet,
                clock=wall_clock,
                writer=light.writer,
                config=config,
                notifier=notifier,
                exporter=types.SimpleNamespace(troubles=lambda _late: []),
                followers=[],
            )
            core.writer_view = functools.partial(Core.writer_view, t.cast(Core, core))
            parts = make_alerts(t.cast(Core, core), figures)
            reporter = make_reporter(config, t.cast(Storage, storage), wall_clock)
            await nursery.start(figures.run)
            children = [
                *notifier.children(),
                *parts.children(),
                *report_children(config, reporter),
            ]
            for child in children:
                await nursery.start(child.start)
            nursery.start_soon(self._use_phones, light)
            yield Daemon(light, parts.alerts)
            nursery.cancel_scope.cancel()

    def _settings(self, channel: t.Any) -> ChannelSettings:
        rule = ChannelRule(
            name=channel.name, kinds=KINDS, severity=Severity(channel.severity.value)
        )
        return ChannelSettings(
            rule=rule,
            url="",
            language=channel.language.value,
            timeout=channel.timeout,
            attempts=channel.attempts,
        )

    async def _use_phones(self, light: LightFleet) -> None:
        """People use the phones of the accounts; each sign comes over its connection."""
        while True:
            for status in light.fleet.status():
                if status.state == "online" and status.name not in self.phones_away:
                    light.counts[status.name].phone_seen(wall_clock())
            await trio.sleep(SIGN)

    @contextlib.contextmanager
    def threads(self, monkeypatch: t.Any) -> cabc.Iterator[None]:
        """Virtual time stands still while a thread works, unless it hangs."""
        real = trio.to_thread.run_sync

        async def run_sync(flight: t.Any, **settings: t.Any) -> t.Any:
            carrier = flight.carrier
            if carrier.hangs:
                return await real(flight, **settings)
            carrier.taken_at = wall_clock()
            self._flying += 1
            self.clock.autojump_threshold = math.inf
            try:
                return await real(flight, **settings)
            finally:
                self._flying -= 1
                if not self._flying:
                    self.clock.autojump_threshold = 0

        with monkeypatch.context() as patch:
            patch.setattr(trio.to_thread, "run_sync", run_sync)
            yield


@contextlib.asynccontextmanager
async def open_month(
    clock: trio.testing.MockClock, monkeypatch: t.Any, directory: Path
) -> cabc.AsyncIterator[Month]:
    """The world, with nothing running yet."""
    file = directory / "zapvisor.toml"
    file.write_text(CONFIG, encoding="utf-8")
    config = load_config(file, {})
    async with trio.open_nursery() as nursery:
        month = Month(clock, nursery, config)
        with month.threads(monkeypatch):
            yield month
            nursery.cancel_scope.cancel()
