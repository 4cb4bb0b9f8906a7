//! The end of the log: where the next record goes, and what has been written and not yet synced.
//!
//! All that waits is laid out as one group and written with one call. A group begins on a page of its own if a sync
//! has begun since the page before was written ([`LogWriter::begin_sync`] moves the end of the log there), so that no
//! page with acknowledged octets is ever written again, and a torn page never holds any.
//!
//! When the disk is full, what was written of a group is kept as far as records are whole; the rest is cut off, or
//! written over by the next group, and is never taken for whole: its checksums do not fit, and the chain of records
//! passes over it. Messages of the rest fail; outcomes are written again, into a reserve if need be, and if even that
//! cannot be had they wait here until room is found. So it is when a segment cannot be had for want of descriptors.
//!
//! If you change in what order things are written here, also read `scan` and the crash states in `ARCHITECTURE.md`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use penstock_core::queue_id::QueueId;

use crate::core::Core;
use crate::device;
use crate::draft::Sealed;
use crate::errors::CommitError;
use crate::events::{SpoolEvent, SpoolSink};
use crate::facts::Lsn;
use crate::format::segment::FIRST;
use crate::format::{PAGE, align_up};
use crate::gate::GateKey;
use crate::inbox::{Commit, Item, Move, Named, Saying};
use crate::layout::{Buffer, Placed, Stamp};
use crate::redo::{Location, Redo};
use crate::segments::{Purpose, Segment, Taken};

/// Octets of a group beyond which the rest waits for the next.
const GROUP_BYTES: u64 = 8 << 20;

/// Places in which it is noted when a message was last spoken of: 1 MiB, so that the facts of the second or so that an
/// index is behind share few of them.
const TOLD_BITS: u32 = 17;
const TOLD_PLACES: usize = 1 << TOLD_BITS;

/// Why the log cannot go on.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) errno: i32,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(what: &str, error: &io::Error) -> Self {
        Self { errno: error.raw_os_error().unwrap_or(0), text: format!("{what}: {error}") }
    }
}

/// What is to be told once no lock is held.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) events: Vec<SpoolEvent>,
    pub(crate) opened: Vec<GateKey>,
    pub(crate) failed: Vec<GateKey>,
    /// Contents that are in the log: dropping them makes room for drafts.
    done: Vec<Sealed>,
}

impl Outbox {
    pub(crate) fn deliver(self, sink: &dyn SpoolSink) {
        self.opened.iter().for_each(GateKey::open);
        self.failed.iter().for_each(GateKey::fail);
        if !self.events.is_empty() {
            sink.push(self.events);
        }
        drop(self.done);
    }

    /// Tell that a record will not be written.
    pub(crate) fn refuse(&mut self, item: Item, error: CommitError) {
        match item.saying {
            Saying::Commit(commit) => {
                let (ticket, queue_id) = (commit.ticket.unwrap_or(item.lsn), commit.content.queue_id);
                match &commit.refused {
                    Some(refused) => refused.store(true, Relaxed),
                    None => self.events.push(SpoolEvent::CommitFailed { ticket, queue_id, error }),
                }
                // When the log has failed nobody knows what is on the disk; the next open will.
                if error == CommitError::Full {
                    commit.content.leave();
                }
                self.done.push(commit.content);
            }
            Saying::Started { gate, .. } => self.failed.push(gate),
            // The message stays where it is.
            Saying::Facts(_) | Saying::Move(_) => {}
        }
    }
}

/// A message that is written and waits for its sync.
pub(crate) struct Ack {
    pub(crate) lsn: Lsn,
    pub(crate) ticket: u64,
    pub(crate) queue_id: QueueId,
}

/// What a sync makes durable.
pub(crate) struct SyncTarget {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) acks: Vec<Ack>,
    /// The last record among them.
    pub(crate) record: Lsn,
    /// All that was handed in up to here is written or refused.
    pub(crate) handled: Lsn,
}

/// The writer of the log.
pub(crate) struct LogWriter {
    segment: Arc<Segment>,
    nonce: u64,
    position: u64,
    capacity: u64,
    is_growing: bool,
    is_reserve: bool,
    /// The last record written.
    last: Lsn,
    /// All up to here is written or refused, but for what waits.
    taken: Lsn,
    waiting: VecDeque<Item>,
    buffer: Buffer,
    group: Vec<Placed>,
    /// Segments with octets that no sync has covered, in the order of writing.
    dirty: Vec<Arc<Segment>>,
    acks: Vec<Ack>,
    /// When the first octet was written that no sync has covered.
    dirty_since_ms: Option<u64>,
    /// Outcomes wait because there is no room for them.
    is_stalled: bool,
    told: Told,
}

impl LogWriter {
    /// Go on at `position` of a segment, after the record `last`; all numbers up to `handled` have been used.
    pub(crate) fn new(taken: Taken, position: u64, last: Lsn, handled: Lsn) -> Self {
        let Taken { segment, nonce, capacity, is_growing, is_reserve } = taken;
        Self {
            segment,
            nonce,
            position,
            capacity,
            is_growing,
            is_reserve,
            last,
            taken: handled,
            waiting: VecDeque::new(),
            buffer: Buffer::default(),
            group: Vec::new(),
            dirty: Vec::new(),
            acks: Vec::new(),
            dirty_since_ms: None,
            is_stalled: false,
            told: Told::default(),
        }
    }

    /// Whether a reserve is being written in.
    pub(crate) fn is_reserve(&self) -> bool {
        self.is_reserve
    }

    /// When the oldest octet that no sync has covered was written.
    pub(crate) fn dirty_since_ms(&self) -> Option<u64> {
        self.dirty_since_ms
    }

    /// Whether outcomes wait for room.
    pub(crate) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// Write all that waits. **Blocking** on the page cache.
    pub(crate) fn write_waiting(&mut self, core: &Core, out: &mut Outbox) -> Result<(), Failure> {
        if core.is_poisoned() {
            return Ok(());
        }
        self.taken = core.inbox.take(&mut self.waiting);
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.is_stalled = false;
        if self.is_growing && self.position > FIRST && core.segments.has_spare() {
            match self.roll(core, Purpose::Mail, 0) {
                Err(error) if !device::is_scarce(&error) => return Err(Failure::new("segment", &error)),
                _ => {}
            }
        }
        while !self.waiting.is_empty() && !self.is_stalled {
            self.write_group(core, out)?;
        }
        core.log_position.store(self.position, Relaxed);
        Ok(())
    }

    fn write_group(&mut self, core: &Core, out: &mut Outbox) -> Result<(), Failure> {
        if let Some((purpose, bytes)) = self.lay_out(core) {
            // A reserve is not left for a file that may find no room to grow.
            let is_outcomes = matches!(purpose, Purpose::Outcomes | Purpose::LastRoom);
            if self.is_reserve && !is_outcomes && !core.segments.has_spare() {
                self.no_room(core, purpose, out);
                return Ok(());
            }
            return match self.roll(core, purpose, bytes) {
                Ok(()) => Ok(()),
                Err(error) if device::is_scarce(&error) => {
                    self.no_room(core, purpose, out);
                    Ok(())
                }
                Err(error) => Err(Failure::new("segment", &error)),
            };
        }
        if self.group.is_empty() {
            // Moves that came too late.
            return Ok(());
        }
        let file = self.file(core).map_err(|error| Failure::new("log", &error))?;
        let mut slices = self.buffer.slices(&self.group);
        let (written, result) = device::write_full(&*file, &mut slices, self.position);
        let reached = self.position + written;
        if !self.dirty.last().is_some_and(|last| Arc::ptr_eq(last, &self.segment)) {
            self.dirty.push(Arc::clone(&self.segment));
        }
        self.dirty_since_ms.get_or_insert_with(|| core.now_ms());
        match result {
            Ok(()) => {
                self.accept(core, self.group.len(), out);
                Ok(())
            }
            Err(error) if device::is_full(&error) => {
                let whole = self.group.iter().take_while(|placed| placed.end() <= reached).count();
                self.accept(core, whole, out);
                self.cut_short(core, &*file, out)
            }
            Err(error) => Err(Failure::new("write to the log", &error)),
        }
    }

    /// Lay out what waits, as far as it finds room; if nothing does, tell what room it needs.
    fn lay_out(&mut self, core: &Core) -> Option<(Purpose, u64)> {
        self.buffer.clear();
        let durable = core.durable_record.load(Relaxed);
        let mut offset = self.position;
        let mut previous = self.last;
        while offset - self.position < GROUP_BYTES
            && let Some(item) = self.waiting.front()
        {
            if let Saying::Move(one) = &item.saying {
                // What is in the same group has not been told of yet.
                if self.group.iter().any(|placed| !placed.item.is_move()) {
                    break;
                }
                if self.told.last(one.queue_id) > one.as_of {
                    self.waiting.pop_front();
                    continue;
                }
            }
            let stamp = Stamp { nonce: self.nonce, previous, durable };
            let (header, range) = self.buffer.lay_out(item, stamp);
            // Where nothing but outcomes is, all of it can be used again soon.
            let is_barred =
                self.is_reserve && (item.is_commit() || item.is_move() && !core.segments.can_take_turns());
            if offset + header.span() > self.capacity || is_barred {
                self.buffer.take_back(&range);
                let purpose = purpose(item);
                return self.group.is_empty().then_some((purpose, header.record_bytes()));
            }
            let item = self.waiting.pop_front();
            self.group.extend(item.map(|item| Buffer::place(item, offset, header, range)));
            offset += header.span();
            previous = header.lsn;
        }
        None
    }

    /// Take note of the first `count` records of the group: they are written.
    fn accept(&mut self, core: &Core, count: usize, out: &mut Outbox) {
        let (number, now_ms) = (self.segment.number(), core.now_ms());
        let mut pending = core.pending.lock();
        for placed in self.group.drain(..count) {
            let (next, header) = (placed.next(), placed.header);
            let location = Location {
                segment: number,
                offset: placed.content_offset(),
                length: header.content_length.into(),
                record_bytes: header.record_bytes(),
                blob: None,
            };
            let lsn = header.lsn;
            let redo = match placed.item.saying {
                Saying::Commit(commit) => {
                    let Commit { ticket, content, accepted, hops, cause, refused, .. } = *commit;
                    let queue_id = content.queue_id;
                    core.brake.wrote(cause.iter().map(|named| &named.fact), now_ms);
                    if refused.is_none() {
                        self.acks.push(Ack { lsn, ticket: ticket.unwrap_or(lsn), queue_id });
                    }
                    let location = Location { blob: content.blob, ..location };
                    out.done.push(content);
                    let message = Redo::Accepted { lsn, queue_id, accepted, location, hops };
                    std::iter::once(message).chain(facts(lsn, cause)).collect()
                }
                Saying::Move(one) => {
                    core.counters.cleaned(header.content_length.into());
                    moved(lsn, *one, location)
                }
                Saying::Facts(named) => {
                    core.brake.wrote(named.iter().map(|named| &named.fact), now_ms);
                    facts(lsn, named).collect()
                }
                Saying::Started { queue_id, hop, attempt, peer, gate } => {
                    out.opened.extend(core.brake.pass(gate, now_ms));
                    vec![Redo::Started { lsn, queue_id, hop, attempt, peer }]
                }
            };
            redo.iter().filter_map(Redo::subject).for_each(|queue_id| self.told.note(queue_id, lsn));
            pending.push(lsn, (number, next), header.span(), redo);
            self.position = next;
            self.last = lsn;
            core.counters.records.fetch_add(1, Relaxed);
        }
        let (records, bytes) = pending.extent();
        drop(pending);
        self.segment.reaches(self.position, self.last);
        core.note_lag(records, bytes);
    }

    /// Deal with the records of a group that found no room.
    fn cut_short(
        &mut self,
        core: &Core,
        file: &dyn device::DeviceFile,
        out: &mut Outbox,
    ) -> Result<(), Failure> {
        if self.is_growing {
            // What is left of a record would be harmless; the room is wanted for others.
            let _ = file.set_size(self.position);
        }
        core.note_full();
        let outcomes = self.put_back(out);
        self.waiting.extend(outcomes);
        let Some(first) = self.waiting.front() else { return Ok(()) };
        let needed = self.buffer.lay_out(first, Stamp { nonce: 0, previous: 0, durable: 0 }).0.record_bytes();
        match self.roll(core, Purpose::LastRoom, needed) {
            Ok(()) => Ok(()),
            Err(error) if device::is_scarce(&error) => {
                self.is_stalled = true;
                Ok(())
            }
            Err(error) => Err(Failure::new("segment", &error)),
        }
    }

    /// Refuse the messages of the group and of what waits, new and moved ones; give what is left, in order.
    fn put_back(&mut self, out: &mut Outbox) -> Vec<Item> {
        let rest = self.group.drain(..).map(|placed| placed.item).chain(self.waiting.drain(..));
        let (commits, outcomes): (Vec<_>, Vec<_>) = rest.partition(|item| item.is_commit() || item.is_move());
        for item in commits {
            out.refuse(item, CommitError::Full);
        }
        outcomes
    }

    /// Deal with what waits when no segment can be had.
    fn no_room(&mut self, core: &Core, purpose: Purpose, out: &mut Outbox) {
        core.note_full();
        match purpose {
            Purpose::Mail | Purpose::Cleaning => {
                if let Some(item) = self.waiting.pop_front() {
                    out.refuse(item, CommitError::Full);
                }
            }
            Purpose::Outcomes | Purpose::LastRoom => {
                let outcomes = self.put_back(out);
                self.waiting.extend(outcomes);
                self.is_stalled = true;
            }
        }
    }

    fn roll(&mut self, core: &Core, purpose: Purpose, record_bytes: u64) -> io::Result<()> {
        let taken = core.segments.take(purpose, record_bytes)?;
        self.nonce = taken.nonce;
        self.segment = taken.segment;
        self.capacity = taken.capacity;
        self.is_growing = taken.is_growing;
        self.is_reserve = taken.is_reserve;
        self.position = FIRST;
        core.is_on_reserve.store(self.is_reserve, Relaxed);
        core.log_began_ms.store(core.now_ms(), Relaxed);
        core.want_space();
        Ok(())
    }

    fn file(&self, core: &Core) -> io::Result<Arc<dyn device::DeviceFile>> {
        self.segment.file(&*core.device)
    }

    /// Say what the sync that begins now will make durable. What is written from here on goes to another page.
    pub(crate) fn begin_sync(&mut self) -> SyncTarget {
        self.position = align_up(self.position, PAGE);
        self.dirty_since_ms = None;
        let handled = self.waiting.front().map_or(self.taken, |item| item.lsn - 1);
        SyncTarget {
            segments: std::mem::take(&mut self.dirty),
            acks: std::mem::take(&mut self.acks),
            record: self.last,
            handled,
        }
    }

    /// Give back the room behind the last record. Nothing is written any more.
    pub(crate) fn cut_off(&mut self, core: &Core) {
        // It is only room.
        let _ = core.segments.cut(&self.segment, self.position);
    }

    /// Give up: nothing of what is here will be written or synced.
    pub(crate) fn abandon(&mut self, out: &mut Outbox) {
        let items = self.group.drain(..).map(|placed| placed.item).chain(self.waiting.drain(..));
        for item in items {
            out.refuse(item, CommitError::Poisoned);
        }
        refuse_acks(std::mem::take(&mut self.acks), out);
        self.dirty.clear();
        self.dirty_since_ms = None;
        self.is_stalled = false;
    }
}

fn purpose(item: &Item) -> Purpose {
    match item.saying {
        Saying::Commit(_) => Purpose::Mail,
        Saying::Move(_) => Purpose::Cleaning,
        Saying::Facts(_) | Saying::Started { .. } => Purpose::Outcomes,
    }
}

/// When each message was last spoken of in this run. Messages share places, so that it may have been later than it was,
/// never earlier.
struct Told(Box<[Lsn]>);

impl Default for Told {
    fn default() -> Self {
        Self(vec![0; TOLD_PLACES].into_boxed_slice())
    }
}

impl Told {
    fn place(queue_id: QueueId) -> usize {
        // The upper bits of the product depend on all bits of the id (Knuth's multiplicative hash).
        (queue_id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - TOLD_BITS)) as usize
    }

    fn note(&mut self, queue_id: QueueId, lsn: Lsn) {
        if let Some(last) = self.0.get_mut(Self::place(queue_id)) {
            *last = lsn;
        }
    }

    fn last(&self, queue_id: QueueId) -> Lsn {
        self.0.get(Self::place(queue_id)).copied().unwrap_or(Lsn::MAX)
    }
}

/// Tell that messages which were written will not be synced.
pub(crate) fn refuse_acks(acks: Vec<Ack>, out: &mut Outbox) {
    out.events.extend(acks.into_iter().map(|Ack { ticket, queue_id, .. }| SpoolEvent::CommitFailed {
        ticket,
        queue_id,
        error: CommitError::Poisoned,
    }));
}

/// What is left of a message, and that it was in doubt if it was.
fn moved(lsn: Lsn, moved: Move, location: Location) -> Vec<Redo> {
    let Move { queue_id, accepted, hops, as_of, attempts, begun, blob, .. } = moved;
    let location = Location { blob, ..location };
    let started = |(hop, attempt, peer)| Redo::Started { lsn, queue_id, hop, attempt, peer };
    let message = Redo::Moved { lsn, queue_id, accepted, location, hops, as_of, attempts };
    std::iter::once(message).chain(begun.into_iter().map(started)).collect()
}

fn facts(lsn: Lsn, named: Vec<Named>) -> impl Iterator<Item = Redo> {
    named.into_iter().map(move |Named { fact, hops }| Redo::Fact { lsn, fact, hops })
}
