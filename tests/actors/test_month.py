"""A month of a daemon with outages, in virtual time: the mails that it yields, and nothing else."""

import datetime as dt
import typing as t
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

import actors.alerts
import actors.channel_sending
from actors.alert_rules import HOUR
from storage.notifications import NotificationKind
from tests.actors.month_world import ZONE, Mail, Month, open_month

Clock: t.TypeAlias = trio.testing.MockClock
ALERT, OVER, REPORT = NotificationKind.ALERT, NotificationKind.RECOVERY, NotificationKind.REPORT
DOWN: t.Final = "No connection to WhatsApp: {}"
QUIET: t.Final = "All 6 connections were online all day; no conversation waits."
LATE: t.Final = dt.timedelta(minutes=4)  # the rules look once a minute here
HANGS: t.Final = ("10-12 07:30", "10-19 12:00")  # the pager
SILENCED: t.Final = (("10-04 01:35", "c1"), ("10-05 10:05", "c2"), ("10-05 13:05", "c2"))
TROUBLED: t.Final = (
    *("09-23", "09-24", "09-25", "09-27", "09-28", "09-29", "10-01", "10-02", "10-03", "10-04"),
    *("10-05", "10-06", "10-07", "10-08", "10-09", "10-10", "10-11", "10-14"),
)


def at(moment: str) -> dt.datetime:
    """By the clock on the wall."""
    return dt.datetime.fromisoformat(f"2026-{moment}").replace(tzinfo=ZONE)


@attrs.frozen
class Expected:
    """A mail: when it is due, and what its subject says."""

    at: dt.datetime
    kind: NotificationKind
    subject: str
    late: dt.timedelta = LATE


def alert(
    severity: str, title: str, told: str, *again: str, over: str = "", late: int = 4
) -> list[Expected]:
    """The mails of one alert; ``late``: minutes that its end may take to be noticed."""
    found = [Expected(at(told), ALERT, f"[{severity}] {title}")]
    found += [Expected(at(each), ALERT, f"[{severity}] Still: {title}") for each in again]
    if over:
        end = dt.timedelta(minutes=late)
        found.append(Expected(at(over), OVER, f"Resolved: {title}", end))
    return found


def reports() -> list[Expected]:
    """Every morning at eight, of the day before, but for what the script does to it."""
    found = []
    for number in range(29):
        due = at("09-23 08:00") + number * dt.timedelta(days=1)  # on the wall
        match f"{due:%m-%d}":
            case "09-26":
                due = at("09-26 08:20")  # the database is away
            case "10-07":
                due = at("10-07 08:10")  # the daemon is off
            case "10-09":
                continue  # it is off until that is no news any more
            case "10-10":
                due = at("10-11 07:30")  # it is off as well; not for a day yet
        day = due.date() - dt.timedelta(days=2 if f"{due:%m-%d %H}" == "10-11 07" else 1)
        found.append(Expected(due, REPORT, f"zapvisor, {day:%a, %b} {day.day}: "))
    return found


def expected() -> list[Expected]:
    """All that people get."""
    phone = "The phone has not been seen for {} days: c0"
    mails = [
        *alert("warning", DOWN.format("c1"), "09-23 10:05", over="09-23 10:20", late=20),
        *alert("critical", "Many connections fail alike (6)", "09-25 09:01", over="09-25 09:45"),
        *alert("critical", "The database does not answer", "09-26 07:51", over="09-26 08:20"),
        *alert(
            *("critical", "Logged out of WhatsApp: c3", "09-27 11:00", "09-27 12:00"),
            over="09-28 18:00",
        ),
        *alert(
            *("critical", "Its keys are used by another program: c4", "09-29 16:01"),
            over="09-29 16:30",
        ),
        *alert(
            *("warning", "Messages in quarantine: c1", "09-30 10:01", "09-30 11:01"),
            over="09-30 11:30",
        ),
        *alert(
            *("warning", DOWN.format("c5"), "10-01 08:35"),
            *("10-01 09:35", "10-01 13:35", "10-02 01:35", "10-03 01:35"),
            over="10-03 09:00",
        ),
        *alert(
            *("warning", phone.format(10)),
            *("10-02 01:13", "10-02 02:13", "10-02 06:13", "10-02 18:13"),
        ),
        Expected(at("10-03 18:13"), ALERT, f"[warning] Still: {phone.format(11)}"),
        Expected(at("10-04 19:13"), ALERT, f"[warning] Still: {phone.format(12)}"),  # a day on
        Expected(at("10-05 12:00"), OVER, f"Resolved: {phone.format(12)}", 3 * LATE),
        # A silence from before it ends in its middle.
        Expected(at("10-05 14:00"), ALERT, f"[warning] Still: {DOWN.format('c2')}"),
        Expected(at("10-05 15:00"), OVER, f"Resolved: {DOWN.format('c2')}"),
        *alert("warning", DOWN.format("c1"), "10-06 10:05", over="10-06 10:20"),
        *alert("warning", DOWN.format("c2"), "10-06 15:05", over="10-06 15:30"),
        *alert("warning", DOWN.format("c4"), "10-06 20:05", over="10-06 21:00"),
        *alert(
            *("warning", "A channel of notifications fails: pager", "10-12 08:15"),
            *("10-12 09:15", "10-12 13:15", "10-13 01:15", "10-14 01:15", "10-15 01:15"),
            *("10-16 01:15", "10-17 01:15"),
            *("10-18 04:00", "10-19 04:00"),  # on a Sunday there is the window
            over="10-19 12:00",
            late=45,
        ),
        *alert("warning", DOWN.format("c1"), "10-14 12:05", over="10-14 12:20"),
        *reports(),
    ]
    return sorted(mails, key=lambda each: each.at)


def check(mails: list[Mail], due: list[Expected]) -> None:
    """Each mail that is due has come, when it was due; and nothing else has."""
    left = list(mails)
    missing = []
    for each in due:
        found = next((mail for mail in left if _is(mail, each)), None)
        if found is None:
            missing.append(each)
        else:
            left.remove(found)
    assert (missing, left) == ([], [])


def _is(mail: Mail, due: Expected) -> bool:
    return (
        mail.kind is due.kind
        and due.at <= mail.at <= due.at + due.late
        and (mail.subject.startswith if due.kind is REPORT else mail.subject.__eq__)(due.subject)
    )


def check_reports(told: list[Mail]) -> None:
    """Each tells whether all was well, and of the alerts that fired on its day, silenced or not."""
    fired = [
        (each.at, each.subject.partition("] ")[2])
        for each in expected()
        if each.kind is ALERT and "] Still: " not in each.subject
    ]
    fired += [(at(each), DOWN.format(name)) for each, name in SILENCED]
    for mail in told:
        day = mail.at.date() - dt.timedelta(days=2 if f"{mail.at:%m-%d %H}" == "10-11 07" else 1)
        assert (QUIET in mail.subject) == (f"{day:%m-%d}" not in TROUBLED), mail.subject
        section = mail.text.partition("\nAlerts\n")[2].partition("\n\n")[0]
        titles = sorted(title for moment, title in fired if moment.date() == day)
        if titles:
            shown = [line.partition(": ")[2] for line in section.splitlines()]
            assert sorted(shown) == titles
        else:
            assert section == "There was none."


def check_pager(mails: list[Mail], paged: list[Mail], given_up: int) -> None:
    """The same in Portuguese, in the same order, but for what was given up while it hung."""
    keys = [mail.key for mail in mails]
    taken = [mail.key for mail in paged]
    missed = [key for key in keys if key not in taken]
    assert taken == [key for key in keys if key not in missed]
    assert len(missed) == given_up > 0
    begin, end = (at(each) for each in HANGS)
    times = {mail.key: mail.at for mail in mails}
    assert all(begin < times[key] < end for key in missed)
    assert keys[keys.index(missed[0]) :][:given_up] == missed
    for mail in paged:
        if begin < times[mail.key] < end:
            assert end < mail.at < end + dt.timedelta(minutes=45)
        else:
            assert mail.at == times[mail.key]
        if mail.kind is not REPORT:
            assert mail.subject.startswith(("[atenção] ", "[crítico] ", "Resolvido: "))


async def live(month: Month) -> None:
    """What happens in the month."""
    until, light = month.until, lambda: month.daemon.light
    month.phones_away.add("c0")
    await month.start()

    await until(at("09-23 10:00"))  # down for 20 minutes; tried rarely after a quarter of an hour
    month.fail("c1")
    await until(at("09-23 10:20"))
    month.well("c1")
    await until(at("09-23 15:00"))  # for two minutes
    month.fail("c2")
    await until(at("09-23 15:02"))
    month.well("c2")
    for minute in range(0, 60, 6):  # and again and again
        await until(at(f"09-24 20:{minute:02}"))
        month.network.drop("c2")

    await until(at("09-25 09:00"))  # the network of all
    month.network.down = "swallows"
    month.network.drop()
    await until(at("09-25 09:45"))
    month.network.down = None

    await until(at("09-26 07:50"))  # the database, at the time of the report
    month.storage.away = True
    await until(at("09-26 08:20"))
    month.storage.away = False

    await until(at("09-27 11:00"))  # logged out; somebody takes care of it, and pairs it again
    month.fail("c3", "logged_out")
    await until(at("09-27 12:30"))
    [logged_out] = month.daemon.alerts.active()
    assert logged_out.alert.id is not None
    await month.daemon.alerts.acknowledge(logged_out.alert.id, "ana")
    await until(at("09-28 18:00"))
    month.well("c3")
    await light().fleet.start("c3")

    await until(at("09-29 16:00"))  # a second program with the same keys
    month.fail("c4", "conflict")
    await until(at("09-29 16:30"))
    month.well("c4")
    await light().fleet.start("c4")

    await until(at("09-30 10:00"))  # two rows in quarantine
    light().counts["c1"].quarantined = 2
    await until(at("09-30 11:30"))
    light().counts["c1"].quarantined = 0

    await until(at("10-01 08:30"))  # parked for two days
    month.fail("c5")
    await until(at("10-02 12:00"))
    assert light().states() == {"online": 5, "parked": 1}
    await until(at("10-03 09:00"))
    month.well("c5")
    await light().fleet.start("c5")

    await until(at("10-04 01:30"))  # in the window, and over the hour that the clocks skip
    month.fail("c1")
    await until(at("10-04 03:30"))
    month.well("c1")
    await light().fleet.start("c1")

    await until(at("10-05 10:00"))  # silenced from beginning to end; then, not to the end
    await month.daemon.alerts.silence("c2", None, seconds=2 * HOUR, why="works", by="ana")
    month.fail("c2")
    await until(at("10-05 11:00"))
    month.well("c2")
    await light().fleet.start("c2")
    await until(at("10-05 12:00"))
    month.phones_away.clear()
    light().counts["c0"].phone_seen(at("10-05 12:00").timestamp())
    await until(at("10-05 12:30"))
    await month.daemon.alerts.silence("c2", None, seconds=1.5 * HOUR, why="works", by="ana")
    await until(at("10-05 13:00"))
    month.fail("c2")
    await until(at("10-05 15:00"))
    month.well("c2")
    await light().fleet.start("c2")

    await until(at("10-06 10:00"))  # it is well again while the daemon is off
    month.fail("c1")
    await until(at("10-06 10:10"))
    await month.kill()
    month.well("c1")
    await until(at("10-06 10:20"))
    await month.start()
    await until(at("10-06 15:00"))  # the daemon dies again and again while it fires
    month.fail("c2")
    for minute in range(7, 27, 2):
        await until(at(f"10-06 15:{minute:02}"))
        await month.kill()
        await month.start()
    await until(at("10-06 15:30"))
    month.well("c2")
    await light().fleet.start("c2")
    await until(at("10-06 20:00"))  # and in the moment in which it begins to fire
    month.fail("c4")
    while not await month.storage.active_alerts():
        await trio.sleep(1)
    await month.kill()
    await month.start()
    await until(at("10-06 21:00"))
    month.well("c4")
    await light().fleet.start("c4")

    await until(at("10-07 07:59:30"))  # off at eight
    await month.kill()
    await until(at("10-07 08:10"))
    await month.start()
    await until(at("10-08 08:00"))  # killed at eight
    await month.kill()
    await month.start()
    await until(at("10-09 07:00"))  # off for two days
    await month.kill()
    await until(at("10-11 07:30"))
    await month.start()

    pager = month.carriers["pager"]
    await until(at("10-12 07:30"))  # a channel hangs for a week; the other does not care
    pager.hangs = True
    await until(at("10-14 12:00"))
    month.fail("c1")
    await until(at("10-14 12:20"))
    month.well("c1")
    await light().fleet.start("c1")
    await until(at("10-19 12:00"))
    pager.hangs = False

    await until(at("10-22 00:14"))


@pytest.mark.slow
async def test_a_month(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every mail comes when it is due, once, and no other does; the channel that hung gets what
    was not given up, in the same order."""
    monkeypatch.setattr(actors.alerts, "INTERVAL", 60.0)  # of 260 000 looks
    monkeypatch.setattr(actors.channel_sending, "POLL", 120.0)
    async with open_month(autojump_clock, monkeypatch, tmp_path) as month:
        await live(month)
        mails, paged = month.carriers["mail"].mails, month.carriers["pager"].mails
        rows = {row.name: row for row in await month.storage.channels()}
    check(mails, expected())
    check_reports([mail for mail in mails if mail.kind is REPORT])
    check_pager(mails, paged, rows["pager"].given_up)
