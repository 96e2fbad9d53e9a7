"""How channels are doing: for health checks, screens and the API."""

import datetime as dt

import attrs


@attrs.frozen(kw_only=True)
class ChannelView:
    """A channel, and what it has to tell."""

    name: str
    service: str  # what it sends through; nothing secret
    kinds: tuple[str, ...]
    severity: str  # the least
    connections: tuple[str, ...]  # empty: all
    language: str
    state: str  # "active" or "failing"
    sent: int
    failed: int  # attempts
    given_up: int
    pending: int  # notifications that wait
    retrying: int  # of those, the ones that failed before
    sent_at: dt.datetime | None
    failed_at: dt.datetime | None
    failing_since: dt.datetime | None
    error: str | None  # of the newest failure
    oldest_at: dt.datetime | None  # since when the oldest of those that wait does
    next_attempt_at: dt.datetime | None
    hanging: int  # attempts that nobody waits for any more, and that have not ended


@attrs.frozen(kw_only=True)
class ChannelTest:
    """What came of a test notification."""

    ok: bool
    error: str | None
    seconds: float
