"""Which connections a new configuration adds, removes and changes. Pure."""

import collections.abc as cabc
import typing as t

import attrs

from actors.assembly import connection_settings, conversation_rules, fleet_settings
from config.model import Config, ConnectionConfig, SupervisionConfig

APPLIED: t.Final[cabc.Mapping[str, frozenset[str] | None]] = {
    "whatsapp": frozenset({"version", "device_name"}),
    "supervision": frozenset(attrs.fields_dict(SupervisionConfig))
    - {"handshakes", "outage_connections", "outage_percent", "outage_window"},
    "conversations": None,
    "sending": frozenset({"gap", "per_minute", "ack_timeout"}),
    "history": frozenset({"full"}),
    "alerts": None,
}
"""Keys that take effect at run time, since a connection is built from them; the others, and
those of sections that are not named here, need a restart of the daemon."""


@attrs.frozen(kw_only=True)
class Plan:
    """What a reload does; names in the order of the configuration."""

    config: Config
    """In force afterwards: the new one, but for what needs a restart."""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()  # stopped, and built anew
    rules: tuple[str, ...] = ()  # only how messages find their conversation: nothing is stopped
    unchanged: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()  # keys with new values that wait for a restart


def plan(old: Config, new: Config) -> Plan:
    """From the configuration in force to what a new one changes of it."""
    config = attrs.evolve(
        old,
        connections=new.connections,
        maintenance=new.maintenance,
        retention=new.retention,
        **{name: _section(old, new, name) for name in APPLIED},
    )
    before, after = _tables(old), _tables(config)
    kept = [name for name in after if name in before]
    changed = [name for name in kept if _built(old, name) != _built(config, name)]
    rules = [
        name
        for name in kept
        if name not in changed and conversation_rules(old, name) != conversation_rules(config, name)
    ]
    return Plan(
        config=config,
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(changed),
        rules=tuple(rules),
        unchanged=tuple(name for name in kept if name not in changed and name not in rules),
        restart=tuple(_differences(config, new)),
    )


def _tables(config: Config) -> dict[str, ConnectionConfig]:
    return {table.name: table for table in config.connections}


def _built(config: Config, name: str) -> object:
    """All that a connection is built from."""
    return connection_settings(config, name), fleet_settings(config)


def _section(old: Config, new: Config, name: str) -> t.Any:
    """A section of the new configuration, with the old values of keys that need a restart."""
    keys = APPLIED[name]
    if keys is None:
        return getattr(new, name)
    return attrs.evolve(
        getattr(old, name), **{key: getattr(getattr(new, name), key) for key in keys}
    )


def _differences(config: Config, new: Config) -> cabc.Iterator[str]:
    """Keys, as ``section.key``, in which the new configuration is not what is in force."""
    for section in attrs.fields(Config):
        mine, theirs = getattr(config, section.name), getattr(new, section.name)
        if not (isinstance(section.type, type) and attrs.has(section.type)):
            continue
        for key in attrs.fields(section.type):
            if getattr(mine, key.name) != getattr(theirs, key.name):
                yield f"{section.name}.{key.name}"
    if config.webhooks != new.webhooks:
        yield "webhooks"
    if config.channels != new.channels:
        yield "channels"
