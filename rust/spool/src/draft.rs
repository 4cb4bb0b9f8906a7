//! Content on its way in: chunks as they will lie in log or blob, with their checksums computed while the octets are warm.

use std::any::Any;
use std::io;
use std::sync::{Arc, Weak};

use penstock_core::flow::{ContentSink, Offer, WakeHandle};
use penstock_core::queue_id::QueueId;

use crate::DraftRefused;
use crate::blobs::Blobs;
use crate::budget::{Piece, Share};
use crate::core::Core;
use crate::device::{self, DeviceFile};
use crate::format::chunk::{self, ChunkSum};
use crate::redo::{InBlob, LeftBlob};
use crate::spill::{Body, Room, Spills};

/// Octets that a draft takes at first if it is not known how long it will be.
const FIRST_BYTES: usize = 4096;
/// Octets of content in one message; a record's lengths have 32 bits.
const CONTENT_MAX: u64 = 1 << 30;
/// Octets of a full chunk with its header.
const FULL: usize = chunk::HEADER + chunk::MAX;

/// A message's content while it comes in. Dropping it forgets the content.
///
/// Its octets count against the spool's budget; when that is spent, [`Offer::Full`] is the answer and the waker fires
/// when there is room again. Content that is large, or for which memory is short, goes to a blob while it comes in.
/// Once that has failed, or the disk has no room for it, all that is offered is taken and forgotten; the commit fails.
pub struct Draft {
    queue_id: QueueId,
    share: Share,
    spills: Arc<Spills>,
    /// The full chunks, if there are any.
    body: Option<Owned>,
    /// Begins with room for its header; not full.
    last: Option<Vec<u8>>,
    /// Of the last chunk.
    sum: ChunkSum,
    /// Octets that the last chunk has room for.
    room: u64,
    octets: u64,
    /// It is expected to be large.
    is_large: bool,
}

/// What a look at a draft's octets has found.
pub enum Look {
    /// These; none behind the last.
    Octets(Vec<u8>),
    /// They are in a file.
    File(FilePart),
    /// They are on their way into a file; the next look may find them.
    Later,
    /// They are gone, since the content cannot be stored.
    Lost,
}

/// A part of a file in which a draft's octets are.
pub struct FilePart {
    pub(crate) file: Arc<dyn DeviceFile>,
    pub(crate) offset: u64,
    pub(crate) length: usize,
}

impl FilePart {
    /// Read it. **Blocking.**
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; self.length];
        let read = device::read_full(&*self.file, &mut octets, self.offset)?;
        octets.truncate(read);
        Ok(octets)
    }
}

/// A content that is complete.
pub(crate) struct Sealed {
    pub(crate) queue_id: QueueId,
    /// Chunks with their headers; none if it is in a blob.
    pub(crate) chunks: Vec<Vec<u8>>,
    pub(crate) blob: Option<InBlob>,
    /// Where the blob is.
    blobs: Option<Arc<Blobs>>,
    /// These hold the memory's place in the budget.
    _share: Option<Share>,
    _pieces: Vec<Piece>,
}

/// A body as long as its draft is not complete; dropping it forgets the content.
struct Owned {
    body: Arc<Body>,
    spills: Arc<Spills>,
    is_complete: bool,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if !self.is_complete {
            self.spills.abandon(&self.body);
        }
    }
}

impl Sealed {
    /// The content of a message that is in a blob, on the disk.
    pub(crate) fn in_blob(queue_id: QueueId, blob: InBlob, blobs: Arc<Blobs>) -> Self {
        let (blob, blobs) = (Some(blob), Some(blobs));
        Self { queue_id, chunks: Vec::new(), blob, blobs, _share: None, _pieces: Vec::new() }
    }

    /// Say that no record will name it.
    pub(crate) fn leave(&self) {
        if let (Some(blobs), Some(InBlob { bytes, .. })) = (&self.blobs, self.blob) {
            blobs.leave([LeftBlob { queue_id: self.queue_id, bytes }]);
        }
    }
}

/// Where a content that is complete goes.
pub(crate) enum Ended {
    /// Into the log, with its record.
    Log(Sealed),
    /// Into a blob, before its record.
    Blob(Arc<Body>),
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
    let Some(share) = core.budget.open(queue_id.0, first_bytes(size_hint)) else {
        core.spills.relieve(true);
        return Err(DraftRefused::Budget);
    };
    Ok(Draft::new(queue_id, share, &core.spills, size_hint))
}

/// Octets to count for a draft before any content has come.
fn first_bytes(size_hint: u64) -> u64 {
    let octets = if size_hint == 0 { FIRST_BYTES as u64 } else { size_hint.min(chunk::MAX as u64) };
    octets + chunk::HEADER as u64
}

impl Draft {
    pub(crate) fn new(queue_id: QueueId, share: Share, spills: &Arc<Spills>, size_hint: u64) -> Self {
        let (spills, is_large) = (Arc::clone(spills), spills.is_large(size_hint));
        let sum = ChunkSum::new(queue_id);
        Self { queue_id, share, spills, body: None, last: None, sum, room: 0, octets: 0, is_large }
    }

    /// The message's name from now on.
    pub fn queue_id(&self) -> QueueId {
        self.queue_id
    }

    /// Look at up to `length` octets from an offset on, and at no more than one chunk; never blocks.
    pub fn look(&self, offset: u64, length: usize) -> Look {
        let left = self.octets.saturating_sub(offset);
        let (index, within) = (offset / chunk::MAX as u64, (offset % chunk::MAX as u64) as usize);
        let length = (length as u64).min(left).min((chunk::MAX - within) as u64) as usize;
        if length == 0 {
            return Look::Octets(Vec::new());
        }
        if index < self.body.as_ref().map_or(0, |owned| owned.body.chunks()) {
            return self.body.as_ref().map_or(Look::Lost, |owned| owned.body.look(index, within, length));
        }
        let start = chunk::HEADER + within;
        let octets = self.last.as_ref().and_then(|last| last.get(start..start + length));
        octets.map_or(Look::Lost, |octets| Look::Octets(octets.to_vec()))
    }

    /// Close the chunks.
    pub(crate) fn end(mut self) -> Ended {
        self.share.seal();
        if self.spills.is_large(self.octets) {
            self.owned();
            self.spill();
        }
        let (mut chunks, pieces) = match self.body.as_ref().map(|owned| owned.body.take()) {
            None => (Vec::new(), Vec::new()),
            Some(Some(taken)) => taken,
            Some(None) => {
                self.close_chunk();
                let body = Arc::clone(&self.owned().body);
                self.owned().is_complete = true;
                return Ended::Blob(body);
            }
        };
        if let Some(owned) = &mut self.body {
            owned.is_complete = true;
            self.spills.taken(&owned.body);
        }
        chunks.extend(self.take_last());
        let (queue_id, share) = (self.queue_id, Some(self.share));
        Ended::Log(Sealed { queue_id, chunks, blob: None, blobs: None, _share: share, _pieces: pieces })
    }

    /// Have what is full written out, and what will be.
    fn spill(&self) {
        if let Some(owned) = &self.body {
            self.spills.spill(&owned.body);
        }
    }

    /// The body, which is made if need be.
    fn owned(&mut self) -> &mut Owned {
        let (spills, queue_id) = (&self.spills, self.queue_id);
        self.body.get_or_insert_with(|| Owned {
            body: spills.body(queue_id),
            spills: Arc::clone(spills),
            is_complete: false,
        })
    }

    /// Take the last chunk, with its header.
    fn take_last(&mut self) -> Option<Vec<u8>> {
        let mut last = self.last.take()?;
        let header = self.sum.header(last.len() - chunk::HEADER);
        if let Some(place) = last.first_chunk_mut() {
            *place = header;
        }
        self.sum = ChunkSum::new(self.queue_id);
        Some(last)
    }

    /// Move the last chunk to the others.
    fn close_chunk(&mut self) {
        let Some(last) = self.take_last() else { return };
        let piece = self.share.split(std::mem::take(&mut self.room));
        let spills = Arc::clone(&self.spills);
        spills.add(&self.owned().body, last, piece);
    }

    /// Give back the memory of a content that will not be stored.
    fn forget(&mut self) {
        self.last = None;
        self.room = 0;
        self.share.shrink(self.share.bytes());
    }

    /// What to take for a chunk, or how far to lengthen the last, so that `octets` find room as far as one chunk goes.
    fn last_capacity(&self, octets: usize) -> usize {
        match &self.last {
            None if self.octets > 0 => FULL,
            None => {
                let granted = self.share.bytes().min(FULL as u64) as usize;
                (chunk::HEADER + octets).max(granted).min(FULL)
            }
            Some(last) if last.len() + octets <= last.capacity() => last.capacity(),
            Some(last) => (last.len() + octets).max(2 * last.capacity()).min(FULL),
        }
    }

    /// Octets of memory that taking this many octets will add.
    fn more_room(&self, octets: usize) -> u64 {
        let capacity = self.last_capacity(octets);
        let (before, length) =
            self.last.as_ref().map_or((0, chunk::HEADER), |last| (last.capacity(), last.len()));
        let behind = octets.saturating_sub(capacity - length);
        let whole = behind.div_ceil(chunk::MAX) * FULL;
        (capacity - before + whole) as u64
    }

    fn push(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let capacity = self.last_capacity(octets.len());
            let last = self.last.get_or_insert_with(|| {
                let mut fresh = Vec::with_capacity(capacity);
                fresh.resize(chunk::HEADER, 0);
                fresh
            });
            last.reserve_exact(capacity.saturating_sub(last.len()));
            self.room = last.capacity() as u64;
            let (now, later) = octets.split_at(octets.len().min(FULL - last.len()));
            last.extend_from_slice(now);
            self.sum.push(now);
            self.octets += now.len() as u64;
            octets = later;
            if last.len() == FULL {
                self.close_chunk();
            }
        }
    }
}

impl ContentSink for Draft {
    fn offer(&mut self, octets: &[u8], waker: &WakeHandle) -> Offer {
        if self.octets + octets.len() as u64 > CONTENT_MAX {
            return Offer::Full;
        }
        match self.body.as_ref().map_or(Room::Free, |owned| self.spills.room(&owned.body, waker)) {
            Room::Free => {}
            Room::Full => return Offer::Full,
            Room::Failed => {
                self.forget();
                self.octets += octets.len() as u64;
                return Offer::Taken;
            }
        }
        let room = self.room + self.more_room(octets.len());
        let missing = room.saturating_sub(self.share.bytes());
        if missing > 0 {
            let is_granted = self.share.grow(missing, waker);
            self.spills.relieve(!is_granted);
            if !is_granted {
                return Offer::Full;
            }
        }
        self.push(octets);
        if self.is_large || self.spills.is_large(self.octets) {
            self.spill();
        }
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
    use crate::testing::FaultyDevice;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self, _token: u64) {}
    }

    fn nobody() -> WakeHandle {
        WakeHandle { wake: Arc::new(Nobody), token: 0 }
    }

    fn draft(budget: &Arc<Budget>, size_hint: u64) -> Draft {
        let blobs = Arc::new(Blobs::new(Arc::new(FaultyDevice::new(1)), "blobs".into(), 0));
        let spills = Arc::new(Spills::new(blobs, Arc::clone(budget), u64::MAX));
        Draft::new(QueueId(7), budget.open(7, first_bytes(size_hint)).unwrap(), &spills, size_hint)
    }

    fn sealed(draft: Draft) -> Sealed {
        match draft.end() {
            Ended::Log(sealed) => sealed,
            Ended::Blob(_) => panic!("there is room in memory"),
        }
    }

    proptest! {
        #[test]
        fn chunks_hold_the_content_whole_however_it_comes(
            sizes in prop::collection::vec(prop_oneof![1usize..5_000, 60_000usize..200_000], 0..12),
            size_hint in prop_oneof![Just(0u64), 1u64..300_000],
            look_size in 3_000usize..100_000,
        ) {
            let budget = Arc::new(Budget::new(64 << 20));
            let mut draft = draft(&budget, size_hint);
            let mut content = Vec::new();
            for (nth, size) in sizes.into_iter().enumerate() {
                let part: Vec<u8> = (0..size).map(|at| (at * 7 + nth) as u8).collect();
                prop_assert_eq!(draft.offer(&part, &nobody()), Offer::Taken);
                content.extend_from_slice(&part);
                let held = draft.last.as_ref().map_or(0, Vec::capacity);
                prop_assert!(held as u64 <= draft.share.bytes(), "{} of {}", held, draft.share.bytes());
                let full = content.len() / chunk::MAX * FULL;
                prop_assert_eq!(budget.used(), draft.share.bytes() + full as u64);
            }
            let mut looked = Vec::new();
            while let Look::Octets(octets) = draft.look(looked.len() as u64, look_size)
                && !octets.is_empty()
            {
                prop_assert!(octets.len() <= look_size);
                looked.extend_from_slice(&octets);
            }
            prop_assert!(looked == content);
            prop_assert!(matches!(draft.look(u64::MAX, look_size), Look::Octets(octets) if octets.is_empty()));
            let sealed = sealed(draft);
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
