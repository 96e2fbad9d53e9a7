"""Connections: their state, starting and stopping, pairing and logging out."""

import typing as t

import trio
from litestar import Response, get, post
from litestar.params import FromPath, FromQuery

from actors.drafts import BadRequestError
from api.backend import LONG_POLL, Backend, Cursor, Wait
from api.ports import StoragePort
from api.views import ConnectionView, PairingView
from storage.errors import StorageError
from storage.queues import HistoryOverview
from whatsapp.errors import LocalProtocolError

PATIENCE: t.Final = 1.0  # seconds that the status waits for the database


def connection_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    fleet, storage = backend.fleet, backend.storage

    def view(name: str) -> ConnectionView:
        (facts,) = fleet.status(name)
        return ConnectionView.of(facts)

    @get("/status", summary="All connections")
    async def status() -> list[ConnectionView]:
        history = await _histories(storage)
        return [ConnectionView.of(facts, history.get(facts.name)) for facts in fleet.status()]

    @post("/connections/{name:str}/start", status_code=200, summary="Run a connection")
    async def start(name: FromPath[str]) -> ConnectionView:
        await fleet.start(name)
        return view(name)

    @post("/connections/{name:str}/stop", status_code=200, summary="Stop a connection")
    async def stop(name: FromPath[str]) -> ConnectionView:
        await fleet.stop(name)
        return view(name)

    @post("/connections/{name:str}/restart", status_code=200, summary="Stop, then run")
    async def restart(name: FromPath[str]) -> ConnectionView:
        await fleet.restart(name)
        return view(name)

    @post(
        "/connections/{name:str}/pair",
        status_code=202,
        summary="Begin pairing: with a phone number by a code to type, else by a QR code",
    )
    async def pair(
        name: FromPath[str], force: FromQuery[bool] = False, phone: FromQuery[str | None] = None
    ) -> ConnectionView:
        try:
            await fleet.pair(name, force=force, phone=phone)
        except LocalProtocolError as error:
            raise BadRequestError(f"phone: {error}") from error
        return view(name)

    @get(
        "/connections/{name:str}/pairing",
        opt={"scope": "operate"},  # whoever has the code can read everything
        summary="Wait for news of a pairing; 204 when there are none in time",
    )
    async def pairing(
        name: FromPath[str], after: Cursor = 0, wait: Wait = LONG_POLL
    ) -> Response[PairingView | None]:
        fleet.status(name)
        with trio.move_on_after(wait):
            return Response(PairingView.of(await fleet.wait_pairing(name, after)))
        return Response(None, status_code=204)

    @post(
        "/connections/{name:str}/logout",
        status_code=200,
        summary="Unlink the device from its phone and forget its keys; conversations stay",
    )
    async def logout(name: FromPath[str]) -> ConnectionView:
        await fleet.logout(name)
        return view(name)

    return [status, start, stop, restart, pair, pairing, logout]


async def _histories(storage: StoragePort) -> dict[str, HistoryOverview]:
    """The imports by connection; empty while the database does not answer at once, for the
    status of connections is wanted then more than ever."""
    with trio.move_on_after(PATIENCE):
        try:
            return {each.connection: each for each in await storage.history_overview()}
        except StorageError:
            return {}
    return {}
