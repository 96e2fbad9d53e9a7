"""``zapvisor upgrade-check``: what an upgrade would do, and what would go wrong, before it."""

import collections.abc as cabc
import enum
import os
import re
import shutil
import sys
import typing as t
from pathlib import Path

import attrs
import trio

from config.errors import ConfigError
from config.load import load_config
from config.model import Config, WhatsAppConfig
from daemon.database import reach
from daemon.errors import CommandError
from daemon.owner import acting_as_owner
from daemon.run import one_line_errors
from daemon.screen_health import size
from storage.embedded import cluster_of
from storage.errors import SealError, StorageRejectedError
from storage.outlook import TESTED, Outlook, outlook
from storage.seal import find_key

PYTHONS: t.Final = ((3, 11), (3, 13))  # the oldest that will do, the newest that is tested
ROOM: t.Final = 1 << 30  # bytes that should be free in any case
SLOW: t.Final = 5.0  # seconds of a migration, from which on they are told


class Level(enum.Enum):
    """How much a finding matters."""

    FINE = "fine"
    LOOK = "look"  # it would run, but somebody should know
    STOP = "stop"  # it would not run


EXIT: t.Final = {Level.FINE: 0, Level.LOOK: 1, Level.STOP: 2}


@attrs.frozen
class Finding:
    """One thing that was looked at."""

    level: Level
    what: str
    text: str


def upgrade_check(
    path: Path | None, environ: cabc.Mapping[str, str], *, version: str
) -> tuple[list[Finding], dict[str, t.Any] | None]:
    """All findings, and what the database's migrations would do if it could be asked."""
    found = [Finding(Level.FINE, "program", f"zapvisor {version}"), python(sys.version_info[:2])]
    try:
        config = load_config(path, environ)
    except ConfigError as error:
        found += [Finding(Level.STOP, "configuration", str(each)) for each in error.problems]
        found.append(Finding(Level.LOOK, "database", "not looked at: no configuration says where"))
        return found, None
    place = config.path or "no file: the defaults apply"
    names = len(config.connections)
    found.append(Finding(Level.FINE, "configuration", f"{place}; {names} connections"))
    found.append(client_version(config.whatsapp.version))
    coming, troubles = _ask(config)
    found += troubles
    if coming is not None:
        found += database(coming)
        found.append(_key(config, coming))
    found.append(_room(config, coming))
    return found, None if coming is None else attrs.asdict(coming)


def verdict(findings: cabc.Iterable[Finding]) -> Level:
    """The worst of them."""
    return max((each.level for each in findings), key=lambda level: EXIT[level])


def python(running: tuple[int, ...]) -> Finding:
    """Whether this Python will do."""
    oldest, newest = PYTHONS
    text = ".".join(map(str, running))
    if running < oldest:
        needed = ".".join(map(str, oldest))
        return Finding(Level.STOP, "python", f"{text}; it has to be {needed} or newer")
    if running > newest:
        return Finding(Level.LOOK, "python", f"{text}, with which zapvisor is not tested yet")
    return Finding(Level.FINE, "python", text)


def client_version(configured: str) -> Finding:
    """Whether the client version of the configuration is older than the one that came with us."""
    ours = WhatsAppConfig().version
    if _numbers(configured) < _numbers(ours):
        return Finding(
            Level.LOOK,
            "client version",
            f"whatsapp.version is {configured}, older than the {ours} that this version of zapvisor"
            " would tell: remove the key, or connections may be refused as outdated",
        )
    return Finding(Level.FINE, "client version", configured)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"[0-9]+", version)))


def _has_cluster(config: Config) -> bool:
    return (cluster_of(config.data_dir) / "PG_VERSION").exists()


def _ask(config: Config) -> tuple[Outlook | None, list[Finding]]:
    try:
        new = config.storage.embedded and not _has_cluster(config)
    except PermissionError as error:
        text = f"not looked at: {error.strerror}; run this as root, or as the service's user"
        return None, [Finding(Level.LOOK, "database", text)]
    except StorageRejectedError as error:
        return None, [Finding(Level.STOP, "database", str(error))]
    if new:
        text = f"there is none in {config.data_dir} yet; it is made at the first start"
        return None, [Finding(Level.FINE, "database", text)]

    async def look() -> Outlook:
        async with reach(config) as reached:
            return await outlook(reached.session)

    try:
        with one_line_errors(), acting_as_owner(config.data_dir):
            return trio.run(look, strict_exception_groups=True), []
    except CommandError as error:
        return None, [Finding(Level.LOOK, "database", f"not looked at: {error}")]


def database(coming: Outlook) -> list[Finding]:
    """What the schema and the server mean for this version."""
    found = []
    if coming.server_major in TESTED:
        found.append(Finding(Level.FINE, "PostgreSQL", coming.server_version))
    else:
        text = f"{coming.server_version}; tested are {TESTED[0]} to {TESTED[-1]}"
        found.append(Finding(Level.LOOK, "PostgreSQL", text))
    if coming.refused is not None:
        return [*found, Finding(Level.STOP, "schema", coming.refused)]
    if not coming.steps:
        again = ", functions are made anew" if coming.functions else ""
        found.append(Finding(Level.FINE, "schema", f"{coming.schema}, up to date{again}"))
        return found
    slow = sum(step.seconds for step in coming.steps)
    text = f"{coming.schema} now, {coming.code} afterwards; not to be undone: back up before"
    level = Level.LOOK if slow >= SLOW else Level.FINE
    if slow >= SLOW:
        text += f"; the daemon starts about {slow:.0f} s later, once"
    return [*found, Finding(level, "schema", text)]


def _key(config: Config, coming: Outlook) -> Finding:
    try:
        key = find_key(config.key_file, os.environ)
    except SealError as error:
        return Finding(Level.LOOK, "secret key", str(error))
    if key is None and coming.paired:
        return Finding(
            Level.STOP,
            "secret key",
            f"{coming.paired} connections are paired, and there is no key in {config.key_file}:"
            " put it back; without it they have to be paired again",
        )
    return Finding(Level.FINE, "secret key", "there" if key else "made at the first start")


def _room(config: Config, coming: Outlook | None) -> Finding:
    place = config.data_dir
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    rewritten = max((step.bytes for step in coming.steps), default=0) if coming else 0
    wanted = ROOM + 2 * (rewritten if config.storage.embedded else 0)
    text = f"{size(free)} free at {place}"
    if free < wanted:
        return Finding(Level.LOOK, "disk", f"{text}; it should be {size(wanted)}")
    return Finding(Level.FINE, "disk", text)
