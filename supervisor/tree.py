"""The supervisor: starts children, restarts what crashed, stops them in reverse order.

Theory of operation
    Each child has one task of the supervisor's nursery that looks after it from start to
    STOPPED, EXITED or FATAL: attempt, judge the end, wait, attempt again. These tasks share
    nothing, so no child delays another (one-for-one). They run in a shield: a cancelled
    supervisor first stops its children in order, and only that ends them.

    An attempt runs in a cancel scope of its own. Its deadline is first the start timeout,
    then infinite, and, once a stop is requested, the shutdown timeout: the scope enforces
    each limit without a task that waits, so a caller of ``stop_child`` may vanish halfway.

    Exceptions that are no ``Exception`` (KeyboardInterrupt, SystemExit) leave through the
    nursery; the children are stopped in order on the way.
"""

import collections.abc as cabc
import math
import typing as t

import structlog
import trio

from supervisor.child import Child, Readiness
from supervisor.crash import Crash, judge, passes_through
from supervisor.errors import (
    ChildActiveError,
    ChildError,
    DuplicateChildError,
    EndedEarlyError,
    NotRunningError,
    RestartLimitError,
    StartTimeoutError,
    SupervisorError,
    UnexpectedEndError,
    UnknownChildError,
)
from supervisor.history import GiveUp
from supervisor.spec import ChildSpec, OnLimit, Restart, RestartPolicy
from supervisor.state import ChildEvent, ChildState, ChildStatus

log: t.Final[structlog.stdlib.BoundLogger] = structlog.get_logger("supervisor")

_GRACE: t.Final = 5.0
"""Seconds that a cancelled child may take to clean up before it is called stuck."""
_ACTIVE: t.Final = (ChildState.STARTING, ChildState.RUNNING)


class Supervisor:
    """Keeps its children running, each on its own.

    Args:
        name: for logs and errors.
        children: started in this order, stopped in the reverse one.
        policy: how failures are treated; counted for each child.
        on_limit: what follows when a child fails too often.
        observer: called with the new status on each transition, from within it; must not block.
        uniform: draws from 0 to 1, for the jitter.
        ordered: a child is started once the one before it is ready (or has failed its first
            attempt), and stopped once the one after it has ended. Without order, all are
            started at once and stopped at once.
    """

    def __init__(
        self,
        name: str,
        children: cabc.Sequence[ChildSpec] = (),
        policy: RestartPolicy = RestartPolicy(),  # noqa: B008 - frozen
        *,
        on_limit: OnLimit = OnLimit.ESCALATE,
        observer: cabc.Callable[[ChildStatus], None] | None = None,
        uniform: cabc.Callable[[], float],
        ordered: bool = True,
    ) -> None:
        self.name = name
        self._policy = policy
        self._on_limit = on_limit
        self._observer = observer
        self._uniform = uniform
        self._ordered = ordered
        self._children: dict[str, Child] = {}
        self._nursery: trio.Nursery | None = None
        self._body = trio.CancelScope()
        self._stopping = False
        self._limit_error: RestartLimitError | None = None
        for spec in children:
            self._register(spec)

    # -- the supervisor's own life

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look after the children until cancelled or ``stop()``; then stop them in order.

        Reports ``started()`` once each child that starts with the supervisor is ready or has
        failed its first attempt. May be run again after it has ended.

        Raises:
            RestartLimitError: a child failed too often and this escalates.
        """
        if self._nursery is not None:
            raise SupervisorError(f"supervisor {self.name!r} is running already")
        self._stopping, self._limit_error, self._body = False, None, trio.CancelScope()
        try:
            async with trio.open_nursery() as self._nursery:
                try:
                    with self._body:
                        await self._start_all()
                        task_status.started()
                        await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await self._stop_all()
        finally:
            self._nursery = None
        if self._limit_error is not None:
            raise self._limit_error

    def stop(self) -> None:
        """Ask ``run`` to stop the children and return."""
        self._body.cancel()

    def as_child(
        self, *, restart: Restart = Restart.PERMANENT, critical: bool = False
    ) -> ChildSpec:
        """This supervisor as the child of another one, with all the time its children need."""
        return ChildSpec(
            id=self.name,
            start=self.run,
            stop=self.stop,
            restart=restart,
            start_timeout=math.inf,
            shutdown_timeout=math.inf,
            critical=critical,
        )

    # -- the children

    def add_child(self, spec: ChildSpec) -> None:
        """Add a child at the end; a running supervisor begins to start it (if ``autostart``).

        Raises:
            DuplicateChildError: there is one with this id.
            NotRunningError: the supervisor is shutting down.
        """
        if self._stopping and self._nursery is not None:
            raise NotRunningError(f"supervisor {self.name!r} is shutting down")
        child = self._register(spec)
        if self._nursery is not None and spec.autostart:
            self._launch(child)

    def remove_child(self, child_id: str) -> None:
        """Forget a child that is not running and will not be tried again.

        Raises:
            ChildActiveError: it must be stopped first.
        """
        if self._find(child_id).has_task:
            raise ChildActiveError(child_id)
        del self._children[child_id]

    async def start_child(self, child_id: str) -> ChildStatus:
        """Start a child now, its failures forgotten; returns once it is ready or has failed.

        A child that waits for its next attempt is tried at once; one that runs is left alone.

        Raises:
            NotRunningError: the supervisor is not running.
        """
        child = self._find(child_id)
        while child.has_task and child.stop_requested:
            await child.done.wait()
        if self._nursery is None or self._stopping:
            raise NotRunningError(f"supervisor {self.name!r} is not running")
        if not child.has_task:
            self._launch(child)
        elif child.state not in _ACTIVE:
            child.forget()
            child.wake.set()
        await child.settled.wait()
        return child.status()

    def hasten_child(self, child_id: str) -> None:
        """Try a child that is in BACKOFF now instead of later; its failures still count."""
        child = self._find(child_id)
        if child.state is ChildState.BACKOFF:
            child.wake.set()

    async def stop_child(self, child_id: str) -> None:
        """Stop a child for good and wait for its end; the next attempt is nobody's but yours.

        Cancelling the wait does not take the stop back.
        """
        child = self._find(child_id)
        self._request_stop(child)
        await child.done.wait()

    async def restart_child(self, child_id: str) -> ChildStatus:
        """Stop a child and start it again, its failures forgotten."""
        await self.stop_child(child_id)
        return await self.start_child(child_id)

    def snapshot(self) -> tuple[ChildStatus, ...]:
        """All children as they are now, in their order."""
        return tuple(child.status() for child in self._children.values())

    def status(self, child_id: str) -> ChildStatus:
        """One child as it is now."""
        return self._find(child_id).status()

    # -- starting and stopping

    def _register(self, spec: ChildSpec) -> Child:
        if spec.id in self._children:
            raise DuplicateChildError(spec.id)
        child = Child(spec, self._policy, self._uniform, self._notify)
        self._children[spec.id] = child
        return child

    def _find(self, child_id: str) -> Child:
        try:
            return self._children[child_id]
        except KeyError:
            raise UnknownChildError(child_id) from None

    def _notify(self, status: ChildStatus) -> None:
        if self._observer is None:
            return
        try:
            self._observer(status)
        except Exception:
            log.exception("supervisor.observer_failed", supervisor=self.name, child=status.id)

    async def _start_all(self) -> None:
        children = [child for child in self._children.values() if child.spec.autostart]
        for child in children:
            child.stop_requested = False
        for child in children:
            await trio.lowlevel.checkpoint_if_cancelled()
            if not child.has_task and not self._is_unwanted(child):
                self._launch(child)
            if self._ordered and child.has_task:
                await child.settled.wait()
        for child in children:
            if child.has_task:
                await child.settled.wait()

    def _is_unwanted(self, child: Child) -> bool:
        """Whether it was stopped or removed before its turn to start came."""
        return child.stop_requested or self._children.get(child.spec.id) is not child

    async def _stop_all(self) -> None:
        self._stopping = True
        for child in self._children.values():
            if child.has_task and child.state not in _ACTIVE:
                self._request_stop(child)  # it only waits for its next attempt
        for child in reversed(tuple(self._children.values())):
            if child.has_task:
                self._request_stop(child)
                if self._ordered:
                    await self._wait_for_end(child)
        for child in tuple(self._children.values()):
            await self._wait_for_end(child)

    async def _wait_for_end(self, child: Child) -> None:
        """Wait, and say so when even cancelling does not end the child soon."""
        with trio.move_on_after(child.spec.shutdown_timeout + _GRACE):
            await child.done.wait()
            return
        log.warning("child.stuck", supervisor=self.name, child=child.spec.id)
        await child.done.wait()

    def _launch(self, child: Child) -> None:
        assert self._nursery is not None  # noqa: S101 - the callers have looked
        child.forget()
        child.stop_requested = False
        child.done = trio.Event()
        child.begin()
        self._nursery.start_soon(self._look_after, child, name=f"{self.name}/{child.spec.id}")

    def _request_stop(self, child: Child) -> None:
        if child.stop_requested and child.has_task:
            return
        child.stop_requested = True
        if child.state in _ACTIVE:
            child.forget_if_stable()
            child.advance(ChildEvent.STOP)
            self._ask_to_stop(child)
        elif child.state is not ChildState.STOPPED:
            child.advance(ChildEvent.STOP)
            child.wake.set()

    def _ask_to_stop(self, child: Child) -> None:
        if child.spec.stop is None:
            child.scope.cancel()
            return
        child.scope.deadline = trio.current_time() + child.spec.shutdown_timeout
        try:
            child.spec.stop()
        except Exception:
            log.exception("child.stop_failed", supervisor=self.name, child=child.spec.id)
            child.scope.cancel()

    # -- the task of one child

    async def _look_after(self, child: Child) -> None:
        try:
            with trio.CancelScope(shield=True):
                while (delay := self._follow_up(child, await self._attempt(child))) is not None:
                    with trio.move_on_after(delay):
                        await child.wake.wait()
                    if child.stop_requested:
                        break
                    if not child.wake.is_set():
                        child.restarts += 1
                    child.begin()
        finally:
            if child.state in (*_ACTIVE, ChildState.STOPPING):
                child.advance(ChildEvent.END)
            child.settled.set()
            child.done.set()

    async def _attempt(self, child: Child) -> Crash | None:
        """Run the child once; how it crashed, or None when it ended as it may."""
        try:
            with child.scope:
                await child.spec.start(task_status=Readiness(child))
        except BaseException as error:
            end = judge(error)
            child.last_error = end.text
            if passes_through(error):
                raise
            self._log_crash(child, end, None if end.expected else error)
            return end
        if child.state is ChildState.STOPPING:
            if child.scope.cancelled_caught and trio.current_time() >= child.scope.deadline:
                log.warning("child.stop_timed_out", supervisor=self.name, child=child.spec.id)
            return None
        early = _untimely_end(child)
        if early is None:
            return None
        end = judge(early)
        child.last_error = end.text
        self._log_crash(child, end, None)
        return end

    def _follow_up(self, child: Child, end: Crash | None) -> float | None:
        """Move on from an end; seconds until the next attempt, or None when there is none."""
        child.forget_if_stable()
        if child.state is ChildState.STOPPING or self._stopping or (end and end.final):
            child.advance(ChildEvent.END)
            return None
        if end is None or child.spec.restart is Restart.TEMPORARY:
            child.advance(ChildEvent.FINISH)
            return None
        now = trio.current_time()
        decision = child.history.add(end, now)
        if isinstance(decision, GiveUp):
            return self._give_up(child, end, decision, now)
        child.advance(ChildEvent.FAIL, next_attempt_at=now + decision.delay)
        log.info(
            "child.backoff",
            supervisor=self.name,
            child=child.spec.id,
            failures=child.history.failures,
            delay=round(decision.delay, 3),
        )
        return decision.delay

    def _give_up(self, child: Child, end: Crash, decision: GiveUp, now: float) -> float | None:
        escalates = self._on_limit is OnLimit.ESCALATE or child.spec.critical
        trial_after = None if escalates else decision.trial_after
        child.advance(
            ChildEvent.GIVE_UP,
            next_attempt_at=None if trial_after is None else now + trial_after,
        )
        log.error(
            "child.fatal",
            supervisor=self.name,
            child=child.spec.id,
            failures=child.history.failures,
            trial_after=trial_after,
        )
        if escalates:
            if self._limit_error is None:
                self._limit_error = RestartLimitError(
                    self.name, child.spec.id, child.history.failures, end.text
                )
            self._body.cancel()
        return trial_after

    def _log_crash(self, child: Child, end: Crash, error: BaseException | None) -> None:
        log.warning(
            "child.crashed",
            supervisor=self.name,
            child=child.spec.id,
            state=child.state.value,
            error=end.text,
            exc_info=error,
        )


def _untimely_end(child: Child) -> ChildError | None:
    """The error behind an end without one: not ready in time, too early, or not allowed."""
    if child.state is ChildState.STARTING:
        if child.scope.cancel_called:
            return StartTimeoutError(f"not ready within {child.spec.start_timeout:g} s")
        return EndedEarlyError("ended before it was ready")
    if child.spec.restart is Restart.PERMANENT:
        return UnexpectedEndError("ended by itself")
    return None
