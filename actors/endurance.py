"""Services that nobody waits for: what they fail with is logged, and they are run again.

Who follows the events, watches, or tells people must not end those who take messages in.
"""

import typing as t

import structlog
import trio

from supervisor.backoff import Backoff

PAUSE: t.Final = Backoff(initial=1.0, maximum=60.0)  # after a service has failed

log: structlog.stdlib.BoundLogger = structlog.get_logger("services")


class Run(t.Protocol):
    """A service that runs until it is cancelled."""

    async def __call__(self, *, task_status: trio.TaskStatus[None] = ...) -> t.NoReturn:
        """Run."""
        ...


async def endure(
    name: str, run: Run, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> t.NoReturn:
    """Run a service for as long as it takes, whatever it fails with, with growing pauses."""
    task_status.started()
    failures = 0
    while True:
        begun = trio.current_time()
        try:
            await run()
        except Exception as error:  # whatever it is: its log entry is all that may come of it
            healthy = trio.current_time() - begun > PAUSE.maximum
            failures = 1 if healthy else failures + 1
            log.error("service.failed", service=name, exc_info=error)
        await trio.sleep(PAUSE.bound(failures))
