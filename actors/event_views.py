"""How those who follow the events are doing: for health checks, screens and the API."""

import datetime as dt

import attrs


@attrs.frozen(kw_only=True)
class EventsView:
    """How the fan-out of events is."""

    newest: int | None  # the newest event that was read; None: nobody follows
    clients: int
    dropped: int  # clients that were too slow, since the daemon started
    error: str | None  # why events are not read just now


@attrs.frozen(kw_only=True)
class NatsView:
    """How publishing to NATS is."""

    url: str  # without what is secret
    state: str  # "connecting", "publishing" or "failing"
    position: int | None  # the newest event that JetStream has; None: not known yet
    newest: int | None  # the newest event that there is; None: not known yet
    published: int  # since the daemon started
    error: str | None


@attrs.frozen(kw_only=True)
class WebhookView:
    """A webhook, and what it has to do."""

    name: str
    url: str  # without user, password and query
    types: tuple[str, ...]
    connections: tuple[str, ...]  # empty: all
    state: str  # "active", "paused" or "failing"
    paused: str | None  # why
    position: int  # all events up to this one are delivered, or are among its deliveries
    newest: int  # the newest event that there is
    pending: int  # deliveries that wait
    retrying: int  # of those, the ones that failed before
    dead: int  # given up; they can be replayed
    delivered: int
    lost: int  # single events, or stretches of them, deleted for their age before delivery
    succeeded_at: dt.datetime | None
    failed_at: dt.datetime | None
    error: str | None  # of the newest failure
    next_attempt_at: dt.datetime | None


@attrs.frozen(kw_only=True)
class TestResult:
    """How a webhook answered to a test."""

    __test__ = False  # for pytest: no test of ours

    ok: bool
    status: int | None  # None: there was no answer
    error: str | None
    seconds: float
