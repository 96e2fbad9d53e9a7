"""Serves the app on a socket, on trio."""

import functools
import logging
import socket
import typing as t

import hypercorn.trio.run
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event
from hypercorn.trio import serve
from hypercorn.trio.tcp_server import TCPServer
from litestar.types import ASGIApp, Receive, Scope, Send

GRACE: t.Final = 1.0  # seconds that requests under way get when the server stops


class PatientServer(TCPServer):
    """One client. Hypercorn writes an error to a client that left in the middle of its request
    while another task shuts the socket down; what trio then raises would end the whole server,
    for everybody."""

    async def protocol_send(self, event: Event) -> None:
        """Send; a socket that is being shut down is as good as closed."""
        try:
            await super().protocol_send(event)
        except trio.BusyResourceError:
            await self.protocol.handle(Closed())


hypercorn.trio.run.TCPServer = PatientServer  # type: ignore[attr-defined]  # made there alone


async def serve_app(
    app: ASGIApp,
    listener: socket.socket,
    *,
    stop: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``stop``; requests under way then get ``GRACE`` seconds.

    ``listener`` stays the caller's. The app hears nothing of ASGI's lifespan: it may be served by
    several listeners, and Litestar bears no second lifespan beside the first.
    """
    config = Config()
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    config.graceful_timeout = GRACE
    config.keep_alive_timeout = 30
    config.include_server_header = False
    config.bind = [f"fd://{listener.dup().detach()}"]
    async with trio.open_nursery() as nursery:
        await nursery.start(
            functools.partial(serve, _without_lifespan(app), config, shutdown_trigger=stop.wait)
        )
        task_status.started()


def _without_lifespan(app: ASGIApp) -> t.Any:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        kind: str = scope["type"]
        if kind != "lifespan":
            await app(scope, receive, send)
            return
        for _begin_and_end in range(2):
            event = (await receive())["type"]
            done: t.Any = {"type": f"{event}.complete"}
            await send(done)

    return answer
