"""What signals mean: stop, stop now, and nothing."""

import collections.abc as cabc
import os
import signal
import threading

import structlog
import trio

from daemon.logs import flush_logs

log: structlog.stdlib.BoundLogger = structlog.get_logger("daemon")

LAST_LINES = 0.3  # seconds to write what is logged still

_STOP = (signal.SIGTERM, signal.SIGINT)


async def obey_signals(
    stop: cabc.Callable[[], None],
    stop_now: cabc.Callable[[], None],
    *,
    foreground: bool = False,
    reload: cabc.Callable[[], None] | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call ``stop`` on the first SIGTERM or SIGINT and ``stop_now`` on the next; until cancelled.

    SIGHUP stops what runs in the ``foreground``, for its terminal is gone. A daemon calls
    ``reload``, or ignores it where there is nothing to reload.
    """
    asked = False
    with trio.open_signal_receiver(*_STOP, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if number == signal.SIGHUP and not foreground:
                if reload is None or asked:
                    log.info("daemon.signal_ignored", signal=name)
                else:
                    reload()
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
        flush_logs(LAST_LINES)
        os._exit(1)

    timer = threading.Timer(seconds, overdue)
    timer.daemon = True
    timer.start()
