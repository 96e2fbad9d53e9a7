"""One child of a supervisor: its present state and the scopes through which it is steered."""

import collections.abc as cabc
import math

import trio

from supervisor.history import History
from supervisor.spec import ChildSpec, RestartPolicy
from supervisor.state import TRANSITIONS, ChildEvent, ChildState, ChildStatus


class Child:
    """The supervisor's record of one child; private to the supervisor's task tree.

    ``settled`` is set once the present attempt is no longer STARTING, ``done`` while no task
    looks after the child.
    """

    def __init__(
        self,
        spec: ChildSpec,
        policy: RestartPolicy,
        uniform: cabc.Callable[[], float],
        observer: cabc.Callable[[ChildStatus], None],
    ) -> None:
        self.spec = spec
        self.state = ChildState.STOPPED
        self.since = trio.current_time() if trio.lowlevel.in_trio_run() else 0.0
        self.history = History(policy, uniform)
        self.restarts = 0
        self.last_error: str | None = None
        self.next_attempt_at: float | None = None
        self.scope = trio.CancelScope(shield=True)
        self.stop_requested = False
        self.settled = trio.Event()
        self.wake = trio.Event()
        self.done = trio.Event()
        self.done.set()
        self._stable_after = policy.stable_after
        self._observer = observer

    @property
    def has_task(self) -> bool:
        """Whether a task looks after this child: it runs, or will be tried again."""
        return not self.done.is_set()

    @property
    def is_stable(self) -> bool:
        """Whether it has been RUNNING long enough for its failures to be forgotten."""
        return (
            self.state is ChildState.RUNNING
            and trio.current_time() - self.since >= self._stable_after
        )

    def status(self) -> ChildStatus:
        """The child as it is now."""
        return ChildStatus(
            id=self.spec.id,
            state=self.state,
            since=self.since,
            failures=0 if self.is_stable else self.history.failures,
            restarts=self.restarts,
            last_error=self.last_error,
            next_attempt_at=self.next_attempt_at,
        )

    def advance(self, event: ChildEvent, *, next_attempt_at: float | None = None) -> None:
        """Move to the state that follows ``event``, and tell the observer."""
        self.state = TRANSITIONS[self.state, event]
        self.since = trio.current_time()
        self.next_attempt_at = next_attempt_at
        if self.state is not ChildState.STARTING:
            self.settled.set()
        self._observer(self.status())

    def begin(self) -> None:
        """Start an attempt: STARTING, with a deadline until it is ready."""
        self.wake = trio.Event()
        self.scope = trio.CancelScope(shield=True)
        self.scope.deadline = trio.current_time() + self.spec.start_timeout
        self.advance(ChildEvent.START)

    def ready(self) -> None:
        """The child called ``started()``; too late when it is being cancelled or stopped."""
        if self.state is ChildState.STARTING and not self.scope.cancel_called:
            self.scope.deadline = math.inf
            self.advance(ChildEvent.READY)

    def forget_if_stable(self) -> None:
        """To be called before it leaves RUNNING."""
        if self.is_stable:
            self.history.forget()

    def forget(self) -> None:
        """Treat the next attempt as the first."""
        self.history.forget()
        if self.settled.is_set():
            self.settled = trio.Event()


class Readiness:
    """The ``task_status`` given to one attempt of a child."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._called = False

    def started(self, value: None = None) -> None:
        """The child is ready for mail."""
        if self._called:
            raise RuntimeError("the child called 'started' twice")
        self._called = True
        self._child.ready()
