"""Connections: which there are, making and deleting them, starting, stopping, logging out."""

import typing as t

import attrs
import trio
from litestar import Response, delete, get, patch, post
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg, FromPath, FromQuery, JSONBody, QueryParameter

from api.backend import Backend, Limit, required
from api.pages import PAGED, AnyRequest, PageCursor, Pages
from api.ports_storage import StoragePort
from api.views import ConnectionDetail, ConnectionView
from storage.errors import StorageError
from storage.queues import HistoryOverview

Only: t.TypeAlias = t.Annotated[
    str | None,
    QueryParameter(name="state", max_length=64, description="Those in this state, as online."),
]

PATIENCE: t.Final = 1.0  # seconds that the status waits for the database
_REGISTRAR: t.Final = "a register of connections"
_PAGES: t.Final = Pages[ConnectionView]("connections", (str,), lambda row: (row.name,))
_EXAMPLE: t.Final = Example(
    summary="A shop that has its conversations reopened within twelve hours",
    value={"name": "loja-centro", "autostart": True, "reopen_window": "12h"},
)


def connection_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    fleet, storage = backend.fleet, backend.storage

    def view(name: str) -> ConnectionView:
        (facts,) = fleet.status(name)
        return ConnectionView.of(facts)

    @get("/status", tags=["connections"], summary="All connections, in the order of the file")
    async def status() -> list[ConnectionView]:
        history = await _histories(storage)
        return [ConnectionView.of(facts, history.get(facts.name)) for facts in fleet.status()]

    @get(
        "/connections",
        tags=["connections"],
        summary="Connections by name",
        response_headers=PAGED,
    )
    async def connections(
        request: AnyRequest,
        only: Only = None,
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[ConnectionView]]:
        place = _PAGES.read(cursor)
        history = await _histories(storage)
        rows = sorted(
            (
                ConnectionView.of(facts, history.get(facts.name))
                for facts in fleet.status()
                if only in (None, facts.state) and (place is None or (facts.name,) > place)
            ),
            key=lambda row: row.name,
        )
        return _PAGES.answer(request, rows, limit)

    async def detail(name: str) -> ConnectionDetail:
        (facts,) = fleet.status(name)
        settings = required(backend.registrar, _REGISTRAR).settings(name)
        history = await _histories(storage)
        return ConnectionDetail(
            **attrs.asdict(ConnectionView.of(facts, history.get(name)), recurse=False),
            origin=settings.origin,
            settings=dict(settings.own),
            effective=dict(settings.effective),
        )

    @get(
        "/connections/{name:str}",
        tags=["connections"],
        summary="One connection with its settings",
        description="`settings` are its own (null: as for all), `effective` those in force."
        " `origin` is `file` for a connection of the configuration file, `api` for one that was"
        " made here. Users and passwords of proxies are left out.",
    )
    async def one(name: FromPath[str]) -> ConnectionDetail:
        return await detail(name)

    @post(
        "/connections",
        tags=["connections"],
        status_code=201,
        summary="Make a connection",
        description="The fields are those of a `[[connections]]` table of the configuration."
        " It is kept in the database: it survives a restart and a reload, and supervisor.toml"
        " stays as it is. The name of one that was deleted may be used again: its messages are"
        " still there. When the file later gets a connection of the same name, that one wins.",
    )
    async def create(
        data: t.Annotated[dict[str, t.Any], BodyKwarg(examples=[_EXAMPLE])],
    ) -> ConnectionDetail:
        return await detail(await required(backend.registrar, _REGISTRAR).create(data))

    @patch(
        "/connections/{name:str}",
        tags=["connections"],
        summary="Change settings of a connection that was made here",
        description="Fields that are left out stay as they are; null: as for all again. What it"
        " is built from is changed by stopping and starting it; no other is touched.",
    )
    async def change(name: FromPath[str], data: JSONBody[dict[str, t.Any]]) -> ConnectionDetail:
        await required(backend.registrar, _REGISTRAR).change(name, data)
        return await detail(name)

    @delete(
        "/connections/{name:str}",
        tags=["connections"],
        status_code=204,
        summary="Stop and forget a connection that was made here; its messages stay",
        description="Its keys are deleted only after a confirmed logout: while it is linked to a"
        " phone, this is refused with 409 (urn:zapvisor:still-linked) unless `force` is set; then"
        " the phone lists the device until it is removed there. One of the configuration file is"
        " refused with 409 (urn:zapvisor:from-file).",
    )
    async def remove(name: FromPath[str], force: FromQuery[bool] = False) -> None:
        await required(backend.registrar, _REGISTRAR).delete(name, force=force)

    @post(
        "/connections/{name:str}/start",
        tags=["connections"],
        status_code=200,
        summary="Run a connection",
    )
    async def start(name: FromPath[str]) -> ConnectionView:
        await fleet.start(name)
        return view(name)

    @post(
        "/connections/{name:str}/stop",
        tags=["connections"],
        status_code=200,
        summary="Stop a connection",
    )
    async def stop(name: FromPath[str]) -> ConnectionView:
        await fleet.stop(name)
        return view(name)

    @post(
        "/connections/{name:str}/restart",
        tags=["connections"],
        status_code=200,
        summary="Stop, then run",
    )
    async def restart(name: FromPath[str]) -> ConnectionView:
        await fleet.restart(name)
        return view(name)

    @post(
        "/connections/{name:str}/logout",
        tags=["connections"],
        status_code=200,
        summary="Unlink the device from its phone and forget its keys; conversations stay",
    )
    async def logout(name: FromPath[str]) -> ConnectionView:
        await fleet.logout(name)
        return view(name)

    @post(
        "/connections/{name:str}/recover",
        tags=["connections"],
        status_code=200,
        summary="Go on with keys that are older than what was sent with them",
        description="For a connection that is parked with the reason `stale_keys`, because its"
        " database was put back from the past. Sessions that could be used twice are forgotten and"
        " made anew, fresh prekeys are uploaded; identity and registration stay. From then on the"
        " newer database must not be put back any more.",
    )
    async def recover(name: FromPath[str]) -> ConnectionView:
        await fleet.recover(name)
        return view(name)

    return [
        status,
        connections,
        one,
        create,
        change,
        remove,
        start,
        stop,
        restart,
        logout,
        recover,
    ]


async def _histories(storage: StoragePort) -> dict[str, HistoryOverview]:
    """The imports by connection; empty while the database does not answer at once, for the
    status of connections is wanted then more than ever."""
    with trio.move_on_after(PATIENCE):
        try:
            return {each.connection: each for each in await storage.history_overview()}
        except StorageError:
            return {}
    return {}
