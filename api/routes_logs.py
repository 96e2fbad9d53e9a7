"""The newest lines of the daemon's log, the lines that follow, and from which level on there are
any."""

import json
import re
import typing as t

import trio
from litestar import get, post, websocket
from litestar.params import FromQuery, QueryParameter

from actors.drafts import BadRequestError
from actors.errors import UnknownConnectionError
from api.backend import Backend, required
from api.ports_logs import LevelFacts, LogQuery, LogReaderPort, TooManyReadersError
from api.sockets import AnySocket, until_gone

MAX_LINES: t.Final = 10_000
BAD_REQUEST: t.Final = 4400
TOO_MANY: t.Final = 4029
UNAVAILABLE: t.Final = 4503
UNKNOWN: t.Final = 4404
MAX_REASON: t.Final = 100  # characters; a close frame holds 123 bytes
MAX_SECONDS: t.Final = 7 * 86_400.0

Level: t.TypeAlias = t.Literal["debug", "info", "warning", "error"]
Lines: t.TypeAlias = t.Annotated[int, QueryParameter(ge=0, le=MAX_LINES)]
Seconds: t.TypeAlias = t.Annotated[float | None, QueryParameter(gt=0, le=MAX_SECONDS)]
_CURSOR: t.Final = re.compile(r"[0-9a-f]{1,16}\.[0-9]{1,18}", re.ASCII)
NUMBERS: t.Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
OPERATE: t.Final = {"scope": "operate"}
WITHOUT: t.Final = "a log in memory"


def log_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""

    def query(connection: str | None, level: Level, lines: int) -> LogQuery:
        if connection is not None:
            backend.fleet.status(connection)
        return LogQuery(lines=lines, level=NUMBERS[level], connection=connection)

    @get(
        "/logs",
        tags=["daemon"],
        opt=OPERATE,
        summary="The newest lines of the log, the oldest of them first",
        description="Each is an object as `docs/log.schema.json` describes it. The daemon keeps"
        " the newest 10 000 lines, at most 4 MiB, from the level on at which it logs.",
    )
    async def logs(
        connection: FromQuery[str | None] = None,
        level: FromQuery[Level] = "debug",
        lines: Lines = 100,
    ) -> list[dict[str, t.Any]]:
        port = required(backend.logs, WITHOUT)
        return [json.loads(each.text) for each in port.tail(query(connection, level, lines))]

    @websocket("/logs/ws", opt=OPERATE)
    async def follow(
        socket: AnySocket,
        connection: FromQuery[str | None] = None,
        level: FromQuery[Level] = "debug",
        lines: Lines = 100,
        after: FromQuery[str | None] = None,
    ) -> None:
        """One frame of JSON per line: ``{"cursor": "...", "line": {...}}``. ``after`` a cursor, to
        go on where another socket ended. A reader that is too slow finds a line ``logs.skipped``
        with a count; one that takes nothing is closed by the server."""
        await socket.accept()
        if after is not None and not _CURSOR.fullmatch(after):
            await socket.close(BAD_REQUEST, "after: the cursor of a line, such as 1f2e3d4c.17")
            return
        if backend.logs is None:
            await socket.close(UNAVAILABLE, f"this daemon runs without {WITHOUT}")
            return
        try:
            with backend.logs.reader(query(connection, level, lines), after) as reader:
                await _pass_on(socket, reader)
        except TooManyReadersError as error:
            await socket.close(TOO_MANY, str(error))
        except UnknownConnectionError as error:
            await socket.close(UNKNOWN, str(error)[:MAX_REASON])

    @get("/logs/level", tags=["daemon"], opt=OPERATE, summary="From which level on lines are kept")
    async def level() -> LevelFacts:
        return required(backend.logs, WITHOUT).level()

    @post(
        "/logs/level",
        tags=["daemon"],
        status_code=200,
        opt=OPERATE,
        summary="Log from another level on, for so many seconds or until the daemon ends",
        description="Without a level: the configured one again.",
    )
    async def set_level(
        level: FromQuery[Level | None] = None, seconds: Seconds = None
    ) -> LevelFacts:
        if level is None and seconds is not None:
            raise BadRequestError("seconds: there is no level to go with it")
        return required(backend.logs, WITHOUT).set_level(level, seconds)

    return [logs, follow, level, set_level]


async def _pass_on(socket: AnySocket, reader: LogReaderPort) -> None:
    """Send what comes, until the other side is gone."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(until_gone, socket, nursery.cancel_scope)
        while True:
            for each in await reader.read():
                await socket.send_text(f'{{"cursor": "{each.cursor}", "line": {each.text}}}')
