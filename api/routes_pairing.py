"""Pairing for front ends: the code as a picture, and its news over a WebSocket.

A pairing belongs to the connection. Whoever looks on may come, stall and go as they like.
"""

import collections.abc as cabc
import typing as t

import attrs
import msgspec
import trio
from litestar import Response, get, post, websocket
from litestar.params import FromPath, FromQuery

from actors.drafts import BadRequestError
from actors.errors import UnknownConnectionError
from api.backend import LONG_POLL, Backend, Cursor, Wait
from api.ports_connections import FleetPort, PairingFacts
from api.problems import ProblemError
from api.qr import qr_png, qr_svg, qr_text
from api.sockets import AnySocket, until_gone
from api.views import ConnectionView, PairingView
from whatsapp.errors import LocalProtocolError

SECRET: t.Final[dict[str, t.Any]] = {"scope": "operate"}
"""Whoever reads a code can link a phone of their own."""
OVER: t.Final = frozenset({"paired", "failed"})
SEND_DEADLINE: t.Final = 10.0  # seconds for a client to take its news
LONGEST: t.Final = 1800.0  # seconds that somebody may look on; then they connect again
UNKNOWN: t.Final = 4404  # the close code for a connection that there is not
SLOW: t.Final = 4008
_NO_STORE: t.Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def pairing_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    fleet = backend.fleet

    @post(
        "/connections/{name:str}/pair",
        tags=["connections"],
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
        (facts,) = fleet.status(name)
        return ConnectionView.of(facts)

    @get(
        "/connections/{name:str}/pairing",
        tags=["connections"],
        opt=SECRET | {"answers": {204: "There was no news in time"}},
        summary="Wait for news of a pairing; 204 when there are none in time",
    )
    async def pairing(
        name: FromPath[str], after: Cursor = 0, wait: Wait = LONG_POLL
    ) -> Response[PairingView | None]:
        fleet.status(name)
        with trio.move_on_after(wait):
            view = PairingView.of(await fleet.wait_pairing(name, after))
            return Response(view, headers=_NO_STORE)
        return Response(None, status_code=204)

    async def picture(
        name: str, wait: float, draw: cabc.Callable[[str], str | bytes], media_type: str
    ) -> Response[t.Any]:
        fleet.status(name)
        facts, text = await _code(fleet, name, wait)
        headers = {**_NO_STORE, "x-pairing-version": str(facts.version)}
        if facts.expires_in is not None:
            headers["x-expires-in"] = f"{facts.expires_in:.3f}"
        return Response(draw(text), media_type=media_type, headers=headers)

    @get(
        "/connections/{name:str}/pairing/qr.svg",
        tags=["connections"],
        opt=SECRET | {"problems": (409,)},
        media_type="image/svg+xml",
        summary="The QR code of a pairing as SVG",
        description=_PICTURE,
    )
    async def svg(name: FromPath[str], wait: Wait = 0.0) -> Response[bytes]:
        return await picture(name, wait, qr_svg, "image/svg+xml")

    @get(
        "/connections/{name:str}/pairing/qr.png",
        tags=["connections"],
        opt=SECRET | {"problems": (409,)},
        media_type="image/png",
        summary="The same as PNG",
        description=_PICTURE,
    )
    async def png(name: FromPath[str], wait: Wait = 0.0) -> Response[bytes]:
        return await picture(name, wait, qr_png, "image/png")

    @get(
        "/connections/{name:str}/pairing/qr.txt",
        tags=["connections"],
        opt=SECRET | {"problems": (409,)},
        media_type="text/plain",
        summary="The same out of characters, for a terminal",
        description=_PICTURE,
    )
    async def text(name: FromPath[str], wait: Wait = 0.0) -> Response[str]:
        return await picture(name, wait, qr_text, "text/plain; charset=utf-8")

    @websocket("/connections/{name:str}/pairing/ws", opt=SECRET)
    async def live(socket: AnySocket, name: FromPath[str], after: FromQuery[int] = -1) -> None:
        """The pairing as it is, then whenever it changes, until it has succeeded or failed."""
        await socket.accept()
        try:
            fleet.status(name)
        except UnknownConnectionError:
            await socket.close(code=UNKNOWN, reason="there is no such connection")
            return
        code, reason = 1001, "you have looked on for long; connect again"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_gone, socket, nursery.cancel_scope)
            with trio.move_on_after(LONGEST):
                code, reason = await _tell(socket, fleet, name, after)
            await _bounded(socket.close(code=code, reason=reason))
            nursery.cancel_scope.cancel()

    return [pair, pairing, svg, png, text, live]


_PICTURE: t.Final = (
    "Never to be cached: the header `X-Expires-In` says for how many seconds it is good. 409"
    " (urn:zapvisor:no-code) when there is no code to scan just now; `wait` gives it some seconds"
    " to come."
)


async def _code(fleet: FleetPort, name: str, wait: float) -> tuple[PairingFacts, str]:
    """The code to scan, once there is one that is still good.

    Raises:
        ProblemError: there is none in time.
    """
    facts = await fleet.wait_pairing(name, -1)
    with trio.move_on_after(wait):
        while not _is_scannable(facts) and facts.state not in OVER:
            facts = await fleet.wait_pairing(name, facts.version)
    if facts.qr is not None and _is_scannable(facts):
        return facts, facts.qr
    if facts.code is not None:
        why = "a phone number was given, so there is a code to type instead"
    else:
        why = f"{facts.sentence}; POST /connections/{name}/pair begins a pairing"
    raise ProblemError("no-code", 409, f"{name} has no QR code now: {why}", headers=_NO_STORE)


def _is_scannable(facts: PairingFacts) -> bool:
    return facts.qr is not None and (facts.expires_in is None or facts.expires_in > 0)


async def _tell(socket: AnySocket, fleet: FleetPort, name: str, after: int) -> tuple[int, str]:
    """Send every change; with what the socket is to be closed."""
    while True:
        try:
            facts = await fleet.wait_pairing(name, after)
        except UnknownConnectionError:
            return UNKNOWN, "the connection was removed"
        after = facts.version
        text = msgspec.json.encode(attrs.asdict(PairingView.of(facts))).decode()
        if not await _bounded(socket.send_text(text)):
            return SLOW, "too slow"
        if facts.state in OVER:
            return 1000, facts.state


async def _bounded(sending: cabc.Awaitable[None]) -> bool:
    """Whether the client took it in time."""
    with trio.move_on_after(SEND_DEADLINE):
        await sending
        return True
    return False
