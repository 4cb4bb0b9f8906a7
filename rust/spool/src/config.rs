//! What a spool is opened with.

use std::path::PathBuf;

/// Settings of a spool.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct SpoolConfig {
    /// Directory of the spool; made (0700) if it does not exist.
    pub path: PathBuf,
    /// No threads: everything happens in [`Spool::step`](crate::Spool::step).
    pub inline: bool,
    /// Octets of a segment of the log; a record that needs more gets a segment of its own.
    pub segment_bytes: u64,
    /// How often the index is brought up to date at least.
    pub checkpoint_ms: u64,
    /// Octets of log after which the index is brought up to date.
    pub checkpoint_bytes: u64,
    /// Records after which the index is brought up to date. At twice this, or twice the octets, drafts are refused.
    pub checkpoint_records: u64,
    /// Octets of address space for the index, and so the most that it can grow to.
    pub map_bytes: u64,
    /// Octets of content above which it goes to a file of its own, a blob, and not into the log.
    pub blob_bytes: u64,
    /// Octets of content that drafts may hold in memory, one draft beyond that excepted. Where most of it is taken, the
    /// largest drafts go to blobs while they come in.
    pub draft_budget_bytes: u64,
    /// Free space of the file system below which drafts are refused.
    pub free_min_bytes: u64,
    /// Octets a second that cleaning of the log may read and write, four times as many when the disk is nearly full; 0
    /// to have nothing cleaned.
    pub clean_bytes_per_s: u64,
    /// How long a message that has arrived is kept when it is finished, so that it can be sent once more; 0 for not at
    /// all.
    pub kept_ms: u64,
    /// Octets of log and blobs that such messages may keep; beyond that the oldest are let go of.
    pub kept_max_bytes: u64,
    /// Ten bits of every queue id, so that no two nodes or shards give the same.
    pub node: u16,
}

impl SpoolConfig {
    /// Until when a message that is finished now is kept; `None` if it is not.
    pub(crate) fn keep_until_ms(&self, now_ms: u64) -> Option<u64> {
        (self.kept_ms > 0).then(|| now_ms.saturating_add(self.kept_ms))
    }
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            inline: false,
            segment_bytes: 64 << 20,
            checkpoint_ms: 1_000,
            checkpoint_bytes: 64 << 20,
            checkpoint_records: 100_000,
            map_bytes: 256 << 30,
            blob_bytes: 1 << 20,
            draft_budget_bytes: 96 << 20,
            free_min_bytes: 256 << 20,
            clean_bytes_per_s: 32 << 20,
            kept_ms: 0,
            kept_max_bytes: u64::MAX,
            node: 0,
        }
    }
}
