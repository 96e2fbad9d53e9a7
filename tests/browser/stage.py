"""A daemon on a stage: the real dashboard, and an API that says what a test wants it to say.

It has everything worth looking at: connections in every state, traffic, an unfriendly conversation.
That the real API says the same things in the same shapes is for ``test_dashboard_live.py``.
"""

import collections.abc as cabc
import contextlib
import copy
import json
import socket
import typing as t

import attrs
import segno
import trio
from litestar import Litestar, Response, delete, get, post, websocket
from litestar.connection import WebSocket
from litestar.exceptions import WebSocketDisconnect
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from api.problems import HANDLERS, ProblemError
from api.routes_dashboard import dashboard_routes
from api.server import serve_app
from tests.browser import stage_props as props

TOKEN: t.Final = "zv_stage"

T = t.TypeVar("T")
Search: t.TypeAlias = t.Annotated[str | None, QueryParameter(name="query")]
Past: t.TypeAlias = t.Annotated[bool, QueryParameter(name="all")]
AnySocket: t.TypeAlias = WebSocket[t.Any, t.Any, t.Any]


@attrs.define
class Stage:
    """What the API says, and what it was asked."""

    url: str = ""
    session: dict[str, t.Any] | None = None
    health: dict[str, t.Any] = attrs.field(factory=props.health)
    conversations: list[dict[str, t.Any]] = attrs.field(factory=props.conversations)
    messages: list[dict[str, t.Any]] = attrs.field(factory=props.messages)
    gaps: list[dict[str, t.Any]] = attrs.field(factory=props.gaps)
    quarantine: list[dict[str, t.Any]] = attrs.field(factory=props.quarantine)
    alerts: list[dict[str, t.Any]] = attrs.field(factory=list)
    silences: list[dict[str, t.Any]] = attrs.field(factory=list)
    pairing: dict[str, t.Any] = attrs.field(factory=props.pairing)
    asked: list[str] = attrs.field(factory=list)
    """Method and path of each request to the API, with the query."""
    events_away: bool = False
    away: bool = False
    """Whether every request fails."""
    held: dict[str, trio.Event] = attrs.field(factory=dict)
    """Requests, as they are in ``asked``, whose answer waits for the event."""
    _number: int = 0
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _events: list[dict[str, t.Any]] = attrs.field(factory=list)

    def sign_in(self, *scopes: str) -> None:
        """Be somebody with these scopes."""
        self.session = {"name": "stage", "scopes": list(scopes or ("history", "operate", "read"))}

    def tell(self, kind: str, connection: str | None = None, **data: t.Any) -> None:
        """An event, for everybody who listens."""
        self._number += 1
        self._events.append(
            {
                "id": self._number,
                "type": kind,
                "at": props.ago(0),
                "connection": connection,
                "data": data,
            }
        )
        self.wake()

    def forget_events(self) -> None:
        """As a daemon whose database was restored from a backup: numbers begin anew."""
        self._number = 0
        self._events.clear()

    def wake(self) -> None:
        """Whoever waits looks again."""
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def connection(self, name: str) -> dict[str, t.Any]:
        """The facts of a connection, to be changed."""
        found: dict[str, t.Any] = next(
            each for each in self.health["connections"] if each["name"] == name
        )
        return found

    def message(self, number: int) -> dict[str, t.Any]:
        """A message, to be changed."""
        found: dict[str, t.Any] = next(each for each in self.messages if each["id"] == number)
        return found

    # ---- what the routes do

    def check(self, what: str, scope: str = "read") -> None:
        self.asked.append(what)
        if self.away:
            raise ProblemError("starting", 503, "the daemon is starting")
        if self.session is None:
            raise ProblemError("unauthorized", 401, "a token is needed")
        if scope not in self.session["scopes"]:
            raise ProblemError("forbidden", 403, f"this needs the scope {scope}")

    async def answer(self, what: str, found: T) -> T:
        """What was found, once nothing holds it back any more."""
        if what in self.held:
            await self.held[what].wait()
        return found

    async def follow(self, socket: AnySocket, news: cabc.Callable[[], list[t.Any]]) -> None:
        """Send whatever is new, until the client goes."""
        await socket.accept()
        async with trio.open_nursery() as nursery:

            async def until_closed() -> None:
                with contextlib.suppress(WebSocketDisconnect):
                    while True:
                        await socket.receive_text()
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_closed)
            while not self.events_away:
                changed = self._changed
                for each in news():
                    await socket.send_text(json.dumps(each))
                await changed.wait()
            await socket.close(1012)
            nursery.cancel_scope.cancel()


def paged(rows: list[t.Any], limit: int, cursor: int) -> Response[list[t.Any]]:
    """Some of the rows, and where the next ones begin."""
    end = cursor + limit
    headers = {"x-next-cursor": str(end)} if end < len(rows) else {}
    return Response(copy.deepcopy(rows[cursor:end]), headers=headers)


def routes(stage: Stage) -> list[t.Any]:
    """The API, as far as the dashboard asks it."""

    @post("/session", status_code=200)
    async def log_in(data: JSONBody[dict[str, str]]) -> dict[str, t.Any]:
        if data["token"] != TOKEN:
            raise ProblemError("unauthorized", 401, "there is no such token")
        stage.sign_in()
        return stage.session or {}

    @get("/session")
    async def who() -> dict[str, t.Any]:
        stage.check("GET /session")
        return stage.session or {}

    @delete("/session")
    async def log_out() -> None:
        stage.session = None

    @get("/health/detailed")
    async def health() -> dict[str, t.Any]:
        stage.check("GET /health/detailed")
        return stage.health | {"now": props.ago(0)}

    @get("/statistics")
    async def statistics(
        step: FromQuery[str], since: FromQuery[str], tz: FromQuery[str]
    ) -> list[dict[str, t.Any]]:
        stage.check(f"GET /statistics {step}")
        return props.statistics(step)

    @get("/connections/{name:str}/timeline")
    async def timeline(name: FromPath[str], days: FromQuery[int]) -> dict[str, t.Any]:
        stage.check(f"GET /connections/{name}/timeline")
        return props.timeline(name, days)

    @get(["/gaps", "/connections/{name:str}/gaps"])
    async def gaps(
        name: FromPath[str | None] = None,
        open_only: FromQuery[bool] = False,
        limit: FromQuery[int] = 50,
        cursor: FromQuery[int] = 0,
    ) -> Response[list[t.Any]]:
        stage.check(what := f"GET /gaps name={name} open_only={open_only} after={cursor}")
        rows = [
            gap
            for gap in stage.gaps
            if name in (None, gap["connection"]) and not (open_only and gap["state"] == "closed")
        ]
        return await stage.answer(what, paged(rows, limit, cursor))

    @post("/gaps/{number:int}/accept", status_code=200)
    async def accept(number: FromPath[int], by: FromQuery[str]) -> dict[str, t.Any]:
        stage.check(f"POST /gaps/{number}/accept {by}", "operate")
        gap = next(each for each in stage.gaps if each["id"] == number)
        gap |= {"state": "closed", "resolution": "accepted", "accepted_by": by}
        return gap

    @get("/alerts")
    async def alerts(
        past: Past = False,
        language: FromQuery[str] = "en",
        limit: FromQuery[int] = 50,
        cursor: FromQuery[int] = 0,
    ) -> Response[list[t.Any]]:
        stage.check(what := f"GET /alerts all={past} language={language}")
        rows = [row for row in stage.alerts if past or row["state"] != "resolved"]
        return await stage.answer(what, paged(rows, limit, cursor))

    @post("/alerts/{number:int}/ack", status_code=200)
    async def acknowledge(number: FromPath[int], by: FromQuery[str]) -> dict[str, t.Any]:
        stage.check(f"POST /alerts/{number}/ack {by}", "operate")
        row = next(each for each in stage.alerts if each["id"] == number)
        row |= {"state": "acknowledged", "acknowledged_by": by}
        stage.tell("alert.acknowledged", row["connection"], alert_id=number)
        return row

    @post("/silences", status_code=201)
    async def silence(
        rule: FromQuery[str],
        seconds: FromQuery[int],
        by: FromQuery[str],
        connection: FromQuery[str | None] = None,
        past: Past = False,
    ) -> dict[str, t.Any]:
        stage.check(f"POST /silences {connection} all={past} {rule} {seconds}", "operate")
        for row in stage.alerts:
            if row["rule"] == rule:
                row["silenced_by"] = "silence 1"
        return {"id": 1}

    @get("/quarantine")
    async def quarantine(
        connection: FromQuery[str | None] = None,
        limit: FromQuery[int] = 50,
        cursor: FromQuery[int] = 0,
    ) -> Response[list[t.Any]]:
        stage.check(what := f"GET /quarantine connection={connection} after={cursor}")
        rows = [row for row in stage.quarantine if connection in (None, row["connection"])]
        return await stage.answer(what, paged(rows, limit, cursor))

    @get("/quarantine/{number:int}")
    async def quarantined(number: FromPath[int]) -> dict[str, t.Any]:
        stage.check(f"GET /quarantine/{number}")
        row = next(each for each in stage.quarantine if each["id"] == number)
        return row | {"kind": "text", "sent_at": 1_780_000_000}

    @post("/quarantine/{number:int}/retry", status_code=200)
    async def retry(number: FromPath[int]) -> dict[str, t.Any]:
        stage.check(f"POST /quarantine/{number}/retry", "operate")
        row = next(each for each in stage.quarantine if each["id"] == number)
        stage.quarantine.remove(row)
        return row | {"resolved_at": props.ago(0), "way_out": "resolved"}

    @post("/connections/{name:str}/{order:str}", status_code=200)
    async def order(
        name: FromPath[str], order: FromPath[str], phone: FromQuery[str | None] = None
    ) -> dict[str, t.Any]:
        stage.check(f"POST /connections/{name}/{order}", "operate")
        connection = stage.connection(name)
        if order == "stop":
            connection |= {"state": "stopped", "reason": "stopped"}
            connection["sentence"] = "stopped by an operator"
            stage.tell("connection.state", name, state="stopped")
        if order == "pair":
            code = None if phone is None else "ABCD1234"
            qr = None if phone else "2@stage,stage,stage,stage"
            stage.pairing |= {"version": stage.pairing["version"] + 1, "state": "code"}
            stage.pairing |= {"qr": qr, "code": code, "expires_in": 20.0}
            stage.wake()
        return connection

    @get("/connections/{name:str}/pairing")
    async def pairing(name: FromPath[str]) -> dict[str, t.Any]:
        stage.check("GET /pairing", "operate")
        return stage.pairing

    @get("/connections/{name:str}/pairing/qr.svg")
    async def picture(name: FromPath[str]) -> Response[bytes]:
        stage.check("GET /pairing/qr.svg", "operate")
        svg = segno.make(stage.pairing["qr"]).svg_inline(scale=4, border=2)
        named = svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"')
        return Response(named.encode(), media_type="image/svg+xml")

    @websocket("/connections/{name:str}/pairing/ws")
    async def pairing_socket(socket: AnySocket, name: FromPath[str]) -> None:
        seen = [-1]

        def news() -> list[t.Any]:
            if stage.pairing["version"] <= seen[0]:
                return []
            seen[0] = stage.pairing["version"]
            return [stage.pairing]

        await stage.follow(socket, news)

    @get("/conversations")
    async def conversations(
        status: FromQuery[str | None] = None,
        connection: FromQuery[str | None] = None,
        search: Search = None,
        limit: FromQuery[int] = 50,
        cursor: FromQuery[int] = 0,
    ) -> Response[list[t.Any]]:
        what = f"GET /conversations after={cursor} status={status} connection={connection}"
        stage.check(what := f"{what} query={search}")
        rows = [
            row
            for row in stage.conversations
            if status in (None, row["status"])
            and connection in (None, row["connection"])
            and (search is None or search.lower() in str(row["title"]).lower())
        ]
        return await stage.answer(what, paged(rows, limit, cursor))

    @get("/conversations/{number:int}")
    async def conversation(number: FromPath[int]) -> dict[str, t.Any]:
        stage.check(f"GET /conversations/{number}")
        return next(row for row in stage.conversations if row["id"] == number)

    @post("/conversations/{number:int}/{order:str}", status_code=200)
    async def order_conversation(number: FromPath[int], order: FromPath[str]) -> dict[str, t.Any]:
        stage.check(f"POST /conversations/{number}/{order}", "operate")
        row = next(row for row in stage.conversations if row["id"] == number)
        row["status"] = {"open": "open", "reopen": "waiting", "close": "closed"}[order]
        return row

    @get("/conversations/{number:int}/messages")
    async def messages(
        number: FromPath[int], limit: FromQuery[int], before: FromQuery[int | None] = None
    ) -> list[dict[str, t.Any]]:
        stage.check(what := f"GET /conversations/{number}/messages before={before}")
        older = [each for each in stage.messages if before is None or each["id"] < before]
        return await stage.answer(what, [props.withheld(each) for each in older[-limit:]])

    @get("/messages/{number:int}")
    async def message(number: FromPath[int]) -> dict[str, t.Any]:
        stage.check(f"GET /messages/{number}")
        return props.withheld(stage.message(number))

    @get("/messages/{number:int}/history")
    async def history(number: FromPath[int]) -> dict[str, t.Any]:
        stage.check(f"GET /messages/{number}/history", "history")
        return {"message": stage.message(number), "changes": []}

    @get("/messages/{number:int}/media")
    async def media(number: FromPath[int]) -> Response[bytes]:
        stage.check(f"GET /messages/{number}/media")
        return Response(props.PICTURE, media_type="image/png")

    @get("/events/cursor")
    async def cursor() -> dict[str, int]:
        stage.check("GET /events/cursor")
        if stage.events_away:
            raise ProblemError("unavailable", 503, "no events now")
        return {"id": stage._number}

    @websocket("/events/ws")
    async def events(socket: AnySocket, after: FromQuery[int]) -> None:
        stage.asked.append(f"WS /events/ws {after}")
        last = [after]

        def news() -> list[t.Any]:
            new = [event for event in stage._events if event["id"] > last[0]]
            last[0] = stage._number
            return copy.deepcopy(new)

        await stage.follow(socket, news)

    return [
        log_in, who, log_out, health, statistics, timeline, gaps, accept, alerts, acknowledge,
        silence, quarantine, quarantined,
        retry, order, pairing, picture, pairing_socket, conversations, conversation,
        order_conversation, messages, message, history, media, cursor, events,
    ]  # fmt: skip


@contextlib.asynccontextmanager
async def open_stage() -> cabc.AsyncIterator[Stage]:
    """Serve a stage on a free port of the loopback."""
    stage = Stage()
    app = Litestar(
        [*dashboard_routes(t.cast("t.Any", None)), *routes(stage)],
        exception_handlers=HANDLERS,
        logging_config=None,
        openapi_config=None,
    )
    stop = trio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        stage.url = f"http://127.0.0.1:{listener.getsockname()[1]}/dashboard/"
        async with trio.open_nursery() as nursery:

            async def serve(task_status: trio.TaskStatus[None]) -> None:
                await serve_app(app, listener, stop=stop, task_status=task_status)

            await nursery.start(serve)
            yield stage
            stop.set()
