"""Serves the app on a socket, on trio."""

import functools
import logging
import socket
import typing as t

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from litestar.types import ASGIApp

GRACE: t.Final = 1.0  # seconds that requests under way get when the server stops


async def serve_app(
    app: ASGIApp,
    listener: socket.socket,
    *,
    stop: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``stop``; requests under way then get ``GRACE`` seconds.

    ``listener`` stays the caller's.
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
            functools.partial(serve, t.cast("t.Any", app), config, shutdown_trigger=stop.wait)
        )
        task_status.started()
