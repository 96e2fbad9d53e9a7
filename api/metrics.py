"""The metrics, taken from the live objects whenever somebody asks.

Nothing is counted here twice: a scrape reads what the daemon knows anyway. It never waits for the
database: what is stored comes from the newest reading (``api.figures``), whose age is a metric.
"""

import collections.abc as cabc
import itertools
import platform
import typing as t

import trio
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from actors.alert_rules import RULES
from api.figures import Reading, Stored
from api.health import unready
from api.health_events import with_newest
from api.metrics_channels import channel_samples
from api.metrics_events import nats_samples, webhook_samples
from api.metrics_families import FAMILIES, OTHER, REASONS, REQUESTS, STATES, Family
from api.ports_connections import ConnectionFacts
from api.ports_daemon import HistogramPort
from api.routes_health import judged, last_reload
from api.views import Verdict, WriterView

if t.TYPE_CHECKING:
    from api.backend import Backend

INCIDENTS: t.Final = ("outage", "outdated")
ALERT_STATES: t.Final = ("firing", "acknowledged", "silenced")
GAP_STATES: t.Final = ("open", "ongoing")
GAP_MESSAGES: t.Final = ("missing", "waiting", "in_quarantine")


def registry_of(backend: "Backend") -> CollectorRegistry:
    """A registry of the daemon's own: nothing of the process-wide one is in it."""
    registry = CollectorRegistry()
    registry.register(LiveCollector(backend))
    ProcessCollector(registry=registry)
    for collector in (backend.requests, *backend.collectors):
        registry.register(collector)
    return registry


class LiveCollector(Collector):
    """Reads the backend."""

    def __init__(self, backend: "Backend") -> None:
        self._backend = backend

    def collect(self) -> cabc.Iterator[Metric]:
        """Every family but those of the other collectors; see ``api.metrics_families``."""
        samples = Samples()
        reading = self._backend.figures.newest()
        self._daemon(samples, reading)
        for facts in self._backend.fleet.status():
            _connection(samples, facts)
        self._writer(samples, self._backend.writer())
        self._alerts(samples)
        good = self._backend.figures.newest_good()
        self._exports(samples)
        self._events(samples, None if good is None else good.stored)
        if good is not None and good.stored is not None:
            samples.add("stored_figures_age_seconds", trio.current_time() - good.at)
            _stored(samples, good.stored)
        for family in FAMILIES:
            if family is not REQUESTS:
                yield samples.metric(family)

    def _daemon(self, samples: "Samples", reading: Reading | None) -> None:
        backend = self._backend
        samples.add("build_info", 1, backend.version, platform.python_version())
        started = backend.started_at.timestamp()
        samples.add("start_time_seconds", started)
        samples.add("uptime_seconds", backend.wall_clock() - started)
        codes = {each.code for each in backend.fleet.incidents()}
        for code in INCIDENTS:
            samples.add("incident", code in codes, code)
        if backend.loop is not None:
            loop = backend.loop()
            samples.add("event_loop_lag_seconds", loop.lag_seconds)
            samples.add("event_loop_lag_p99_seconds", loop.lag_p99_seconds)
            samples.add("event_loop_lag_max_seconds", loop.lag_max_seconds)
            samples.add("event_loop_stalls_total", loop.stalls)
        last = last_reload(backend)
        samples.add("config_last_reload_successful", last is None or last.ok)
        if last is not None:
            samples.add("config_last_reload_timestamp_seconds", last.at.timestamp())
        if reading is not None:
            self._reading(samples, reading)

    def _reading(self, samples: "Samples", reading: Reading) -> None:
        verdict = judged(self._backend, reading).verdict
        for each in Verdict:
            samples.add("health", each is verdict, each.value)
        samples.add("ready", not any(unready(self._backend.writer(), reading.error)))
        samples.add("database_up", reading.error is None)
        places = {"data": self._backend.data_place, "media": self._backend.media_place}
        for place, path in places.items():
            for disk in reading.disks:
                if disk.path == path:
                    samples.add("disk_free_bytes", disk.free_bytes, place)
                    samples.add("disk_total_bytes", disk.total_bytes, place)

    def _alerts(self, samples: "Samples") -> None:
        if (alerts := self._backend.alerts) is None:
            return
        counts = alerts.counts()
        for rule in RULES:
            for state in ALERT_STATES:
                samples.add("alerts", counts.get((rule, state), 0), rule, state)

    def _events(self, samples: "Samples", stored: Stored | None) -> None:
        if (events := self._backend.events) is None:
            return
        view = events.view()
        samples.add("events_clients", view.clients)
        samples.add("events_clients_dropped_total", view.dropped)
        samples.add("events_readable", view.error is None)
        if (nats := events.nats()) is not None:
            newest = None if stored is None else stored.newest_event
            nats_samples(samples.add, with_newest(nats, newest))

    def _exports(self, samples: "Samples") -> None:
        if (exports := self._backend.exports) is None:
            return
        view = exports.view()
        samples.add("export_running", view.running is not None)
        samples.add("exports_total", view.finished, "done")
        samples.add("exports_total", view.failed, "failed")
        samples.add("exports_removed_total", view.removed)
        if view.finished_at is not None:
            samples.add("export_last_success_timestamp_seconds", view.finished_at)

    def _writer(self, samples: "Samples", writer: WriterView) -> None:
        samples.add("writer_depth", writer.depth)
        samples.add("writer_capacity", writer.capacity)
        samples.add("writer_batches_total", writer.batches)
        samples.add("writer_envelopes_total", writer.envelopes)
        samples.add("writer_retrying_seconds", writer.retrying_seconds or 0.0)
        samples.add("writer_stalled_seconds", writer.stalled_seconds)
        if (commits := self._backend.commits) is not None:
            samples.observed("writer_commit_duration_seconds", commits)


class Samples:
    """What was measured, by family."""

    def __init__(self) -> None:
        self._families = {family.name: family for family in FAMILIES}
        self._values: dict[str, list[tuple[tuple[str, ...], float]]] = {
            name: [] for name in self._families
        }
        self._observed: dict[str, HistogramPort] = {}

    def add(self, name: str, value: float, *labels: str) -> None:
        """One sample; ``name`` without the prefix that all have."""
        family = self._families[f"zapvisor_{name}"]
        if len(labels) != len(family.labels):
            raise ValueError(f"{family.name} has the labels {family.labels}, not {labels}")
        self._values[family.name].append((labels, float(value)))

    def observed(self, name: str, histogram: HistogramPort) -> None:
        """A histogram without labels."""
        self._observed[self._families[f"zapvisor_{name}"].name] = histogram

    def metric(self, family: Family) -> Metric:
        """The family with its samples."""
        if family.kind == "histogram":
            metric = HistogramMetricFamily(family.name, family.help)
            if (histogram := self._observed.get(family.name)) is not None:
                metric.add_metric((), _buckets(histogram), histogram.total)
            return metric
        made = GaugeMetricFamily if family.kind == "gauge" else CounterMetricFamily
        plain = made(family.name, family.help, labels=family.labels)
        for labels, value in self._values[family.name]:
            plain.add_metric(labels, value)
        return plain


def _buckets(histogram: HistogramPort) -> list[tuple[str, float]]:
    """Cumulative, as they are exposed."""
    sums = itertools.accumulate(histogram.counts)
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, map(float, sums), strict=True))


def _connection(samples: Samples, facts: ConnectionFacts) -> None:
    name = facts.name
    for state in STATES:
        samples.add("connection_state", state == facts.state, name, state)
    samples.add("connection_state_since_timestamp_seconds", facts.since.timestamp(), name)
    samples.add("connection_paired", facts.paired, name)
    samples.add("connection_retries", facts.retries, name)
    samples.add("connection_logins_total", facts.logins, name)
    for reason, count in bounded(facts.ends).items():
        samples.add("connection_ends_total", count, name, reason)
    if facts.last_heartbeat_at is not None:
        beaten = facts.last_heartbeat_at.timestamp()
        samples.add("connection_last_heartbeat_timestamp_seconds", beaten, name)
    if facts.last_message_at is not None:
        heard = facts.last_message_at.timestamp()
        samples.add("connection_last_message_timestamp_seconds", heard, name)
    samples.add("connection_lag_seconds", facts.lag_seconds, name)
    samples.add("connection_in_flight", facts.in_flight, name)
    samples.add("connection_deaf_suspected", facts.deaf_suspicion is not None, name)
    samples.add("connection_deaf_total", facts.deaf, name)
    samples.add("messages_total", facts.processed, name, "processed")
    samples.add("messages_total", facts.skipped, name, "skipped")
    samples.add("messages_total", facts.errors, name, "error")
    samples.add("messages_stored", facts.messages, name)
    samples.add("messages_undecryptable", facts.undecryptable, name)
    samples.add("messages_quarantined", facts.quarantined, name)


def bounded(ends: cabc.Mapping[str, int]) -> dict[str, int]:
    """The same with every reason that has no name of its own under one."""
    counts: dict[str, int] = {}
    for reason, count in ends.items():
        known = reason if reason in REASONS else OTHER
        counts[known] = counts.get(known, 0) + count
    return counts


def _stored(samples: Samples, stored: Stored) -> None:
    statistics = stored.statistics
    samples.add("database_ping_seconds", stored.ping_seconds)
    samples.add("database_size_bytes", stored.size_bytes)
    for status, count in statistics["conversations"].items():
        samples.add("conversations", count, status)
    samples.add("conversations_reopened_total", statistics["reopened"])
    for state in GAP_STATES:
        samples.add("gaps", statistics["gaps"][state], state)
    for state in GAP_MESSAGES:
        samples.add("gap_messages", statistics["gaps"][state], state)
    samples.add("quarantine_rows", statistics["quarantined"])
    for state, count in stored.outbox.items():
        samples.add("outbox_messages", count, state)
    samples.add("search_waiting_messages", stored.search_waiting)
    samples.add("events_newest", stored.newest_event)
    for view in stored.webhooks:
        webhook_samples(samples.add, view)
    for channel in stored.channels:
        channel_samples(samples.add, channel)
