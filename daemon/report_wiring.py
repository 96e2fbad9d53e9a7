"""The daily report, from the configuration."""

import collections.abc as cabc
import datetime as dt
import secrets
import zoneinfo

from actors.report_alerts import PastAlerts, fired_alerts
from actors.report_days import Schedule
from actors.report_figures import ReportMaker
from actors.reporter import Reporter
from api.report_mail import mail_of
from api.report_words import LANGUAGES
from config.model import Config
from daemon.cli_timeline import local_zone
from storage.api import Storage
from supervisor.spec import ChildSpec

KIND = "report"  # of notifications, as channels are configured with it


def make_reporter(
    config: Config, storage: Storage, wall_clock: cabc.Callable[[], float]
) -> Reporter:
    """Reports in the time zone that is configured, else in the system's; nothing runs yet."""
    settings = config.report
    zone = zoneinfo.ZoneInfo(settings.timezone or local_zone() or "UTC")
    alerts = fired_alerts(storage) if isinstance(storage, PastAlerts) else None
    return Reporter(
        storage,
        ReportMaker(storage, zone, wall_clock, alerts),
        Schedule(time=dt.time.fromisoformat(settings.time), zone=zone),
        mail_of,
        languages=LANGUAGES,
        channels=[channel.name for channel in config.channels if KIND in channel.kinds],
        wall_clock=wall_clock,
        uniform=secrets.SystemRandom().random,
    )


def report_children(config: Config, reporter: Reporter) -> list[ChildSpec]:
    """What runs of it: nothing, unless reports are wanted and some channel takes them."""
    if not (config.report.enabled and reporter.channels):
        return []
    return [ChildSpec(id="report", start=reporter.run)]
