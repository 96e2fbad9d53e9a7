"""Connections made through the API, beside those of the file."""

import collections.abc as cabc
import typing as t

import attrs
import structlog

from config.connections import read_connection
from config.errors import ConfigError
from config.model import Config, ConnectionConfig
from storage.api import Storage

Made: t.TypeAlias = dict[str, ConnectionConfig]

log: structlog.stdlib.BoundLogger = structlog.get_logger("daemon")


def with_made(config: Config, made: cabc.Mapping[str, ConnectionConfig]) -> Config:
    """The configuration with the connections that were made; of a name in both, the file's."""
    named = {each.name for each in config.connections}
    more = [each for name, each in sorted(made.items()) if name not in named]
    return attrs.evolve(config, connections=(*config.connections, *more))


async def load_made(storage: Storage) -> Made:
    """Those that can be used; of the others the log tells.

    Raises:
        StorageError: they cannot be read.
    """
    made: Made = {}
    for row in await storage.made_connections():
        if row.settings is None:
            log.error(
                "connection.settings_unreadable",
                connection=row.name,
                advice="they were sealed under another secret key; put that key back and restart",
            )
            continue
        try:
            made[row.name] = read_connection({**row.settings, "name": row.name}, "database")
        except ConfigError as error:
            problems = [str(problem) for problem in error.problems]
            log.error("connection.settings_unusable", connection=row.name, problems=problems)
    return made


async def adopt(storage: Storage, config: Config, made: Made) -> tuple[str, ...]:
    """Leave to the file what it names as well: from now on it is the file's alone.

    Raises:
        StorageError: that cannot be stored.
    """
    names = tuple(each.name for each in config.connections if each.name in made)
    for name in names:
        await storage.forget_made(name)
        del made[name]
        log.info("connection.adopted", connection=name, sentence="the configuration has it now")
    return names
