"""Waiting for a database that is away, in services that cannot do without it."""

import collections.abc as cabc
import typing as t

import trio

from storage.errors import StorageUnavailableError
from supervisor.backoff import Backoff

PAUSE: t.Final = Backoff(initial=0.5, maximum=30.0)

_T = t.TypeVar("_T")


async def persist(
    work: cabc.Callable[[], cabc.Awaitable[_T]],
    uniform: cabc.Callable[[], float],
    waits: cabc.Callable[[StorageUnavailableError], None],
) -> _T:
    """Try until the database is there; ``waits`` is told of the first failure."""
    failures = 0
    while True:
        try:
            return await work()
        except StorageUnavailableError as error:
            failures += 1
            if failures == 1:
                waits(error)
            await trio.sleep(PAUSE.delay(failures, uniform()))
