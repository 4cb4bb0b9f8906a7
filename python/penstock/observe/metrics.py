"""Metrics in Prometheus' format, read from counters at scrape time.

A labelled `inc()` per message would cost more than the rest of the bookkeeping, so nothing is counted here
for the hot path: Rust keeps atomics, Python keeps plain dictionaries, and a custom collector turns both
into families when somebody asks. The catalogue below is the only place that knows types, labels and
meanings; docs/metrics.md is compared with it by a test. A sample that the catalogue does not know is a bug
and raises.

Histograms come as samples too, as Prometheus writes them: `NAME_bucket` with the upper bound as last label,
cumulative, and `NAME_sum`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["CATALOGUE", "PREFIX", "Counts", "Family", "Histogram", "Sample", "registry_of", "render"]

PREFIX = "penstock_"

Sample: TypeAlias = tuple[str, tuple[str, ...], float]
"""Name without prefix, label values in the catalogue's order, value."""

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its type, its labels in order, what it means."""

    kind: Kind
    labels: tuple[str, ...]
    meaning: str


CATALOGUE: Mapping[str, Family] = {
    "build_info": Family("gauge", ("version", "python", "profile"), "Always 1; the labels say what runs."),
    "config_generation": Family("gauge", (), "Configuration generation in force."),
    "net_events_total": Family(
        "counter", ("kind",), "Events handed to Python; with the loop's lag the measure of its load."
    ),
    "event_loop_lag_seconds": Family("histogram", (), "How late a timer of 250 ms fires."),
    "receive_connections_total": Family("counter", ("connector",), "Accepted sockets."),
    "receive_refused_total": Family(
        "counter",
        ("connector", "cause"),
        "Connections refused; cause: total, per_source, no_connector, draining, pressure, proxy.",
    ),
    "tls_handshakes_total": Family(
        "counter",
        ("result", "version"),
        "TLS handshakes of clients; result: ok, failed, timed_out, refused (too many under way), early "
        "(octets came behind STARTTLS); version: of TLS where ok, else empty.",
    ),
    "tls_resumed_total": Family("counter", (), "Handshakes that resumed a session."),
    "tls_broken_total": Family(
        "counter", (), "Connections ended because what came after the handshake was not TLS."
    ),
    "receive_sessions": Family("gauge", ("connector",), "Sessions open now."),
    "receive_replies_total": Family(
        "counter", ("connector", "verb", "class"), "Refused commands; class: 4 or 5."
    ),
    "messages_accepted_total": Family("counter", ("connector",), "Messages synced before their 250."),
    "accepted_bytes_total": Family("counter", ("connector",), "Content of accepted messages, octets."),
    "messages_refused_total": Family(
        "counter", ("connector", "cause"), "Messages refused at or after DATA; cause: size, content, spool."
    ),
    "spool_sync_seconds": Family("histogram", ("shard",), "Duration of one group commit's sync."),
    "spool_group_messages": Family("histogram", ("shard",), "Messages per group commit."),
    "spool_bytes": Family("gauge", ("shard", "part"), "Octets on disk; part: log, live, kept, index, blobs."),
    "spool_blobs_written_total": Family("counter", ("shard",), "Messages whose content went to a blob."),
    "spool_blobs_written_bytes_total": Family("counter", ("shard",), "Content written to blobs, octets."),
    "spool_blobs_removed_total": Family("counter", ("shard",), "Blobs removed."),
    "spool_drafts_spilled_total": Family(
        "counter", ("shard",), "Messages sent to blobs while they came in because memory was short."
    ),
    "spool_free_bytes": Family("gauge", (), "Free space of the spool's file system, octets."),
    "spool_damaged_total": Family(
        "counter",
        ("shard", "what"),
        "Damage found since the start; what: index_row (not readable), content (reads that failed).",
    ),
    "pressure_level": Family(
        "gauge",
        ("resource",),
        "0 low, 1 medium, 2 high; resource: disk (2: new mail is refused), memory, descriptors, "
        "queue_length, commit_latency.",
    ),
    "spool_failed": Family("gauge", ("shard",), "1 after a failed sync: nothing is accepted any more."),
    "spool_segments": Family("gauge", ("shard", "state"), "Segments of the log; state: in_use, damaged."),
    "spool_checkpoints_total": Family(
        "counter", ("shard", "result"), "Times the index was brought up to date; result: ok, failed."
    ),
    "spool_held_parts": Family(
        "gauge", ("shard",), "Parts of records held in memory because the index has failed."
    ),
    "spool_kept_messages": Family("gauge", ("shard",), "Finished messages that are kept."),
    "spool_cleaned_messages_total": Family("counter", ("shard",), "Messages moved out of dead segments."),
    "spool_cleaned_bytes_total": Family("counter", ("shard",), "Content of those messages, octets."),
    "spool_cleaning": Family("gauge", ("shard",), "1 while a segment of the log is being cleaned."),
    "spool_floor": Family("gauge", ("shard",), "Record up to which an index must go to be of use."),
    "queue_messages": Family(
        "gauge",
        ("kind", "status"),
        "Messages x next hop; kind: submission, delivery, unreachable; "
        "status: ready, active, retry, suspended.",
    ),
    "queues": Family(
        "gauge", ("status",), "Delivery queues; status: active, connecting, ready, retry, suspended."
    ),
    "queue_in_doubt_total": Family("counter", ("connector",), "Final dots that nobody answered."),
    "delivery_recipients_total": Family(
        "counter", ("connector", "result"), "Outcomes; result: delivered, deferred, failed, expired."
    ),
    "delivery_connections": Family("gauge", ("connector", "state"), "Now; state: connecting, busy, idle."),
    "delivery_connections_total": Family(
        "counter", ("connector", "result"), "Attempts to connect; result: ok, refused, timeout, banner, dns."
    ),
    "hook_seconds": Family(
        "histogram",
        ("hook", "result"),
        "How long a hook took to answer; result: ok, refused, error, timeout.",
    ),
    "hook_busy_total": Family(
        "counter", (), "Commands told to come again because too many questions to hooks were open."
    ),
    "dsn_total": Family("counter", ("kind",), "Delivery status notifications; kind: failed, suppressed."),
}


class Counts:
    """Python's own counters: a dictionary from name and labels to a number."""

    def __init__(self) -> None:
        self._values: defaultdict[tuple[str, tuple[str, ...]], float] = defaultdict(float)

    def add(self, name: str, *labels: str, amount: float = 1) -> None:
        """Add to one counter."""
        self._values[name, labels] += amount

    def samples(self) -> Iterator[Sample]:
        """Yield every counter that was ever added to."""
        for (name, labels), value in list(self._values.items()):
            yield name, labels, value


class Histogram:
    """Observations sorted into buckets by upper bound."""

    def __init__(self, name: str, bounds: tuple[float, ...]) -> None:
        self._name = name
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> Iterator[Sample]:
        """Yield the cumulative buckets and the sum."""
        total = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            yield f"{self._name}_bucket", (bound,), float(total)
        yield f"{self._name}_sum", (), self._sum


class _FromCounters(Collector):
    """Asks its sources at scrape time."""

    def __init__(self, sources: tuple[Callable[[], Iterable[Sample]], ...]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Yield one family per name that the sources know now."""
        by_name: defaultdict[str, list[Sample]] = defaultdict(list)
        for source in self._sources:
            for sample in source():
                by_name[_family_name(sample[0])].append(sample)
        for name, samples in sorted(by_name.items()):
            yield _family(name, CATALOGUE[name], samples)


def _family_name(name: str) -> str:
    return name if name in CATALOGUE else name.removesuffix("_bucket").removesuffix("_sum")


def _family(name: str, family: Family, samples: list[Sample]) -> Metric:
    full = PREFIX + name
    if family.kind == "histogram":
        return _histogram(full, family, samples)
    make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = make(full, family.meaning, labels=family.labels)
    for _, labels, value in samples:
        metric.add_metric(labels, value)
    return metric


def _histogram(full: str, family: Family, samples: list[Sample]) -> Metric:
    metric = HistogramMetricFamily(full, family.meaning, labels=family.labels)
    buckets: defaultdict[tuple[str, ...], list[tuple[str, float]]] = defaultdict(list)
    sums: dict[tuple[str, ...], float] = {}
    for name, labels, value in samples:
        if name.endswith("_bucket"):
            buckets[labels[:-1]].append((labels[-1], value))
        else:
            sums[labels] = value
    for labels, bounds in buckets.items():
        metric.add_metric(labels, buckets=bounds, sum_value=sums[labels])
    return metric


def registry_of(*sources: Callable[[], Iterable[Sample]]) -> CollectorRegistry:
    """Return a registry of its own that asks the sources, and the kernel about this process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    # Registered last: registering asks for the names once, and a source may not be ready to be asked before.
    registry.register(_FromCounters(sources))
    return registry


def render(registry: CollectorRegistry) -> bytes:
    """Return the text that Prometheus scrapes (text/plain; version=0.0.4).

    Raises:
        KeyError: A source named a metric that the catalogue does not have.
    """
    return generate_latest(registry)
