"""Random crash schedules against a reference model, and random operators against invariants."""

import math
import typing as t

import attrs
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.backoff import Backoff
from supervisor.errors import ChildError, RestartNow, StopForGood
from supervisor.spec import ChildSpec, OnLimit, Restart, RestartIntensity, RestartPolicy
from supervisor.state import ChildState, ChildStatus
from supervisor.tree import Supervisor

START_TIMEOUT: t.Final = 10.5
SHUTDOWN_TIMEOUT: t.Final = 6.0
HORIZON: t.Final = 300.0625  # no event of a schedule falls on it


class HeldError(ChildError):
    """Not the child's fault; waits like any other."""

    counted = False


class LaterError(ChildError):
    """The peer said when to come back."""

    def __init__(self) -> None:
        super().__init__("later")
        self.restart_after = 20.0


ERRORS: t.Final[dict[str, t.Callable[[], Exception]]] = {
    "plain": lambda: ValueError("broken"),
    "grouped": lambda: ExceptionGroup("both", [ValueError("broken"), RestartNow("515")]),
    "now": lambda: RestartNow("515"),
    "held": lambda: HeldError("away"),
    "later": LaterError,
    "final": lambda: StopForGood("logged out"),
}


@attrs.frozen
class Life:
    """What one start of a child does; times are seconds, None is never."""

    ready_after: float | None
    ends_after: float | None = None  # after it was ready, or after the start when it never is
    error: str | None = None  # ends cleanly without one
    ignores_stop: bool = False

    async def live(self, stop: trio.Event, task_status: trio.TaskStatus[None]) -> None:
        if self.ready_after is not None:
            await trio.sleep(self.ready_after)
            task_status.started()
        with trio.move_on_after(math.inf if self.ends_after is None else self.ends_after):
            if self.ignores_stop:
                await trio.sleep_forever()
            await stop.wait()
            return
        if self.error is not None:
            raise ERRORS[self.error]()


FOREVER: t.Final = Life(ready_after=0)

seconds = st.integers(0, 100).map(float)
soon = st.integers(0, 10).map(float)
errors = st.sampled_from([None, "plain", "plain", *ERRORS])
lives = st.one_of(
    st.builds(Life, st.none(), soon, errors),  # ends before it is ready
    st.builds(Life, soon, seconds, errors, st.booleans()),  # ends after it was ready
    st.builds(Life, st.none()),  # never becomes ready
    st.builds(Life, soon, st.none(), st.none(), st.booleans()),  # runs until stopped
)
schedules = st.lists(lives, max_size=12)
policies = st.builds(
    RestartPolicy,
    intensity=st.builds(
        RestartIntensity, st.integers(0, 4), st.sampled_from([math.inf, 15.5, 60.5])
    ),
    backoff=st.builds(
        Backoff, initial=st.sampled_from([0.0, 0.5, 1.0, 4.0]), maximum=st.just(16.0)
    ),
    stable_after=st.sampled_from([0.5, 12.5, 50.5, 1000.0]),
    trial_interval=st.sampled_from([None, 25.0]),
    immediate_limit=st.integers(0, 3),
)
draws = st.sampled_from([0.25, 0.5, 1.0])
Event = tuple[float, str, int]  # time, state, failures


class Child:
    """Lives by a schedule; notes how many lives it has at a time."""

    def __init__(self, name: str, schedule: list[Life]) -> None:
        self.name = name
        self._schedule = list(schedule)
        self._stop = trio.Event()
        self.alive = 0
        self.most_alive = 0

    async def start(self, task_status: trio.TaskStatus[None]) -> None:
        life = self._schedule.pop(0) if self._schedule else FOREVER
        self.alive += 1
        self.most_alive = max(self.most_alive, self.alive)
        self._stop = trio.Event()
        try:
            await life.live(self._stop, task_status)
        finally:
            self.alive -= 1

    def spec(self, restart: Restart) -> ChildSpec:
        return ChildSpec(
            id=self.name,
            start=self.start,
            stop=lambda: self._stop.set(),
            restart=restart,
            start_timeout=START_TIMEOUT,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
        )


class Model:
    """The rules of restarting, written once more and without any concurrency."""

    def __init__(self, policy: RestartPolicy, restart: Restart, draw: float) -> None:
        self.policy, self.restart, self.draw = policy, restart, draw
        self.events: list[Event] = []
        self.now = 0.0
        self.failures = self.setbacks = self.immediate = 0
        self.counted: list[float] = []
        self.on_trial = False

    def predict(self, schedule: list[Life]) -> list[Event]:
        """Every transition, with the supervisor cancelled at the horizon."""
        remaining = list(schedule)
        pause: float | None = 0.0
        while pause is not None:
            if self.now + pause > HORIZON:
                self.now = HORIZON
                self._note("stopped")
                return self.events
            self.now += pause
            pause = self._live(remaining.pop(0) if remaining else FOREVER)
        return self.events

    def _live(self, life: Life) -> float | None:
        """One life; the pause until the next, None when there is none."""
        self._note("starting")
        began, ready_at, error = self.now, None, life.error
        if life.ready_after is not None:
            ready_at = began + life.ready_after
            ends_at = math.inf if life.ends_after is None else ready_at + life.ends_after
        else:
            ends_at = math.inf if life.ends_after is None else began + life.ends_after
            if ends_at > began + START_TIMEOUT:
                ends_at, error = began + START_TIMEOUT, "plain"
        if ready_at is not None and ready_at < HORIZON:
            self.now = ready_at
            self._note("running")
            if min(ends_at, HORIZON) - ready_at >= self.policy.stable_after:
                self.failures = self.setbacks = self.immediate = 0
                self.counted, self.on_trial = [], False
        if ends_at > HORIZON:
            return self._stop(life, ready_at, began)
        self.now = ends_at
        if error is None and ready_at is not None and self.restart is not Restart.PERMANENT:
            return self._note("exited")
        return self._crash(error or "plain")

    def _stop(self, life: Life, ready_at: float | None, began: float) -> None:
        """The supervisor is cancelled while the child lives."""
        self.now = HORIZON
        self._note("stopping")
        ends = [HORIZON + SHUTDOWN_TIMEOUT]
        obeys_at = max(HORIZON, ready_at or 0.0)
        if not life.ignores_stop:
            ends.append(obeys_at)
        if life.ends_after is not None:
            ends.append((began if ready_at is None else ready_at) + life.ends_after)
        self.now = min(ends)
        self._note("stopped")

    def _crash(self, error: str) -> float | None:
        if error == "final":
            return self._note("stopped")
        if self.restart is Restart.TEMPORARY:
            return self._note("exited")
        at_once = error == "now" and self.immediate < self.policy.immediate_limit
        if error in ("plain", "grouped", "later") or (error == "now" and not at_once):
            self.failures += 1
            self.counted.append(self.now)
            intensity = self.policy.intensity
            recent = [time for time in self.counted if self.now - time <= intensity.window]
            if self.on_trial or len(recent) > intensity.limit:
                self.on_trial = True
                self._note("fatal")
                return self.policy.trial_interval
        self._note("backoff")
        if at_once:
            self.immediate += 1
            return 0.0
        if error == "later":
            return 20.0
        self.setbacks += 1
        return self.draw * min(16.0, self.policy.backoff.initial * 2.0 ** (self.setbacks - 1))

    def _note(self, state: str) -> None:
        self.events.append((self.now, state, self.failures))


async def observe(
    children: list[Child], policy: RestartPolicy, restart: Restart, draw: float
) -> dict[str, list[Event]]:
    """What really happens to each child until the horizon and the shutdown."""
    events: dict[str, list[Event]] = {child.name: [] for child in children}

    def note(status: ChildStatus) -> None:
        events[status.id].append((trio.current_time(), status.state.value, status.failures))

    tree = Supervisor(
        "tree",
        [child.spec(restart) for child in children],
        policy,
        on_limit=OnLimit.FATAL,
        observer=note,
        uniform=lambda: draw,
        ordered=False,
    )
    with trio.move_on_at(HORIZON):
        await tree.run()
    return events


@settings(deadline=None, max_examples=100)
@given(st.lists(schedules, min_size=1, max_size=4), policies, st.sampled_from(Restart), draws)
def test_each_child_lives_as_if_alone(
    scripts: list[list[Life]], policy: RestartPolicy, restart: Restart, draw: float
) -> None:
    """Each child does, to the moment, what the model of it alone predicts.

    So crashes, backoff, limits, trials and stops follow the rules, and no child ever delays,
    restarts or stops another.
    """
    children = [Child(str(number), script) for number, script in enumerate(scripts)]
    clock = trio.testing.MockClock(autojump_threshold=0)
    observed = trio.run(observe, children, policy, restart, draw, clock=clock)
    for child, script in zip(children, scripts, strict=True):
        predicted = Model(policy, restart, draw).predict(script)
        assert observed[child.name] == predicted
        assert child.alive == 0
        assert child.most_alive <= 1


operations = st.lists(
    st.tuples(
        st.sampled_from(["start", "stop", "restart", "remove", "add"]),
        st.integers(0, 2),  # which child
        st.integers(0, 200).map(float),  # when
        st.sampled_from([math.inf, 1.0, 0.0]),  # how long the operator waits
    ),
    max_size=25,
)


async def operate(tree: Supervisor, what: str, child: Child, patience: float) -> None:
    """One operator's order; refusals are fine."""
    try:
        with trio.move_on_after(patience):
            if what == "start":
                await tree.start_child(child.name)
            elif what == "stop":
                await tree.stop_child(child.name)
            elif what == "restart":
                await tree.restart_child(child.name)
            elif what == "remove":
                tree.remove_child(child.name)
            else:
                tree.add_child(child.spec(Restart.PERMANENT))
    except Exception as error:
        assert type(error).__module__ == "supervisor.errors"  # noqa: PT017


async def run_with_operators(
    children: list[Child],
    policy: RestartPolicy,
    orders: list[tuple[str, int, float, float]],
    ordered: bool,
) -> Supervisor:
    tree = Supervisor(
        "tree",
        [child.spec(Restart.PERMANENT) for child in children],
        policy,
        on_limit=OnLimit.FATAL,
        uniform=lambda: 0.5,
        ordered=ordered,
    )

    async def order(what: str, which: int, when: float, patience: float) -> None:
        await trio.sleep(when)
        await operate(tree, what, children[which], patience)

    async with trio.open_nursery() as nursery:
        for each in orders:
            nursery.start_soon(order, *each)
        with trio.fail_after(1000), trio.move_on_at(100.5):
            await tree.run()
        assert trio.current_time() <= 100.5 + SHUTDOWN_TIMEOUT * len(children)
    return tree


@settings(deadline=None, max_examples=100)
@given(st.lists(schedules, min_size=3, max_size=3), policies, operations, st.booleans())
def test_operators_cannot_break_it(
    scripts: list[list[Life]],
    policy: RestartPolicy,
    orders: list[tuple[str, int, float, float]],
    ordered: bool,
) -> None:
    """Whatever is ordered when, by however impatient operators: no illegal transition, never
    two lives of one child at once, an end in time, nothing left running.
    """
    children = [Child(str(number), script) for number, script in enumerate(scripts)]
    clock = trio.testing.MockClock(autojump_threshold=0)
    tree = trio.run(run_with_operators, children, policy, orders, ordered, clock=clock)
    still = {ChildState.STOPPED, ChildState.EXITED, ChildState.FATAL}
    assert {status.state for status in tree.snapshot()} <= still
    assert all(child.alive == 0 and child.most_alive <= 1 for child in children)
