"""The daily report: of any day, as figures or as a mail; and sending it."""

import datetime as dt
import typing as t

import attrs
from litestar import get, post
from litestar.params import QueryParameter

from actors.report_values import Report
from api.backend import Backend, required
from api.ports_report import ReportsPort

Day: t.TypeAlias = t.Annotated[
    dt.date | None,
    QueryParameter(
        description="ISO 8601, such as 2026-11-21, in the time zone of the configuration; by"
        " default the day before today. Today is allowed, and is not complete."
    ),
]
Language: t.TypeAlias = t.Annotated[t.Literal["en", "pt-BR"], QueryParameter()]


@attrs.frozen(kw_only=True)
class ReportMail:
    """A report as it is sent."""

    day: dt.date
    language: str
    subject: str
    text: str
    html: str


@attrs.frozen(kw_only=True)
class QueuedReport:
    """A report on its way; ``GET /channels`` tells how the channels get on."""

    day: dt.date
    channels: tuple[str, ...]


def report_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""

    def reports() -> ReportsPort:
        return required(backend.reports, "reports")

    @get(
        "/report",
        tags=["statistics"],
        opt={"problems": (404,)},
        summary="What happened on a day: uptime, messages, conversations, first answers, gaps",
        description="By connection and in total, with the day before and the same weekday a week"
        " before. Messages count when they were sent; what waits is as of now.",
    )
    async def report(day: Day = None) -> Report:
        return await reports().make(day)

    @get(
        "/report/mail",
        tags=["statistics"],
        opt={"problems": (404,)},
        summary="The same as the mail that is sent of it",
    )
    async def report_mail(day: Day = None, language: Language = "en") -> ReportMail:
        made = await reports().make(day)
        mail = reports().mail(made, language)
        return ReportMail(
            day=made.day,
            language=language,
            subject=mail.subject,
            text=mail.text,
            html=mail.html or "",
        )

    @post(
        "/report/mail",
        tags=["statistics"],
        opt={"problems": (404,)},
        status_code=202,
        summary="Send the report of a day now",
        description="Through the channels that take reports, each in its language; once for each"
        " time that it is asked for. The daily one is sent all the same.",
    )
    async def send_report(day: Day = None) -> QueuedReport:
        made = await reports().send(day)
        return QueuedReport(day=made.day, channels=reports().channels)

    return [report, report_mail, send_report]
