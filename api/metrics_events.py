"""The samples of those who follow the events."""

import collections.abc as cabc
import typing as t

from actors.event_views import NatsView, WebhookView
from api.health_events import behind

WEBHOOK_STATES: t.Final = ("active", "failing", "paused")
NATS_STATES: t.Final = ("connecting", "publishing", "failing")

Add: t.TypeAlias = cabc.Callable[..., None]
"""See ``api.metrics.Samples.add``."""


def webhook_samples(add: Add, view: WebhookView) -> None:
    """Those of one webhook."""
    name = view.name
    for state in WEBHOOK_STATES:
        add("webhook_state", state == view.state, name, state)
    add("webhook_deliveries_pending", view.pending, name)
    add("webhook_deliveries_retrying", view.retrying, name)
    add("webhook_deliveries_dead", view.dead, name)
    add("webhook_delivered_total", view.delivered, name)
    add("webhook_lost_total", view.lost, name)
    add("webhook_behind_events", behind(view) or 0, name)
    if view.succeeded_at is not None:
        add("webhook_last_success_timestamp_seconds", view.succeeded_at.timestamp(), name)


def nats_samples(add: Add, view: NatsView) -> None:
    """Those of publishing to NATS."""
    for state in NATS_STATES:
        add("nats_state", state == view.state, state)
    add("nats_published_total", view.published)
    if (distance := behind(view)) is not None:
        add("nats_behind_events", distance)
