"""The samples of the channels that carry notifications."""

import collections.abc as cabc
import typing as t

from actors.channel_views import ChannelView

OUTCOMES: t.Final = ("sent", "failed", "given_up")

Add: t.TypeAlias = cabc.Callable[..., None]
"""See ``api.metrics.Samples.add``."""


def channel_samples(add: Add, view: ChannelView) -> None:
    """Those of one channel."""
    for outcome in OUTCOMES:
        add("notifications_total", getattr(view, outcome), view.name, outcome)
    add("notifications_pending", view.pending, view.name)
    add("channel_failing", view.failing_since is not None, view.name)
    if view.sent_at is not None:
        add("channel_last_success_timestamp_seconds", view.sent_at.timestamp(), view.name)
