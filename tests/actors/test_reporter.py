"""The reporter in virtual time: one report a day, whatever happens to the daemon meanwhile."""

import collections.abc as cabc
import datetime as dt
import typing as t
import zoneinfo

import pytest
import trio
import trio.testing

from actors.errors import NoChannelError
from actors.report_days import Schedule
from actors.report_figures import ReportMaker
from actors.reporter import Reporter
from api.report_mail import mail_of
from storage.api import ConnectionEvent, ConversationRules
from storage.errors import StorageUnavailableError
from storage.memory import MemoryStorage
from storage.notifications import ChannelRule, Notification, NotificationKind, Severity

BERLIN: t.Final = zoneinfo.ZoneInfo("Europe/Berlin")
Clock: t.TypeAlias = trio.testing.MockClock
START: t.Final = dt.datetime(2026, 10, 20, 12, tzinfo=BERLIN)  # the clock is set on the 25th
DAY: t.Final = 86_400.0


def wall() -> float:
    """Unix seconds."""
    return START.timestamp() + trio.current_time()


class Storage(MemoryStorage):
    """May be away, and remembers what was saved when."""

    def __init__(self) -> None:
        super().__init__(wall)
        self.away = False
        self.saved: list[tuple[dt.date, float]] = []

    async def last_report(self) -> dt.date | None:
        if self.away:
            raise StorageUnavailableError("away")
        return await super().last_report()

    async def save_report(
        self, day: dt.date, zone: str, notifications: cabc.Sequence[Notification]
    ) -> bool:
        saved = await super().save_report(day, zone, notifications)
        if saved:
            self.saved.append((day, wall()))
        return saved


@pytest.fixture
async def storage(autojump_clock: Clock) -> Storage:
    """One connection, online since the beginning, and two channels of which one takes reports."""
    made = Storage()
    await made.ensure_connection("sales", ConversationRules())
    await made.record_event(
        ConnectionEvent(
            connection="sales",
            previous="connecting",
            state="online",
            reason="logged_in",
            sentence="logged in",
            retry=0,
        )
    )
    await made.set_channels(
        [
            ChannelRule(
                name="mail",
                kinds=frozenset({NotificationKind.REPORT}),
                severity=Severity.CRITICAL,
            ),
            ChannelRule(name="alarm", kinds=frozenset({NotificationKind.ALERT})),
        ],
        stale_before=0.0,
    )
    return made


def reporter(storage: Storage, channels: tuple[str, ...] = ("mail",)) -> Reporter:
    """One that reports at eight, in Berlin."""
    return Reporter(
        storage,
        ReportMaker(storage, BERLIN, wall),
        Schedule(time=dt.time(8), zone=BERLIN),
        mail_of,
        languages=("en", "pt-BR"),
        channels=channels,
        wall_clock=wall,
        uniform=lambda: 0.5,
    )


async def run_for(storage: Storage, seconds: float) -> None:
    """One run of the daemon."""
    with trio.move_on_after(seconds):
        await reporter(storage).run()


async def waiting(storage: Storage, channel: str) -> list[Notification]:
    """What a channel has to send."""
    found = []
    while claimed := await storage.claim_notification(channel, wall() + 60):
        found.append(claimed.notification)
        await storage.settle_notification(channel, claimed)
    return found


def moments(storage: Storage) -> list[str]:
    """When each report was made, by the clock of Berlin."""
    return [
        f"{day:%d}: {dt.datetime.fromtimestamp(at, BERLIN):%d %H:%M %z}"
        for day, at in storage.saved
    ]


async def test_each_morning_at_eight(autojump_clock: Clock, storage: Storage) -> None:
    """Also when the clock was set; the first day is the one on which it was installed."""
    await run_for(storage, 7 * DAY)
    assert moments(storage) == [
        "20: 21 08:00 +0200",
        "21: 22 08:00 +0200",
        "22: 23 08:00 +0200",
        "23: 24 08:00 +0200",
        "24: 25 08:00 +0100",
        "25: 26 08:00 +0100",
        "26: 27 08:00 +0100",
    ]


async def test_who_is_sent_what(autojump_clock: Clock, storage: Storage) -> None:
    """Each channel that takes reports, whatever it wants to be told of at least; in all languages,
    with HTML."""
    await run_for(storage, DAY)
    [told] = await waiting(storage, "mail")
    assert await waiting(storage, "alarm") == []
    assert (told.key, told.kind) == ("report:2026-10-20", NotificationKind.REPORT)
    assert told.content("en").subject == (
        "zapvisor, Tue, Oct 20: sales was online all day; no conversation waits."
    )
    assert told.content("pt-BR").subject.endswith(
        "sales ficou online o dia todo; nenhuma conversa espera."
    )
    for language in ("en", "pt-BR"):
        content = told.content(language)
        assert "sales" in content.text
        assert "<table" in (content.html or "")
    assert told.data == {"day": "2026-10-20", "zone": "Europe/Berlin"}


async def test_restarts_repeat_nothing(autojump_clock: Clock, storage: Storage) -> None:
    """Killed and started every hour for days."""
    for _hour in range(72):
        await run_for(storage, 3600)
    assert [day.day for day, _at in storage.saved] == [20, 21, 22]
    assert len(await waiting(storage, "mail")) == 3


async def test_off_at_eight(autojump_clock: Clock, storage: Storage) -> None:
    """It is sent at the next start; of days that are long over the next report tells."""
    await run_for(storage, DAY)
    await trio.sleep(26 * 3600)  # over the next morning
    await run_for(storage, 60)
    assert moments(storage)[-1] == "21: 22 14:00 +0200"
    await trio.sleep(4 * DAY)
    await run_for(storage, 60)
    assert moments(storage)[-1] == "25: 26 13:01 +0100"
    *_others, last = await waiting(storage, "mail")
    assert "The reports of 3 days, from Thu, Oct 22 to Sat, Oct 24, were not" in last.text


async def test_the_database_is_away_at_eight(autojump_clock: Clock, storage: Storage) -> None:
    """It is tried until it is there, at least every minute."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reporter(storage).run)
        await trio.sleep(19.9 * 3600)
        storage.away = True
        await trio.sleep(3600)
        assert storage.saved == []
        storage.away = False
        await trio.sleep(61)
        assert len(storage.saved) == 1
        nursery.cancel_scope.cancel()


async def test_when_asked(autojump_clock: Clock, storage: Storage) -> None:
    """A report is sent as often as it is asked for; that of the schedule all the same."""
    await trio.sleep(DAY)
    made = reporter(storage)
    for _ in range(2):
        await made.send(dt.date(2026, 10, 20))
        await trio.sleep(1)
    await run_for(storage, 60)
    assert [each.key.split(":")[2:3] for each in await waiting(storage, "mail")] == [
        ["asked"],
        ["asked"],
        [],
    ]
    with pytest.raises(NoChannelError, match=r"\[\[channels\]\]"):
        await reporter(storage, ()).send()
