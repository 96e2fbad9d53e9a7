"""Alerts, reports and what channels have to tell hold nothing of the people who write."""

import datetime as dt
import types
import typing as t

import trio
from st_helpers import CUSTOMER, DAY, GROUP, NOW, Clock, Cluster, take
from test_st_erasure import PLANTED, dump, left, plant

from actors.alerts import AlertService
from api.figures import FigureReader
from api.views import WriterView
from config.alerts import AlertsConfig
from config.channels import ChannelConfig, ReportConfig
from config.model import Config
from daemon.alert_wiring import Look, alert_policy
from daemon.report_wiring import make_reporter
from storage.api import ConnectionEvent, Envelope, Verdict
from storage.gaps import OutageBegan, QueueAnnounced, QueueDrained
from storage.notifications import ChannelRule, NotificationKind
from storage.postgres import PostgresStorage

MAIL = ChannelRule(name="mail", kinds=frozenset(NotificationKind))
LOOK = 20.0  # seconds of the clock between two looks
LOOKS = 40
TELLING = (
    "alerts",
    "notifications",
    "notification_deliveries",
    "notification_channels",
    "reports",
    "silences",
)


class Nobody:
    """Carries nothing past the queue."""

    async def tell_now(self, _notification: object) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        return ()

    def wake(self) -> None:
        """Nobody waits."""


async def trouble(storage: PostgresStorage) -> None:
    """Of the person, whatever alerts and reports count."""
    await plant(storage)
    for number in range(12):
        verdict = await take(storage, f"U{number}", kind="undecryptable", reason="no_session",
            chat=GROUP if number % 2 else CUSTOMER, sender=CUSTOMER, text=None)  # fmt: skip
        assert verdict.verdict is Verdict.PLACEHOLDER
    steps = (
        OutageBegan(kind="ended", reason="network", at=NOW),
        QueueAnnounced(login="a", number=0, announced=3, at=NOW + 1, messages=3, horizon=NOW + 1),
        QueueDrained(login="a", number=1, at=NOW + 2, others=0),
    )
    for step in steps:
        await storage.apply([Envelope(connection="sales", gap=step)])
    await storage.record_event(
        ConnectionEvent(connection="sales", previous="", state="online", reason="online",
            sentence="receiving messages as they come", at=NOW)
    )  # fmt: skip


async def test_a_round_of_telling(
    cluster: Cluster, dsn: str, postgres: PostgresStorage, clock: Clock, nursery: trio.Nursery
) -> None:
    """Everything a person left behind is in the database, and something of all that can be wrong
    is told: none of it names them."""
    await trouble(postgres)
    await postgres.set_channels([MAIL], stale_before=0)

    def statuses() -> list[t.Any]:
        return [
            types.SimpleNamespace(
                name="sales", state="online", reason="online", sentence="receiving messages",
                since=dt.datetime.fromtimestamp(NOW - DAY, dt.UTC), quarantined=2,
                deaf_suspicion=None, paired=True, last_heartbeat_at=None,
            )
        ]  # fmt: skip

    fleet: t.Any = types.SimpleNamespace(status=statuses, incidents=list)
    phones: t.Any = types.SimpleNamespace(seen_at=lambda _name: NOW - 20 * DAY)
    figures = FigureReader(postgres, kept=0.0)
    await nursery.start(figures.run)
    writer = WriterView(depth=0, capacity=10, batches=0, envelopes=0, last_commit_seconds=None,
        retrying_seconds=None, last_error=None)  # fmt: skip
    alerts = AlertsConfig(undecryptable=1, grace=0.0)
    look = Look(fleet, figures, postgres, lambda: writer, phones, clock, alerts, lambda _late: [])
    looked = trio.Event()

    async def counted() -> t.Any:
        looked.set()
        return await look()

    policy = alert_policy(Config(alerts=alerts))
    service = AlertService(postgres, counted, Nobody(), policy=policy, wall_clock=clock)
    await nursery.start(service.run)
    for _ in range(LOOKS):
        clock.now += LOOK
        looked = trio.Event()
        service.nudge()
        with trio.fail_after(20):
            await looked.wait()
    clock.now = NOW + DAY
    config = Config(
        report=ReportConfig(timezone="UTC"),
        channels=(ChannelConfig(name="mail", url="json://localhost", kinds=("report",)),),
    )
    reporter = make_reporter(config, postgres, clock)
    day = dt.datetime.fromtimestamp(NOW, dt.UTC).date()
    report = await reporter.send(day)
    assert report.total.received > 0
    claimed = await postgres.claim_notification("mail", clock.now + 60)
    assert claimed is not None
    await postgres.settle_notification("mail", claimed)
    nursery.cancel_scope.cancel()
    found = await dump(cluster, dsn)
    told = {table: found[table] for table in TELLING}
    rules = {row["rule"] for row in await cluster.sql(dsn, "SELECT rule FROM alerts")}
    assert {"quarantine", "undecryptable", "phone"} <= rules
    assert all(told[table] for table in ("alerts", "notifications", "notification_deliveries"))
    assert left(found)
    assert left(told, [*PLANTED, GROUP.partition("@")[0]]) == []
