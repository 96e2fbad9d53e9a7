"""What signals mean: stop, stop now, and nothing."""

import collections.abc as cabc
import os
import signal
import threading

import structlog
import trio

log: structlog.stdlib.BoundLogger = structlog.get_logger("daemon")

_STOP = (signal.SIGTERM, signal.SIGINT)


async def obey_signals(
    stop: cabc.Callable[[], None],
    stop_now: cabc.Callable[[], None],
    *,
    foreground: bool = False,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call ``stop`` on the first SIGTERM or SIGINT and ``stop_now`` on the next; until cancelled.

    SIGHUP stops what runs in the ``foreground``, for its terminal is gone. A daemon ignores it:
    the configuration is read at the start only.
    """
    asked = False
    with trio.open_signal_receiver(*_STOP, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if number == signal.SIGHUP and not foreground:
                log.info("daemon.signal_ignored", signal=name, advice="restart to reload")
            elif not asked:
                asked = True
                log.info("daemon.stopping", signal=name)
                stop()
            else:
                log.warning("daemon.stopping_now", signal=name)
                stop_now()


def exit_after(seconds: float) -> None:
    """End the process after so long, whatever hangs: nothing acknowledged can be lost by it."""

    def overdue() -> None:
        log.error("daemon.stop_overdue", seconds=seconds)
        os._exit(1)

    timer = threading.Timer(seconds, overdue)
    timer.daemon = True
    timer.start()
