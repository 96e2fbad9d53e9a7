"""What the supervisor's tests share: the log entries, and children that follow a script."""

import collections.abc as cabc
import typing as t

import pytest
import structlog.testing
import trio

from supervisor.spec import ChildSpec
from supervisor.state import ChildStatus


class Recorder:
    """An observer that keeps (time, child, state) of every transition."""

    def __init__(self) -> None:
        self.statuses: list[ChildStatus] = []
        self.times: list[float] = []

    def __call__(self, status: ChildStatus) -> None:
        self.times.append(trio.current_time())
        self.statuses.append(status)

    def of(self, child: str) -> list[tuple[float, str]]:
        """The (time, state) of one child."""
        pairs = zip(self.times, self.statuses, strict=True)
        return [(time, status.state.value) for time, status in pairs if status.id == child]

    def order(self, state: str) -> list[str]:
        """The children in the order in which they reached a state."""
        return [status.id for status in self.statuses if status.state.value == state]


class Actor:
    """A child that is ready after ``ready_after`` and runs until it is stopped or poisoned."""

    def __init__(
        self, name: str = "actor", *, ready_after: float = 0, stop_takes: float = 0
    ) -> None:
        self.name = name
        self.ready_after = ready_after
        self.stop_takes = stop_takes
        self.starts = 0
        self.running = 0
        self._stop = trio.Event()
        self._poison: list[BaseException | None] = []

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        self.starts += 1
        self.running += 1
        self._stop = trio.Event()
        self._poison.clear()
        try:
            await trio.sleep(self.ready_after)
            task_status.started()
            await self._stop.wait()
            if self._poison:
                error = self._poison.pop()
                if error is not None:
                    raise error
                return
            await trio.sleep(self.stop_takes)
        finally:
            self.running -= 1

    def stop(self) -> None:
        self._stop.set()

    def die(self, error: BaseException | None) -> None:
        """Crash with an error, or end without one."""
        self._poison.append(error)
        self._stop.set()

    def spec(self, **changes: t.Any) -> ChildSpec:
        return ChildSpec(**{"id": self.name, "start": self.run, "stop": self.stop, **changes})


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def make_actor() -> cabc.Callable[..., Actor]:
    return Actor


@pytest.fixture(autouse=True)
def logs() -> cabc.Iterator[list[t.Any]]:
    """The log entries written during the test."""
    with structlog.testing.capture_logs() as entries:
        yield entries
