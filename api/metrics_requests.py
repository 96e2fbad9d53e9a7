"""How long requests take, by route and status."""

import collections.abc as cabc
import typing as t

import trio
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from api.metrics_families import REQUESTS

BUCKETS: t.Final = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0)
METHODS: t.Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE: t.Final = "(none)"  # nothing answers that path, or the request was refused before


class RequestTimes(Collector):
    """Remembers every request."""

    def __init__(self) -> None:
        self._histogram = Histogram(
            REQUESTS.name, REQUESTS.help, REQUESTS.labels, buckets=BUCKETS, registry=None
        )

    def collect(self) -> cabc.Iterator[Metric]:
        """See ``prometheus_client.registry.Collector``."""
        for metric in self._histogram.collect():
            metric.samples = [each for each in metric.samples if not each.name.endswith("_created")]
            yield metric

    def took(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        method = method if method in METHODS else "other"
        self._histogram.labels(method, route, str(status)).observe(seconds)


class Timed:
    """Wraps an app and times its requests; one that nobody waited for has the status 499."""

    def __init__(self, app: ASGIApp, times: RequestTimes) -> None:
        self._app = app
        self._times = times

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        status = 499
        began = trio.current_time()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = scope.get("path_template") or NO_ROUTE
            self._times.took(scope["method"], route, status, trio.current_time() - began)
