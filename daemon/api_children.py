"""The API as one branch of the tree: the tokens, the control socket, HTTP, and what carries out
orders.

Nothing of it may end the daemon, which receives messages whether or not anybody looks on.
"""

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
from daemon.alert_wiring import make_alerts
from daemon.branches import branch, part_troubles
from daemon.logs import Logs
from daemon.registrar import Registrar
from daemon.reload import Reloader
from daemon.wiring import Core
from supervisor.spec import ChildSpec
from supervisor.tree import Supervisor

_SHUTDOWN: t.Final = GRACE + 1.0  # seconds


def api_supervisor(
    core: Core,
    control: socket.socket,
    version: str,
    reloader: Reloader,
    logs: Logs | None = None,
    registrar: Registrar | None = None,
) -> Supervisor:
    """The API on the listening socket ``control``, and over HTTP if that is configured."""
    branches = {"services": core.background}
    keeper = TokenKeeper(core.storage, core.clock)
    places = (core.config.data_dir, core.config.media_directory)
    figures = FigureReader(
        core.storage, places, webhooks=core.events.webhooks.views, channels=core.notifier.views
    )
    alerting = make_alerts(core, figures)
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
        channels=core.notifier,
        registrar=registrar,
        reports=core.reporter,
        alerts=alerting.alerts,
        eraser=core.services.eraser,
        retention=core.services.retention,
        exports=core.exporter,
        figures=figures,
        commits=core.writer.commits,
        data_place=str(core.config.data_dir),
        media_place=str(core.config.media_directory),
        logs=logs,
        tokens=keeper,
        http_trouble=lambda: None if listener is None else listener.trouble,
        part_troubles=lambda: [
            each for name, part in branches.items() for each in part_troubles(name, part.snapshot())
        ],
    )
    apps = build_apps(backend, core.config.http)
    stopping = [trio.Event()]

    async def serve_control(*, task_status: trio.TaskStatus[None]) -> None:
        stopping[:] = [trio.Event()]
        await serve_app(apps.control, control, stop=stopping[0], task_status=task_status)

    children = [ChildSpec(id="reload", start=reloader.run)]
    if registrar is not None:
        children.append(ChildSpec(id="registrar", start=registrar.run))
    children += [
        ChildSpec(id="tokens", start=keeper.run),
        ChildSpec(id="figures", start=figures.run),
        *alerting.children(),
        ChildSpec(
            id="control",
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
    api = branch("api", children)
    branches["API"] = api
    return api
