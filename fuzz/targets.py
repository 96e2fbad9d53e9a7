"""Every harness, by name."""

import typing as t

from fuzz import contents, pairings, sessions, stanzas, wire
from fuzz.harness import Target

TARGETS: t.Final[dict[str, Target]] = {
    target.name: target
    for target in (
        *wire.TARGETS,
        *stanzas.TARGETS,
        *contents.TARGETS,
        *sessions.TARGETS,
        *pairings.TARGETS,
    )
}
