"""The daemon itself: its health and its version; reading stored messages anew."""

import os
import platform
import typing as t

import attrs
import trio
from litestar import get, post
from litestar.params import FromQuery

from api.backend import Backend, Wait, required
from api.health import judge
from api.ports import ReloadFacts, ReprocessFacts, StoragePort
from api.problems import ProblemError
from api.views import DatabaseView, HealthView, IncidentView, Verdict, VersionView
from storage.errors import StorageError

DATABASE_DEADLINE: t.Final = 5.0  # seconds the health check waits for the database


def daemon_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""

    @get("/health", summary="The verdict on the whole, and what it rests on")
    async def health() -> HealthView:
        database, statistics = await _ask_database(backend.storage)
        fleet = backend.fleet
        loop = None if backend.loop is None else backend.loop()
        incidents = fleet.incidents()
        found = judge(fleet.status(), backend.writer(), database, statistics, loop, incidents)
        if (trouble := backend.http_trouble()) is None:
            return found
        verdict = Verdict.DEGRADED if found.verdict == Verdict.OK else found.verdict
        return attrs.evolve(found, verdict=verdict, reasons=(*found.reasons, trouble))

    @get("/incidents", summary="What concerns many connections at once, just now")
    async def incidents() -> list[IncidentView]:
        return [IncidentView.of(each) for each in backend.fleet.incidents()]

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

    return [health, incidents, version, reload, begin_reprocess, reprocess]


async def _ask_database(storage: StoragePort) -> tuple[DatabaseView, dict[str, t.Any]]:
    error = f"no answer within {DATABASE_DEADLINE:g} s"
    with trio.move_on_after(DATABASE_DEADLINE):
        try:
            seconds = await storage.ping()
            statistics = await storage.statistics()
        except StorageError as failure:
            error = str(failure)
        else:
            return DatabaseView(ping_seconds=seconds, error=None), statistics
    return DatabaseView(ping_seconds=None, error=error), {}
