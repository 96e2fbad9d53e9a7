"""What a child is and how its ends are treated: frozen data."""

import collections.abc as cabc
import enum
import math

import attrs

from supervisor.backoff import Backoff


class Restart(enum.Enum):
    """When a child that ended is restarted."""

    PERMANENT = "permanent"  # always; ending by itself is a failure
    TRANSIENT = "transient"  # only after an error
    TEMPORARY = "temporary"  # never


class OnLimit(enum.Enum):
    """What follows when a child exceeds the restart intensity."""

    ESCALATE = "escalate"  # the supervisor stops its children and raises RestartLimitError
    FATAL = "fatal"  # the child is FATAL; the others do not notice


@attrs.frozen(kw_only=True)
class ChildSpec:
    """A recipe for one supervised actor; a restart reuses it unchanged."""

    id: str
    start: cabc.Callable[..., cabc.Awaitable[None]]
    """The child's life. Takes the keyword ``task_status``; calls its ``started()`` once ready."""
    restart: Restart = Restart.PERMANENT
    stop: cabc.Callable[[], None] | None = None
    """Asks the child to stop; without it the child is cancelled at once."""
    shutdown_timeout: float = attrs.field(default=5.0, validator=attrs.validators.ge(0))
    """Seconds between ``stop`` and cancellation."""
    start_timeout: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    """Seconds until ``task_status.started()``; not in time is a failure."""
    autostart: bool = True
    """Whether it starts with its supervisor; else only by ``start_child``."""
    critical: bool = False
    """Exceeding the intensity escalates, whatever the supervisor does for other children."""


@attrs.frozen
class RestartIntensity:
    """At most ``limit`` failures within ``window`` seconds; one more is too many."""

    limit: int = attrs.field(validator=attrs.validators.ge(0))
    window: float = attrs.field(default=math.inf, validator=attrs.validators.gt(0))


@attrs.frozen(kw_only=True)
class RestartPolicy:
    """How a supervisor treats failures; counted for each child on its own."""

    intensity: RestartIntensity = attrs.field(factory=lambda: RestartIntensity(30))
    backoff: Backoff = attrs.field(factory=Backoff)
    stable_after: float = attrs.field(default=120.0, validator=attrs.validators.ge(0))
    """RUNNING for so many seconds forgets all failures."""
    trial_interval: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.gt(0))
    )
    """Seconds between the trials of a FATAL child; None leaves it FATAL."""
    immediate_limit: int = attrs.field(default=5, validator=attrs.validators.ge(0))
    """So many restarts at once are granted before the child is stable; the next ones count."""
