"""The daemon itself: its version, its configuration; reading stored messages anew."""

import os
import platform
import typing as t

import trio
from litestar import get, post
from litestar.params import FromQuery

from api.backend import Backend, Wait, required
from api.ports_daemon import ReloadFacts, ReprocessFacts
from api.problems import ProblemError
from api.views import VersionView


def daemon_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""

    @get("/version", summary="Which daemon answers")
    async def version() -> VersionView:
        return VersionView(
            version=backend.version,
            python=platform.python_version(),
            pid=os.getpid(),
            started_at=backend.started_at,
        )

    @post(
        "/reprocess",
        status_code=202,
        summary="Read the stored messages of a connection, or of all, anew",
    )
    async def begin_reprocess(connection: FromQuery[str | None] = None) -> ReprocessFacts:
        port = required(backend.reprocess, "a reader of stored messages")
        if connection is not None:
            backend.fleet.status(connection)
        if not port.begin(connection):
            detail = "stored messages are being read anew already; GET /reprocess tells how far"
            raise ProblemError("busy", 409, detail)
        return port.facts()

    @get("/reprocess", summary="How far that is; waits a while for its end")
    async def reprocess(wait: Wait = 0.0) -> ReprocessFacts:
        port = required(backend.reprocess, "a reader of stored messages")
        with trio.move_on_after(wait):
            return await port.finished()
        return port.facts()

    @post("/reload", status_code=200, summary="Read the configuration anew and apply it")
    async def reload() -> ReloadFacts:
        facts = await required(backend.reloader, "a configuration to reload").reload()
        if facts.problems:
            detail = "\n".join(("the configuration is not reloaded:", *facts.problems))
            raise ProblemError("bad-configuration", 422, detail)
        return facts

    return [version, reload, begin_reprocess, reprocess]
