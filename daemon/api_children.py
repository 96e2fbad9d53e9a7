"""The API as children of the tree: the tokens, the control socket, and HTTP."""

import datetime as dt
import socket
import typing as t

import trio

from api.app import build_apps
from api.backend import Backend
from api.figures import FigureReader
from api.listener import HttpListener
from api.server import GRACE, serve_app
from api.tokens import TokenKeeper
from daemon.adapters import ReprocessAdapter
from daemon.logs import Logs
from daemon.registrar import Registrar
from daemon.reload import Reloader
from daemon.wiring import Core
from supervisor.spec import ChildSpec

_SHUTDOWN: t.Final = GRACE + 1.0  # seconds


def api_children(
    core: Core,
    control: socket.socket,
    version: str,
    reloader: Reloader,
    logs: Logs | None = None,
    registrar: Registrar | None = None,
) -> list[ChildSpec]:
    """The API on the listening socket ``control``, and over HTTP if that is configured."""
    keeper = TokenKeeper(core.storage, core.clock)
    places = (core.config.data_dir, core.config.media_directory)
    figures = FigureReader(core.storage, places, webhooks=core.events.webhooks.views)
    listener: HttpListener | None = None
    backend = Backend(
        fleet=core.fleet,
        storage=core.storage,
        writer=core.writer_view,
        version=version,
        started_at=dt.datetime.now(dt.UTC),  # noqa: TID251 - the edge
        actions=core.actions,
        files=core.services.blobs,
        reprocess=ReprocessAdapter(core.reprocessor),
        loop=core.loop_watch.view,
        restorer=core.restorer,
        reloader=reloader,
        events=core.events,
        webhooks=core.events.webhooks,
        registrar=registrar,
        figures=figures,
        commits=core.writer.commits,
        data_place=str(core.config.data_dir),
        media_place=str(core.config.media_directory),
        logs=logs,
        tokens=keeper,
        http_trouble=lambda: None if listener is None else listener.trouble,
    )
    apps = build_apps(backend, core.config.http)
    stopping: list[trio.Event] = []

    async def serve_control(*, task_status: trio.TaskStatus[None]) -> None:
        stopping[:] = [trio.Event()]
        await serve_app(apps.control, control, stop=stopping[0], task_status=task_status)

    children = [
        ChildSpec(id="tokens", start=keeper.run),
        ChildSpec(id="figures", start=figures.run),
        ChildSpec(
            id="api",
            start=serve_control,
            stop=lambda: stopping[0].set(),
            shutdown_timeout=_SHUTDOWN,
        ),
    ]
    if (address := core.config.http.address) is not None:
        listener = HttpListener(apps.http, address)
        children.append(
            ChildSpec(id="http", start=listener.run, stop=listener.stop, shutdown_timeout=_SHUTDOWN)
        )
    return children
