"""Overrides from the environment: ``ZAPVISOR_SECTION_KEY``, one for each key of the model."""

import collections.abc as cabc
import typing as t

import attrs

from config.errors import Problem
from config.kinds import nearest
from config.model import Config

PREFIX: t.Final = "ZAPVISOR_"
CONFIG_VARIABLE: t.Final = "ZAPVISOR_CONFIG"
"""The path of the configuration file."""
SECRET_KEY_VARIABLE: t.Final = "ZAPVISOR_SECRET_KEY"  # noqa: S105 - the name, not the key
"""The sealing key itself, for those who keep it in no file; read by the daemon."""
CONNECTIONS_VARIABLE: t.Final = "ZAPVISOR_CONNECTIONS"
"""Names with commas between; replaces the list of the file, keeping the tables it names."""
CRASH_VARIABLE: t.Final = "ZAPVISOR_CRASH_AT"
"""A point at which the process kills itself, for tests; read by ``storage.crash_points``."""
OTHERS: t.Final = (CONFIG_VARIABLE, SECRET_KEY_VARIABLE, CONNECTIONS_VARIABLE, CRASH_VARIABLE)


def variables() -> dict[str, tuple[str, str]]:
    """All override variables: name → (section, key)."""
    return {
        f"{PREFIX}{section.name}_{key.name}".upper(): (section.name, key.name)
        for section in attrs.fields(Config)
        if isinstance(section.type, type) and attrs.has(section.type)
        for key in attrs.fields(section.type)
    }


def overrides(environ: cabc.Mapping[str, str]) -> dict[tuple[str, str], tuple[str, str]]:
    """What the environment sets: (section, key) → (variable, value)."""
    known = variables()
    return {known[name]: (name, value) for name, value in environ.items() if name in known}


def unknown_variables(
    environ: cabc.Mapping[str, str], named: cabc.Iterable[str] = ()
) -> list[Problem]:
    """A problem for each ``ZAPVISOR_`` variable that stands for nothing, and that the file does
    not name either."""
    known = (*variables(), *OTHERS, *named)
    return [
        Problem(where=name, message="unknown variable", nearest=nearest(name, known))
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known
    ]
