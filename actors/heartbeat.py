"""The heartbeat subtask: pings WhatsApp, and judges the answer."""

import collections.abc as cabc
import typing as t

import trio

from actors.errors import ConnectionEndedError
from actors.link import Link
from supervisor.wakefulness import Wakefulness
from whatsapp.iq.ping import ping_request

JITTER: t.Final = 0.1  # of the interval, either way
HASTY: t.Final = 8.0  # seconds for the answer, after the process did not run for a while


async def beat(
    link: Link,
    *,
    interval: float,
    timeout: float,
    uniform: cabc.Callable[[], float],
    wakefulness: Wakefulness,
    answered: cabc.Callable[[], None] = lambda: None,
) -> t.NoReturn:
    """Ping every ``interval`` seconds, and at once when the process has come back from a gap, in
    which the socket may have died unseen; both times in seconds. ``answered`` is called after each
    answer.

    Raises:
        ConnectionEndedError: no answer within ``timeout``: the socket is dead.
    """
    hasty = min(timeout, HASTY)
    while True:
        with trio.move_on_after(interval * (1 + JITTER * (2 * uniform() - 1))) as pause:
            await wakefulness.woke.wait()
        # Both may have come together: then the pause may end before the gap is noticed.
        if not pause.cancelled_caught or wakefulness.gap(trio.current_time()):
            await _ping(link, hasty)
            answered()
            continue
        try:
            await _ping(link, timeout)
        except ConnectionEndedError:
            if not wakefulness.gap(trio.current_time()):
                raise
            await _ping(link, hasty)  # the deadline passed in a gap: nobody saw the answer
        answered()


async def _ping(link: Link, timeout: float) -> None:
    try:
        await link.request(ping_request(link.ids.next()), timeout)
    except ConnectionEndedError as error:
        raise ConnectionEndedError(
            "heartbeat_missed", f"no answer to a ping within {timeout:g} s: the socket is dead"
        ) from error
