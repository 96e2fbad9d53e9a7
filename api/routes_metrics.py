"""Metrics for Prometheus and what understands its formats."""

import typing as t

from litestar import Request, Response, get
from prometheus_client import exposition as plain_text
from prometheus_client.openmetrics import exposition as openmetrics

from api.backend import Backend
from api.metrics import registry_of

OPENMETRICS: t.Final = "application/openmetrics-text"


def metrics_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    registry = registry_of(backend)

    @get(
        "/metrics",
        tags=["health"],
        summary="Metrics in the text format of Prometheus, or in OpenMetrics if that is accepted",
        description="Taken from the running daemon at once; what is stored in the database is as"
        " old as zapvisor_stored_figures_age_seconds says. docs/metrics.md lists all of them.",
        media_type=plain_text.CONTENT_TYPE_LATEST,
    )
    async def metrics(request: Request[t.Any, t.Any, t.Any]) -> Response[bytes]:
        if accepts_openmetrics(request.headers.get("accept", "")):
            text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
            return Response(text, media_type=openmetrics.CONTENT_TYPE_LATEST)
        return Response(
            plain_text.generate_latest(registry), media_type=plain_text.CONTENT_TYPE_LATEST
        )

    return [metrics]


def accepts_openmetrics(accept: str) -> bool:
    """Whether an ``Accept`` header names OpenMetrics, and does not refuse it."""
    for part in accept.lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        if kind == OPENMETRICS:
            return not any(each.replace(" ", "") in ("q=0", "q=0.0") for each in parameters)
    return False
