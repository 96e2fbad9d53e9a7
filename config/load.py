"""Reads the configuration and reports everything that is wrong with it at once."""

import collections.abc as cabc
import re
import tomllib
import typing as t
from pathlib import Path

import attrs

from config.alerts import MaintenanceConfig
from config.channels import ChannelConfig
from config.convert import read_value
from config.environment import (
    CONFIG_VARIABLE,
    CONNECTIONS_VARIABLE,
    overrides,
    unknown_variables,
)
from config.errors import BadValueError, ConfigError, Problem
from config.events import WebhookConfig
from config.kinds import EnvText, nearest, show
from config.lines import KeyPath, key_lines, line_of
from config.model import Config, ConnectionConfig
from config.retention import RetentionConfig
from config.rules import RULES

SEARCHED: t.Final = (Path("supervisor.toml"), Path("/etc/zapvisor/supervisor.toml"))
"""Where a configuration is looked for when none is named; none there means the defaults."""


def load_config(path: Path | None, environ: cabc.Mapping[str, str]) -> Config:
    """The configuration from a file and the environment, which has the last word.

    Without a path it is ``ZAPVISOR_CONFIG``, else the first of ``SEARCHED`` that exists, else
    the defaults alone.

    Raises:
        ConfigError: with every problem.
    """
    if path is None:
        path = find_config(environ)
    text = "" if path is None else _read(path)
    return _Loader(path, text, environ).load()


def find_config(environ: cabc.Mapping[str, str]) -> Path | None:
    """The configuration file in use when none is named; it may not exist if a variable says so."""
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    return next((place for place in SEARCHED if place.is_file()), None)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problem = Problem(where=str(path), message="there is no such file")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = Problem(where=f"{path}:{line}", message="the text is not UTF-8")
    except OSError as error:
        problem = Problem(where=str(path), message=f"cannot be read: {error.strerror or error}")
    raise ConfigError([problem])


_SECTIONS: t.Final[cabc.Mapping[str, type]] = {
    field.name: field.type
    for field in attrs.fields(Config)
    if isinstance(field.type, type) and attrs.has(field.type)
}
_ARRAYS: t.Final = ("connections", "webhooks", "channels", "maintenance", "retention")
_LATE: t.Final = 1 << 62  # sorts what has no line behind what has one


class _Loader:
    """One reading of one configuration; collects problems along the way."""

    def __init__(self, path: Path | None, text: str, environ: cabc.Mapping[str, str]) -> None:
        self._path = path
        self._text = text
        self._environ = environ
        self._lines = key_lines(text)
        self._variables: dict[KeyPath, str] = {}  # what was overridden, by which variable
        self._problems: list[tuple[int, Problem]] = []
        self._bad: set[KeyPath] = set()

    def load(self) -> Config:
        document = self._parse()
        tables: dict[str, dict[str, t.Any]] = {name: {} for name in _SECTIONS}
        self._override(document)
        connections = self._connections(document.pop("connections", []))
        webhooks = self._webhooks(document.pop("webhooks", []))
        channels = self._channels(document.pop("channels", []))
        maintenance = self._maintenance(document.pop("maintenance", []))
        retention = self._retention(document.pop("retention", []))
        for name, raw in document.items():
            if name in _SECTIONS:
                tables[name] = self._table(_SECTIONS[name], raw, (name,))
            else:
                self._unknown((name,), (*_SECTIONS, *_ARRAYS))
        config = Config(
            **{name: _SECTIONS[name](**values) for name, values in tables.items()},
            connections=tuple(connections),
            webhooks=tuple(webhooks),
            channels=tuple(channels),
            maintenance=tuple(maintenance),
            retention=tuple(retention),
            path=self._path,
            base_dir=Path.cwd() if self._path is None else self._path.absolute().parent,
        )
        self._check_rules(config)
        named = [each.url_variable for each in channels]
        self._problems += [(_LATE, each) for each in unknown_variables(self._environ, named)]
        if self._problems:
            self._problems.sort(key=lambda each: each[0])
            raise ConfigError(problem for _, problem in self._problems)
        return config

    def _parse(self) -> dict[str, t.Any]:
        try:
            return tomllib.loads(self._text)
        except RecursionError:
            message, line = "values are nested too deeply", None
        except ValueError as error:  # tomllib's own error, and numbers beyond measure
            message = str(error).partition(" (at ")[0]
            found = re.search(r"\(at line ([0-9]+)", str(error))
            line = int(found[1]) if found else self._text.count("\n") + 1
        where = str(self._path) if line is None else f"{self._path}:{line}"
        raise ConfigError([Problem(where=where, message=f"not valid TOML: {message}")])

    def _override(self, document: dict[str, t.Any]) -> None:
        """Put what the environment sets into the document, as text."""
        for (section, key), (variable, value) in overrides(self._environ).items():
            table = document.setdefault(section, {})
            if isinstance(table, dict):
                table[key] = EnvText(value)
                self._variables[section, key] = variable

    def _table(self, model: type, raw: object, path: KeyPath) -> dict[str, t.Any]:
        """The good values of one table; the bad ones become problems."""
        if not isinstance(raw, dict):
            self._problem(path, "not a table")
            return {}
        fields = {field.name: field.type for field in attrs.fields(model)}
        good = {}
        for key, value in raw.items():
            if key not in fields:
                self._unknown((*path, key), tuple(fields))
                continue
            try:
                good[key] = read_value(value, fields[key])
            except BadValueError as error:
                self._problem((*path, key), error.message, error.expected, error.nearest)
        return good

    def _connections(self, raw: object) -> list[ConnectionConfig]:
        connections: list[ConnectionConfig] = []
        seen: dict[str, KeyPath] = {}
        for path, table in self._connection_tables(raw):
            values = self._table(ConnectionConfig, table, path)
            if isinstance(table, dict) and "name" not in table:
                self._problem(path, "the connection has no name", 'a key such as name = "sales"')
            name = values.get("name", "")
            if name in seen:
                taken = f"the name {show(name)} is taken by {self._where(seen[name])[0]}"
                self._problem((*path, "name"), taken)
            elif name:
                seen[name] = (*path, "name")
                connections.append(ConnectionConfig(**values))
        return connections

    def _webhooks(self, raw: object) -> list[WebhookConfig]:
        def check(path: KeyPath, table: dict[str, t.Any]) -> None:
            if "url" not in table:
                self._problem(path, "the webhook has no url")
            if bool(table.get("secret")) == bool(table.get("secret_file")):
                self._problem(path, "the webhook needs either a secret or a secret_file")

        found = self._named_tables("webhooks", "webhook", raw, WebhookConfig, check)
        return [WebhookConfig(**values) for values in found if "url" in values]

    def _channels(self, raw: object) -> list[ChannelConfig]:
        def check(path: KeyPath, table: dict[str, t.Any]) -> None:
            places = ("url", "url_file", "url_variable")
            if sum(bool(table.get(key)) for key in places) != 1:
                self._problem(path, "the channel needs one of url, url_file and url_variable")

        found = self._named_tables("channels", "channel", raw, ChannelConfig, check)
        return [ChannelConfig(**values) for values in found]

    def _maintenance(self, raw: object) -> list[MaintenanceConfig]:
        def check(path: KeyPath, table: dict[str, t.Any]) -> None:
            for key in ("start", "end"):
                if key not in table:
                    self._problem(path, f"the maintenance has no {key}", 'a time such as "22:30"')

        found = self._named_tables("maintenance", "maintenance", raw, MaintenanceConfig, check)
        return [
            MaintenanceConfig(**values) for values in found if {"start", "end"} <= values.keys()
        ]

    def _named_tables(
        self,
        section: str,
        noun: str,
        raw: object,
        model: type,
        check: cabc.Callable[[KeyPath, dict[str, t.Any]], None],
    ) -> list[dict[str, t.Any]]:
        """The good values of each table of an array that has a name of its own; ``check`` looks
        at a table as a whole."""
        if not isinstance(raw, list):
            self._problem((section,), "not an array of tables", f"[[{section}]] tables")
            return []
        found: list[dict[str, t.Any]] = []
        seen: dict[str, KeyPath] = {}
        for position, table in enumerate(raw):
            path = (section, position)
            values = self._table(model, table, path)
            if not isinstance(table, dict):
                continue
            if "name" not in table:
                self._problem(path, f"the {noun} has no name")
            check(path, table)
            name = values.get("name", "")
            if name in seen:
                taken = f"the name {show(name)} is taken by {self._where(seen[name])[0]}"
                self._problem((*path, "name"), taken)
            elif name:
                seen[name] = (*path, "name")
                found.append(values)
        return found

    def _retention(self, raw: object) -> list[RetentionConfig]:
        if not isinstance(raw, list):
            self._problem(("retention",), "not an array of tables", "[[retention]] tables")
            return []
        rules: list[RetentionConfig] = []
        for position, table in enumerate(raw):
            values = self._table(RetentionConfig, table, ("retention", position))
            if "after" in values:
                rules.append(RetentionConfig(**values))
            elif isinstance(table, dict) and "after" not in table:
                example = 'a key such as after = "365d"'
                self._problem(("retention", position), "the rule has no after", example)
        return rules

    def _connection_tables(self, raw: object) -> list[tuple[KeyPath, object]]:
        """What describes the connections, with its place; the variable chooses among it."""
        if not isinstance(raw, list):
            self._problem(("connections",), "not an array of tables", "[[connections]] tables")
            raw = []
        written: list[tuple[KeyPath, object]] = [
            (("connections", position), table) for position, table in enumerate(raw)
        ]
        names = self._environ.get(CONNECTIONS_VARIABLE)
        if names is None:
            return written
        named: dict[str, tuple[KeyPath, dict[str, object]]] = {
            table["name"]: (path, table)
            for path, table in written
            if isinstance(table, dict) and isinstance(table.get("name"), str)
        }
        chosen: list[tuple[KeyPath, object]] = []
        for name in filter(None, (part.strip() for part in names.split(","))):
            path, table = named.get(name, (("connections", name), {}))
            self._variables[*path, "name"] = CONNECTIONS_VARIABLE
            chosen.append((path, {**table, "name": EnvText(name)}))
        return chosen

    def _check_rules(self, config: Config) -> None:
        for rule in RULES:
            if self._bad.isdisjoint(rule.keys) and not rule.holds(config):
                written = (key for key in rule.keys if key in self._variables or key in self._lines)
                self._problem(next(written, rule.keys[0]), rule.message(config))

    def _unknown(self, path: KeyPath, known: tuple[str, ...]) -> None:
        key = str(path[-1])
        hint = nearest(key, known)
        if hint is None:
            homes = (name for name, model in _SECTIONS.items() if key in attrs.fields_dict(model))
            hint = next((f"{key} in [{home}]" for home in homes), None)
        self._problem(path, "unknown name", nearest=hint)

    def _problem(
        self,
        path: KeyPath,
        message: str,
        expected: str | None = None,
        nearest: str | None = None,
    ) -> None:
        self._bad.add(path)
        where, order = self._where(path)
        key = "".join(
            f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path
        ).removeprefix(".")
        self._problems.append(
            (
                order,
                Problem(where=where, key=key, message=message, expected=expected, nearest=nearest),
            )
        )

    def _where(self, path: KeyPath) -> tuple[str, int]:
        """The place of a key for people, and its order."""
        if variable := self._variables.get(path):
            return variable, _LATE
        line = line_of(self._lines, path)
        if line is None:
            return str(self._path or "defaults"), _LATE
        return f"{self._path}:{line}", line
