"""The service of alerts, from the configuration and from what the daemon knows of itself."""

import collections.abc as cabc
import datetime as dt
import functools
import typing as t

import attrs
import structlog
import trio

from actors.alert_facts import (
    ChannelHealth,
    ConnectionHealth,
    DiskHealth,
    ExportHealth,
    IncidentHealth,
    Snapshot,
    StoredHealth,
    WebhookHealth,
    WriterHealth,
)
from actors.alert_rules import HOUR, MINUTE, Thresholds
from actors.alert_watches import AlertSettings
from actors.alert_words import Wording
from actors.alerts import AlertPolicy, AlertService
from actors.endurance import Run, endure
from actors.export_schedule import Trouble
from actors.fleet import ConnectionStatus, Fleet
from actors.maintenance import Window, zone_of
from actors.notifier import Notifier
from actors.phones import Phones
from api.figures import FigureReader, Reading
from api.views import WriterView
from config.alerts import AlertsConfig
from config.model import Config
from daemon.wiring import Core
from storage.alerts import Alerts, Backlog
from storage.errors import StorageError
from storage.notifications import Notification
from supervisor.spec import ChildSpec

OLD: t.Final = 10 * MINUTE  # for a message to be undecryptable
KEPT: t.Final = 60.0  # seconds for which the backlogs are as good as new
LIMIT: t.Final = 5.0  # seconds that reading them may take

log: structlog.stdlib.BoundLogger = structlog.get_logger("alerts")


def alert_policy(config: Config) -> AlertPolicy:
    """What the configuration says of alerts."""
    alerts = config.alerts
    names = attrs.fields_dict(Thresholds)
    return AlertPolicy(
        settings=AlertSettings(
            thresholds=Thresholds(**{name: getattr(alerts, name) for name in names}),
            severity=alerts.severity.value,
            grace=alerts.grace,
            recovery=alerts.recovery,
            group=alerts.group,
        ),
        wording=Wording(link=alerts.link.rstrip("/"), zone=zone_of(alerts.timezone)),
        windows=tuple(
            Window(
                name=each.name,
                days=frozenset(each.days),
                start=_minutes(each.start),
                end=_minutes(each.end),
                zone=zone_of(each.timezone),
                connections=frozenset(each.connections),
            )
            for each in config.maintenance
        ),
    )


def _minutes(time: str) -> int:
    """Since midnight."""
    of_day = dt.time.fromisoformat(time)
    return 60 * of_day.hour + of_day.minute


class Look:
    """Takes snapshots of everything, out of what others have measured."""

    def __init__(
        self,
        fleet: Fleet,
        figures: FigureReader,
        storage: Alerts,
        writer: cabc.Callable[[], WriterView],
        phones: Phones,
        wall_clock: cabc.Callable[[], float],
        alerts: AlertsConfig,
        exports: cabc.Callable[[float], cabc.Sequence[Trouble] | None],
    ) -> None:
        self.alerts = alerts
        """The ones in force."""
        self._fleet = fleet
        self._figures = figures
        self._storage = storage
        self._writer = writer
        self._phones = phones
        self._wall_clock = wall_clock
        self._exports = exports
        self._backlogs: tuple[float, tuple[Backlog, ...], int] | None = None

    async def __call__(self) -> Snapshot:
        """Everything now; takes a few seconds at most."""
        reading = await self._figures.reading()
        stored = await self._stored(reading)
        writer = self._writer()
        return Snapshot(
            connections=tuple(self._connection(each) for each in self._fleet.status()),
            incidents=tuple(
                IncidentHealth(
                    code=each.code,
                    since=each.since.timestamp(),
                    sentence=each.sentence,
                    connections=each.connections,
                )
                for each in self._fleet.incidents()
            ),
            writer=WriterHealth(
                depth=writer.depth,
                capacity=writer.capacity,
                retrying=writer.retrying_seconds or 0.0,
                stalled=writer.stalled_seconds,
                error=writer.last_error or "",
            ),
            database_error=reading.error,
            disks=tuple(
                DiskHealth(path=each.path, free=each.free_bytes, total=each.total_bytes)
                for each in reading.disks
            ),
            stored=stored,
            exports=self._export_health(),
        )

    def _export_health(self) -> tuple[ExportHealth, ...] | None:
        troubles = self._exports(self.alerts.export)
        if troubles is None:
            return None
        return tuple(
            ExportHealth(name=each.export, since=each.since, error=each.error) for each in troubles
        )

    def _connection(self, status: ConnectionStatus) -> ConnectionHealth:
        deaf = status.deaf_suspicion
        return ConnectionHealth(
            name=status.name,
            state=status.state,
            reason=status.reason,
            sentence=status.sentence,
            since=status.since.timestamp(),
            deaf_since=None if deaf is None else deaf.since.timestamp(),
            deaf_why="" if deaf is None else deaf.why,
            quarantined=status.quarantined,
            phone_seen_at=self._phones.seen_at(status.name),
        )

    async def _stored(self, reading: Reading) -> StoredHealth | None:
        """What the database knows; None: it does not answer."""
        if reading.stored is None:
            return None
        try:
            with trio.fail_after(LIMIT):
                backlogs, media = await self._read_backlogs()
        except (StorageError, trio.TooSlowError) as error:
            log.warning("alerts.backlogs_unknown", error=str(error) or "no answer in time")
            return None
        return StoredHealth(
            backlogs=backlogs,
            media=media,
            webhooks=tuple(
                WebhookHealth(name=each.name, dead=each.dead) for each in reading.stored.webhooks
            ),
            channels=tuple(
                ChannelHealth(
                    name=each.name,
                    failing_since=None
                    if each.failing_since is None
                    else each.failing_since.timestamp(),
                    error=each.error or "",
                )
                for each in reading.stored.channels
            ),
        )

    async def _read_backlogs(self) -> tuple[tuple[Backlog, ...], int]:
        moment = trio.current_time()
        if self._backlogs is None or moment - self._backlogs[0] >= KEPT:
            now = self._wall_clock()
            backlogs = await self._storage.backlogs(
                undecryptable=now - OLD, gaps=now - self.alerts.gap, delivered=now - HOUR
            )
            self._backlogs = (moment, tuple(backlogs), await self._storage.media_waiting())
        return self._backlogs[1], self._backlogs[2]


class DirectTeller:
    """A :class:`Notifier` as the outbox of alerts knows it."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    async def tell_now(self, notification: Notification, within: float) -> tuple[str, ...]:
        """See :class:`actors.alert_outbox.Teller`."""
        outcomes = await self._notifier.send_now(notification, within)
        return tuple(name for name, outcome in outcomes.items() if outcome.error is None)

    def wake(self) -> None:
        """See :class:`actors.alert_outbox.Teller`."""
        self._notifier.wake()


@attrs.frozen
class AlertParts:
    """The services of alerts."""

    alerts: AlertService
    phones: Phones

    def children(self) -> list[ChildSpec]:
        """As children of the daemon's tree: what they fail with ends nothing."""
        services: dict[str, Run] = {"phones": self.phones.run, "alerts": self.alerts.run}
        return [
            ChildSpec(id=name, start=functools.partial(endure, name, run))
            for name, run in services.items()
        ]


def make_alerts(core: Core, figures: FigureReader) -> AlertParts:
    """All of them; nothing runs yet. A reload that changes what they do takes effect at once."""
    phones = Phones(core.storage, core.fleet, core.clock)
    look = Look(
        core.fleet,
        figures,
        core.storage,
        core.writer_view,
        phones,
        core.clock,
        core.config.alerts,
        core.exporter.troubles,
    )
    alerts = AlertService(
        core.storage,
        look,
        DirectTeller(core.notifier),
        policy=alert_policy(core.config),
        wall_clock=core.clock,
    )

    def applied(config: Config) -> None:
        look.alerts = config.alerts
        alerts.use(alert_policy(config))

    core.followers.append(applied)
    return AlertParts(alerts, phones)
