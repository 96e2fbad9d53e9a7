"""The metrics by name: their type, their labels and what they mean; ``docs/metrics.md`` shows them.

Labels take few values: names of the configuration, states, reason codes, routes; never anything
of customers.
"""

import typing as t

import attrs

Kind: t.TypeAlias = t.Literal["gauge", "counter", "histogram"]

STATES: t.Final = (
    "stopped",
    "pairing",
    "connecting",
    "syncing",
    "online",
    "backoff",
    "parked",
    "conflict",
    "logged_out",
    "banned",
)
REASONS: t.Final = frozenset(
    {
        "bad_stanza",
        "banned",
        "conflict",
        "connect_timeout",
        "deaf_suspected",
        "dns_failed",
        "handshake_refused",
        "heartbeat_missed",
        "keys_unreadable",
        "locked",
        "logged_out",
        "loop_stalled",
        "network",
        "no_answer",
        "not_multi_device",
        "not_paired",
        "outage",
        "outdated",
        "pairing_refused",
        "pairing_timeout",
        "protocol_error",
        "rate_limited",
        "refused",
        "restart_required",
        "server_error",
        "silent",
        "slept",
        "stale_keys",
        "storage_stalled",
        "storage_unavailable",
        "stream_ended",
        "temporarily_banned",
        "tls_failed",
        "too_many_requests",
        "unavailable",
        "unstorable",
    }
)
OTHER: t.Final = "other"
"""Stands for a reason that is not among these."""


@attrs.frozen
class Family:
    """One metric; samples of a histogram add ``_bucket``, ``_sum`` and ``_count`` to its name."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


def _gauge(name: str, help_: str, *labels: str) -> Family:
    return Family(f"zapvisor_{name}", "gauge", labels, help_)


def _counter(name: str, help_: str, *labels: str) -> Family:
    return Family(f"zapvisor_{name}_total", "counter", labels, help_)


def _histogram(name: str, help_: str, *labels: str) -> Family:
    return Family(f"zapvisor_{name}", "histogram", labels, help_)


REQUESTS: t.Final = _histogram(
    "http_request_duration_seconds",
    "How long requests to the API took, by the pattern of their route and their status.",
    "method",
    "route",
    "status",
)

FAMILIES: t.Final[tuple[Family, ...]] = (
    _gauge("build_info", "Always 1; which version runs.", "version", "python"),
    _gauge("start_time_seconds", "When the daemon started, unix time."),
    _gauge("uptime_seconds", "How long the daemon has run."),
    _gauge(
        "health", "1 for the verdict that `zapvisor health` gives, 0 for the others.", "verdict"
    ),
    _gauge("ready", "Whether the database answers and the writer gets on."),
    _gauge("incident", "Whether something holds many connections back at once.", "code"),
    # connections
    _gauge(
        "connection_state",
        "1 for the state that a connection is in, 0 for the others.",
        "connection",
        "state",
    ),
    _gauge(
        "connection_state_since_timestamp_seconds",
        "Since when it is in that state, unix time.",
        "connection",
    ),
    _gauge("connection_paired", "Whether it is linked to a phone.", "connection"),
    _gauge("connection_retries", "Failures in a row.", "connection"),
    _counter("connection_logins", "Logins since the daemon started.", "connection"),
    _counter(
        "connection_ends",
        "Lives that ended since the daemon started, by reason code: each is a reconnect, unless"
        " the reason is final.",
        "connection",
        "reason",
    ),
    _gauge(
        "connection_last_heartbeat_timestamp_seconds",
        "The last login or answered ping, unix time.",
        "connection",
    ),
    _gauge(
        "connection_last_message_timestamp_seconds",
        "When the last live message was stored, unix time.",
        "connection",
    ),
    _gauge(
        "connection_lag_seconds",
        "How long the oldest stanza in hand has waited, its commit included.",
        "connection",
    ),
    _gauge("connection_in_flight", "Envelopes that the writer has not settled yet.", "connection"),
    _gauge(
        "connection_deaf_suspected",
        "Whether pings are answered, but messages may not arrive.",
        "connection",
    ),
    _counter(
        "connection_deaf",
        "How often it was found not to hear, and reset, since the daemon started.",
        "connection",
    ),
    # messages
    _counter(
        "messages",
        "What sockets delivered since the daemon started: processed (stored, or a notice of the"
        " phone), skipped (a duplicate), error (cannot be read yet, or in quarantine).",
        "connection",
        "outcome",
    ),
    _gauge("messages_stored", "Complete messages in the database.", "connection"),
    _gauge("messages_undecryptable", "Placeholders that wait for their message.", "connection"),
    _gauge("messages_quarantined", "Unresolved rows of the quarantine.", "connection"),
    # writer
    _gauge("writer_depth", "Places of the writer's mailbox that are taken."),
    _gauge("writer_capacity", "Places of the writer's mailbox."),
    _counter("writer_batches", "Transactions committed since the daemon started."),
    _counter("writer_envelopes", "Envelopes committed since the daemon started."),
    _histogram("writer_commit_duration_seconds", "How long commits took, retries included."),
    _gauge("writer_retrying_seconds", "How long it has retried for want of a database; else 0."),
    _gauge("writer_stalled_seconds", "How long it has had work and made no step; else 0."),
    # the daemon itself
    _gauge("event_loop_lag_seconds", "How late the event loop was when measured last."),
    _gauge("event_loop_lag_p99_seconds", "The same, 99th percentile of the last minute."),
    _gauge("event_loop_lag_max_seconds", "The same, maximum of the last minute."),
    _counter("event_loop_stalls", "How often the event loop stood still for seconds."),
    _gauge("disk_free_bytes", "Free for the daemon, where data or media lie.", "place"),
    _gauge("disk_total_bytes", "Size of that file system.", "place"),
    _gauge("config_last_reload_successful", "Whether the last reload was accepted; 1 if none."),
    _gauge("config_last_reload_timestamp_seconds", "When that was, unix time; absent if none."),
    # the database
    _gauge("database_up", "Whether the database answered when it was asked last."),
    _gauge("database_ping_seconds", "How long a round trip took."),
    _gauge("database_size_bytes", "Size of the whole database."),
    _gauge(
        "stored_figures_age_seconds",
        "How old the figures of the database are that follow: scrapes never wait for it.",
    ),
    _gauge("conversations", "Conversations by status.", "status"),
    _counter("conversations_reopened", "How often messages reopened conversations."),
    _gauge("gaps", "Outages whose messages have not all come (open), or that go on.", "state"),
    _gauge(
        "gap_messages",
        "Messages that open gaps wait for: missing, waiting (cannot be read yet), in_quarantine.",
        "state",
    ),
    _gauge("quarantine_rows", "Unresolved rows of the quarantine, all connections together."),
    _gauge(
        "search_waiting_messages",
        "Messages that cannot be found by their words yet; 10000 stands for that many or more.",
    ),
    _gauge("outbox_messages", "Messages to send that are not sent, by state.", "state"),
    # those who follow the events
    _gauge("events_newest", "The number of the newest event; numbers may be left out."),
    _gauge("events_clients", "Clients that follow the events live."),
    _counter("events_clients_dropped", "Clients that were too slow, since the daemon started."),
    _gauge("events_readable", "Whether the events can be read for those clients."),
    _gauge(
        "alerts",
        "Alerts that are not resolved; silenced ones are recorded, and nobody is told.",
        "rule",
        "state",
    ),
    _gauge(
        "webhook_state",
        "1 for the state that a webhook is in, 0 for the others.",
        "webhook",
        "state",
    ),
    _gauge("webhook_deliveries_pending", "Deliveries that wait, or are retried.", "webhook"),
    _gauge("webhook_deliveries_retrying", "Of those, the ones that failed before.", "webhook"),
    _gauge(
        "webhook_deliveries_dead",
        "Deliveries that were given up; they can be replayed.",
        "webhook",
    ),
    _counter("webhook_delivered", "Events that were delivered.", "webhook"),
    _counter(
        "webhook_lost",
        "Single events, or stretches of them, deleted for their age before delivery.",
        "webhook",
    ),
    _gauge(
        "webhook_behind_events",
        "How far its position is behind the newest event.",
        "webhook",
    ),
    _gauge(
        "webhook_last_success_timestamp_seconds",
        "When an event was delivered last, unix time; absent if never.",
        "webhook",
    ),
    _counter(
        "notifications",
        "What became of notifications: sent, attempts that failed, given up.",
        "channel",
        "outcome",
    ),
    _gauge("notifications_pending", "Notifications that wait, or are retried.", "channel"),
    _gauge("channel_failing", "1 while the newest attempt of a channel has failed.", "channel"),
    _gauge(
        "channel_last_success_timestamp_seconds",
        "When a notification was sent last, unix time; absent if never.",
        "channel",
    ),
    _gauge(
        "nats_state",
        "1 for the state that publishing to NATS is in, 0 for the others; absent unless wanted.",
        "state",
    ),
    _counter("nats_published", "Events published to NATS since the daemon started."),
    _gauge("nats_behind_events", "How far NATS is behind the newest event; absent if unknown."),
    _gauge("export_running", "Whether an export as files is being written."),
    _counter("exports", "Exports as files that ended since the daemon started, by how.", "result"),
    _counter("exports_removed", "Old exports that were deleted since the daemon started."),
    _gauge(
        "export_last_success_timestamp_seconds",
        "When an export was complete last, unix time; absent if none since the daemon started.",
    ),
    REQUESTS,
)
"""In the order of the exposition, but for ``REQUESTS``."""
