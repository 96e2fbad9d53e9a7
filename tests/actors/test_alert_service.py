"""The service of alerts in virtual time: what is recorded, what is told, and when the database is
away; also the texts, silences and windows."""

import collections.abc as cabc
import datetime as dt
import typing as t
import zoneinfo

import attrs
import pytest
import trio
import trio.testing

from actors.alert_facts import ConnectionHealth, Snapshot, StoredHealth
from actors.alert_rules import DAY, HOUR, MINUTE, RULES
from actors.alert_texts import CAUSES, ENGLISH
from actors.alert_texts_pt import PORTUGUESE
from actors.alert_watches import AlertSettings
from actors.alert_words import Wording, notification_of
from actors.alerts import AlertPolicy, AlertService
from actors.maintenance import Window
from api.metrics_families import REASONS
from storage.alerts import Alert, AlertChange
from storage.errors import StorageRejectedError, StorageUnavailableError
from storage.memory import MemoryStorage
from storage.notifications import ChannelRule, Notification, NotificationKind, Severity

START: t.Final = 1_790_000_000.0
RULE: t.Final = ChannelRule(
    name="mail",
    kinds=frozenset({NotificationKind.ALERT, NotificationKind.RECOVERY}),
    severity=Severity.INFO,
)


def wall_clock() -> float:
    """Unix seconds of the virtual clock."""
    return START + trio.current_time()


class Away(MemoryStorage):
    """May be away, or refuse an alert."""

    def __init__(self) -> None:
        super().__init__(wall_clock)
        self.away = False
        self.lost = 0
        """So many next changes are stored, and reported as if the connection broke."""
        self.refused: set[str] = set()

    async def save_alerts(self, changes: cabc.Sequence[AlertChange]) -> dict[str, int]:
        if self.away:
            raise StorageUnavailableError("away")
        if any(change.alert.rule in self.refused for change in changes):
            raise StorageRejectedError("refused")
        ids = await super().save_alerts(changes)
        if self.lost:
            self.lost -= 1
            raise StorageUnavailableError("the answer to the COMMIT was lost")
        return ids

    async def active_alerts(self) -> list[Alert]:
        if self.away:
            raise StorageUnavailableError("away")
        return await super().active_alerts()


@attrs.define
class World:
    """A daemon with one connection, and a channel."""

    storage: Away = attrs.field(factory=Away)
    states: dict[str, str] = attrs.field(factory=lambda: {"sales": "online"})
    quarantined: int = 0
    error: str | None = None
    direct: list[Notification] = attrs.field(factory=list)
    reachable: bool = True
    woken: int = 0
    failures: int = 0
    policy: AlertPolicy = attrs.field(
        factory=lambda: AlertPolicy(settings=AlertSettings(grace=0.0))
    )

    async def look(self) -> Snapshot:
        """Everything now."""
        await trio.lowlevel.checkpoint()
        if self.failures:
            self.failures -= 1
            raise ValueError("a defect")
        return Snapshot(
            connections=tuple(
                ConnectionHealth(
                    name=name,
                    state=state,
                    reason="network",
                    sentence="the network failed",
                    since=wall_clock(),
                    quarantined=self.quarantined,
                )
                for name, state in self.states.items()
            ),
            database_error=self.error,
            stored=None if self.error else StoredHealth(),
        )

    async def tell_now(self, notification: Notification, within: float) -> tuple[str, ...]:
        """Past the queue."""
        await trio.sleep(1)
        if not self.reachable:
            return ()
        self.direct.append(notification)
        return ("mail",)

    def wake(self) -> None:
        """Something was queued."""
        self.woken += 1

    def service(self) -> AlertService:
        """One life of it."""
        return AlertService(
            self.storage, self.look, self, policy=self.policy, wall_clock=wall_clock
        )

    async def queued(self) -> list[Notification]:
        """What the channel gets, in order."""
        found = []
        while claimed := await self.storage.claim_notification("mail", 1e12):
            found.append(claimed.notification)
            await self.storage.settle_notification("mail", claimed)
        return found

    async def types(self) -> list[str]:
        """Of the events of alerts."""
        page = await self.storage.events_after(0)
        return [each.type for each in page.events if each.type.startswith("alert.")]


@pytest.fixture
async def world(autojump_clock: trio.testing.MockClock) -> World:
    made = World()
    await made.storage.set_channels([RULE], stale_before=0)
    return made


async def run(service: AlertService, seconds: float) -> None:
    """A life of so many seconds, ended by a kill."""
    with trio.move_on_after(seconds):
        await service.run()


async def test_down_is_recorded_told_and_recovers(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    """State, notification and event; then the recovery."""
    world.states["sales"] = "backoff"
    service = world.service()
    await run(service, 6 * MINUTE)
    [view] = service.active()
    assert (view.alert.state, view.alert.id) == ("firing", 1)
    [told] = await world.queued()
    assert told.kind is NotificationKind.ALERT
    assert told.connection == "sales"
    assert told.subject == "[warning] No connection to WhatsApp: sales"
    assert told.content("pt-BR").subject == "[atenção] Sem conexão com o WhatsApp: sales"
    assert world.woken
    world.states["sales"] = "online"
    await run(service, 5 * MINUTE)
    assert service.active() == []
    [recovery] = await world.queued()
    assert recovery.kind is NotificationKind.RECOVERY
    assert await world.types() == ["alert.fired", "alert.resolved"]
    [stored] = await world.storage.past_alerts()
    assert (stored.state, stored.times) == ("resolved", 1)


async def test_a_restart_says_nothing_twice(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    """Ten lives while it fires; what resolved between two lives gets its recovery."""
    world.states["sales"] = "backoff"
    await run(world.service(), 6 * MINUTE)
    for _ in range(10):
        await run(world.service(), 61.0)
    assert len(await world.queued()) == 1
    world.states["sales"] = "online"
    await trio.sleep(HOUR)
    await run(world.service(), 5 * MINUTE)
    [recovery] = await world.queued()
    assert recovery.subject == "Resolved: No connection to WhatsApp: sales"
    assert await world.types() == ["alert.fired", "alert.resolved"]


async def test_the_database_is_down(autojump_clock: trio.testing.MockClock, world: World) -> None:
    """People are told past the queue, once; it is recorded when it is back, and the queue does not
    tell it again. The recovery takes the queue."""
    service = world.service()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        await trio.sleep(30)
        world.storage.away, world.error = True, "connection refused"
        world.states["sales"] = "backoff"
        await trio.sleep(30 * MINUTE)
        assert [each.subject for each in world.direct] == [
            "[critical] The database does not answer"
        ]
        assert "connection refused" in world.direct[0].text
        world.storage.away, world.error = False, None
        world.states["sales"] = "online"
        await trio.sleep(10 * MINUTE)
        nursery.cancel_scope.cancel()
    assert [each.kind for each in await world.queued()] == [NotificationKind.RECOVERY]
    assert await world.types() == ["alert.fired", "alert.resolved"]
    assert len(world.direct) == 1


async def test_nobody_can_be_reached_while_the_database_is_down(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    """It is tried again, at growing intervals, and told by the queue in the end."""
    world.reachable = False
    service = world.service()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        await trio.sleep(30)
        world.storage.away, world.error = True, "connection refused"
        await trio.sleep(20 * MINUTE)
        assert world.direct == []
        world.storage.away, world.error = False, None
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    assert [each.severity for each in await world.queued()] == [Severity.CRITICAL]


async def test_a_change_that_is_refused_stops_nobody(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    """It is given up; the others of its batch are stored."""
    world.storage.refused = {"quarantine"}
    world.quarantined = 3
    world.states["sales"] = "banned"
    service = world.service()
    await run(service, 3 * MINUTE)
    assert [each.rule for each in await world.storage.active_alerts()] == ["banned"]


async def test_an_answer_that_is_lost(autojump_clock: trio.testing.MockClock, world: World) -> None:
    """What was stored all the same is stored, told and counted once."""
    world.storage.lost = 2
    world.states["sales"] = "backoff"
    await run(world.service(), 7 * MINUTE)
    assert len(await world.queued()) == 1
    assert world.direct == []
    assert await world.types() == ["alert.fired"]


async def test_a_machine_that_slept(autojump_clock: trio.testing.MockClock, world: World) -> None:
    """What lasted while nobody looked is no reason; it has its time after that."""
    service = world.service()
    world.states["sales"] = "backoff"
    await run(service, MINUTE)
    await trio.sleep(8 * HOUR)
    await run(service, 3 * MINUTE)
    assert service.active() == []
    await run(service, 3 * MINUTE)
    assert len(service.active()) == 1


async def test_acknowledging(autojump_clock: trio.testing.MockClock, world: World) -> None:
    """It is told no more; twice is as good as once; of an unknown one there is nothing."""
    world.states["sales"] = "backoff"
    service = world.service()
    await run(service, 6 * MINUTE)
    taken = await service.acknowledge(1, "ana")
    assert taken is not None
    assert (taken.state, taken.acknowledged_by) == ("acknowledged", "ana")
    assert await service.acknowledge(1, "bia") == taken
    assert await service.acknowledge(7, "bia") is None
    await world.queued()
    await run(service, 2 * DAY)
    assert await world.queued() == []
    assert service.counts() == {("down", "acknowledged"): 1}
    assert await world.types() == ["alert.fired", "alert.acknowledged"]


async def test_an_acknowledgement_that_cannot_be_stored(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    """Is an error, and did not happen; the alert goes on as before."""
    world.states["sales"] = "backoff"
    service = world.service()
    await run(service, 6 * MINUTE)
    world.storage.away = True
    with pytest.raises(StorageUnavailableError):
        await service.acknowledge(1, "ana")
    assert service.active()[0].alert.state == "firing"
    world.storage.away = False
    assert await service.acknowledge(1, "ana") is not None
    world.states["sales"] = "online"
    await run(service, 5 * MINUTE)
    assert await world.storage.active_alerts() == []


async def test_silences(autojump_clock: trio.testing.MockClock, world: World) -> None:
    """Recorded and shown, and told once the silence is over, by itself or by an order."""
    world.states["sales"] = "backoff"
    service = world.service()
    made = await service.silence("sales", "down", seconds=HOUR, why="works", by="ana")
    await run(service, 30 * MINUTE)
    [view] = service.active()
    assert view.silenced_by == f"silence {made.id}"
    assert service.counts() == {("down", "silenced"): 1}
    assert await world.queued() == []
    await run(service, 31 * MINUTE)
    assert len(await world.queued()) == 1
    again = await service.silence(None, None, seconds=DAY, why="", by="ana")
    await run(service, 5 * HOUR)
    assert await world.queued() == []
    assert await service.end_silence(again.id) is not None
    await run(service, 10.0)
    assert len(await world.queued()) == 1


async def test_what_is_silenced_is_so_at_once(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    """Even if the service reads the silences just then, from before it was made."""
    read = world.storage.silences

    async def slowly(**which: t.Any) -> t.Any:
        found = await read(**which)
        await trio.sleep(0 if found else 4)
        return found

    world.storage.silences = slowly  # type: ignore[method-assign]
    service = world.service()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        await trio.sleep(66)  # the second reading is under way
        await service.silence("sales", None, seconds=HOUR, why="works", by="ana")
        world.states["sales"] = "banned"
        await trio.sleep(40)
        assert [each.silenced_by for each in service.active()] == ["silence 1"]
        assert await world.queued() == []
        nursery.cancel_scope.cancel()


async def test_windows(autojump_clock: trio.testing.MockClock, world: World) -> None:
    """The hours of maintenance are silent, and are shown."""
    now = dt.datetime.fromtimestamp(wall_clock(), dt.UTC)
    minute = 60 * now.hour + now.minute
    window = Window(
        name="backup",
        days=frozenset({"mon", "tue", "wed", "thu", "fri", "sat", "sun"}),
        start=minute,
        end=(minute + 60) % 1440,
    )
    world.policy = attrs.evolve(world.policy, windows=(window,))
    world.states["sales"] = "banned"
    service = world.service()
    await run(service, 10 * MINUTE)
    assert service.windows() == ["backup"]
    assert await world.queued() == []
    service.use(attrs.evolve(world.policy, windows=()))
    await run(service, 10.0)
    assert len(await world.queued()) == 1


async def test_a_defect_is_survived(autojump_clock: trio.testing.MockClock, world: World) -> None:
    """What a look fails with ends a round, not the service: it is run again by ``endure``."""
    world.failures = 1
    service = world.service()
    with pytest.RaisesGroup(ValueError):
        await service.run()
    await run(service, MINUTE)


# ---- windows


def at(text: str) -> dt.datetime:
    """A moment in UTC."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def test_a_window_over_midnight() -> None:
    """It belongs to the day on which it begins."""
    window = Window(name="w", days=frozenset({"sat"}), start=22 * 60, end=4 * 60)
    assert window.lasts(at("2026-11-28T22:00"))  # a Saturday
    assert window.lasts(at("2026-11-29T03:59"))
    assert not window.lasts(at("2026-11-29T04:00"))
    assert not window.lasts(at("2026-11-28T03:00"))
    assert not window.lasts(at("2026-11-29T22:00"))


def test_a_window_by_the_clock_on_the_wall() -> None:
    """Summer time moves it with the clocks."""
    zone = zoneinfo.ZoneInfo("Europe/Lisbon")
    window = Window(name="w", days=frozenset({"mon"}), start=60, end=120, zone=zone)
    assert window.lasts(at("2026-07-06T00:30"))
    assert not window.lasts(at("2026-07-06T01:30"))
    assert window.lasts(at("2026-12-07T01:30"))
    assert not window.lasts(at("2026-12-07T00:30"))


def test_windows_of_some_connections() -> None:
    """Those alone; nothing that concerns none."""
    every = frozenset({"mon", "tue", "wed", "thu", "fri", "sat", "sun"})
    window = Window(name="w", days=every, start=0, end=0, connections=frozenset({"sales"}))
    assert window.covers("sales", at("2026-11-28T12:00"))
    assert not window.covers("support", at("2026-11-28T12:00"))
    assert not window.covers(None, at("2026-11-28T12:00"))


# ---- words


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("what", ["fired", "repeated", "resolved"])
def test_every_rule_has_words(rule: str, what: t.Any) -> None:
    """In both languages: no placeholder is left, and nobody has to guess."""
    subjects = ("sales",) if RULES[rule].of_connections else ("",)
    alert = Alert(
        key="k",
        rule=rule,
        severity="critical",
        of_connections=RULES[rule].of_connections,
        subjects=subjects,
        since=START,
        fired_at=START,
        last_seen=START,
        resolved_at=START + HOUR if what == "resolved" else None,
        detail="<the daemon's words>",
        facts={
            "count": 3,
            "total": 10,
            "missing": 4,
            "days": 11,
            "depth": 9,
            "capacity": 10,
            "free": 2**28,
            "export": "zapvisor-day-2026-11-20",
        },
    )
    change = AlertChange(what=what, alert=alert)
    wording = Wording(link="https://z.example.com")
    told = notification_of(change, subjects, wording, START + HOUR)
    english, portuguese = told.content("en"), told.content("pt-BR")
    for content in (english, portuguese):
        assert "{" not in content.subject + content.text
        assert "–" not in content.subject
        assert "https://z.example.com/dashboard/#/" in content.text
        assert content.html is not None
        assert "<the" not in content.html
    assert english.subject != portuguese.subject
    assert english.text.splitlines()[-1:] != portuguese.text.splitlines()[:1]


def test_languages_say_the_same_things() -> None:
    """Every text is there in both."""
    for english, portuguese in (
        (ENGLISH.rules, PORTUGUESE.rules),
        (ENGLISH.causes, PORTUGUESE.causes),
        (ENGLISH.words, PORTUGUESE.words),
    ):
        assert set(english) == set(portuguese)
    assert set(ENGLISH.rules) == set(RULES)
    assert set(CAUSES) - {"crashed"} <= REASONS
    assert set(CAUSES.values()) == set(ENGLISH.causes)


def test_many_are_named_in_part() -> None:
    """A subject stays short, and the text names more."""
    names = tuple(f"c{number:03}" for number in range(200))
    alert = Alert(
        key="k",
        rule="down",
        severity="warning",
        of_connections=True,
        subjects=names,
        others=7,
        since=START,
        fired_at=START,
        last_seen=START,
    )
    told = notification_of(AlertChange(what="fired", alert=alert), names, Wording(), START)
    assert told.connection is None
    assert told.subject.endswith("c000, c001, c002, c003, c004 and 202 more")
    assert "c049 and 157 more" in told.text
    assert "http" not in told.text


def test_the_end_is_told_to_those_who_were_told_of_many() -> None:
    """Although only one of them was left at last: its channel alone would not be all of them."""
    alert = Alert(
        key="k",
        rule="down",
        severity="warning",
        of_connections=True,
        subjects=("sales",),
        told=("sales", "support"),
        since=START,
        fired_at=START,
        last_seen=START,
        resolved_at=START + HOUR,
    )
    wording = Wording(link="https://z.example.com")
    change = AlertChange(what="resolved", alert=alert)
    told = notification_of(change, alert.told, wording, START + HOUR)
    assert told.connection is None
    assert told.whom == ("sales", "support")
    assert told.data["link"] == "https://z.example.com/dashboard/#/alerts"
    again = notification_of(AlertChange(what="repeated", alert=alert), ("sales",), wording, START)
    assert again.whom == ("sales",)
    assert again.data["link"] == "https://z.example.com/dashboard/#/connections/sales"
