"""Exports, from the configuration: the service of the daemon, and the worker of a command."""

import collections.abc as cabc
import contextlib
import importlib.metadata

import trio

from actors.assembly import bucket_of_media
from actors.export_schedule import Period, Schedule
from actors.exporter import Exporter, Pauses
from config.model import Config
from daemon.cli_timeline import local_zone
from daemon.errors import StartError
from storage.blobs import Blobs, S3Settings, open_blobs
from storage.embedded import running_dsn
from storage.errors import StorageRejectedError, StorageUnavailableError
from storage.exports.ledger import ExportLedger
from storage.exports.model import Form, Request
from storage.exports.sealing import parse_recipients
from storage.exports.work import ExportWorker, OpenSession
from storage.maintenance import Maintenance, open_maintenance


def make_exporter(
    config: Config,
    ledger: ExportLedger,
    blobs: Blobs,
    *,
    wall_clock: cabc.Callable[[], float],
    deleting_clock: cabc.Callable[[], float],
) -> Exporter:
    """The service; nothing runs yet.

    Raises:
        StartError: a recipient of the configuration is none.
    """
    worker = make_worker(
        config, blobs, _own_session(config), wall_clock=wall_clock, breathe=Pauses()
    )
    return Exporter(
        ledger,
        worker,
        wall_clock=wall_clock,
        deleting_clock=deleting_clock,
        directory=str(config.export_directory),
        schedule=_schedule(config, worker) if config.export.enabled else None,
    )


def make_worker(
    config: Config,
    blobs: Blobs,
    open_session: OpenSession,
    *,
    wall_clock: cabc.Callable[[], float],
    breathe: cabc.Callable[[], cabc.Awaitable[None]] = trio.lowlevel.checkpoint,
) -> ExportWorker:
    """What writes exports."""
    return ExportWorker(
        open_session=open_session,
        blobs=blobs,
        spool=config.export_directory,
        s3=bucket_of(config),
        program=importlib.metadata.version("zapvisor"),
        wall_clock=wall_clock,
        breathe=breathe,
    )


def media_blobs(config: Config) -> Blobs:
    """Where the files of messages are, for a command that reads them."""
    return open_blobs(config.media_directory, bucket_of_media(config))


def zone_of_exports(config: Config) -> str:
    """The name of the time zone of days, and of times that people read."""
    return config.export.timezone or local_zone() or "UTC"


def bucket_of(config: Config) -> S3Settings | None:
    """The S3 store of exports; None: there is none."""
    export = config.export
    if not export.s3_bucket:
        return None
    return S3Settings(
        bucket=export.s3_bucket,
        prefix=export.s3_prefix,
        endpoint=export.s3_endpoint,
        region=export.s3_region,
        access_key=export.s3_access_key,
        secret_key=export.s3_secret_key,
        ca_file=config.export_ca_file,
    )


def _schedule(config: Config, worker: ExportWorker) -> Schedule:
    export = config.export
    try:
        parse_recipients(export.recipients)
    except StorageRejectedError as error:
        raise StartError(f"[export] recipients: {error}") from error
    form, zone = Form(export.format.value), zone_of_exports(config)
    return Schedule(
        time=export.time_of_day,
        zone=zone,
        period=Period(export.period.value),
        request=Request(
            form=form,
            zone=zone,
            compress=form is Form.JSONL,
            recipients=export.recipients,
            media=export.media,
        ),
        place=worker.s3_place() if export.s3_bucket else str(config.export_directory),
        keep=export.keep,
        keep_count=export.keep_count,
    )


def _own_session(config: Config) -> OpenSession:
    @contextlib.asynccontextmanager
    async def open_session() -> cabc.AsyncIterator[Maintenance]:
        dsn = config.storage.dsn
        if config.storage.embedded:
            running = running_dsn(config.data_dir)
            if running is None:
                raise StorageUnavailableError("the embedded PostgreSQL does not run")
            dsn = running
        async with open_maintenance(dsn) as session:
            yield session

    return open_session
