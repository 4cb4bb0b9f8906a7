//! What is counted, and a copy of it at one moment.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets of a histogram, the last without a bound.
pub const BUCKETS: usize = 10;
/// Upper bounds of the buckets of sync times, in microseconds.
pub const SYNC_MICROS: [u64; BUCKETS - 1] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000];
/// Upper bounds of the buckets of messages in a group.
pub const GROUP_MESSAGES: [u64; BUCKETS - 1] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Observations by their size.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Histogram {
    /// Observations per bucket (not cumulative): at most its bound, more than the bound before.
    pub counts: [u64; BUCKETS],
    /// Sum of all observations.
    pub sum: u64,
}

/// The state of a spool at one moment, for metrics.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Statistics {
    /// Duration of each sync of the log in microseconds; bounds are [`SYNC_MICROS`].
    pub sync_micros: Histogram,
    /// Messages that each sync made durable; bounds are [`GROUP_MESSAGES`]. Syncs without any are not counted.
    pub group_messages: Histogram,
    /// Octets of all segments of the log, spare ones aside.
    pub log_bytes: u64,
    /// Octets of the log that are needed, by messages in the queue and by those that are kept, as of the last checkpoint.
    pub live_bytes: u64,
    /// Octets of content in blobs.
    pub blob_bytes: u64,
    /// Blobs written since the spool was opened.
    pub blobs_written: u64,
    /// Octets of content in them.
    pub blobs_written_bytes: u64,
    /// Blobs removed since the spool was opened, those without a message among them.
    pub blobs_removed: u64,
    /// Drafts that went to blobs since the spool was opened because memory was short.
    pub drafts_spilled: u64,
    /// Octets of the log that finished messages need which are kept; part of `live_bytes`.
    pub kept_bytes: u64,
    /// Octets that they have in blobs; part of `blob_bytes`.
    pub kept_blob_bytes: u64,
    /// Finished messages that are kept.
    pub kept_messages: u64,
    /// Octets of the index's file.
    pub index_bytes: u64,
    /// Free space of the file system, as last seen.
    pub free_bytes: u64,
    /// Whether new mail is refused for want of room on the disk.
    pub is_full: bool,
    /// Whether the log has failed.
    pub failed: bool,
    /// Records that are in the log and not yet in the index.
    pub lag_records: u64,
    /// Octets of log that are not yet in the index.
    pub lag_bytes: u64,
    /// Checkpoints since the spool was opened.
    pub checkpoints: u64,
    /// Checkpoints that failed since the spool was opened.
    pub checkpoints_failed: u64,
    /// Parts of records that are held in memory because the index has failed; 0 while it follows.
    pub held_parts: u64,
    /// Records written since the spool was opened.
    pub records: u64,
    /// The least watermark that an index must have, because the log before it is not whole any more.
    pub floor: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Segments that are kept because something in them is damaged.
    pub damaged_segments: u64,
    /// Messages that cleaning has moved since the spool was opened.
    pub cleaned_messages: u64,
    /// Octets of their contents.
    pub cleaned_bytes: u64,
    /// Whether a segment is being cleaned.
    pub is_cleaning: bool,
    /// Rows of the index that could not be read, and were passed over, since it was opened; counted up to 1,000.
    pub index_unreadable: u64,
    /// How often a content was found damaged since the spool was opened.
    pub damaged: u64,
}

struct Observed {
    bounds: [u64; BUCKETS - 1],
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Observed {
    const fn new(bounds: [u64; BUCKETS - 1]) -> Self {
        Self { bounds, counts: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }

    fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(value, Relaxed);
    }

    fn snapshot(&self) -> Histogram {
        let mut counts = [0; BUCKETS];
        counts.iter_mut().zip(&self.counts).for_each(|(to, from)| *to = from.load(Relaxed));
        Histogram { counts, sum: self.sum.load(Relaxed) }
    }
}

/// Counters of the spool's threads.
pub(crate) struct Counters {
    sync_micros: Observed,
    group_messages: Observed,
    pub(crate) live_bytes: AtomicU64,
    pub(crate) kept_bytes: AtomicU64,
    pub(crate) kept_blob_bytes: AtomicU64,
    pub(crate) kept_messages: AtomicU64,
    pub(crate) index_bytes: AtomicU64,
    pub(crate) free_bytes: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) checkpoints_failed: AtomicU64,
    pub(crate) held_parts: AtomicU64,
    pub(crate) records: AtomicU64,
    cleaned_messages: AtomicU64,
    cleaned_bytes: AtomicU64,
    pub(crate) is_cleaning: AtomicBool,
}

impl Counters {
    pub(crate) const fn new() -> Self {
        Self {
            sync_micros: Observed::new(SYNC_MICROS),
            group_messages: Observed::new(GROUP_MESSAGES),
            live_bytes: AtomicU64::new(0),
            kept_bytes: AtomicU64::new(0),
            kept_blob_bytes: AtomicU64::new(0),
            kept_messages: AtomicU64::new(0),
            index_bytes: AtomicU64::new(0),
            free_bytes: AtomicU64::new(u64::MAX),
            checkpoints: AtomicU64::new(0),
            checkpoints_failed: AtomicU64::new(0),
            held_parts: AtomicU64::new(0),
            records: AtomicU64::new(0),
            cleaned_messages: AtomicU64::new(0),
            cleaned_bytes: AtomicU64::new(0),
            is_cleaning: AtomicBool::new(false),
        }
    }

    /// Count a message that was moved.
    pub(crate) fn cleaned(&self, bytes: u64) {
        self.cleaned_messages.fetch_add(1, Relaxed);
        self.cleaned_bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn synced(&self, took: Duration, messages: usize) {
        self.sync_micros.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if messages > 0 {
            self.group_messages.observe(messages as u64);
        }
    }

    /// All that is counted here; the rest is at its default.
    pub(crate) fn snapshot(&self) -> Statistics {
        Statistics {
            sync_micros: self.sync_micros.snapshot(),
            group_messages: self.group_messages.snapshot(),
            live_bytes: self.live_bytes.load(Relaxed),
            kept_bytes: self.kept_bytes.load(Relaxed),
            kept_blob_bytes: self.kept_blob_bytes.load(Relaxed),
            kept_messages: self.kept_messages.load(Relaxed),
            index_bytes: self.index_bytes.load(Relaxed),
            free_bytes: self.free_bytes.load(Relaxed),
            checkpoints: self.checkpoints.load(Relaxed),
            checkpoints_failed: self.checkpoints_failed.load(Relaxed),
            held_parts: self.held_parts.load(Relaxed),
            records: self.records.load(Relaxed),
            cleaned_messages: self.cleaned_messages.load(Relaxed),
            cleaned_bytes: self.cleaned_bytes.load(Relaxed),
            is_cleaning: self.is_cleaning.load(Relaxed),
            ..Statistics::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_to_the_first_bucket_whose_bound_it_does_not_exceed() {
        let observed = Observed::new(GROUP_MESSAGES);
        for value in [1, 2, 3, 4, 257] {
            observed.observe(value);
        }
        let found = observed.snapshot();
        assert_eq!((found.counts, found.sum), ([1, 1, 2, 0, 0, 0, 0, 0, 0, 1], 267));
    }
}
