"""``zapvisor import``: from the command line to the counts that are shown."""

import collections.abc as cabc
import contextlib
import functools
import typing as t
from pathlib import Path

import attrs
import trio

from config.model import Config
from daemon.database import Reached, reach
from daemon.errors import CommandError
from daemon.export_wiring import media_blobs
from daemon.owner import acting_as_owner
from daemon.run import one_line_errors
from storage.archive_codec import RecordError
from storage.archive_import import ImportCounts, Placed, import_records
from storage.archive_records import KINDS
from storage.archive_source import ExportFiles, Source, open_source
from storage.archive_stones import StonesHere
from storage.errors import StorageError, StorageRejectedError
from storage.exports.sealing import read_identities
from storage.seal import find_key

BESIDE: t.Final = 0.5
"""The part of the time that an import takes beside a daemon: as long as a batch takes, so long is
the pause behind it."""

Progress: t.TypeAlias = cabc.Callable[[str], None]


@attrs.frozen(kw_only=True)
class ImportOptions:
    """What to import, and how."""

    path: Path
    connection: str | None = None  # store it under this name
    identity: Path | None = None  # a file with secret keys
    progress: Progress = lambda _text: None


def run_import(config: Config, options: ImportOptions) -> dict[str, t.Any]:
    """Store an archive; what became of it.

    Raises:
        CommandError: it cannot be done, or not wholly; says what is stored.
    """
    told = functools.partial(_told_of_file, options.progress)
    with one_line_errors(), _reading(options.path):
        identities = [] if options.identity is None else read_identities(options.identity)
        source = open_source(options.path, identities, told)

        async def run() -> ImportCounts:
            async with reach(config, create=True) as reached:
                await make_ready(config, reached)
                export = options.path if options.path.is_dir() else None
                blobs = media_blobs(config)
                await blobs.prepare()
                files = ExportFiles(blobs, export, identities)
                return await _import(config, reached, source, files, options)

        with acting_as_owner(config.data_dir):
            counts = trio.run(run, strict_exception_groups=True)
    return facts_of(counts) | {"path": str(options.path)}


async def make_ready(config: Config, reached: Reached) -> None:
    """An embedded database without a daemon is ours to change, and an empty one anyhow."""
    facts = await reached.session.fetch_one("database_facts")
    alone = config.storage.embedded and not reached.running
    await reached.session.bring_up_to_date(may_change=alone or facts["tables"] == 0)


def stones_here(config: Config) -> StonesHere:
    """Those who were forgotten, as far as the secret key tells.

    Raises:
        SealError: the key cannot be read.
    """
    return StonesHere(find_key(config.key_file))


async def _import(
    config: Config,
    reached: Reached,
    source: Source,
    files: ExportFiles,
    options: ImportOptions,
) -> ImportCounts:
    seen = ImportCounts()
    stones = stones_here(config)
    await stones.read(reached.session)

    def progress(counts: ImportCounts) -> None:
        nonlocal seen
        seen = counts
        options.progress(f"{counts.read.total():,} records")

    try:
        async with contextlib.aclosing(source.records()) as records:
            return await import_records(
                reached.session,
                options.connection,
                records if options.connection is None else _of_one(records),
                files=files,
                forgotten=stones,
                share=BESIDE if reached.running or not config.storage.embedded else 1.0,
                progress=progress,
            )
    except StorageError as error:
        stored = seen.stored["message"]
        raise CommandError(
            f"the import stopped: {error}. {stored:,} new messages are stored, whole batches of"
            " them; run it again when that is mended: what is there already is passed over"
        ) from error


async def _of_one(records: cabc.AsyncIterable[Placed]) -> cabc.AsyncIterator[Placed]:
    """Records of one connection, which may be given another name."""
    first: str | None = None
    async for placed in records:
        name = getattr(placed.record, "connection", None)
        if not isinstance(placed.record, RecordError) and name is not None:
            first = first or name
            if name != first:
                raise StorageRejectedError(
                    f"it holds several connections, {first!r} and {name!r}; --connection can only"
                    " name one: import it without"
                )
        yield placed


def facts_of(counts: ImportCounts) -> dict[str, t.Any]:
    """What is shown, ready for JSON."""
    kinds = [kind for kind in KINDS if counts.read[kind]]
    return {
        "stored": {kind: counts.stored[kind] for kind in kinds},
        "present": {kind: counts.present(kind) for kind in kinds},
        "filled": counts.stored["filled"],
        "files": counts.stored["file"],
        "files_missing": counts.files_missing,
        "forgotten": counts.forgotten,
        "refused": counts.refused,
        "refusals": [{"where": where, "why": why} for where, why in counts.refusals],
    }


def _told_of_file(progress: Progress, name: str) -> None:
    progress(f"checking {name}")


@contextlib.contextmanager
def _reading(path: Path) -> cabc.Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from error
