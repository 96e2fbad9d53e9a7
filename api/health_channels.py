"""What is wrong with the channels that carry notifications, and what to do: a pure function."""

import collections.abc as cabc
import typing as t

from actors.channel_views import ChannelView

KEEPS_FAILING: t.Final = 60.0  # seconds; what fails for a moment is tried again before
DETAIL: t.Final = 200  # characters of an error that are told


def channel_troubles(channels: cabc.Iterable[ChannelView], now: float) -> cabc.Iterator[str]:
    """One sentence for each channel that keeps failing; ``now`` in unix seconds."""
    for view in channels:
        if view.failing_since is None or now - view.failing_since.timestamp() < KEEPS_FAILING:
            continue
        error = view.error or "no answer"
        short = error if len(error) <= DETAIL else f"{error[: DETAIL - 1]}…"
        noun = "notification waits" if view.pending == 1 else "notifications wait"
        yield (
            f"channel {view.name} fails ({short}), {view.pending} {noun}; see to it, then zapvisor"
            f" channels test {view.name}"
        )
