"""The alerts of a day in the daily report, as PostgreSQL keeps them, in each language."""

import datetime as dt
import typing as t
import zoneinfo

import attrs
from st_helpers import KEY, Clock

from config.channels import ReportConfig
from config.model import Config
from daemon.report_wiring import make_reporter
from storage.alerts import Alert, AlertChange, Value
from storage.api import ConversationRules
from storage.postgres import PostgresStorage

ZONE: t.Final = zoneinfo.ZoneInfo("America/Sao_Paulo")
DAY: t.Final = dt.date(2026, 11, 21)


def at(day: int, hour: int, minute: int = 0) -> float:
    """A local time of November, in unix seconds."""
    return dt.datetime(2026, 11, day, hour, minute, tzinfo=ZONE).timestamp()


def alert(
    rule: str, begin: float, end: float | None, *subjects: str, **facts: Value
) -> list[AlertChange]:
    """Its steps."""
    fired = Alert(
        key=f"{rule}/{begin}",
        rule=rule,
        severity="warning",
        of_connections=rule in ("quarantine", "down"),
        subjects=subjects,
        since=begin - 300,
        fired_at=begin,
        last_seen=begin,
        facts=facts,
        sentence=f"the {rule} alert in English",
    )
    changes = [AlertChange(what="fired", alert=fired)]
    if end is not None:
        over = attrs.evolve(fired, resolved_at=end, last_seen=end, step=2)
        changes.append(AlertChange(what="resolved", alert=over))
    return changes


async def test_the_alerts_of_a_day(dsn: str, clock: Clock) -> None:
    """Those that fired on it and no others, in their order, with their ends, in both languages; one
    of a rule that this version does not know in the words in which it was stored."""
    clock.now = at(20, 12)
    async with PostgresStorage.open(dsn, key=KEY, pool_size=2, clock=clock) as storage:
        await storage.ensure_connection("sales", ConversationRules())
        await storage.save_alerts(
            [
                *alert("database", at(20, 23, 59), at(21, 0, 30)),  # the day before
                *alert("quarantine", at(21, 0), at(21, 1), "sales", count=3),
                *alert("disk", at(21, 9, 30), None, "/data", free=2**29),
                *alert("down", at(21, 23, 50), at(22, 0, 10), "sales", "support"),
                *alert("of_tomorrow", at(21, 23, 59), None),
                *alert("writer", at(22, 0), None, depth=9, capacity=10),  # the day after
            ]
        )
        clock.now = at(22, 8)
        config = Config(report=ReportConfig(timezone=ZONE.key))
        reporter = make_reporter(config, storage, clock)
        report = await reporter.make(DAY)
        assert [
            (each.connection, each.sentence, each.since.timestamp()) for each in report.alerts or ()
        ] == [
            ("sales", "the quarantine alert in English", at(21, 0)),
            (None, "the disk alert in English", at(21, 9, 30)),
            (None, "the down alert in English", at(21, 23, 50)),
            (None, "the of_tomorrow alert in English", at(21, 23, 59)),
        ]
        english = reporter.mail(report, "en").text
        portuguese = reporter.mail(report, "pt-BR").text
    assert english.partition("\nAlerts\n")[2].partition("\n\n")[0].splitlines() == [
        "00:00 to 01:00 (1 hr): the quarantine alert in English",
        "09:30, not over: the disk alert in English",
        "23:50 to Sun, Nov 22, 00:10 (20 min): the down alert in English",
        "23:59, not over: the of_tomorrow alert in English",
    ]
    assert portuguese.partition("\nAlertas\n")[2].partition("\n\n")[0].splitlines() == [
        "00:00 a 01:00 (1 h): Mensagens em quarentena: sales",
        "09:30, não terminou: O disco está quase cheio: /data",
        "23:50 a dom., 22 de nov., 00:10 (20 min): Sem conexão com o WhatsApp: sales e support",
        "23:59, não terminou: the of_tomorrow alert in English",
    ]
