#!/usr/bin/env python3
"""Writes docs/configuration.md from supervisor.toml (meaning, default) and the model (type,
variable), and tries out what a reload does with each key."""

import enum
import inspect
import pathlib
import re
import tomllib
import types
import typing as t

import attrs

from actors.roster import plan
from config.alerts import MaintenanceConfig
from config.channels import ChannelConfig
from config.convert import read_value
from config.durations import format_duration
from config.environment import OTHERS, PREFIX, variables
from config.errors import BadValueError
from config.events import WebhookConfig
from config.model import Config, ConnectionConfig
from config.retention import RetentionConfig

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "configuration.md"
SAMPLE = ROOT / "supervisor.toml"

HEAD = ROOT / "scripts" / "configuration_head.md"


def reference() -> str:
    """The page."""
    defaults = tomllib.loads(SAMPLE.read_text(encoding="utf-8"))
    told = comments(SAMPLE.read_text(encoding="utf-8"))
    names = {place: variable for variable, place in variables().items()}
    parts = [HEAD.read_text(encoding="utf-8")]
    for section in attrs.fields(Config):
        if not (inspect.isclass(section.type) and attrs.has(section.type)):
            continue
        parts.append(f"\n## [{section.name}]\n")
        for key in attrs.fields(section.type):
            place = (section.name, key.name)
            parts.append(
                entry(
                    key.name,
                    meaning=told.get(place, ""),
                    default=toml(defaults[section.name][key.name]),
                    expected=expected(key.type),
                    variable=names[place],
                    effect=effect(*place),
                )
            )
    parts.append(named_tables("webhooks", WebhookConfig, told[("webhooks", "")]))
    parts.append(named_tables("channels", ChannelConfig, told[("channels", "")]))
    parts.append(named_tables("maintenance", MaintenanceConfig, told[("maintenance", "")]))
    parts.append(named_tables("retention", RetentionConfig, told[("retention", "")]))
    parts.append(connections(told[("connections", "")]))
    return "".join(parts)


def named_tables(section: str, model: type, preface: str) -> str:
    """What each table of an array of tables has."""
    parts = [f"\n## [[{section}]]\n\n{preface}\n\n| key | takes | without it |\n|---|---|---|\n"]
    for key in attrs.fields(model):
        without = "required" if key.default is attrs.NOTHING else f"`{shown(key.default)}`"
        parts.append(f"| `{key.name}` | {cell(expected(key.type))} | {without} |\n")
    return "".join(parts)


def shown(value: object) -> str:
    """A default as it would be written."""
    if isinstance(value, enum.Enum):
        return toml(value.value)
    if isinstance(value, float):
        return toml(format_duration(value))
    return toml(list(value) if isinstance(value, tuple) else value)


def connections(preface: str) -> str:
    """The table of each account."""
    parts = [f"\n## [[connections]]\n\n{preface}\n\n| key | takes | without it |\n|---|---|---|\n"]
    for key in attrs.fields(ConnectionConfig):
        follows = {"name": "required", "autostart": "`true`", "proxy": "`whatsapp.proxy`"}
        without = follows.get(key.name, f"`conversations.{key.name}`")
        parts.append(f"| `{key.name}` | {cell(expected(key.type))} | {without} |\n")
    return "".join(parts)


def entry(
    name: str, *, meaning: str, default: str, expected: str, variable: str, effect: str
) -> str:
    text = f"\n### `{name}`\n\n"
    if meaning:
        text += f"{meaning}\n\n"
    facts = (("Default", f"`{default}`"), ("Takes", expected), ("Variable", f"`{variable}`"))
    text += "".join(f"- {title}: {value}\n" for title, value in facts)
    return text + f"- Reload: {effect}\n"


def effect(section: str, key: str) -> str:
    """What a reload does for a key: tried with another value of it."""
    old = Config(connections=(ConnectionConfig(name="sales"),))
    table = getattr(old, section)
    other = attrs.evolve(table, **{key: another(getattr(table, key))})
    done = plan(old, attrs.evolve(old, **{section: other}))
    if done.restart:
        return "restart"
    return "at once" if done.rules else "yes"


def another(value: object) -> object:
    """A value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, enum.Enum):
        return next(each for each in type(value) if each is not value)
    if isinstance(value, int | float):
        return value + 1
    return (*value, "other") if isinstance(value, tuple) else f"{value}1"


def expected(annotation: t.Any) -> str:
    """What a key takes, as the program says it when it gets something else."""
    if isinstance(annotation, types.UnionType) or t.get_origin(annotation) is t.Union:
        kinds = [each for each in t.get_args(annotation) if each is not types.NoneType]
        return expected(kinds[0])
    try:
        read_value(object(), annotation)
    except BadValueError as error:
        return error.expected
    raise ValueError(f"{annotation} takes anything")


def comments(text: str) -> dict[tuple[str, str], str]:
    """The comment above each key; keys that follow one another share it."""
    found: dict[tuple[str, str], str] = {}
    section, above, fresh = "", [], True
    for line in text.splitlines():
        if head := re.fullmatch(r"\[([a-z0-9_]+)\]", line):
            section, above = head[1], []
        elif head := re.match(r"# \[\[(webhooks|channels|maintenance|retention)\]\]", line):
            found[head[1], ""] = " ".join(above).strip()
        elif line.startswith("# [[connections]]"):
            found["connections", ""] = " ".join(above).strip()
            break
        elif line.startswith("#"):
            above = [*([] if fresh else above), line.lstrip("# ")]
            fresh = False
        elif key := re.match(r"([a-z0-9_]+) = ", line):
            found[section, key[1]] = " ".join(above)
            fresh = True
        else:
            above, fresh = [], True
    return found


def toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    assert set(OTHERS) >= {f"{PREFIX}CONFIG", f"{PREFIX}CONNECTIONS", f"{PREFIX}SECRET_KEY"}
    PAGE.write_text(reference(), encoding="utf-8")
    print(PAGE)
