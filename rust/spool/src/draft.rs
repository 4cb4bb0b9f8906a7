//! Content on its way in: chunks as they will lie in the log, with their checksums computed while the octets are warm.

use std::any::Any;
use std::sync::Weak;

use penstock_core::flow::{ContentSink, Offer, WakeHandle};
use penstock_core::queue_id::QueueId;

use crate::budget::Share;
use crate::core::Core;
use crate::DraftRefused;
use crate::format::chunk::{self, ChunkSum};

/// Octets that a draft takes at first if it is not known how long it will be.
const FIRST_BYTES: usize = 4096;
/// Octets of content in one message; a record's lengths have 32 bits.
const CONTENT_MAX: u64 = 1 << 30;

/// A message's content while it comes in. Dropping it forgets the content.
///
/// Its octets count against the spool's budget; when that is spent, [`Offer::Full`] is the answer and the waker fires
/// when there is room again.
pub struct Draft {
    queue_id: QueueId,
    share: Share,
    /// Each begins with room for its header.
    chunks: Vec<Vec<u8>>,
    /// Of the last chunk.
    sum: ChunkSum,
    /// Octets that the chunks have room for.
    room: u64,
    octets: u64,
}

/// A content that is complete: chunks with their headers.
pub(crate) struct Sealed {
    pub(crate) queue_id: QueueId,
    pub(crate) chunks: Vec<Vec<u8>>,
    /// Holds the memory's place in the budget.
    pub(crate) _share: Share,
}

/// Opens drafts for as long as the spool is open.
pub struct Drafts(pub(crate) Weak<Core>);

impl Drafts {
    /// As [`Spool::draft`](crate::Spool::draft); nothing if it is refused, or the spool is closed.
    pub fn open(&self, size_hint: u64) -> Option<Draft> {
        open(&*self.0.upgrade()?, size_hint).ok()
    }
}

/// Open a draft for a message of about `size_hint` octets; 0 if that is not known.
pub(crate) fn open(core: &Core, size_hint: u64) -> Result<Draft, DraftRefused> {
    if core.is_poisoned() {
        return Err(DraftRefused::Poisoned);
    }
    if core.is_full() {
        return Err(DraftRefused::DiskFull);
    }
    if core.lags(2) {
        return Err(DraftRefused::Behind);
    }
    let queue_id = core.ids.lock().next(core.clock.now_ms());
    let share = core.budget.open(queue_id.0, first_bytes(size_hint)).ok_or(DraftRefused::Budget)?;
    Ok(Draft::new(queue_id, share))
}

/// Octets to count for a draft before any content has come.
fn first_bytes(size_hint: u64) -> u64 {
    let octets = if size_hint == 0 { FIRST_BYTES as u64 } else { size_hint.min(chunk::MAX as u64) };
    octets + chunk::HEADER as u64
}

impl Draft {
    pub(crate) fn new(queue_id: QueueId, share: Share) -> Self {
        Self { queue_id, share, chunks: Vec::new(), sum: ChunkSum::new(queue_id), room: 0, octets: 0 }
    }

    /// The message's name from now on.
    pub fn queue_id(&self) -> QueueId {
        self.queue_id
    }

    /// Close the chunks.
    pub(crate) fn seal(mut self) -> Sealed {
        self.close_chunk();
        self.share.seal();
        Sealed { queue_id: self.queue_id, chunks: self.chunks, _share: self.share }
    }

    /// Write the header of the last chunk.
    fn close_chunk(&mut self) {
        let Some(last) = self.chunks.last_mut() else { return };
        let header = self.sum.header(last.len() - chunk::HEADER);
        if let Some(place) = last.first_chunk_mut() {
            *place = header;
        }
        self.sum = ChunkSum::new(self.queue_id);
    }

    /// What to take for the first chunk, or how far to lengthen the last, so that `octets` find room as far as one
    /// chunk goes.
    fn last_capacity(&self, octets: usize) -> usize {
        let full = chunk::HEADER + chunk::MAX;
        match self.chunks.last() {
            None => {
                let granted = self.share.bytes().min(full as u64) as usize;
                (chunk::HEADER + octets).max(granted).min(full)
            }
            Some(last) if last.len() + octets <= last.capacity() => last.capacity(),
            Some(last) => (last.len() + octets).max(2 * last.capacity()).min(full),
        }
    }

    /// Octets of memory that taking this many octets will add.
    fn more_room(&self, octets: usize) -> u64 {
        let capacity = self.last_capacity(octets);
        let (before, length) =
            self.chunks.last().map_or((0, chunk::HEADER), |last| (last.capacity(), last.len()));
        let behind = octets.saturating_sub(capacity - length);
        let whole = behind.div_ceil(chunk::MAX) * (chunk::HEADER + chunk::MAX);
        (capacity - before + whole) as u64
    }

    fn push(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let is_full = self.chunks.last().is_some_and(|last| last.len() == chunk::HEADER + chunk::MAX);
            if is_full {
                self.close_chunk();
            }
            if is_full || self.chunks.is_empty() {
                let capacity =
                    if is_full { chunk::HEADER + chunk::MAX } else { self.last_capacity(octets.len()) };
                let mut fresh = Vec::with_capacity(capacity);
                fresh.resize(chunk::HEADER, 0);
                self.chunks.push(fresh);
            }
            let capacity = self.last_capacity(octets.len());
            let Some(last) = self.chunks.last_mut() else { return };
            last.reserve_exact(capacity.saturating_sub(last.len()));
            let (now, later) = octets.split_at(octets.len().min(chunk::HEADER + chunk::MAX - last.len()));
            last.extend_from_slice(now);
            self.sum.push(now);
            octets = later;
        }
    }
}

impl ContentSink for Draft {
    fn offer(&mut self, octets: &[u8], waker: &WakeHandle) -> Offer {
        if self.octets + octets.len() as u64 > CONTENT_MAX {
            return Offer::Full;
        }
        let room = self.room + self.more_room(octets.len());
        let missing = room.saturating_sub(self.share.bytes());
        if missing > 0 && !self.share.grow(missing, waker) {
            return Offer::Full;
        }
        self.room = room;
        self.octets += octets.len() as u64;
        self.push(octets);
        Offer::Taken
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use penstock_core::flow::Wake;
    use proptest::prelude::*;

    use super::*;
    use crate::budget::Budget;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self, _token: u64) {}
    }

    fn nobody() -> WakeHandle {
        WakeHandle { wake: Arc::new(Nobody), token: 0 }
    }

    fn draft(budget: &Arc<Budget>, size_hint: u64) -> Draft {
        Draft::new(QueueId(7), budget.open(7, first_bytes(size_hint)).unwrap())
    }

    proptest! {
        #[test]
        fn chunks_hold_the_content_whole_however_it_comes(
            sizes in prop::collection::vec(prop_oneof![1usize..5_000, 60_000usize..200_000], 0..12),
            size_hint in prop_oneof![Just(0u64), 1u64..300_000],
        ) {
            let budget = Arc::new(Budget::new(64 << 20));
            let mut draft = draft(&budget, size_hint);
            let mut content = Vec::new();
            for (nth, size) in sizes.into_iter().enumerate() {
                let part: Vec<u8> = (0..size).map(|at| (at * 7 + nth) as u8).collect();
                prop_assert_eq!(draft.offer(&part, &nobody()), Offer::Taken);
                content.extend_from_slice(&part);
                let held: usize = draft.chunks.iter().map(Vec::capacity).sum();
                prop_assert!(held as u64 <= draft.share.bytes(), "{} of {}", held, draft.share.bytes());
            }
            let sealed = draft.seal();
            let mut found = Vec::new();
            for chunk in &sealed.chunks {
                let (header, octets) = chunk.split_first_chunk().unwrap();
                prop_assert!(chunk::is_whole(QueueId(7), *header, octets));
                prop_assert_eq!(chunk::length(*header).unwrap(), octets.len());
                found.extend_from_slice(octets);
            }
            prop_assert!(found == content);
            prop_assert_eq!(sealed.chunks.len(), content.len().div_ceil(chunk::MAX));
            drop(sealed);
            prop_assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn a_small_message_takes_little_memory() {
        let budget = Arc::new(Budget::new(1 << 20));
        let mut unknown = draft(&budget, 0);
        assert_eq!(unknown.offer(&[1; 3_000], &nobody()), Offer::Taken);
        assert_eq!(budget.used(), 4_104);
        let mut known = draft(&budget, 5_000);
        assert_eq!(known.offer(&[1; 4_900], &nobody()), Offer::Taken);
        assert_eq!(known.offer(&[1; 100], &nobody()), Offer::Taken);
        assert_eq!(budget.used(), 4_104 + 5_008);
    }

    #[test]
    fn a_content_that_no_record_could_hold_is_not_taken() {
        let budget = Arc::new(Budget::new(1));
        let mut draft = draft(&budget, 0);
        draft.octets = CONTENT_MAX;
        assert_eq!(draft.offer(b"x", &nobody()), Offer::Full);
    }
}
