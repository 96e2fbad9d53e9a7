"""The heartbeat subtask: pings WhatsApp, and judges the answer."""

import collections.abc as cabc
import typing as t

import trio

from actors.errors import ConnectionEndedError
from actors.link import Link
from whatsapp.iq.ping import ping_request

JITTER: t.Final = 0.1  # of the interval, either way


async def beat(
    link: Link,
    *,
    interval: float,
    timeout: float,
    uniform: cabc.Callable[[], float],
) -> t.NoReturn:
    """Ping every ``interval`` seconds; both times in seconds.

    Raises:
        ConnectionEndedError: no answer within ``timeout``: the socket is dead.
    """
    while True:
        await trio.sleep(interval * (1 + JITTER * (2 * uniform() - 1)))
        try:
            await link.request(ping_request(link.ids.next()), timeout)
        except ConnectionEndedError as error:
            raise ConnectionEndedError(
                "heartbeat_missed", f"no answer to a ping within {timeout:g} s: the socket is dead"
            ) from error
