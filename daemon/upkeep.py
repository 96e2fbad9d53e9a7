"""``zapvisor db``: what the commands do, from the configuration to the facts that are shown."""

import collections.abc as cabc
import contextlib
import datetime as dt
import functools
import os
import tempfile
import typing as t
from pathlib import Path

import attrs
import trio

from config.model import Config
from daemon.database import Reached, reach
from daemon.errors import CommandError, RefusedError
from daemon.owner import acting_as_owner
from daemon.run import one_line_errors
from storage.backup import Contents, back_up, check_backup, contents, put_back
from storage.backup_file import Draft, Manifest, created_now, read_manifest
from storage.epochs import Epoch, EpochFileError, read_epoch
from storage.errors import SealError, StorageRejectedError
from storage.key_age import KeyFacts, age_of, key_facts
from storage.seal import find_key, fingerprint
from storage.sizes import sizes, vacuum
from storage.trust import check_way
from storage.verify import Verdict, check_room, room_for, verify_backup

_T = t.TypeVar("_T")


def run_backup(
    config: Config,
    target: Path,
    *,
    version: str,
    now: dt.datetime,
    scratch: Path | None = None,
) -> dict[str, t.Any]:
    """Back the database up to a new file; what is in it. ``scratch``: where it will be tested,
    which needs room.

    Raises:
        CommandError: it cannot be done; nothing is left of it.
    """
    known, why = _fingerprint(config)

    async def work(reached: Reached, file: t.IO[bytes]) -> Manifest:
        if scratch is not None:
            size = (await reached.session.fetch_one("database_facts"))["bytes"]
            await trio.to_thread.run_sync(check_room, scratch, room_for(size))
        return await back_up(
            reached.session, file, version=version, created_at=created_now(now), key=known
        )

    with one_line_errors(), Draft(target) as draft:
        manifest = _on_database(config, functools.partial(work, file=draft.file))
        manifest = draft.publish(manifest)
        try:
            read_manifest(target)  # as a restore will do
        except StorageRejectedError:
            target.unlink()
            raise
    facts = attrs.asdict(manifest) | {"file": str(target), "messages": manifest.messages}
    facts["key_unknown_because"] = why
    return facts


def run_verify(config: Config, file: Path, scratch: Path) -> dict[str, t.Any]:
    """Restore a backup into a cluster of its own below ``scratch``, and compare; what came of it.

    Raises:
        CommandError: it cannot be done, or the file is damaged.
    """
    with one_line_errors(), _opened(file) as archive:
        manifest = check_backup(file)
        key = _key(config)

        async def work() -> Verdict:
            return await verify_backup(archive, manifest, scratch, key)

        _check_owner(scratch, config)
        with acting_as_owner(scratch):
            verdict = trio.run(work, strict_exception_groups=True)
    return attrs.asdict(verdict) | {
        "file": str(file),
        "intact": verdict.intact,
        "created_at": manifest.created_at,
        "messages": manifest.messages,
    }


@contextlib.contextmanager
def scratch_place(config: Config, named: Path | None) -> cabc.Iterator[Path]:
    """Where backups are tested: the place that is named, else beside the data, else, where there
    are none, in a new directory for temporary files, which is deleted afterwards."""
    if named is not None or config.data_dir.is_dir():
        yield (named or config.data_dir).absolute()
        return
    with tempfile.TemporaryDirectory(prefix="zapvisor-") as made:
        if os.geteuid() == 0:
            Path(made).chmod(0o711)  # for the user of the database to pass through
        yield Path(made)


def _check_owner(scratch: Path, config: Config) -> None:
    """Root works as the owner of the place, who so could read the backup, and is to be nobody new.

    Raises:
        StorageRejectedError: somebody else owns it, or can exchange it.
    """
    if os.geteuid() == 0 and scratch.exists():
        data = config.data_dir
        check_way(scratch.resolve(), trusted=data.stat().st_uid if data.is_dir() else None)


def _key(config: Config) -> bytes | str:
    """The key of here, or why there is none."""
    try:
        key = find_key(config.key_file)
    except SealError as error:
        return str(error)
    return f"there is no key in {config.key_file}" if key is None else key


@attrs.frozen(kw_only=True)
class RestoreOptions:
    """How far a restore may go."""

    replace: bool = False  # what is there
    other_key: bool = False  # although its credentials open with another key
    current_keys: bool = False  # nothing has used its keys since it was made
    confirm: cabc.Callable[[Contents, Manifest], bool]
    """Asked before anything is lost."""


def run_restore(config: Config, file: Path, options: RestoreOptions) -> dict[str, t.Any]:
    """Put a backup in the place of the database; what was put back.

    Raises:
        CommandError: it cannot be done, or is not wanted; nothing was changed.
    """
    with one_line_errors():
        manifest = check_backup(file)
        _check_key(config, manifest, options.other_key)
        with _opened(file) as archive:
            remembered = _remembered(config)
            work = functools.partial(
                _restore,
                archive=archive,
                manifest=manifest,
                options=options,
                name=str(file),
                remembered=remembered,
            )
            return _on_database(config, work, alone=True, create=True)


async def _restore(
    reached: Reached,
    archive: t.IO[bytes],
    manifest: Manifest,
    options: RestoreOptions,
    name: str,
    remembered: Epoch | None,
) -> dict[str, t.Any]:
    present = await contents(reached.session)
    if present.tables and not present.ours:
        raise RefusedError(
            f"the database holds {present.tables} tables that are not zapvisor's;"
            " nothing was changed: give the backup a database of its own"
        )
    keys = await key_facts(reached.session) if present.ours else KeyFacts()
    age = age_of(manifest, keys, remembered)
    if options.current_keys:
        age = attrs.evolve(age, older=False, because="it was said so")
    if not present.worthless:
        if not options.replace:
            raise RefusedError(
                f"the database holds {present}; nothing was changed: back it up, then say --replace"
            )
        if not options.confirm(present, manifest):
            raise RefusedError("it was not confirmed; nothing was changed")
    await put_back(reached.session, archive, manifest, age)
    return attrs.asdict(manifest) | {
        "file": name,
        "messages": manifest.messages,
        "replaced_messages": present.messages,
        "stale_keys": age.older,
        "stale_keys_because": age.because,
    }


def _remembered(config: Config) -> Epoch | None:
    """What the data directory remembers of the database."""
    try:
        return read_epoch(config.data_dir)
    except EpochFileError as error:
        raise RefusedError(
            f"{error}; nothing was changed: whether the backup is older cannot be told without it;"
            " delete it if it cannot be mended"
        ) from error


def run_sizes(config: Config) -> dict[str, t.Any]:
    """How big the database is.

    Raises:
        CommandError: it cannot be told.
    """

    async def work(reached: Reached) -> dict[str, t.Any]:
        return await sizes(reached.session)

    with one_line_errors():
        return _on_database(config, work)


def run_vacuum(config: Config, *, full: bool) -> dict[str, t.Any]:
    """Vacuum the database; ``full`` needs it alone.

    Raises:
        CommandError: it cannot be done.
    """

    async def work(reached: Reached) -> dict[str, t.Any]:
        return await vacuum(reached.session, full=full)

    with one_line_errors():
        return _on_database(config, work, alone=full)


def _on_database(
    config: Config,
    work: cabc.Callable[[Reached], cabc.Awaitable[_T]],
    *,
    alone: bool = False,
    create: bool = False,
) -> _T:
    async def run() -> _T:
        async with reach(config, alone=alone, create=create) as reached:
            return await work(reached)

    with acting_as_owner(config.data_dir):
        return trio.run(run, strict_exception_groups=True)


def _fingerprint(config: Config) -> tuple[str | None, str | None]:
    """The fingerprint of the key in use, or why it is not known."""
    try:
        key = find_key(config.key_file)
    except SealError as error:
        return None, str(error)
    if key is None:
        return None, f"there is no key in {config.key_file}"
    return fingerprint(key), None


def _check_key(config: Config, manifest: Manifest, other_key: bool) -> None:
    """Refuse a backup whose credentials would not open.

    Raises:
        RefusedError: it is one; says what to do.
    """
    known, why = _fingerprint(config)
    if other_key or (known is not None and known == manifest.key):
        return
    advice = (
        "put the key that belongs to the backup there (it is never part of a backup), or say"
        " --other-key: everything is restored, and every connection has to be paired again"
    )
    if manifest.key is None:
        raise RefusedError(f"nobody knows which key this backup belongs to; {advice}")
    if known is None:
        raise RefusedError(f"the backup needs the key {manifest.key}, and {why}; {advice}")
    raise RefusedError(
        f"the backup belongs to the key {manifest.key}, but the one in {config.key_file} is"
        f" {known}; nothing was changed: {advice}"
    )


@contextlib.contextmanager
def _opened(file: Path) -> cabc.Iterator[t.IO[bytes]]:
    try:
        with file.open("rb") as archive:
            yield archive
    except FileNotFoundError as error:
        raise CommandError(f"{file} is gone") from error
