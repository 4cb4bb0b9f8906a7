//! What the log has and the index does not have yet.

use std::collections::{HashMap, VecDeque};

use penstock_core::queue_id::QueueId;

use crate::facts::Lsn;
use crate::redo::{Redo, Stored, Watermark};

struct Held {
    lsn: Lsn,
    /// Where the record ends.
    end: (u64, u64),
    bytes: u64,
    redo: Vec<Redo>,
}

/// Records between the writer and the checkpoint, in the order of the log.
#[derive(Default)]
pub(crate) struct Pending {
    held: VecDeque<Held>,
    /// Where contents are that the index does not know.
    stored: HashMap<QueueId, Stored>,
    records: u64,
    bytes: u64,
}

impl Pending {
    /// Keep what a record says until it is in the index.
    pub(crate) fn push(&mut self, lsn: Lsn, end: (u64, u64), bytes: u64, redo: Vec<Redo>) {
        for one in &redo {
            if let Redo::Accepted { queue_id, accepted, location, .. }
            | Redo::Moved { queue_id, accepted, location, .. } = one
            {
                let stored = Stored { location: *location, form: accepted.form, flags: accepted.flags };
                self.stored.insert(*queue_id, stored);
            }
        }
        self.records += 1;
        self.bytes += bytes;
        self.held.push_back(Held { lsn, end, bytes, redo });
    }

    /// Records and octets of log that are not in the index.
    pub(crate) fn extent(&self) -> (u64, u64) {
        (self.records, self.bytes)
    }

    pub(crate) fn stored(&self, queue_id: QueueId) -> Option<Stored> {
        self.stored.get(&queue_id).copied()
    }

    /// Move what is durable to the end of a batch for the index. It counts as pending until [`Pending::applied`].
    pub(crate) fn take(&mut self, durable: Lsn, batch: &mut Batch) {
        while let Some(first) = self.held.front().filter(|first| first.lsn <= durable) {
            batch.records += 1;
            batch.bytes += first.bytes;
            let (segment, offset) = first.end;
            batch.to = Some(Watermark { lsn: first.lsn, segment, offset });
            let redo = self.held.pop_front().map(|first| first.redo);
            batch.redo.extend(redo.into_iter().flatten());
        }
    }

    /// Forget what is in the index now.
    pub(crate) fn applied(&mut self, batch: &mut Batch) {
        for one in batch.redo.drain(..) {
            if let Redo::Accepted { queue_id, location, .. } | Redo::Moved { queue_id, location, .. } = one
                && self.stored.get(&queue_id).is_some_and(|stored| stored.location == location)
            {
                self.stored.remove(&queue_id);
            }
        }
        self.records -= batch.records;
        self.bytes -= batch.bytes;
        *batch = Batch::default();
    }
}

/// What is being applied to the index.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) redo: Vec<Redo>,
    /// Up to where it goes; `None` if it is empty.
    pub(crate) to: Option<Watermark>,
    records: u64,
    bytes: u64,
}
