"""From the configuration, and from what the daemon measures, to what the alerts look at."""

import datetime as dt
import types
import typing as t

import attrs
import pytest
import trio

from actors.alert_rules import Thresholds
from actors.export_schedule import Trouble
from actors.incidents import Incident
from actors.member import ConnectionStatus
from actors.roster import plan
from api.figures import FigureReader
from api.views import WriterView
from config.alerts import AlertsConfig, MaintenanceConfig
from config.load import load_config
from config.model import Config, ConnectionConfig
from daemon.alert_wiring import Look, alert_policy
from storage.alerts import Backlog
from storage.errors import StorageUnavailableError
from storage.memory import MemoryStorage

NOW: t.Final = 1_790_000_000.0


def test_the_defaults_are_those_of_the_rules() -> None:
    """What the file says by default is what the code does by default."""
    policy = alert_policy(Config())
    assert policy.settings.thresholds == Thresholds()
    assert (policy.settings.grace, policy.settings.recovery, policy.settings.group) == (180, 180, 2)
    assert (policy.wording.link, policy.windows) == ("", ())


def test_what_the_file_says(tmp_path: t.Any) -> None:
    """Thresholds, the link without its slash, zones and windows."""
    file = tmp_path / "supervisor.toml"
    file.write_text(
        '[alerts]\nlink = "https://z.example.com/"\ntimezone = "America/Sao_Paulo"\n'
        'down = "0s"\nseverity = "critical"\n'
        '[[maintenance]]\nname = "night"\ndays = ["sun"]\nstart = "22:30"\nend = "04:00"\n'
        'connections = ["sales"]\n'
    )
    policy = alert_policy(load_config(file, {}))
    assert not policy.settings.thresholds.on("down")
    assert policy.settings.severity == "critical"
    assert policy.wording.link == "https://z.example.com"
    assert str(policy.wording.zone) == "America/Sao_Paulo"
    [window] = policy.windows
    assert (window.name, window.start, window.end) == ("night", 22 * 60 + 30, 4 * 60)
    assert (window.days, window.connections) == ({"sun"}, {"sales"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[alerts]\ntimezone = "Mars/Base"\n', "knows no time zone"),
        ("[alerts]\ndown = 5\n", "has no unit"),
        ("[alerts]\ngroup = 1\n", "out of range"),
        ('[alerts]\nseverity = "bad"\n', "unknown"),
        ('[[maintenance]]\nname = "x"\nstart = "25:00"\nend = "01:00"\n', "a time such as"),
        ('[[maintenance]]\nname = "x"\nstart = "22:00"\n', "no end"),
        ('[[maintenance]]\nstart = "22:00"\nend = "23:00"\n', "no name"),
        (
            '[[maintenance]]\nname = "x"\ndays = ["sunday"]\nstart = "01:00"\nend = "02:00"\n',
            "not one of these",
        ),
    ],
)
def test_what_the_file_may_not_say(tmp_path: t.Any, text: str, said: str) -> None:
    """One clear error, with the place."""
    file = tmp_path / "supervisor.toml"
    file.write_text(text)
    with pytest.raises(Exception, match=said) as found:
        load_config(file, {})
    assert "supervisor.toml:" in str(found.value)


class Away(MemoryStorage):
    """May be away."""

    away = False

    async def ping(self) -> float:
        if self.away:
            raise StorageUnavailableError("away")
        return await super().ping()


async def test_a_snapshot(nursery: trio.Nursery) -> None:
    """Out of the fleet, the writer, the figures and the database; without the database as far as
    that goes."""
    storage = Away(lambda: NOW)
    storage.alert_backlogs = [Backlog(connection="sales", gaps=2, missing=5)]
    storage.alert_media = 7
    since = dt.datetime.fromtimestamp(NOW - 60, dt.UTC)
    status = ConnectionStatus(
        name="sales",
        state="backoff",
        since=since,
        reason="network",
        sentence="the network failed",
        retries=3,
        paired=True,
        jid=None,
        last_message_at=None,
        messages=0,
        duplicates=0,
        undecryptable=0,
        quarantined=4,
        in_flight=0,
        next_attempt_in=None,
        deaf=0,
        deaf_suspicion=None,
    )
    incident = Incident(code="outage", since=since, sentence="all fail", connections=9)
    fleet: t.Any = types.SimpleNamespace(status=lambda: [status], incidents=lambda: [incident])
    writer = WriterView(
        depth=5,
        capacity=10,
        batches=0,
        envelopes=0,
        last_commit_seconds=None,
        retrying_seconds=12.0,
        last_error="slow",
    )
    phones: t.Any = types.SimpleNamespace(seen_at={"sales": NOW - 99}.get)
    figures = FigureReader(storage, kept=0.0)
    late: list[float] = []

    def troubles(seconds: float) -> list[Trouble]:
        late.append(seconds)
        return [Trouble(export="zapvisor-day-2026-11-20", since=NOW - 9, error="no room")]

    look = Look(
        fleet, figures, storage, lambda: writer, phones, lambda: NOW, AlertsConfig(), troubles
    )
    await nursery.start(figures.run)
    snapshot = await look()
    [health] = snapshot.connections
    assert (health.name, health.state, health.since) == ("sales", "backoff", NOW - 60)
    assert (health.quarantined, health.phone_seen_at) == (4, NOW - 99)
    assert [(each.code, each.connections) for each in snapshot.incidents] == [("outage", 9)]
    assert (snapshot.writer.retrying, snapshot.writer.error) == (12.0, "slow")
    assert [(each.name, each.error) for each in snapshot.exports or ()] == [
        ("zapvisor-day-2026-11-20", "no room")
    ]
    assert late == [86_400.0]
    assert snapshot.stored is not None
    assert (snapshot.stored.media, snapshot.stored.backlogs[0].missing) == (7, 5)
    storage.away = True
    snapshot = await look()
    assert (snapshot.stored, snapshot.database_error) == (None, "away")
    assert snapshot.connections == (health,)
    nursery.cancel_scope.cancel()


def test_a_reload_applies_what_is_said_of_alerts() -> None:
    """No restart, and no connection is touched."""
    old = Config(connections=(ConnectionConfig(name="sales"),))
    window = MaintenanceConfig(name="night", start="01:00", end="02:00")
    new = attrs.evolve(old, alerts=AlertsConfig(down=60.0), maintenance=(window,))
    done = plan(old, new)
    assert (done.restart, done.changed, done.unchanged) == ((), (), ("sales",))
    policy = alert_policy(done.config)
    assert policy.settings.thresholds.down == 60.0
    assert [each.name for each in policy.windows] == ["night"]
