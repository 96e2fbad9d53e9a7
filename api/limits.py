"""How often one caller may ask: a token bucket for each."""

import collections.abc as cabc
import math
import typing as t

import trio
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from api.auth import Caller, Denied, caller
from api.bounds import PROBES, refuse, refuse_socket, route_of
from api.problems import problem

BURST: t.Final = 2.0  # seconds' worth of requests that may come at once
MAX_STRANGERS: t.Final = 32  # requests of people without a token: half of all that there may be
MOST: t.Final = 10_000  # buckets; beyond that, the ones that are full anyway are forgotten

Seconds: t.TypeAlias = float


class Buckets:
    """Each key has a bucket that fills at ``rate`` per second and holds ``rate × BURST``."""

    def __init__(self, rate: float, clock: cabc.Callable[[], Seconds]) -> None:
        self._rate = rate
        self._size = rate * BURST
        self._clock = clock
        self._levels: dict[str, tuple[float, Seconds]] = {}  # what was left, and when

    def take(self, key: str) -> Seconds:
        """Take one out of a bucket: 0, or how long until there is one."""
        now = self._clock()
        level, at = self._levels.pop(key, (self._size, now))
        level = min(self._size, level + (now - at) * self._rate)
        wait = 0.0 if level >= 1 else (1 - level) / self._rate
        self._levels[key] = (level if wait else level - 1, now)
        if len(self._levels) > MOST:
            self._forget(now)
        return wait

    def _forget(self, now: Seconds) -> None:
        """Forget the buckets that are full again; if all are in use, the one used longest ago."""
        self._levels = {
            key: (level, at)
            for key, (level, at) in self._levels.items()
            if level + (now - at) * self._rate < self._size
        }
        if len(self._levels) > MOST:
            del self._levels[next(iter(self._levels))]


class RateLimit:
    """Wraps an app behind a doorway: 429 for a token, or an address without one, that asks too
    often. A WebSocket counts once, and probes of health do not count."""

    def __init__(self, app: ASGIApp, rate: int, clock: cabc.Callable[[], Seconds]) -> None:
        self._app = app
        self._rate = rate
        self._buckets = Buckets(rate, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        is_probe = scope["type"] == ScopeType.HTTP and route_of(scope) in PROBES
        wait = 0.0 if is_probe else self._buckets.take(_key(scope))
        if not wait:
            await self._app(scope, receive, send)
            return
        detail = f"more than {self._rate} requests a second; try again in {wait:.2g} s"
        if scope["type"] == ScopeType.WEBSOCKET:
            await refuse_socket(receive, send, 4429, detail)
        else:
            headers = {"retry-after": str(math.ceil(wait))}
            await refuse(send, problem("too-many-requests", 429, detail), headers)


class Strangers:
    """Wraps an app behind a doorway: people without a token have few places among the requests
    under way, however slowly they take what everybody may see. Sockets are refused at once
    anyway."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._places = trio.CapacityLimiter(MAX_STRANGERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        is_socket = scope["type"] == ScopeType.WEBSOCKET
        if is_socket or route_of(scope) in PROBES or not isinstance(caller(scope), Denied):
            await self._app(scope, receive, send)
            return
        request = object()
        try:
            self._places.acquire_on_behalf_of_nowait(request)
        except trio.WouldBlock:
            detail = f"{MAX_STRANGERS} requests without a token are under way; try again"
            await refuse(send, problem("busy", 503, detail), {"retry-after": "1"})
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._places.release_on_behalf_of(request)


def _key(scope: Scope) -> str:
    who = caller(scope)
    if isinstance(who, Caller):
        return f"token {who.token_id}"
    client = scope.get("client")
    return f"address {client[0] if client else ''}"
