"""What the supervisor can fail with, and how a child tells it what to do about its end."""

import typing as t


class SupervisorError(Exception):
    """Base of the supervisor's own errors."""


class NotRunningError(SupervisorError):
    """The supervisor is not running, or is shutting down, so it cannot start children."""


class UnknownChildError(SupervisorError):
    """No child has this id."""

    def __init__(self, child: str) -> None:
        super().__init__(f"there is no child {child!r}")
        self.child = child


class DuplicateChildError(SupervisorError):
    """A child with this id is there already."""

    def __init__(self, child: str) -> None:
        super().__init__(f"there is already a child {child!r}")
        self.child = child


class ChildActiveError(SupervisorError):
    """The child must be stopped first."""

    def __init__(self, child: str) -> None:
        super().__init__(f"child {child!r} must be stopped first")
        self.child = child


class RestartLimitError(SupervisorError):
    """A child failed more often than its supervisor allows; the supervisor has ended."""

    def __init__(self, supervisor: str, child: str, failures: int, last_error: str) -> None:
        super().__init__(
            f"child {child!r} of {supervisor!r} failed {failures} times; the last: {last_error}"
        )
        self.supervisor = supervisor
        self.child = child
        self.failures = failures
        self.last_error = last_error


class MailboxError(SupervisorError):
    """Base of the mailbox errors."""


class MailboxFullError(MailboxError):
    """The mailbox holds as much mail as it may."""


class MailboxEmptyError(MailboxError):
    """The mailbox holds no mail."""


class MailboxClosedError(MailboxError):
    """The mailbox takes no more mail, and holds none."""


class ChildError(Exception):
    """An end that a child expects, with a word to its supervisor; logged without a traceback.

    The supervisor reads these attributes from any exception; subclasses override them. In a
    group of errors one ``final`` decides; ``counted = False`` and ``restart_at_once`` need all.
    """

    counted: t.ClassVar[bool] = True
    """Whether this end counts as a failure, towards backoff and the restart limit."""
    restart_at_once: t.ClassVar[bool] = False
    """Restart without a delay; granted ``RestartPolicy.immediate_limit`` times in a row."""
    final: t.ClassVar[bool] = False
    """Do not restart: the child is STOPPED until somebody starts it."""
    restart_after: float | None = None
    """Seconds to wait in place of the backoff (a peer said when to come back)."""


class RestartNow(ChildError):
    """Restart me at once; this was no failure."""

    counted = False
    restart_at_once = True


class StopForGood(ChildError):
    """Do not restart me: only a person can help."""

    counted = False
    final = True


class StartTimeoutError(ChildError):
    """The child was not ready within ``ChildSpec.start_timeout``."""


class EndedEarlyError(ChildError):
    """The child ended before it was ready."""


class UnexpectedEndError(ChildError):
    """A permanent child ended by itself, without an error."""


class PulseOverdueError(ChildError):
    """What was watched has not beaten in time: it hangs."""

    def __init__(self, name: str, age: float) -> None:
        super().__init__(f"{name}: no heartbeat for {age:.1f} s")
        self.name = name
        self.age = age
