"""The states of a child, the one table of their transitions, and the snapshot for status."""

import collections.abc as cabc
import enum
import typing as t

import attrs


class ChildState(enum.Enum):
    """Where a child is in its life."""

    STOPPED = "stopped"  # not started yet, stopped on purpose, or stopped for good by itself
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"  # failed; the next attempt has a time
    STOPPING = "stopping"
    FATAL = "fatal"  # failed too often; perhaps a trial now and then
    EXITED = "exited"  # ended by itself and is not restarted


class ChildEvent(enum.Enum):
    """What moves a child from state to state."""

    START = "start"
    READY = "ready"  # it called started()
    FAIL = "fail"  # it failed and will be restarted
    GIVE_UP = "give up"  # it failed too often
    FINISH = "finish"  # it ended and is not restarted
    STOP = "stop"  # somebody asked for it
    END = "end"  # it ended, as it was asked to or for good


TRANSITIONS: t.Final[cabc.Mapping[tuple[ChildState, ChildEvent], ChildState]] = {
    (ChildState.STOPPED, ChildEvent.START): ChildState.STARTING,
    (ChildState.BACKOFF, ChildEvent.START): ChildState.STARTING,
    (ChildState.FATAL, ChildEvent.START): ChildState.STARTING,
    (ChildState.EXITED, ChildEvent.START): ChildState.STARTING,
    (ChildState.STARTING, ChildEvent.READY): ChildState.RUNNING,
    (ChildState.STARTING, ChildEvent.FAIL): ChildState.BACKOFF,
    (ChildState.RUNNING, ChildEvent.FAIL): ChildState.BACKOFF,
    (ChildState.STARTING, ChildEvent.GIVE_UP): ChildState.FATAL,
    (ChildState.RUNNING, ChildEvent.GIVE_UP): ChildState.FATAL,
    (ChildState.STARTING, ChildEvent.FINISH): ChildState.EXITED,
    (ChildState.RUNNING, ChildEvent.FINISH): ChildState.EXITED,
    (ChildState.STARTING, ChildEvent.STOP): ChildState.STOPPING,
    (ChildState.RUNNING, ChildEvent.STOP): ChildState.STOPPING,
    (ChildState.BACKOFF, ChildEvent.STOP): ChildState.STOPPED,
    (ChildState.FATAL, ChildEvent.STOP): ChildState.STOPPED,
    (ChildState.EXITED, ChildEvent.STOP): ChildState.STOPPED,
    (ChildState.STARTING, ChildEvent.END): ChildState.STOPPED,
    (ChildState.RUNNING, ChildEvent.END): ChildState.STOPPED,
    (ChildState.STOPPING, ChildEvent.END): ChildState.STOPPED,
}  # a missing pair is a bug of the supervisor


@attrs.frozen(kw_only=True)
class ChildStatus:
    """A child as it is at one moment; times are trio-clock seconds."""

    id: str
    state: ChildState
    since: float
    failures: int = 0
    """Counted failures since the child was last stable."""
    restarts: int = 0
    """How often its supervisor restarted it by itself; never reset."""
    last_error: str | None = None
    next_attempt_at: float | None = None
    """When a BACKOFF or FATAL child is tried again; None when it is not."""
