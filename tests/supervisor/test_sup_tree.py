"""The supervisor's rules, one by one, in virtual time."""

import collections.abc as cabc
import math
import typing as t

import attrs
import pytest
import trio
import trio.testing

from supervisor.errors import (
    ChildActiveError,
    DuplicateChildError,
    NotRunningError,
    RestartLimitError,
    RestartNow,
    StopForGood,
    SupervisorError,
    UnknownChildError,
)
from supervisor.spec import ChildSpec, OnLimit, Restart, RestartIntensity, RestartPolicy
from supervisor.state import ChildState, ChildStatus
from supervisor.tree import Supervisor

POLICY = RestartPolicy(intensity=RestartIntensity(3), stable_after=100)
Run = t.Callable[..., Supervisor]


@pytest.fixture
def make_tree(recorder: t.Any) -> Run:
    """A supervisor with full jitter drawn as 1, whose limit leaves a child FATAL."""

    def make(*specs: ChildSpec, **changes: t.Any) -> Supervisor:
        changes = {
            "policy": POLICY,
            "on_limit": OnLimit.FATAL,
            "observer": recorder,
            "uniform": lambda: 1.0,
            **changes,
        }
        return Supervisor("tree", specs, **changes)

    return make


def scripted(*lives: cabc.Callable[[trio.TaskStatus[None]], t.Awaitable[None]]) -> t.Any:
    """A start function whose lives differ; the last one repeats."""
    remaining = list(lives)

    async def start(task_status: trio.TaskStatus[None]) -> None:
        life = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        await life(task_status)

    return start


def crash_after(seconds: float, error: BaseException | None = None) -> t.Any:
    async def life(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep(seconds)
        raise error or ValueError("broken")

    return life


def fail_to_start(seconds: float = 0) -> t.Any:
    async def life(task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(seconds)
        raise OSError("no route")

    return life


async def forever(task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


# -- starting


async def test_children_start_in_order(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    make_tree: Run,
    make_actor: t.Any,
    recorder: t.Any,
) -> None:
    """Each waits until the one before it is ready; started() comes after the last."""
    actors = [make_actor(name, ready_after=2) for name in "abc"]
    tree = make_tree(*(actor.spec() for actor in actors))
    await nursery.start(tree.run)
    assert trio.current_time() == 6
    assert [recorder.of(name)[0] for name in "abc"] == [
        (0, "starting"),
        (2, "starting"),
        (4, "starting"),
    ]
    assert {status.state for status in tree.snapshot()} == {ChildState.RUNNING}
    nursery.cancel_scope.cancel()


async def test_unordered_children_start_together(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, make_actor: t.Any
) -> None:
    """Three children of 2 seconds each are ready after 2 seconds."""
    tree = make_tree(*(make_actor(name, ready_after=2).spec() for name in "abc"), ordered=False)
    await nursery.start(tree.run)
    assert trio.current_time() == 2
    nursery.cancel_scope.cancel()


async def test_a_child_that_cannot_start_does_not_hold_up_the_next(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    make_tree: Run,
    make_actor: t.Any,
    recorder: t.Any,
) -> None:
    """Its first attempt is waited for, its backoff is not."""
    tree = make_tree(ChildSpec(id="a", start=fail_to_start(1)), make_actor("b").spec())
    await nursery.start(tree.run)
    assert recorder.of("b") == [(1, "starting"), (1, "running")]
    nursery.cancel_scope.cancel()


async def test_autostart_false_waits_for_start_child(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, make_actor: t.Any
) -> None:
    """It is STOPPED until somebody starts it; start_child returns when it is ready."""
    tree = make_tree(make_actor("a", ready_after=3).spec(autostart=False))
    await nursery.start(tree.run)
    assert tree.status("a").state is ChildState.STOPPED
    status = await tree.start_child("a")
    assert (status.state, trio.current_time()) == (ChildState.RUNNING, 3)
    assert await tree.start_child("a") == status  # running already
    nursery.cancel_scope.cancel()


async def test_start_timeout_is_a_failure(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, recorder: t.Any
) -> None:
    """A child that is not ready in time is cancelled, and tried again later."""

    async def silent(task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep_forever()

    tree = make_tree(ChildSpec(id="a", start=scripted(silent, forever), start_timeout=7))
    await nursery.start(tree.run)
    await trio.sleep(2)
    assert recorder.of("a") == [
        (0, "starting"),
        (7, "backoff"),
        (8, "starting"),
        (8, "running"),
    ]
    assert tree.status("a").last_error == "not ready within 7 s"
    assert tree.status("a").failures == 1
    nursery.cancel_scope.cancel()


async def test_readiness_ends_the_start_timeout(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, make_actor: t.Any
) -> None:
    """Once ready, a child may live longer than its start timeout."""
    tree = make_tree(make_actor("a", ready_after=6).spec(start_timeout=7))
    await nursery.start(tree.run)
    await trio.sleep(1000)
    assert tree.status("a").state is ChildState.RUNNING
    nursery.cancel_scope.cancel()


async def test_ending_before_ready_is_a_failure_even_for_transient(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run
) -> None:
    """A clean end without started() is no success."""

    async def early(task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(1)

    tree = make_tree(
        ChildSpec(id="a", start=scripted(early, forever), restart=Restart.TRANSIENT),
    )
    await nursery.start(tree.run)
    assert tree.status("a").state is ChildState.BACKOFF
    assert tree.status("a").last_error == "ended before it was ready"
    await trio.sleep(1.5)
    assert tree.status("a").state is ChildState.RUNNING
    nursery.cancel_scope.cancel()


async def test_started_twice_is_an_error_of_the_child(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run
) -> None:
    """As with trio's own task status."""

    async def twice(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        task_status.started()

    tree = make_tree(ChildSpec(id="a", start=twice, restart=Restart.TEMPORARY))
    await nursery.start(tree.run)
    assert "twice" in (tree.status("a").last_error or "")
    nursery.cancel_scope.cancel()


# -- restarting


@pytest.mark.parametrize(
    ("restart", "error", "state"),
    [
        (Restart.PERMANENT, ValueError("x"), "backoff"),
        (Restart.PERMANENT, None, "backoff"),
        (Restart.TRANSIENT, ValueError("x"), "backoff"),
        (Restart.TRANSIENT, None, "exited"),
        (Restart.TEMPORARY, ValueError("x"), "exited"),
        (Restart.TEMPORARY, None, "exited"),
    ],
)
async def test_restart_types(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    make_tree: Run,
    make_actor: t.Any,
    restart: Restart,
    error: Exception | None,
    state: str,
) -> None:
    """Permanent: always; transient: only after an error; temporary: never."""
    actor = make_actor("a")
    tree = make_tree(actor.spec(restart=restart))
    await nursery.start(tree.run)
    actor.die(error)
    await trio.sleep(0.5)
    assert tree.status("a").state.value == state
    await trio.sleep(5)
    assert actor.starts == (2 if state == "backoff" else 1)
    nursery.cancel_scope.cancel()


async def test_backoff_grows_and_the_limit_is_fatal(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    make_tree: Run,
    recorder: t.Any,
    logs: list[t.Any],
) -> None:
    """Three retries after 1, 2 and 4 seconds; the fourth failure is FATAL, and stays so."""
    tree = make_tree(ChildSpec(id="a", start=fail_to_start()))
    await nursery.start(tree.run)
    await trio.sleep(10_000)
    assert recorder.of("a") == [
        (0, "starting"),
        (0, "backoff"),
        (1, "starting"),
        (1, "backoff"),
        (3, "starting"),
        (3, "backoff"),
        (7, "starting"),
        (7, "fatal"),
    ]
    assert tree.snapshot() == (
        ChildStatus(
            id="a",
            state=ChildState.FATAL,
            since=7,
            failures=4,
            restarts=3,
            last_error="OSError: no route",
        ),
    )
    events = [entry["event"] for entry in logs]
    assert events == ["child.crashed", "child.backoff"] * 3 + ["child.crashed", "child.fatal"]
    nursery.cancel_scope.cancel()


async def test_next_attempt_is_announced(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run
) -> None:
    """The snapshot of a child in BACKOFF says when it is tried again."""
    tree = make_tree(ChildSpec(id="a", start=fail_to_start(5)))
    await nursery.start(tree.run)
    assert tree.status("a").next_attempt_at == 6
    await trio.sleep(1.5)
    assert tree.status("a").next_attempt_at is None
    nursery.cancel_scope.cancel()


async def test_a_fatal_child_gets_trials(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, recorder: t.Any
) -> None:
    """Every 900 seconds one attempt; one that succeeds and lasts begins afresh."""
    lives = [fail_to_start()] * 6 + [crash_after(200), forever]
    policy = attrs.evolve(POLICY, trial_interval=900)
    tree = make_tree(ChildSpec(id="a", start=scripted(*lives)), policy=policy)
    await nursery.start(tree.run)
    await trio.sleep(10_000)
    assert recorder.of("a")[7:] == [
        (7, "fatal"),
        (907, "starting"),
        (907, "fatal"),
        (1807, "starting"),
        (1807, "fatal"),
        (2707, "starting"),
        (2707, "running"),
        (2907, "backoff"),
        (2908, "starting"),
        (2908, "running"),
    ]
    nursery.cancel_scope.cancel()


async def test_stable_running_forgets_failures(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, recorder: t.Any
) -> None:
    """Not a moment before ``stable_after`` seconds of RUNNING, counted from started()."""

    async def life(task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(50)
        task_status.started()
        await trio.sleep(lasts.pop(0))
        raise ValueError("broken")

    lasts = [99.5, 99.5, 100.5, math.inf]
    tree = make_tree(ChildSpec(id="a", start=life))
    await nursery.start(tree.run)
    await trio.sleep_until(700)
    crashed = [status for status in recorder.statuses if status.state is ChildState.BACKOFF]
    assert [status.failures for status in crashed] == [1, 2, 1]
    assert tree.status("a").since == 50 + 99.5 + 1 + 50 + 99.5 + 2 + 50 + 100.5 + 1 + 50
    assert tree.status("a").failures == 0
    assert tree.status("a").restarts == 3
    nursery.cancel_scope.cancel()


async def test_restart_now_is_immediate_and_not_counted(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    make_tree: Run,
    recorder: t.Any,
    logs: list[t.Any],
) -> None:
    """The child says that this was no failure: no delay, no count, no traceback."""
    tree = make_tree(ChildSpec(id="a", start=scripted(crash_after(1, RestartNow("515")), forever)))
    await nursery.start(tree.run)
    await trio.sleep(2)
    assert recorder.of("a")[2:] == [(1, "backoff"), (1, "starting"), (1, "running")]
    assert tree.status("a").failures == 0
    assert tree.status("a").restarts == 1
    assert [entry["exc_info"] for entry in logs if entry["event"] == "child.crashed"] == [None]
    nursery.cancel_scope.cancel()


async def test_stop_for_good_is_not_restarted(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run
) -> None:
    """STOPPED with the reason, until somebody starts it."""
    life = scripted(crash_after(1, StopForGood("logged out")), forever)
    tree = make_tree(ChildSpec(id="a", start=life))
    await nursery.start(tree.run)
    await trio.sleep(1000)
    status = tree.status("a")
    assert (status.state, status.since, status.last_error) == (ChildState.STOPPED, 1, "logged out")
    assert (await tree.start_child("a")).state is ChildState.RUNNING
    nursery.cancel_scope.cancel()


async def test_a_crash_is_logged_once_with_its_traceback(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, logs: list[t.Any]
) -> None:
    """Who, what, in which state; never silently."""
    tree = make_tree(ChildSpec(id="a", start=scripted(crash_after(1), forever)))
    await nursery.start(tree.run)
    await trio.sleep(1.5)
    (entry,) = [entry for entry in logs if entry["event"] == "child.crashed"]
    assert entry["log_level"] == "warning"
    assert (entry["supervisor"], entry["child"], entry["state"]) == ("tree", "a", "running")
    assert entry["error"] == "ValueError: broken"
    assert isinstance(entry["exc_info"], ValueError)
    nursery.cancel_scope.cancel()


async def test_a_crash_from_a_nested_nursery(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run
) -> None:
    """RestartNow deep in groups, its siblings cancelled, is still RestartNow."""

    async def life(task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as outer:
            outer.start_soon(trio.sleep_forever)
            async with trio.open_nursery() as inner:
                inner.start_soon(trio.sleep_forever)
                inner.start_soon(crash_after(1, RestartNow("515")), task_status)

    tree = make_tree(ChildSpec(id="a", start=scripted(life, forever)))
    await nursery.start(tree.run)
    await trio.sleep(1.5)
    assert (tree.status("a").failures, tree.status("a").last_error) == (0, "515")
    nursery.cancel_scope.cancel()


async def test_a_child_that_cancels_itself_has_crashed(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run
) -> None:
    """A stray Cancelled neither kills the supervisor nor passes for a stop."""
    kept: list[BaseException] = []

    async def life(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                kept.append(error)
                raise
        raise kept.pop()

    tree = make_tree(ChildSpec(id="a", start=scripted(life, forever)))
    await nursery.start(tree.run)
    assert tree.status("a").state is ChildState.BACKOFF
    await trio.sleep(2)
    assert tree.status("a").state is ChildState.RUNNING
    nursery.cancel_scope.cancel()


# -- escalating


async def test_escalation_stops_the_others_and_raises(
    autojump_clock: trio.testing.MockClock, make_tree: Run, make_actor: t.Any, recorder: t.Any
) -> None:
    """The limit of one child ends the supervisor; its siblings stop in order first."""
    siblings = [make_actor("b", stop_takes=2), make_actor("c", stop_takes=1)]
    tree = make_tree(
        ChildSpec(id="a", start=fail_to_start()),
        *(sibling.spec() for sibling in siblings),
        on_limit=OnLimit.ESCALATE,
    )
    with pytest.raises(RestartLimitError, match="'a' of 'tree' failed 4 times") as caught:
        await tree.run()
    assert (caught.value.child, caught.value.failures) == ("a", 4)
    assert recorder.of("c")[-2:] == [(7, "stopping"), (8, "stopped")]
    assert recorder.of("b")[-2:] == [(8, "stopping"), (10, "stopped")]
    assert recorder.of("a")[-1] == (7, "fatal")


async def test_a_critical_child_escalates_where_others_do_not(
    autojump_clock: trio.testing.MockClock, make_tree: Run
) -> None:
    """``critical`` overrides ``on_limit`` and trials."""
    tree = make_tree(
        ChildSpec(id="a", start=fail_to_start(), critical=True),
        policy=attrs.evolve(POLICY, trial_interval=900),
    )
    with pytest.raises(RestartLimitError):
        await tree.run()
    assert trio.current_time() == 7


async def test_escalation_while_still_starting(
    autojump_clock: trio.testing.MockClock, make_tree: Run, make_actor: t.Any
) -> None:
    """It does not wait for a child that has not become ready yet."""
    tree = make_tree(
        ChildSpec(id="a", start=fail_to_start()),
        make_actor("slow", ready_after=50).spec(stop=None),
        on_limit=OnLimit.ESCALATE,
    )
    with pytest.raises(RestartLimitError):
        await tree.run()
    assert trio.current_time() == 7


async def test_nested_supervisors(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    make_tree: Run,
    make_actor: t.Any,
    recorder: t.Any,
) -> None:
    """The outer one restarts the inner one after its escalation, with a fresh count."""
    lives = [fail_to_start()] * 4 + [forever]
    inner = Supervisor(
        "inner",
        [make_actor("sibling").spec(), ChildSpec(id="a", start=scripted(*lives))],
        POLICY,
        uniform=lambda: 1.0,
    )
    outer = make_tree(inner.as_child(), make_actor("other").spec())
    await nursery.start(outer.run)
    assert trio.current_time() == 0
    await trio.sleep(10)
    assert recorder.of("inner") == [
        (0, "starting"),
        (0, "running"),
        (7, "backoff"),
        (8, "starting"),
        (8, "running"),
    ]
    assert [status.state.value for status in inner.snapshot()] == ["running", "running"]
    assert inner.status("a").failures == 0
    assert recorder.of("other") == [(0, "starting"), (0, "running")]
    assert "failed 4 times" in (outer.status("inner").last_error or "")
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
async def test_what_ends_the_process_passes_through(
    autojump_clock: trio.testing.MockClock,
    make_tree: Run,
    make_actor: t.Any,
    recorder: t.Any,
    error: BaseException,
) -> None:
    """The siblings are stopped in order, then it leaves the supervisor."""
    tree = make_tree(
        make_actor("b", stop_takes=1).spec(),
        ChildSpec(id="a", start=crash_after(5, error)),
    )
    with pytest.raises(BaseExceptionGroup) as caught:
        await tree.run()
    assert caught.value.exceptions == (error,)
    assert recorder.of("b")[-2:] == [(5, "stopping"), (6, "stopped")]
    assert recorder.of("a")[-1] == (5, "stopped")


# -- stopping


async def test_children_stop_in_reverse_order(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    make_tree: Run,
    make_actor: t.Any,
    recorder: t.Any,
) -> None:
    """Each is asked to stop after the one behind it has ended; run() then returns."""
    tree = make_tree(*(make_actor(name, stop_takes=2).spec() for name in "abc"))
    await nursery.start(tree.run)
    tree.stop()
    await trio.sleep(100)
    assert [recorder.of(name)[-2:] for name in "cba"] == [
        [(0, "stopping"), (2, "stopped")],
        [(2, "stopping"), (4, "stopped")],
        [(4, "stopping"), (6, "stopped")],
    ]


async def test_a_cancelled_supervisor_stops_its_children_in_order_too(
    autojump_clock: trio.testing.MockClock, make_tree: Run, make_actor: t.Any, recorder: t.Any
) -> None:
    """Cancellation of ``run`` is a request, not an axe; nested supervisors included."""
    inner = Supervisor(
        "inner",
        [make_actor(name, stop_takes=2).spec() for name in "ab"],
        observer=recorder,
        uniform=lambda: 1.0,
    )
    outer = make_tree(inner.as_child(), make_actor("c", stop_takes=1).spec())
    with trio.move_on_after(10):
        await outer.run()
    assert trio.current_time() == 15
    assert recorder.order("stopped") == ["c", "b", "a", "inner"]


async def test_unordered_children_stop_together(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, make_actor: t.Any
) -> None:
    """A hundred children that need 2 seconds each need 2 seconds together."""
    actors = [make_actor(str(number), stop_takes=2) for number in range(100)]
    tree = make_tree(*(actor.spec() for actor in actors), ordered=False)
    with trio.move_on_after(10):
        await tree.run()
    assert trio.current_time() == 12
    assert {status.state for status in tree.snapshot()} == {ChildState.STOPPED}


async def test_shutdown_timeout_ends_in_cancellation(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    make_tree: Run,
    make_actor: t.Any,
    logs: list[t.Any],
) -> None:
    """A child that ignores its stop is cancelled when its time is up, and it is said so."""
    actor = make_actor("a")
    tree = make_tree(actor.spec(stop=lambda: None, shutdown_timeout=4))
    await nursery.start(tree.run)
    await tree.stop_child("a")
    assert trio.current_time() == 4
    assert actor.running == 0
    assert tree.status("a").state is ChildState.STOPPED
    assert [entry["event"] for entry in logs] == ["child.stop_timed_out"]
    nursery.cancel_scope.cancel()


async def test_without_stop_a_child_is_cancelled_at_once(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    make_tree: Run,
    make_actor: t.Any,
    logs: list[t.Any],
) -> None:
    """No request to make, nothing to wait for."""
    tree = make_tree(make_actor("a").spec(stop=None))
    await nursery.start(tree.run)
    await tree.stop_child("a")
    assert trio.current_time() == 0
    assert logs == []
    nursery.cancel_scope.cancel()


async def test_a_failing_stop_is_logged_and_cancels(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    make_tree: Run,
    make_actor: t.Any,
    logs: list[t.Any],
) -> None:
    """An error in ``stop`` does not keep the child alive."""

    def stop() -> None:
        raise RuntimeError("no mailbox")

    tree = make_tree(make_actor("a").spec(stop=stop))
    await nursery.start(tree.run)
    await tree.stop_child("a")
    assert trio.current_time() == 0
    assert [entry["event"] for entry in logs] == ["child.stop_failed"]
    nursery.cancel_scope.cancel()


async def test_a_crash_while_stopping_is_a_stop(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    make_tree: Run,
    make_actor: t.Any,
    logs: list[t.Any],
) -> None:
    """The child is not restarted, and the crash is not lost."""
    actor = make_actor("a")
    tree = make_tree(actor.spec(stop=lambda: actor.die(ValueError("on the way out"))))
    await nursery.start(tree.run)
    await tree.stop_child("a")
    await trio.sleep(100)
    assert (actor.starts, tree.status("a").state) == (1, ChildState.STOPPED)
    assert tree.status("a").last_error == "ValueError: on the way out"
    assert [entry["event"] for entry in logs] == ["child.crashed"]
    nursery.cancel_scope.cancel()


async def test_a_child_is_not_restarted_while_the_tree_shuts_down(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    make_tree: Run,
    make_actor: t.Any,
    recorder: t.Any,
) -> None:
    """It crashes while a later sibling takes its time to stop: STOPPED, not BACKOFF."""
    tree = make_tree(ChildSpec(id="a", start=crash_after(12)), make_actor("b", stop_takes=5).spec())
    with trio.move_on_after(10):
        await tree.run()
    assert recorder.of("a")[-1] == (12, "stopped")
    assert trio.current_time() == 15


async def test_stop_child_during_backoff_and_while_fatal(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, make_actor: t.Any
) -> None:
    """What waits for its next attempt is stopped at once, and is not attempted."""
    policy = attrs.evolve(POLICY, trial_interval=50)
    tree = make_tree(
        ChildSpec(id="backoff", start=fail_to_start()),
        ChildSpec(id="fatal", start=fail_to_start()),
        policy=policy,
    )
    await nursery.start(tree.run)
    await trio.sleep(0.5)
    await tree.stop_child("backoff")
    await trio.sleep(20)
    assert tree.status("fatal").state is ChildState.FATAL
    await tree.stop_child("fatal")
    assert trio.current_time() == 20.5
    await trio.sleep(1000)
    assert {status.state for status in tree.snapshot()} == {ChildState.STOPPED}
    assert tree.status("backoff").restarts == 0
    nursery.cancel_scope.cancel()


async def test_a_stop_outlives_its_caller(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, make_actor: t.Any
) -> None:
    """Cancelling the wait for a stop leaves the shutdown timeout in force."""
    actor = make_actor("a")
    tree = make_tree(actor.spec(stop=lambda: None, shutdown_timeout=10))
    await nursery.start(tree.run)
    with trio.move_on_after(1):
        await tree.stop_child("a")
    assert tree.status("a").state is ChildState.STOPPING
    await trio.sleep(10)
    assert tree.status("a").state is ChildState.STOPPED
    nursery.cancel_scope.cancel()


async def test_stop_while_starting(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, make_actor: t.Any
) -> None:
    """The stop is passed on; a readiness that comes late does not undo it."""
    actor = make_actor("a", ready_after=10)
    tree = make_tree(actor.spec(autostart=False, shutdown_timeout=20))
    await nursery.start(tree.run)
    nursery.start_soon(tree.start_child, "a")
    await trio.sleep(1)
    await tree.stop_child("a")
    assert trio.current_time() == 10  # it read the stop once it was ready
    assert tree.status("a").state is ChildState.STOPPED
    nursery.cancel_scope.cancel()


async def test_a_child_that_ignores_cancellation_is_named(
    autojump_clock: trio.testing.MockClock, make_tree: Run, logs: list[t.Any]
) -> None:
    """Nobody can end it, but nobody has to guess what a shutdown waits for."""

    async def stubborn(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with trio.CancelScope(shield=True):
            await trio.sleep(100)

    tree = make_tree(ChildSpec(id="a", start=stubborn, shutdown_timeout=3))
    with trio.move_on_after(10):
        await tree.run()
    assert trio.current_time() == 100
    (entry,) = [entry for entry in logs if entry["event"] == "child.stuck"]
    assert (entry["supervisor"], entry["child"]) == ("tree", "a")


# -- operating


async def test_start_child_retries_at_once_and_forgets(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run
) -> None:
    """An operator does not wait for the backoff, nor revive a FATAL child in vain."""
    tree = make_tree(ChildSpec(id="a", start=scripted(*[fail_to_start()] * 6, forever)))
    await nursery.start(tree.run)
    status = await tree.start_child("a")
    assert (trio.current_time(), status.state, status.failures) == (0, ChildState.BACKOFF, 1)
    await trio.sleep(100)
    assert tree.status("a").state is ChildState.FATAL
    status = await tree.start_child("a")
    assert (status.state, status.failures) == (ChildState.BACKOFF, 1)
    await trio.sleep(1.5)
    assert tree.status("a").state is ChildState.RUNNING
    nursery.cancel_scope.cancel()


async def test_hasten_child_retries_at_once_and_forgets_nothing(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run
) -> None:
    """What held it back is gone: it need not sleep on. A FATAL child, or none, is left alone."""
    tree = make_tree(ChildSpec(id="a", start=scripted(fail_to_start())))
    await nursery.start(tree.run)
    await tree.start_child("a")
    for failures in (2, 3, 4):
        tree.hasten_child("a")
        await trio.testing.wait_all_tasks_blocked()
        assert (trio.current_time(), tree.status("a").failures) == (0, failures)
    assert tree.status("a").state is ChildState.FATAL
    tree.hasten_child("a")
    await trio.testing.wait_all_tasks_blocked()
    assert tree.status("a").failures == 4
    await tree.stop_child("a")
    tree.hasten_child("a")
    await trio.testing.wait_all_tasks_blocked()
    assert tree.status("a").state is ChildState.STOPPED
    nursery.cancel_scope.cancel()


async def test_restart_child_stops_then_starts(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    make_tree: Run,
    make_actor: t.Any,
    recorder: t.Any,
) -> None:
    """The new life begins after the old one has ended."""
    actor = make_actor("a", ready_after=1, stop_takes=2)
    tree = make_tree(actor.spec())
    await nursery.start(tree.run)
    status = await tree.restart_child("a")
    assert status.state is ChildState.RUNNING
    assert recorder.of("a")[2:] == [
        (1, "stopping"),
        (3, "stopped"),
        (3, "starting"),
        (4, "running"),
    ]
    assert status.restarts == 0  # not one of the supervisor's own
    nursery.cancel_scope.cancel()


async def test_concurrent_operators(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, make_actor: t.Any
) -> None:
    """Many restarts, stops and starts at once: never two lives at once, nobody hangs."""
    actor = make_actor("a", ready_after=1, stop_takes=1)
    tree = make_tree(actor.spec())
    await nursery.start(tree.run)
    with trio.fail_after(100):
        async with trio.open_nursery() as operators:
            for _ in range(5):
                operators.start_soon(tree.restart_child, "a")
                operators.start_soon(tree.stop_child, "a")
                operators.start_soon(tree.start_child, "a")
    assert actor.running <= 1
    assert (await tree.start_child("a")).state is ChildState.RUNNING
    nursery.cancel_scope.cancel()


async def test_children_come_and_go(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, make_actor: t.Any
) -> None:
    """add_child starts it, remove_child wants it stopped first."""
    tree = make_tree(make_actor("a").spec())
    await nursery.start(tree.run)
    tree.add_child(make_actor("b").spec())
    tree.add_child(make_actor("c").spec(autostart=False))
    await trio.testing.wait_all_tasks_blocked()
    assert [(status.id, status.state.value) for status in tree.snapshot()] == [
        ("a", "running"),
        ("b", "running"),
        ("c", "stopped"),
    ]
    with pytest.raises(ChildActiveError):
        tree.remove_child("b")
    await tree.stop_child("b")
    tree.remove_child("b")
    tree.remove_child("c")
    assert [status.id for status in tree.snapshot()] == ["a"]
    nursery.cancel_scope.cancel()


async def test_a_child_removed_or_stopped_before_its_turn_is_not_started(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, make_actor: t.Any
) -> None:
    """The order of start does not overrule what an operator said meanwhile."""
    slow, removed, stopped = make_actor("a", ready_after=5), make_actor("b"), make_actor("c")
    tree = make_tree(slow.spec(), removed.spec(), stopped.spec())
    nursery.start_soon(tree.run)
    await trio.sleep(1)
    tree.remove_child("b")
    await tree.stop_child("c")
    await trio.sleep(10)
    assert (slow.starts, removed.starts, stopped.starts) == (1, 0, 0)
    nursery.cancel_scope.cancel()


async def test_misuse_is_refused(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, make_actor: t.Any
) -> None:
    """Unknown and duplicate ids, and starting where nothing runs."""
    tree = make_tree(make_actor("a").spec())
    with pytest.raises(NotRunningError):
        await tree.start_child("a")
    await nursery.start(tree.run)
    with pytest.raises(SupervisorError, match="running already"):
        await tree.run()
    with pytest.raises(DuplicateChildError):
        tree.add_child(make_actor("a").spec())
    with pytest.raises(UnknownChildError):
        await tree.stop_child("b")
    nursery.cancel_scope.cancel()


async def test_nothing_starts_during_shutdown(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, make_actor: t.Any
) -> None:
    """Neither a new child nor an old one."""
    tree = make_tree(make_actor("a", stop_takes=3).spec(), make_actor("b").spec(autostart=False))
    await nursery.start(tree.run)
    tree.stop()
    await trio.sleep(1)
    with pytest.raises(NotRunningError):
        tree.add_child(make_actor("c").spec())
    with pytest.raises(NotRunningError):
        await tree.start_child("b")
    nursery.cancel_scope.cancel()


async def test_an_observer_cannot_break_the_tree(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, make_tree: Run, logs: list[t.Any]
) -> None:
    """Its errors are logged; the children do not notice."""

    def observer(status: ChildStatus) -> None:
        raise RuntimeError(status.id)

    tree = make_tree(ChildSpec(id="a", start=scripted(crash_after(1), forever)), observer=observer)
    await nursery.start(tree.run)
    await trio.sleep(5)
    assert tree.status("a").state is ChildState.RUNNING
    assert sum(entry["event"] == "supervisor.observer_failed" for entry in logs) == 5
    nursery.cancel_scope.cancel()


async def test_a_supervisor_can_run_again(
    autojump_clock: trio.testing.MockClock, make_tree: Run, make_actor: t.Any
) -> None:
    """A second run starts the same children afresh."""
    actor = make_actor("a")
    tree = make_tree(actor.spec())
    for _ in range(2):
        with trio.move_on_after(5):
            await tree.run()
    assert actor.starts == 2
    assert tree.status("a").state is ChildState.STOPPED
