"""Branches of the tree that never end the daemon: the services and the API.

A part that fails too often is tried again now and then, for as long as the daemon runs, and health
tells. Connections and the writer go on meanwhile: a message is worth more than what is made of it.
"""

import collections.abc as cabc
import secrets
import typing as t

import attrs

from supervisor.backoff import Backoff
from supervisor.spec import ChildSpec, OnLimit, RestartIntensity, RestartPolicy
from supervisor.state import ChildState, ChildStatus
from supervisor.tree import Supervisor

ROOT_POLICY: t.Final = RestartPolicy(
    intensity=RestartIntensity(limit=10, window=60.0),
    backoff=Backoff(initial=0.1, maximum=5.0),
    stable_after=60.0,
)
TRIAL_INTERVAL: t.Final = 30.0  # seconds between two trials of a part that failed too often


def branch_policy() -> RestartPolicy:
    """How the failures of a part are treated."""
    return attrs.evolve(ROOT_POLICY, trial_interval=TRIAL_INTERVAL)


def branch(name: str, children: cabc.Iterable[ChildSpec]) -> Supervisor:
    """A branch with these parts."""
    uniform = secrets.SystemRandom().random
    return Supervisor(
        name, list(children), branch_policy(), on_limit=OnLimit.FATAL, uniform=uniform
    )


def part_troubles(name: str, parts: cabc.Iterable[ChildStatus]) -> cabc.Iterator[str]:
    """What an operator should know of the parts of a branch; one hiccup is none of it."""
    for part in parts:
        waits = part.state in (ChildState.BACKOFF, ChildState.FATAL)
        if waits or part.failures > 1:
            yield (
                f"the part {part.id} of the {name} keeps failing; it is tried again by itself,"
                " and the daemon's log tells more"
            )
