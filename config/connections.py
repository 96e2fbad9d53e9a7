"""One connection's settings that do not come from the file: checked alike, shown, written."""

import collections.abc as cabc
import typing as t
import urllib.parse

import attrs

from config.convert import read_value
from config.durations import format_duration
from config.errors import BadValueError, ConfigError, Problem
from config.kinds import nearest
from config.model import Config, ConnectionConfig

WHERE: t.Final = "request"
_MASK: t.Final = "***"


def read_connection(values: cabc.Mapping[str, t.Any], where: str = WHERE) -> ConnectionConfig:
    """A ``[[connections]]`` table from JSON; null is as good as not there.

    Raises:
        ConfigError: with every problem.
    """
    fields = {field.name: field.type for field in attrs.fields(ConnectionConfig)}
    problems, good = [], {}
    for key, value in values.items():
        if key not in fields:
            hint = nearest(key, tuple(fields))
            problems.append(Problem(where=where, key=key, message="unknown name", nearest=hint))
        elif value is not None:
            try:
                good[key] = read_value(value, fields[key])
            except BadValueError as error:
                problems.append(
                    Problem(
                        where=where,
                        key=key,
                        message=error.message,
                        expected=error.expected,
                        nearest=error.nearest,
                    )
                )
    if values.get("name") is None:
        problems.append(Problem(where=where, key="name", message="the connection has no name"))
    if problems:
        raise ConfigError(problems)
    return ConnectionConfig(**good)


def written(connection: ConnectionConfig) -> dict[str, t.Any]:
    """The same as :func:`read_connection` takes it."""
    window, counted = connection.reopen_window, connection.reopen_from
    return {
        **attrs.asdict(connection),
        "reopen_window": None if window is None else format_duration(window),
        "reopen_from": None if counted is None else counted.value,
    }


def own_settings(connection: ConnectionConfig) -> dict[str, t.Any]:
    """The settings of its own, to show: None is what follows the general ones."""
    shown = written(connection)
    del shown["name"]
    shown["proxy"] = None if connection.proxy is None else masked(connection.proxy)
    return shown


def effective_settings(config: Config, name: str) -> dict[str, t.Any]:
    """What is in force for a connection, to show."""
    own, rules = config.connection(name), config.conversations_for(name)
    return {
        "autostart": own is None or own.autostart,
        "proxy": masked(config.proxy_for(name)),
        "reopen_window": format_duration(rules.reopen_window),
        "reopen_from": rules.reopen_from.value,
        "team_reopens": rules.team_reopens,
        "groups": rules.groups,
    }


def masked(url: str) -> str:
    """The URL of a proxy without its password, and without the user, who may be one, too."""
    parts = urllib.parse.urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urllib.parse.urlunsplit(
        parts._replace(netloc=f"{_MASK}@{parts.netloc.rpartition('@')[2]}")
    )
