"""``zapvisor export``: through the daemon if one runs, else on the database itself."""

import collections.abc as cabc
import contextlib
import datetime as dt
import functools
import os
import time
import typing as t
from pathlib import Path

import attrs
import trio

from actors.drafts import BadRequestError
from api.routes_exports import ExportOrder, ExportView, name_of, request_of
from config.model import Config
from daemon.client import TIMEOUT, ControlClient, open_client
from daemon.database import Reached, reach
from daemon.errors import CommandError, NoDaemonError, RefusedError, UsageError
from daemon.export_wiring import make_worker, media_blobs
from daemon.importing import make_ready
from daemon.owner import acting_as_owner
from daemon.run import one_line_errors
from storage.changes import Viewer
from storage.errors import StorageError, StorageRejectedError
from storage.exports.check import open_export, verify
from storage.exports.ledger import ExportRow
from storage.exports.model import Manifest
from storage.exports.session_ledger import SessionExports
from storage.exports.work import ExportWorker
from storage.maintenance import Maintenance

POLL: t.Final = 0.5  # seconds between two looks at how far the daemon is
GRACE: t.Final = 5.0  # seconds for a last word in the table

Row: t.TypeAlias = dict[str, t.Any]
Progress: t.TypeAlias = cabc.Callable[[dict[str, int]], None]


def run_export(config: Config, order: Row, *, resume: bool, progress: Progress) -> Row:
    """Write an export, or the rest of one; its row as the API shows it.

    Raises:
        CommandError: it could not be written; says what is left.
    """
    with contextlib.ExitStack() as stack:
        client = None
        with contextlib.suppress(NoDaemonError):
            client = stack.enter_context(open_client(config.control_socket, TIMEOUT))
        if client is not None:  # one that goes away now may have begun it already
            return _through_daemon(client, order, resume=resume, progress=progress)
    by = Viewer(who="command line", uid=os.getuid())  # before it acts as somebody else
    with one_line_errors(), acting_as_owner(config.data_dir):
        work = functools.partial(_directly, config, order, resume, by, progress)
        return trio.run(work, strict_exception_groups=True)


def run_verify(path: Path) -> Row:
    """What a verification found.

    Raises:
        CommandError: there is no export that could be verified.
    """
    with one_line_errors():
        export = open_export(path)
        report = verify(export)
    return {
        **attrs.asdict(report),
        "good": report.good,
        "path": str(path),
        "name": export.manifest.start.name,
        "counts": export.manifest.counts,
        "encrypted": bool(export.manifest.start.request.recipients),
    }


def _through_daemon(client: ControlClient, order: Row, *, resume: bool, progress: Progress) -> Row:
    if resume:
        row = client.post(f"/exports/{_unfinished(client, order['name'])['id']}/resume")
    else:
        row = client.post("/exports", body={k: v for k, v in order.items() if v is not None})
    try:
        while row["state"] == "running":
            progress(row["counts"])
            time.sleep(POLL)
            row = client.get(f"/exports/{row['id']}")
    except NoDaemonError as error:
        raise NoDaemonError(
            f"{error}. The export {row['name']} is begun: the daemon goes on with it when it runs"
            " again; zapvisor exports tells how far it is"
        ) from error
    if row["state"] == "failed":
        raise RefusedError(f"the export {row['name']} failed: {row['error']}")
    found: Row = row
    return found


def _unfinished(client: ControlClient, name: str | None) -> Row:
    rows, _more = client.page("/exports", limit=200)
    failed = [row for row in rows if row["state"] == "failed" and row["removed_at"] is None]
    return _chosen({row["name"]: row for row in failed}, name)


_R = t.TypeVar("_R")


def _chosen(rows: cabc.Mapping[str, _R], name: str | None) -> _R:
    if name is not None:
        if name not in rows:
            raise UsageError(f"there is no export {name} that could be resumed")
        return rows[name]
    if not rows:
        raise UsageError("there is no export that could be resumed")
    if len(rows) > 1:
        raise UsageError(
            f"which one? There are {', '.join(sorted(rows))}; say one of them with --name"
        )
    return next(iter(rows.values()))


async def _directly(
    config: Config, order: Row, resume: bool, by: Viewer, progress: Progress
) -> Row:
    async with reach(config) as reached:
        if not (await reached.session.fetch_one("database_facts"))["ours"]:
            raise CommandError("this database holds nothing of zapvisor; there is no export")
        await make_ready(config, reached)
        ledger = SessionExports(reached.session, time.time)  # noqa: TID251 - the edge
        row = await _row_of(config, reached, ledger, order, resume, by)
        manifest = await _written(config, reached, ledger, row, progress)
        done = await ledger.finish_export(row.id, manifest.counts, manifest.size)
    return _shown(done or row)


async def _row_of(
    config: Config,
    reached: Reached,
    ledger: SessionExports,
    order: Row,
    resume: bool,
    by: Viewer,
) -> ExportRow:
    if resume:
        rows = {
            row.name: row
            for row in await ledger.exports(limit=200)
            if row.state != "done" and row.removed_at is None
        }
        again = await ledger.begin_export_again(_chosen(rows, order["name"]).id, by)
        if again is None:
            raise CommandError("the export was finished or deleted meanwhile")
        return again
    wanted = _order(order)
    try:
        request = request_of(wanted)
    except BadRequestError as error:
        raise UsageError(str(error)) from error
    name = wanted.name or name_of(request, time.time())  # noqa: TID251 - the edge
    place = wanted.directory or str(config.export_directory)
    if wanted.s3:
        place = _worker(config, reached.session).s3_place()
    row = await ledger.begin_export(name, place, request, by)
    if row is None:
        raise StorageRejectedError(f"there is an export {name} already; choose another --name")
    return row


async def _written(
    config: Config, reached: Reached, ledger: SessionExports, row: ExportRow, progress: Progress
) -> Manifest:
    worker = _worker(config, reached.session)
    try:
        return await worker.write(row, told=lambda counts: progress(dict(counts)))
    except BaseException as failure:
        reason = "it was interrupted"
        if isinstance(failure, StorageError):
            reason = str(failure)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + GRACE):
            await ledger.fail_export(row.id, reason)
        raise


@contextlib.asynccontextmanager
async def _same(session: Maintenance) -> cabc.AsyncIterator[Maintenance]:
    yield session


def _worker(config: Config, session: Maintenance) -> ExportWorker:
    return make_worker(
        config,
        media_blobs(config),
        lambda: _same(session),
        wall_clock=time.time,  # noqa: TID251 - the edge
    )


def _order(order: Row) -> ExportOrder:
    days = {
        key: None if order[key] is None else dt.date.fromisoformat(order[key])
        for key in ("from_day", "to_day")
    }
    return ExportOrder(**{**order, **days})


def _shown(row: ExportRow) -> Row:
    facts = attrs.asdict(ExportView.of(row))
    return {
        key: value.isoformat() if isinstance(value, dt.datetime) else value
        for key, value in facts.items()
    }
