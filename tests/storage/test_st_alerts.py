"""Alerts, silences and signs of phones, on both storages."""

import typing as t

import attrs
import pytest
from st_helpers import CUSTOMER, NOW, Clock, take

from storage.alerts import Alert, AlertChange, Backlog
from storage.api import Envelope, Storage, SyncRun
from storage.events import EventRow
from storage.facts import PlaceholderVerdict
from storage.gaps import OutageBegan, QueueAnnounced, QueueDrained
from storage.memory import MemoryStorage
from storage.notifications import ChannelRule, Notification, NotificationKind
from storage.postgres import PostgresStorage

FIRED = Alert(
    key="down/sales/1",
    rule="down",
    severity="warning",
    of_connections=True,
    subjects=("sales",),
    cause="network",
    since=1_700_000_000.25,
    fired_at=1_700_000_300.5,
    last_seen=1_700_000_300.5,
    notified_at=1_700_000_300.5,
    times=1,
    told=("sales",),
    detail="the network failed\0",
    facts={"state": "backoff", "count": 3},
    sentence="sales is down",
)
NOTIFICATION = Notification(
    key="alert/down/sales/1/1",
    kind=NotificationKind.ALERT,
    connection="sales",
    subject="sales is down",
    text="sales is down",
)
RULE = ChannelRule(name="mail", kinds=frozenset({NotificationKind.ALERT}))


async def events(storage: Storage) -> list[EventRow]:
    """Those of alerts."""
    page = await storage.events_after(0)
    return [each for each in page.events if each.type.startswith("alert.")]


async def test_a_change_commits_with_what_is_told_and_its_event(storage: Storage) -> None:
    """Row, notification and event; applying it again adds none of them."""
    await storage.set_channels([RULE], stale_before=0)
    change = AlertChange(what="fired", alert=FIRED, notification=NOTIFICATION)
    first = await storage.save_alerts([change])
    assert await storage.save_alerts([change]) == first
    [stored] = await storage.active_alerts()
    if isinstance(storage, PostgresStorage):
        assert stored == attrs.evolve(FIRED, id=first[FIRED.key], detail="the network failed\u2400")
    assert await storage.alert(first[FIRED.key]) == stored
    [row] = await storage.channels()
    assert row.pending == 1
    [event] = await events(storage)
    assert (event.type, event.connection) == ("alert.fired", "sales")
    assert event.data["alert_id"] == first[FIRED.key]
    assert event.data["since"] == "2023-11-14T22:13:20.250000Z"


async def test_an_older_step_changes_nothing(storage: Storage) -> None:
    """What is stored late, or twice, does not undo what came after it."""
    resolved = attrs.evolve(FIRED, step=3, resolved_at=1_700_001_000.0)
    await storage.save_alerts(
        [AlertChange(what="fired", alert=FIRED), AlertChange(what="resolved", alert=resolved)]
    )
    late = attrs.evolve(FIRED, step=2, acknowledged_at=1.0, acknowledged_by="somebody")
    await storage.save_alerts([AlertChange(what="acknowledged", alert=late)])
    assert await storage.active_alerts() == []
    [alert] = await storage.past_alerts()
    assert (alert.state, alert.step, alert.acknowledged_by) == ("resolved", 3, None)
    assert [each.type for each in await events(storage)] == ["alert.fired", "alert.resolved"]


async def test_noted_changes_make_no_event(storage: Storage) -> None:
    """A group that grows is the same alert."""
    await storage.save_alerts([AlertChange(what="fired", alert=FIRED)])
    grown = attrs.evolve(FIRED, step=2, subjects=("sales", "support"), others=4)
    await storage.save_alerts([AlertChange(what="noted", alert=grown)])
    [alert] = await storage.active_alerts()
    assert (alert.subjects, alert.others, alert.connection) == (("sales", "support"), 4, None)
    assert len(await events(storage)) == 1


async def test_what_is_told_of_many_changes_is_queued_once_each(storage: Storage) -> None:
    """One transaction with two alerts and their notifications, in order."""
    await storage.set_channels([RULE], stale_before=0)
    other = attrs.evolve(FIRED, key="down/support/1", subjects=("support",))
    told = attrs.evolve(NOTIFICATION, key="alert/down/support/1/1", connection="support")
    ids = await storage.save_alerts(
        [
            AlertChange(what="fired", alert=FIRED, notification=NOTIFICATION),
            AlertChange(what="fired", alert=other, notification=told),
        ]
    )
    assert len(set(ids.values())) == 2
    claimed = await storage.claim_notification("mail", deadline=1e10)
    assert claimed is not None
    assert claimed.notification.connection == "sales"
    assert [each.connection for each in await events(storage)] == ["sales", "support"]


async def test_pages_of_past_alerts(storage: Storage) -> None:
    """The newest first; touching and trimming leave the others alone."""
    many = [attrs.evolve(FIRED, key=f"k{number}") for number in range(5)]
    ids = await storage.save_alerts([AlertChange(what="fired", alert=each) for each in many])
    page = await storage.past_alerts(limit=2)
    assert [each.key for each in page] == ["k4", "k3"]
    rest = await storage.past_alerts(before=page[-1].id, limit=50)
    assert [each.key for each in rest] == ["k2", "k1", "k0"]
    await storage.touch_alerts(["k1"], 1_700_009_000.0)
    seen = {each.key: each.last_seen for each in await storage.past_alerts()}
    assert seen["k1"] == 1_700_009_000.0
    assert seen["k2"] == FIRED.last_seen
    over = attrs.evolve(many[0], step=2, resolved_at=1_700_000_400.0)
    await storage.save_alerts([AlertChange(what="resolved", alert=over)])
    assert await storage.trim_alerts(1_700_000_300.0, 10) == 0
    assert await storage.trim_alerts(1_700_000_500.0, 10) == 1
    assert len(await storage.past_alerts()) == 4
    assert await storage.alert(ids["k0"]) is None


async def test_silences(storage: Storage, clock: Clock) -> None:
    """One is over when its time is, or when somebody ends it; twice is as good as once."""
    now = clock()
    one = await storage.add_silence("sales", None, until=now + 60, why="works", by="ana")
    both = await storage.add_silence(None, "down", until=now + 3600, why="", by="bia")
    assert [each.id for each in await storage.silences(since=now)] == [both.id, one.id]
    assert one.covers("deaf", "sales", one.begins_at)
    assert not one.covers("deaf", "support", one.begins_at)
    assert not one.covers("deaf", None, one.begins_at)
    assert both.covers("down", "support", both.begins_at)
    assert not both.covers("deaf", "support", both.begins_at)
    assert not one.covers("deaf", "sales", one.ends_at)
    clock.now += 10
    ended = await storage.end_silence(both.id)
    assert ended is not None
    assert ended.ends_at.timestamp() == pytest.approx(now + 10)
    clock.now += 10
    assert await storage.end_silence(both.id) == ended
    assert await storage.end_silence(9999) is None
    assert await storage.silences(since=now + 15) == [one]
    assert await storage.trim_alerts(now + 30, 10) == 1


async def test_signs_of_phones(storage: Storage) -> None:
    """The newest sign stays; of connections that there are."""
    await storage.note_phone_signs({"sales": 100.0, "support": 200.0})
    await storage.note_phone_signs({"sales": 50.0, "support": 300.0})
    assert await storage.phone_signs() == {"sales": 100.0, "support": 300.0}


async def test_backlogs(postgres: PostgresStorage, clock: Clock) -> None:
    """What cannot be read for a while, gaps that are open for a while, errors of the last hour; of
    each connection by itself."""
    failed: dict[str, t.Any] = {"kind": "undecryptable", "text": None, "raw": b""}
    for number in range(3):
        await take(postgres, f"A{number}", **failed)
    given_up = PlaceholderVerdict(
        chat=CUSTOMER, direct=True, sender=CUSTOMER, external_id="A0", verdict="gave_up"
    )
    steps = (
        OutageBegan(kind="ended", reason="network", at=NOW),
        QueueAnnounced(login="L1", number=1, at=NOW + 9, horizon=NOW + 9, announced=4, messages=4),
        QueueDrained(login="L1", number=2, at=NOW + 10, others=0),
    )
    for step in steps:
        await postgres.apply([Envelope(connection="support", gap=step)])
    await postgres.apply([Envelope(connection="sales", facts=(given_up,))])
    run = SyncRun(connection="sales", total=9, processed=5, skipped=1, errors=3, at=NOW)
    await postgres.record_sync(run)
    clock.now += 700
    young = await postgres.backlogs(undecryptable=NOW - 60, gaps=NOW - 60, delivered=NOW + 60)
    assert young == []
    old = await postgres.backlogs(undecryptable=NOW + 600, gaps=NOW + 600, delivered=NOW - 60)
    assert old == [
        Backlog(connection="sales", undecryptable=2, delivered=9, errors=3),
        Backlog(connection="support", gaps=1, missing=4),
    ]


async def test_backlogs_of_an_empty_database(postgres: PostgresStorage) -> None:
    """Nothing waits: no connection is told of."""
    assert await postgres.backlogs(undecryptable=1e9, gaps=1e9, delivered=0.0) == []
    assert await postgres.media_waiting() == 0


def test_memory_has_what_tests_need() -> None:
    """Backlogs are set, not counted."""
    storage: t.Any = MemoryStorage()
    assert storage.alert_backlogs == []
