"""The monitor subtask: is the connection making progress?"""

import collections.abc as cabc
import typing as t

import attrs
import structlog
import trio

from actors.errors import ConnectionEndedError, ConnectionHeldError

log: structlog.stdlib.BoundLogger = structlog.get_logger("monitor")


@attrs.frozen(kw_only=True)
class Progress:
    """What the monitor sees of its connection; all ages in seconds."""

    silence: float  # since the last bytes from WhatsApp
    backlog: int  # nodes read and not handled yet
    busy_for: float  # since the actor's loop took the node it is handling; 0 when it waits
    in_flight: int
    oldest_in_flight: float


@attrs.frozen(kw_only=True)
class Limits:
    """From where on the monitor ends the connection, in seconds."""

    silence: float = 60.0
    commit: float = 60.0
    handling: float = 90.0


def judge(progress: Progress, limits: Limits) -> None:
    """Accept the progress, or end the connection.

    Raises:
        ConnectionHeldError: nothing has been committed for too long; WhatsApp's own queue
            is the better buffer meanwhile.
        ConnectionEndedError: the socket is silent, or the actor's loop hangs.
    """
    if progress.oldest_in_flight > limits.commit:
        raise ConnectionHeldError(
            "storage_stalled",
            f"nothing was committed for {progress.oldest_in_flight:.0f} s;"
            " WhatsApp keeps the messages until the database is back",
        )
    if progress.busy_for > limits.handling:
        raise ConnectionEndedError(
            "loop_stalled", f"one stanza has been handled for {progress.busy_for:.0f} s"
        )
    if progress.silence > limits.silence:
        raise ConnectionEndedError(
            "silent", f"nothing was heard from WhatsApp for {progress.silence:.0f} s"
        )


async def watch(
    name: str,
    measure: cabc.Callable[[], Progress],
    *,
    interval: float,
    limits: Limits,
    every_time: cabc.Callable[[], cabc.Awaitable[None]],
    excused: cabc.Callable[[], object] = lambda: False,
) -> t.NoReturn:
    """Judge the progress every ``interval`` seconds, unless it is ``excused`` just then, and call
    ``every_time`` after it."""
    while True:
        await trio.sleep(interval)
        progress = measure()
        log.debug("connection.progress", connection=name, **attrs.asdict(progress))
        if not excused():
            judge(progress, limits)
        await every_time()
