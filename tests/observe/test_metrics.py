"""Metrics: what sources count comes out under the documented names, types and labels."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penstock.observe.metrics import CATALOGUE, PREFIX, Counts, Histogram, Sample, registry_of, render

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def test_counters_and_gauges_are_read_when_asked() -> None:
    counts = Counts()
    registry = registry_of(counts.samples, lambda: [("queues", ("retry",), 3.0)])
    counts.add("dsn_total", "failed")
    counts.add("dsn_total", "failed", amount=2)
    text = render(registry).decode()
    assert "# TYPE penstock_dsn_total counter" in text
    assert 'penstock_dsn_total{kind="failed"} 3.0' in text
    assert 'penstock_queues{status="retry"} 3.0' in text
    assert "process_resident_memory_bytes" in text


def test_histogram_is_cumulative_with_sum_and_count() -> None:
    lag = Histogram("event_loop_lag_seconds", (0.001, 0.01))
    for value in (0.0005, 0.001, 0.002, 5.0):
        lag.observe(value)
    text = render(registry_of(lag.samples)).decode()
    assert 'penstock_event_loop_lag_seconds_bucket{le="0.001"} 2.0' in text
    assert 'penstock_event_loop_lag_seconds_bucket{le="0.01"} 3.0' in text
    assert 'penstock_event_loop_lag_seconds_bucket{le="+Inf"} 4.0' in text
    assert "penstock_event_loop_lag_seconds_count 4.0" in text
    assert "penstock_event_loop_lag_seconds_sum 5.0035" in text


def test_labelled_histograms_of_two_shards_stay_apart() -> None:
    samples: list[Sample] = []
    for shard, count in (("0", 1.0), ("1", 2.0)):
        samples += [
            ("spool_sync_seconds_bucket", (shard, "+Inf"), count),
            ("spool_sync_seconds_sum", (shard,), count / 2),
        ]
    text = render(registry_of(lambda: samples)).decode()
    assert 'penstock_spool_sync_seconds_count{shard="0"} 1.0' in text
    assert 'penstock_spool_sync_seconds_sum{shard="1"} 1.0' in text


def test_a_name_outside_the_catalogue_is_a_bug() -> None:
    with pytest.raises(KeyError, match="surprise_total"):
        render(registry_of(lambda: [("surprise_total", (), 1.0)]))


def test_every_metric_is_documented_as_declared() -> None:
    rows = {
        name: (kind, labels.strip(), text.strip())
        for name, kind, labels, text in ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    }
    declared = {
        PREFIX + name: (family.kind, ", ".join(family.labels) or "–", family.meaning)
        for name, family in CATALOGUE.items()
    }
    assert rows == declared
