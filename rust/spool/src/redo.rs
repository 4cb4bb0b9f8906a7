//! The seam between log and index: what the log has and the index does not have yet.

use std::sync::Arc;

use penstock_core::flow::{ContentFlags, Form};
use penstock_core::queue_id::QueueId;

use crate::facts::{Accepted, Fact, HopId, HopName, Lsn};

/// Where a message's content is: in the log, or the beginning of it (what was prepended) there and the rest in a blob.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Location {
    /// Number of the segment.
    pub(crate) segment: u64,
    /// Offset in the segment of the content's first extent.
    pub(crate) offset: u64,
    /// Octets from there to the content's end, as written.
    pub(crate) length: u64,
    /// Octets of the whole record, padding aside: what the message keeps alive of its segment.
    pub(crate) record_bytes: u64,
    /// What follows in the message's blob, if it has one.
    pub(crate) blob: Option<InBlob>,
}

/// What a blob holds: a file with the rest of a content, named by the message's queue id.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct InBlob {
    /// Octets of its chunks, their headers included.
    pub(crate) bytes: u64,
    /// Checksum of the headers of its chunks, in order.
    pub(crate) sum: u32,
}

/// A blob that no message needs any more.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct LeftBlob {
    pub(crate) queue_id: QueueId,
    /// Octets of its chunks.
    pub(crate) bytes: u64,
}

/// What has to be known to read a content.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Stored {
    pub(crate) location: Location,
    pub(crate) form: Form,
    pub(crate) flags: ContentFlags,
}

/// One thing that the log says, in the order of the log. The parts of a group share its number.
#[derive(Clone, Debug)]
pub(crate) enum Redo {
    Accepted {
        lsn: Lsn,
        queue_id: QueueId,
        accepted: Arc<Accepted>,
        location: Location,
        /// The names of the hops of its entries, in their order.
        hops: Vec<Arc<HopName>>,
    },
    Fact {
        lsn: Lsn,
        fact: Fact,
        /// The names of the hops that the fact gives entries or a state to: of `Routed::to` in order, or of `Hop`.
        hops: Vec<Arc<HopName>>,
    },
    Started {
        lsn: Lsn,
        queue_id: QueueId,
        hop: HopId,
        attempt: u32,
        peer: String,
    },
    /// The message as it was in the index at some time, its content included: nothing before this need be read for it.
    Moved {
        lsn: Lsn,
        queue_id: QueueId,
        /// With the entries that were left.
        accepted: Arc<Accepted>,
        location: Location,
        /// The names of the hops of its entries, in their order.
        hops: Vec<Arc<HopName>>,
        /// All that was known of the message up to here is in it; nothing that the log says of it up to this record was
        /// later.
        as_of: Lsn,
        /// The last attempt of each entry whose end was known; 0 for none.
        attempts: Vec<u32>,
    },
}

impl Redo {
    /// Number of the record that says so.
    pub(crate) fn lsn(&self) -> Lsn {
        match self {
            Self::Accepted { lsn, .. }
            | Self::Fact { lsn, .. }
            | Self::Started { lsn, .. }
            | Self::Moved { lsn, .. } => *lsn,
        }
    }

    /// The message that this is about; `None` if it is about a hop.
    pub(crate) fn subject(&self) -> Option<QueueId> {
        match self {
            Self::Accepted { queue_id, .. }
            | Self::Started { queue_id, .. }
            | Self::Moved { queue_id, .. } => Some(*queue_id),
            Self::Fact { fact, .. } => fact.subject(),
        }
    }
}

/// Up to where the index has what the log says.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct Watermark {
    /// The last record that is in the index; 0 for none.
    pub(crate) lsn: Lsn,
    /// The segment in which replay begins; 0 if the log is to be read from its beginning.
    pub(crate) segment: u64,
    /// The offset in it at which replay begins.
    pub(crate) offset: u64,
}

/// What a segment holds that is still needed.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct SegmentUse {
    pub(crate) segment: u64,
    pub(crate) live_bytes: u64,
    pub(crate) live_messages: u64,
}

/// An attempt whose end is not known.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct InDoubt {
    /// The message.
    pub queue_id: QueueId,
    /// The entry's next hop.
    pub hop: HopId,
    /// Which attempt.
    pub attempt: u32,
    /// With whom.
    pub peer: String,
}
