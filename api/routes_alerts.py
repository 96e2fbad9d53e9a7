"""Alerts: what is wrong, who takes care of it, and who is not told for a time."""

import datetime as dt
import typing as t

import attrs
from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter

from actors.alert_rules import RULES
from actors.alert_texts import LANGUAGES
from actors.alert_words import alert_text
from actors.drafts import BadRequestError
from api.auth import Caller, caller
from api.backend import Backend, Limit, required, storable, unknown
from api.pages import PAGED, AnyRequest, PageCursor, Pages
from api.ports_alerts import AlertsPort, AlertView
from storage.alerts import Alert, Silence, Value

By: t.TypeAlias = t.Annotated[
    str | None,
    QueryParameter(min_length=1, max_length=200, description="Who; the token's name by default."),
]
Past: t.TypeAlias = t.Annotated[
    bool, QueryParameter(name="all", description="Those that are over, too.")
]
Language: t.TypeAlias = t.Annotated[
    str, QueryParameter(description=f"Of title, cause and cure: {' or '.join(LANGUAGES)}.")
]
Connection: t.TypeAlias = t.Annotated[
    str | None, QueryParameter(description="Of this connection alone.")
]
Everything: t.TypeAlias = t.Annotated[
    bool, QueryParameter(name="all", description="Of all connections, and of the daemon.")
]
RuleName: t.TypeAlias = t.Annotated[str | None, QueryParameter(description="Of this rule alone.")]
Seconds: t.TypeAlias = t.Annotated[float, QueryParameter(gt=0, le=366 * 86_400)]
Why: t.TypeAlias = t.Annotated[str, QueryParameter(max_length=1000)]
Over: t.TypeAlias = t.Annotated[
    bool, QueryParameter(name="all", description="Those of the last 30 days that are over, too.")
]

MONTH: t.Final = 30 * 86_400.0  # seconds
_ALERTS: t.Final = "zapvisor alerts --all lists them"
_SILENCES: t.Final = "zapvisor silences lists them"
_PAGES: t.Final = Pages[Alert]("alerts", (int,), lambda row: (row.id or 0,))


@attrs.frozen(kw_only=True)
class AlertJson:
    """One alert."""

    id: int | None  # None: it is not stored yet, for the database is away
    rule: str
    state: str  # firing, acknowledged or resolved
    severity: str  # info, warning or critical
    title: str  # what happened, in a line
    cause: str  # what it probably comes from
    cure: str  # what to do
    detail: str  # the daemon's own words, in English
    connection: str | None  # if it concerns one alone
    subjects: tuple[str, ...]  # connections, webhooks, …: whom it concerns
    others: int  # more of them, without their names
    facts: dict[str, Value]  # figures
    since: dt.datetime
    fired_at: dt.datetime
    last_seen: dt.datetime
    resolved_at: dt.datetime | None
    acknowledged_at: dt.datetime | None
    acknowledged_by: str | None
    notified_at: dt.datetime | None  # the last time that people were told
    times: int  # that they were told
    silenced_by: str | None  # nobody is told for that reason


@attrs.frozen(kw_only=True)
class SilenceJson:
    """Nobody is told of some alerts for a time."""

    id: int
    connection: str | None  # None: of everything
    rule: str | None  # None: of all of them
    why: str
    made_by: str
    begins_at: dt.datetime
    ends_at: dt.datetime
    active: bool


def alert_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""

    def service() -> AlertsPort:
        return required(backend.alerts, "alerts")

    @get(
        "/alerts",
        tags=["alerts"],
        summary="What is wrong; with `all`, what was, newest first",
        description="Without `all` it is answered while the database is away, too.",
        response_headers=PAGED,
    )
    async def alerts(
        request: AnyRequest,
        past: Past = False,
        language: Language = "en",
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[AlertJson]]:
        _check_language(language)
        if not past:
            shown = [alert_json(each, language) for each in service().active()]
            return Response(shown)
        before = _PAGES.number(cursor, None)
        rows = await backend.storage.past_alerts(before=before, limit=limit + 1)
        return _PAGES.answer(
            request, rows, limit, lambda row: alert_json(service().view(row), language)
        )

    @get("/alerts/{number:int}", tags=["alerts"], summary="One alert")
    async def alert(number: FromPath[int], language: Language = "en") -> AlertJson:
        _check_language(language)
        row = await backend.storage.alert(storable(number, "alert", _ALERTS))
        if row is None:
            raise unknown("alert", number, _ALERTS)
        return alert_json(service().view(row), language)

    @post(
        "/alerts/{number:int}/ack",
        tags=["alerts"],
        status_code=200,
        summary="Take care of an alert: it is told no more until it is over",
    )
    async def acknowledge(request: AnyRequest, number: FromPath[int], by: By = None) -> AlertJson:
        storable(number, "alert", _ALERTS)
        row = await service().acknowledge(number, _who(request, by))
        if row is None:
            raise unknown("alert", number, _ALERTS)
        return alert_json(service().view(row), "en")

    @get(
        "/silences",
        tags=["alerts"],
        summary="Who is not told of what, and until when; newest first",
    )
    async def silences(past: Over = False) -> list[SilenceJson]:
        now = backend.wall_clock()
        rows = await backend.storage.silences(since=now - MONTH if past else now)
        return [silence_json(row, now) for row in rows]

    @post(
        "/silences",
        tags=["alerts"],
        status_code=201,
        summary="Have nobody told of a connection, or of anything, for some seconds",
        description="Alerts are recorded and shown all the same. What still lasts when the silence"
        " ends is told then.",
    )
    async def silence(
        request: AnyRequest,
        seconds: Seconds,
        connection: Connection = None,
        everything: Everything = False,
        rule: RuleName = None,
        why: Why = "",
        by: By = None,
    ) -> SilenceJson:
        if (connection is None) != everything:
            raise BadRequestError("either connection, or all=true")
        if connection is not None:
            backend.fleet.status(connection)
        if rule is not None and rule not in RULES:
            raise BadRequestError(f"rule: one of {', '.join(RULES)}")
        made = await service().silence(
            connection, rule, seconds=seconds, why=why, by=_who(request, by)
        )
        return silence_json(made, backend.wall_clock())

    @post(
        "/silences/{number:int}/end",
        tags=["alerts"],
        status_code=200,
        summary="End a silence now; what is firing is told",
    )
    async def end(number: FromPath[int]) -> SilenceJson:
        row = await service().end_silence(storable(number, "silence", _SILENCES))
        if row is None:
            raise unknown("silence", number, _SILENCES)
        return silence_json(row, backend.wall_clock())

    return [alerts, alert, acknowledge, silences, silence, end]


def alert_json(view: AlertView, language: str) -> AlertJson:
    """An alert as it is shown."""
    alert, text = view.alert, alert_text(view.alert, language)
    moments = {
        name: _moment(getattr(alert, name))
        for name in ("resolved_at", "acknowledged_at", "notified_at")
    }
    return AlertJson(
        id=alert.id,
        rule=alert.rule,
        state=alert.state,
        severity=alert.severity,
        title=text.title,
        cause=text.cause,
        cure=text.cure,
        detail=alert.detail,
        connection=alert.connection,
        subjects=alert.subjects,
        others=alert.others,
        facts=dict(alert.facts),
        since=_utc(alert.since),
        fired_at=_utc(alert.fired_at),
        last_seen=_utc(alert.last_seen),
        acknowledged_by=alert.acknowledged_by,
        times=alert.times,
        silenced_by=view.silenced_by,
        **moments,
    )


def silence_json(silence: Silence, now: float) -> SilenceJson:
    """A silence as it is shown."""
    active = silence.begins_at.timestamp() <= now < silence.ends_at.timestamp()
    return SilenceJson(**attrs.asdict(silence), active=active)


def _who(request: AnyRequest, by: str | None) -> str:
    who = caller(request.scope)
    return by or (who.name if isinstance(who, Caller) else "somebody")


def _check_language(language: str) -> None:
    if language not in LANGUAGES:
        raise BadRequestError(f"language: one of {', '.join(LANGUAGES)}")


def _utc(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _moment(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else _utc(seconds)
