//! Counters of the hot path that need both halves: what was accepted and what became of it.
//!
//! Names and labels are those of `docs/metrics.md`; `net` and `spool` keep their own atomics, and
//! [`Engine::metrics`](crate::Engine::metrics) puts all of them into one list of samples.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use penstock_net::NetStatistics;
use penstock_spool::{GROUP_MESSAGES, Histogram, OutcomeState, SYNC_MICROS, Statistics};

/// One value for the metrics endpoint: name without prefix, label values in the documented order.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name without the `penstock_` prefix.
    pub name: &'static str,
    /// Label values, in the documented order.
    pub labels: Vec<String>,
    /// The value.
    pub value: f64,
}

/// The level at which mail is refused.
const PRESSURE_HIGH: f64 = 2.0;

/// The only shard there is, as a label.
const SHARD: &str = "0";

/// Put what the spool counts under its documented names.
pub(crate) fn spool_samples(spool: &Statistics, into: &mut Vec<Sample>) {
    const MICROS: f64 = 1e6;
    let syncs = ["spool_sync_seconds_bucket", "spool_sync_seconds_sum"];
    histogram(syncs, &spool.sync_micros, SYNC_MICROS.map(|bound| bound as f64 / MICROS), MICROS, into);
    let groups = ["spool_group_messages_bucket", "spool_group_messages_sum"];
    histogram(groups, &spool.group_messages, GROUP_MESSAGES.map(|bound| bound as f64), 1.0, into);
    let live = spool.live_bytes.saturating_sub(spool.kept_bytes);
    for (part, value) in [
        ("log", spool.log_bytes),
        ("live", live),
        ("kept", spool.kept_bytes),
        ("index", spool.index_bytes),
        ("blobs", spool.blob_bytes),
    ] {
        let labels = vec![SHARD.into(), part.into()];
        into.push(Sample { name: "spool_bytes", labels, value: value as f64 });
    }
    for (name, value) in [
        ("spool_blobs_written_total", spool.blobs_written),
        ("spool_blobs_written_bytes_total", spool.blobs_written_bytes),
        ("spool_blobs_removed_total", spool.blobs_removed),
        ("spool_drafts_spilled_total", spool.drafts_spilled),
    ] {
        into.push(Sample { name, labels: vec![SHARD.into()], value: value as f64 });
    }
    into.push(Sample { name: "spool_free_bytes", labels: Vec::new(), value: spool.free_bytes as f64 });
    let pressure = if spool.is_full { PRESSURE_HIGH } else { 0.0 };
    into.push(Sample { name: "pressure_level", labels: vec!["disk".into()], value: pressure });
    for (what, value) in [("index_row", spool.index_unreadable), ("content", spool.damaged)] {
        let labels = vec![SHARD.into(), what.into()];
        into.push(Sample { name: "spool_damaged_total", labels, value: value as f64 });
    }
    let failed = f64::from(u8::from(spool.failed));
    into.push(Sample { name: "spool_failed", labels: vec![SHARD.into()], value: failed });
    let used = spool.segments.saturating_sub(spool.damaged_segments);
    let succeeded = spool.checkpoints;
    for (name, label, value) in [
        ("spool_segments", "in_use", used),
        ("spool_segments", "damaged", spool.damaged_segments),
        ("spool_checkpoints_total", "ok", succeeded),
        ("spool_checkpoints_total", "failed", spool.checkpoints_failed),
    ] {
        into.push(Sample { name, labels: vec![SHARD.into(), label.into()], value: value as f64 });
    }
    for (name, value) in [
        ("spool_kept_messages", spool.kept_messages),
        ("spool_cleaned_messages_total", spool.cleaned_messages),
        ("spool_cleaned_bytes_total", spool.cleaned_bytes),
        ("spool_cleaning", spool.is_cleaning.into()),
        ("spool_floor", spool.floor),
        ("spool_held_parts", spool.held_parts),
    ] {
        into.push(Sample { name, labels: vec![SHARD.into()], value: value as f64 });
    }
}

/// Put what the wire engine counts of TLS under its documented names.
pub(crate) fn tls_samples(net: &NetStatistics, into: &mut Vec<Sample>) {
    for (result, version, value) in [
        ("ok", "1.2", net.tls_1_2),
        ("ok", "1.3", net.tls_1_3),
        ("failed", "", net.tls_failed),
        ("timed_out", "", net.tls_timed_out),
        ("refused", "", net.tls_refused),
        ("early", "", net.tls_early),
    ] {
        let labels = vec![result.into(), version.into()];
        into.push(Sample { name: "tls_handshakes_total", labels, value: value as f64 });
    }
    for (name, value) in [("tls_resumed_total", net.tls_resumed), ("tls_broken_total", net.tls_broken)] {
        into.push(Sample { name, labels: Vec::new(), value: value as f64 });
    }
}

/// Write a histogram as Prometheus does: cumulative buckets, the last one without a bound, and the sum.
fn histogram<const N: usize>(
    [bucket, sum]: [&'static str; 2],
    observed: &Histogram,
    bounds: [f64; N],
    unit: f64,
    into: &mut Vec<Sample>,
) {
    let mut total = 0;
    let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".into()]);
    for (bound, count) in bounds.zip(observed.counts) {
        total += count;
        into.push(Sample { name: bucket, labels: vec![SHARD.into(), bound], value: total as f64 });
    }
    into.push(Sample { name: sum, labels: vec![SHARD.into()], value: observed.sum as f64 / unit });
}

#[derive(Default)]
struct Accepted {
    messages: u64,
    bytes: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    accepted: Mutex<BTreeMap<String, Accepted>>,
    delivery: Mutex<BTreeMap<String, [u64; 4]>>,
}

const RESULTS: [&str; 4] = ["delivered", "deferred", "failed", "expired"];

fn result_index(state: OutcomeState) -> Option<usize> {
    match state {
        OutcomeState::Delivered | OutcomeState::Relayed => Some(0),
        OutcomeState::Deferred | OutcomeState::InDoubt => Some(1),
        OutcomeState::Failed => Some(2),
        OutcomeState::Expired => Some(3),
        OutcomeState::Removed => None,
    }
}

impl Counters {
    pub(crate) fn accepted(&self, connector: &str, size: u64) {
        let mut table = self.accepted.lock();
        if let Some(row) = table.get_mut(connector) {
            row.messages += 1;
            row.bytes += size;
        } else {
            table.insert(connector.into(), Accepted { messages: 1, bytes: size });
        }
    }

    pub(crate) fn outcome(&self, connector: &str, state: OutcomeState) {
        let Some(index) = result_index(state) else { return };
        let mut table = self.delivery.lock();
        if !table.contains_key(connector) {
            table.insert(connector.into(), [0; 4]);
        }
        if let Some(count) = table.get_mut(connector).and_then(|row| row.get_mut(index)) {
            *count += 1;
        }
    }

    pub(crate) fn samples(&self, into: &mut Vec<Sample>) {
        for (connector, row) in self.accepted.lock().iter() {
            let labels = vec![connector.clone()];
            into.push(Sample {
                name: "messages_accepted_total",
                labels: labels.clone(),
                value: row.messages as f64,
            });
            into.push(Sample { name: "accepted_bytes_total", labels, value: row.bytes as f64 });
        }
        for (connector, row) in self.delivery.lock().iter() {
            for (result, &count) in RESULTS.iter().zip(row) {
                into.push(Sample {
                    name: "delivery_recipients_total",
                    labels: vec![connector.clone(), (*result).into()],
                    value: count as f64,
                });
            }
        }
    }
}
