"""Notifications are queued once, told in order, and settled once; on both storages alike."""

import datetime as dt
import typing as t

import attrs
import pytest
import trio
from st_helpers import DAY, NOW, Clock, Cluster

from storage.api import Storage
from storage.notifications import (
    CHANNEL_GONE,
    TOO_OLD,
    ChannelRow,
    ChannelRule,
    Content,
    Notification,
    NotificationKind,
    Severity,
)
from storage.postgres import PostgresStorage
from storage.prepare_notifications import encode_notifications

ALERTS = frozenset({NotificationKind.ALERT, NotificationKind.RECOVERY})
MAIL = ChannelRule(name="mail", kinds=ALERTS | {NotificationKind.REPORT})
CHAT = ChannelRule(name="chat", kinds=ALERTS, severity=Severity.CRITICAL)
FAR = 4_000_000_000.0  # later than the clock of any database


def notification(key: str = "alert:1", **fields: t.Any) -> Notification:
    """An alert, unless told otherwise."""
    defaults: dict[str, t.Any] = {
        "kind": NotificationKind.ALERT,
        "subject": "sales is down",
        "text": "It does not answer.",
    }
    return Notification(key=key, **{**defaults, **fields})


async def row(storage: Storage, name: str) -> ChannelRow:
    """How far a channel has come."""
    [found] = [each for each in await storage.channels() if each.name == name]
    return found


async def claimed_keys(storage: Storage, channel: str) -> list[str]:
    """All that the channel has to tell; it takes them."""
    keys = []
    while (claimed := await storage.claim_notification(channel, NOW + 60)) is not None:
        keys.append(claimed.notification.key)
        await storage.settle_notification(channel, claimed)
    return keys


async def test_each_goes_where_it_is_taken(storage: Storage) -> None:
    """By kind, severity and connection; what concerns the whole daemon goes to all; what names
    its channels goes there alone."""
    support = ChannelRule(name="support", kinds=ALERTS, connections=frozenset({"support"}))
    await storage.set_channels([MAIL, CHAT, support], stale_before=0)
    told = [
        notification("a", severity=Severity.CRITICAL, connection="sales"),
        notification("b", severity=Severity.INFO),
        notification("c", kind=NotificationKind.RECOVERY, connection="support"),
        notification("d", kind=NotificationKind.REPORT),
        notification("e", kind=NotificationKind.TEST, channels=("chat",)),
        notification("f", kind=NotificationKind.TEST),
        notification("g", concerned=("sales", "support")),
        notification("h", concerned=("sales", "spare")),
    ]
    assert await storage.enqueue_notifications(told) == len(told)
    assert await claimed_keys(storage, "mail") == ["a", "c", "d", "g", "h"]
    assert await claimed_keys(storage, "chat") == ["a", "e"]
    assert await claimed_keys(storage, "support") == ["c", "g"]


async def test_a_key_is_queued_once(storage: Storage) -> None:
    """Within a call, and in a later one; also after it was told."""
    await storage.set_channels([MAIL], stale_before=0)
    both = [notification("a"), notification("a", subject="again"), notification("b")]
    assert await storage.enqueue_notifications(both) == 2
    assert await storage.enqueue_notifications(both) == 0
    assert await claimed_keys(storage, "mail") == ["a", "b"]
    assert await storage.enqueue_notifications(both) == 0
    assert await claimed_keys(storage, "mail") == []
    assert await storage.enqueue_notifications([]) == 0


async def test_content_comes_back(storage: Storage) -> None:
    """In each language; with characters that PostgreSQL cannot hold made readable."""
    await storage.set_channels([MAIL], stale_before=0)
    portuguese = Content(subject="sales está fora do ar", text="Não responde.", html="<p>é</p>")
    await storage.enqueue_notifications(
        [
            notification(
                html="<p>down</p>",
                severity=Severity.CRITICAL,
                connection="sales",
                translations={"pt-BR": portuguese},
                data={"since": 5, "names": ["a", "b"], "nothing": None},
            )
        ]
    )
    claimed = await storage.claim_notification("mail", NOW + 60)
    assert claimed is not None
    kept = claimed.notification
    assert (kept.kind, kept.severity, kept.connection) == (
        NotificationKind.ALERT,
        Severity.CRITICAL,
        "sales",
    )
    assert kept.content("pt-BR") == portuguese
    assert (
        kept.content("en")
        == kept.content("de")
        == Content(subject="sales is down", text="It does not answer.", html="<p>down</p>")
    )
    assert kept.data == {"since": 5, "names": ["a", "b"], "nothing": None}
    assert claimed.created_at.tzinfo is not None


async def test_order_is_kept_behind_a_failure(storage: Storage, clock: Clock) -> None:
    """The next waits until the one before it was sent or given up; its time comes by the clock."""
    await storage.set_channels([MAIL], stale_before=0)
    await storage.enqueue_notifications([notification("a"), notification("b")])
    first = await storage.claim_notification("mail", NOW + 60)
    assert first is not None
    assert (first.notification.key, first.attempt) == ("a", 1)
    await storage.settle_notification("mail", first, "no route", NOW + 30)
    assert await storage.claim_notification("mail", NOW + 60) is None
    state = await row(storage, "mail")
    assert (state.pending, state.retrying, state.failed, state.error) == (2, 1, 1, "no route")
    assert state.next_attempt_at == dt.datetime.fromtimestamp(NOW + 30, dt.UTC)
    clock.now += 30
    again = await storage.claim_notification("mail", NOW + 90)
    assert again is not None
    assert state.failing_since == dt.datetime.fromtimestamp(NOW, dt.UTC)
    assert (again.notification.key, again.attempt) == ("a", 2)
    await storage.settle_notification("mail", again, "no route")
    assert (await row(storage, "mail")).failing_since == state.failing_since
    assert await claimed_keys(storage, "mail") == ["b"]
    state = await row(storage, "mail")
    assert (state.pending, state.sent, state.failed, state.given_up) == (0, 1, 2, 1)
    assert state.failing_since is None


async def test_a_claim_lasts_until_its_deadline(storage: Storage, clock: Clock) -> None:
    """Nobody else gets it before; then it is another attempt, and the first one's outcome no
    longer counts."""
    await storage.set_channels([MAIL], stale_before=0)
    await storage.enqueue_notifications([notification("a")])
    first = await storage.claim_notification("mail", NOW + 60)
    assert first is not None
    clock.now += 59
    assert await storage.claim_notification("mail", NOW + 120) is None
    clock.now += 1
    second = await storage.claim_notification("mail", NOW + 120)
    assert second is not None
    assert second.attempt == 2
    await storage.settle_notification("mail", first, "late news")
    assert (await row(storage, "mail")).pending == 1
    await storage.settle_notification("mail", second)
    await storage.settle_notification("mail", second)
    state = await row(storage, "mail")
    assert (state.pending, state.sent, state.failed) == (0, 1, 0)
    assert state.sent_at == dt.datetime.fromtimestamp(NOW + 60, dt.UTC)


async def test_a_start_releases_claims(storage: Storage) -> None:
    """Whoever had them is gone: they are due at once, as another attempt."""
    await storage.set_channels([MAIL], stale_before=0)
    await storage.enqueue_notifications([notification("a")])
    assert await storage.claim_notification("mail", NOW + 60) is not None
    assert await storage.set_channels([MAIL], stale_before=0) == 0
    again = await storage.claim_notification("mail", NOW + 60)
    assert again is not None
    assert (again.notification.key, again.attempt) == ("a", 2)


async def test_a_claim_of_a_wrong_clock_is_not_believed(storage: Storage, clock: Clock) -> None:
    """Nothing is put off for years because the clock once stood there."""
    await storage.set_channels([MAIL], stale_before=0)
    await storage.enqueue_notifications([notification("a")])
    assert await storage.claim_notification("mail", NOW + 400 * DAY) is not None
    assert await storage.claim_notification("mail", NOW + 60) is not None


async def test_what_was_told_already_is_recorded_only(storage: Storage) -> None:
    """Sent past the queue while the database was away: the others still get it."""
    await storage.set_channels([MAIL, attrs.evolve(CHAT, severity=Severity.INFO)], stale_before=0)
    assert await storage.enqueue_notifications([notification("a", told=("mail",))]) == 1
    await storage.count_sent("mail")
    await storage.count_sent("chat", "no route")
    assert await claimed_keys(storage, "mail") == []
    assert await claimed_keys(storage, "chat") == ["a"]
    assert (await row(storage, "mail")).sent == 1
    chat = await row(storage, "chat")
    assert (chat.sent, chat.failed, chat.error, chat.failing_since) == (1, 1, "no route", None)


async def test_channels_that_are_gone_tell_nothing_later(storage: Storage) -> None:
    """What waited for them is given up at once; when they come back they begin anew, with their
    figures."""
    await storage.set_channels([MAIL, CHAT], stale_before=0)
    await storage.enqueue_notifications([notification("a", severity=Severity.CRITICAL)])
    assert await storage.set_channels([CHAT], stale_before=0) == 1
    await storage.enqueue_notifications([notification("b", severity=Severity.CRITICAL)])
    state = await row(storage, "mail")
    assert (state.active, state.pending, state.given_up) == (False, 0, 1)
    assert await storage.set_channels([MAIL, CHAT], stale_before=0) == 0
    assert await claimed_keys(storage, "mail") == []
    assert await claimed_keys(storage, "chat") == ["a", "b"]
    assert (await row(storage, "mail")).given_up == 1


async def test_stale_news_is_given_up(storage: Storage) -> None:
    """A daemon that was away for days does not tell what was."""
    await storage.set_channels([MAIL], stale_before=0)
    await storage.enqueue_notifications([notification("a")])
    assert await storage.set_channels([MAIL], stale_before=FAR) == 1
    assert await claimed_keys(storage, "mail") == []
    assert (await row(storage, "mail")).given_up == 1


async def test_failed_ones_can_be_hurried(storage: Storage) -> None:
    """Those being sent are left alone."""
    await storage.set_channels([MAIL, attrs.evolve(CHAT, severity=Severity.INFO)], stale_before=0)
    await storage.enqueue_notifications([notification("a")])
    failed = await storage.claim_notification("mail", NOW + 60)
    assert failed is not None
    await storage.settle_notification("mail", failed, "no route", NOW + 3600)
    assert await storage.claim_notification("chat", NOW + 60) is not None
    for channel in ("mail", "chat"):
        await storage.hurry_notifications(channel)
    assert await claimed_keys(storage, "mail") == ["a"]
    assert await claimed_keys(storage, "chat") == []


async def test_old_ones_are_trimmed(storage: Storage) -> None:
    """Some at a time, with their deliveries; the figures of the channels stay."""
    await storage.set_channels([MAIL], stale_before=0)
    await storage.enqueue_notifications([notification(str(number)) for number in range(5)])
    assert len(await claimed_keys(storage, "mail")) == 5
    assert await storage.trim_notifications(0, 10) == 0
    assert await storage.trim_notifications(FAR, 3) == 3
    assert await storage.trim_notifications(FAR, 3) == 2
    assert await storage.trim_notifications(FAR, 3) == 0
    assert (await row(storage, "mail")).sent == 5


async def test_queued_with_the_change_it_tells_of(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """The SQL function is called in the transaction of a change: both are there, or neither; and
    NULs and lone surrogates do not fail it."""
    await postgres.set_channels([MAIL], stale_before=0)
    odd = notification("a", text="a\0b\ud800", data={"x\0": ["\udfff"]})
    encoded = encode_notifications([odd]).replace("'", "''")
    change = f"SELECT count(*) FROM enqueue_notifications('{encoded}')"
    await cluster.script(dsn, f"BEGIN; {change}; ROLLBACK")
    assert (await row(postgres, "mail")).pending == 0
    await cluster.script(dsn, f"BEGIN; {change}; COMMIT")
    claimed = await postgres.claim_notification("mail", NOW + 60)
    assert claimed is not None
    assert claimed.notification.text == "a\u2400b\ufffd"


async def test_why_it_was_given_up_is_kept(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """In the row of the delivery."""
    await postgres.set_channels([MAIL, attrs.evolve(CHAT, severity=Severity.INFO)], stale_before=0)
    await postgres.enqueue_notifications([notification("a")])
    await postgres.set_channels([MAIL], stale_before=0)
    await postgres.set_channels([MAIL], stale_before=FAR)
    rows = await cluster.sql(
        dsn, "SELECT channel, state, error FROM notification_deliveries ORDER BY channel"
    )
    assert [tuple(each) for each in rows] == [
        ("chat", "given_up", CHANNEL_GONE),
        ("mail", "given_up", TOO_OLD),
    ]


@pytest.mark.parametrize("field", ["kind", "severity"])
async def test_the_schema_knows_all_words(
    postgres: PostgresStorage, cluster: Cluster, dsn: str, field: str
) -> None:
    """Each kind and each severity can be stored."""
    words: dict[str, t.Any] = {"kind": NotificationKind, "severity": Severity}
    told = [notification(each.value, **{field: each}) for each in words[field]]
    assert await postgres.enqueue_notifications(told) == len(told)
    rows = await cluster.sql(dsn, f"SELECT {field} FROM notifications ORDER BY id")
    assert [each[0] for each in rows] == [each.value for each in words[field]]


async def test_two_at_a_time_with_one_key(postgres: PostgresStorage) -> None:
    """Of two sessions that queue the same key at once, one does."""
    await postgres.set_channels([MAIL], stale_before=0)
    new: list[int] = []

    async def enqueue() -> None:
        new.append(await postgres.enqueue_notifications([notification("a")]))

    async with trio.open_nursery() as both:
        both.start_soon(enqueue)
        both.start_soon(enqueue)
    assert sorted(new) == [0, 1]
    assert await claimed_keys(postgres, "mail") == ["a"]
