//! Content on its way into blobs: drafts that have grown beyond one chunk, and the threads that write them out.
//!
//! A draft keeps its last chunk to itself; full ones go to its [`Body`], where others can reach them. A body *spills*
//! when its draft is larger than a record should be, or when memory is short: then the largest go first, the oldest of
//! those that are as large, whether their peers send anything or not. What spills is written by a few threads in turn,
//! and its memory goes back to the budget chunk by chunk. Where memory is short, a draft that spills is held back until
//! its own chunks are written, so that a slow disk slows the peers down, and not the log.
//!
//! When a draft that spills is committed, the rest of it is written, the blob gets its name and is synced, and only then
//! is the record handed to the writer. All of that happens here: no reactor and no thread of the log waits for a blob.
//!
//! A disk without room refuses the one message: what was written is removed, what still comes is forgotten, the commit
//! fails. Any other error is the end of the shard, as an error of the log is: a sync that has failed cannot be believed
//! the next time, for this directory either.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use parking_lot::Mutex;
use penstock_core::flow::WakeHandle;
use penstock_core::queue_id::QueueId;

use crate::blobs::Blobs;
use crate::budget::{Budget, Piece};
use crate::core::Core;
use crate::device::{self, DeviceFile};
use crate::draft::{FilePart, Look, Sealed};
use crate::errors::CommitError;
use crate::events::SpoolEvent;
use crate::facts::{Accepted, HopName};
use crate::format::blob::HEADER;
use crate::format::chunk;
use crate::inbox::{Commit, Named, Saying};
use crate::jobs::Jobs;
use crate::log_writer::{Failure, Outbox};
use crate::redo::InBlob;

/// Octets that are written in one turn.
const TURN_BYTES: u64 = 1 << 20;
/// Octets of a draft that may wait to be written where memory is short.
const AHEAD_BYTES: u64 = 512 << 10;
/// Octets between two syncs of a blob that grows: one big sync at its end would hold up those of the log.
const SYNC_BYTES: u64 = 8 << 20;
/// Memory is short when less than this part of the budget is left...
const SHORT: u64 = 4;
/// ... and then so much of it is made free at a time, what is on its way to the disk included.
const RELIEF: u64 = 8;
/// Octets of a full chunk with its header.
const FULL: u64 = (chunk::HEADER + chunk::MAX) as u64;
/// Where the tickets of messages with blobs begin; no log sequence number is so great.
const TICKETS: u64 = 1 << 63;

/// A message that waits for its blob.
pub(crate) struct Waiting {
    pub(crate) ticket: u64,
    pub(crate) accepted: Arc<Accepted>,
    pub(crate) hops: Vec<Arc<HopName>>,
    pub(crate) prepend: Bytes,
    pub(crate) cause: Vec<Named>,
}

/// How a draft has ended.
enum End {
    /// It has not.
    Open,
    /// Nobody wants it any more.
    Dropped,
    /// It is to be stored.
    Commit(Box<Waiting>),
    /// Nothing is left to do.
    Done,
}

struct Chunk {
    octets: Vec<u8>,
    piece: Piece,
}

struct State {
    /// Those that are not being written, in order.
    chunks: VecDeque<Chunk>,
    /// Octets of memory of those that are being written.
    in_hand: u64,
    is_spilling: bool,
    /// Whether a thread has it, or will.
    is_scheduled: bool,
    end: End,
    /// Why it cannot be stored.
    error: Option<CommitError>,
    /// Of all chunks that ever were here.
    total: InBlob,
    /// Whom to wake when there is room, or never will be.
    waker: Option<WakeHandle>,
}

/// The file, for the thread that has the body.
#[derive(Default)]
struct Output {
    file: Option<Arc<dyn DeviceFile>>,
    position: u64,
    unsynced: u64,
}

/// The full chunks of a draft.
pub(crate) struct Body {
    queue_id: QueueId,
    state: Mutex<State>,
    output: Mutex<Output>,
    /// Octets of memory that it holds.
    held: AtomicU64,
}

/// Whether a body takes more.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Room {
    Free,
    /// The waker fires when it has changed.
    Full,
    /// It will never be stored.
    Failed,
}

/// What a thread does next for a body.
enum Task {
    Write(Vec<Chunk>),
    Finish(InBlob),
    Refuse(CommitError, Box<Waiting>),
    Discard,
    Rest,
}

impl Body {
    pub(crate) fn new(queue_id: QueueId) -> Self {
        let state = State {
            chunks: VecDeque::new(),
            in_hand: 0,
            is_spilling: false,
            is_scheduled: false,
            end: End::Open,
            error: None,
            total: InBlob::default(),
            waker: None,
        };
        let (state, output) = (Mutex::new(state), Mutex::default());
        Self { queue_id, state, output, held: AtomicU64::new(0) }
    }

    /// How many chunks ever were here.
    pub(crate) fn chunks(&self) -> u64 {
        self.state.lock().total.bytes / FULL
    }

    /// Look at octets of a chunk of a draft that is not committed; never blocks.
    pub(crate) fn look(&self, index: u64, within: usize, length: usize) -> Look {
        let in_file = index * FULL;
        {
            let state = self.state.lock();
            if state.error.is_some() {
                return Look::Lost;
            }
            let first = (state.total.bytes / FULL).saturating_sub(state.chunks.len() as u64);
            if let Some(nth) = index.checked_sub(first) {
                let start = chunk::HEADER + within;
                let octets = state.chunks.get(nth as usize).and_then(|c| c.octets.get(start..start + length));
                return octets.map_or(Look::Lost, |octets| Look::Octets(octets.to_vec()));
            }
        }
        // Whoever writes has taken it: it is in the file, or will be.
        let Some(output) = self.output.try_lock() else { return Look::Later };
        match &output.file {
            Some(file) if output.position >= HEADER as u64 + in_file + FULL => Look::File(FilePart {
                file: Arc::clone(file),
                offset: HEADER as u64 + in_file + (chunk::HEADER + within) as u64,
                length,
            }),
            _ => Look::Later,
        }
    }

    /// Take the chunks into memory for good; `None` if it spills.
    pub(crate) fn take(&self) -> Option<(Vec<Vec<u8>>, Vec<Piece>)> {
        let mut state = self.state.lock();
        if state.is_spilling {
            return None;
        }
        state.end = End::Done;
        let chunks = std::mem::take(&mut state.chunks);
        Some(chunks.into_iter().map(|chunk| (chunk.octets, chunk.piece)).unzip())
    }
}

impl State {
    fn has_work(&self) -> bool {
        let has_chunks = self.is_spilling && !self.chunks.is_empty();
        has_chunks || matches!(self.end, End::Dropped | End::Commit(_))
    }

    /// What to do next, and chunks that are to be forgotten.
    fn next(&mut self) -> (Task, VecDeque<Chunk>) {
        let none = VecDeque::new();
        if matches!(self.end, End::Dropped) {
            self.end = End::Done;
            return (Task::Discard, std::mem::take(&mut self.chunks));
        }
        if let Some(error) = self.error {
            let task = match std::mem::replace(&mut self.end, End::Open) {
                End::Commit(waiting) => {
                    self.end = End::Done;
                    Task::Refuse(error, waiting)
                }
                end => {
                    self.end = end;
                    Task::Rest
                }
            };
            return (task, std::mem::take(&mut self.chunks));
        }
        let mut chunks = Vec::new();
        while self.in_hand < TURN_BYTES
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.in_hand += chunk.piece.bytes();
            chunks.push(chunk);
        }
        let task = match &self.end {
            _ if !chunks.is_empty() => Task::Write(chunks),
            End::Commit(_) => Task::Finish(self.total),
            End::Open | End::Dropped | End::Done => Task::Rest,
        };
        (task, none)
    }
}

impl Output {
    fn write(&mut self, blobs: &Blobs, queue_id: QueueId, chunks: &[Chunk]) -> io::Result<()> {
        let file = if let Some(file) = &self.file {
            Arc::clone(file)
        } else {
            let file = blobs.begin(queue_id)?;
            self.file = Some(Arc::clone(&file));
            self.position = HEADER as u64;
            file
        };
        let mut slices: Vec<IoSlice<'_>> = chunks.iter().map(|chunk| IoSlice::new(&chunk.octets)).collect();
        let (written, result) = device::write_full(&*file, &mut slices, self.position);
        self.position += written;
        self.unsynced += written;
        result?;
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            device::sync(&*file)?;
        }
        Ok(())
    }
}

/// All bodies of a shard.
pub(crate) struct Spills {
    blobs: Arc<Blobs>,
    budget: Arc<Budget>,
    /// Octets of content above which it goes to a blob.
    limit: u64,
    /// Bodies that could spill.
    large: Mutex<HashMap<QueueId, Arc<Body>>>,
    /// Bodies with something to do. When the threads have ended, it is for [`Spills::work_off`].
    pub(crate) ready: Jobs<Arc<Body>>,
    /// Bodies of messages that wait for their blobs.
    waiting: Mutex<HashMap<QueueId, Arc<Body>>>,
    /// Octets of memory that will be free when they are written.
    unwritten: AtomicU64,
    tickets: AtomicU64,
    /// Drafts that were spilled for want of memory.
    pub(crate) forced: AtomicU64,
}

impl Spills {
    pub(crate) fn new(blobs: Arc<Blobs>, budget: Arc<Budget>, limit: u64) -> Self {
        Self {
            blobs,
            budget,
            limit,
            large: Mutex::default(),
            ready: Jobs::new(usize::MAX),
            waiting: Mutex::default(),
            unwritten: AtomicU64::new(0),
            tickets: AtomicU64::new(TICKETS),
            forced: AtomicU64::new(0),
        }
    }

    /// Whether a content of so many octets goes to a blob.
    pub(crate) fn is_large(&self, octets: u64) -> bool {
        octets > self.limit
    }

    /// A number by which a commit is told from all others of this run.
    pub(crate) fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Relaxed)
    }

    /// A body for a draft, which may spill from now on.
    pub(crate) fn body(&self, queue_id: QueueId) -> Arc<Body> {
        let body = Arc::new(Body::new(queue_id));
        self.large.lock().insert(queue_id, Arc::clone(&body));
        body
    }

    /// Say that a body's chunks were taken.
    pub(crate) fn taken(&self, body: &Body) {
        self.large.lock().remove(&body.queue_id);
    }

    /// Give a body its next chunk, header included.
    pub(crate) fn add(&self, body: &Arc<Body>, octets: Vec<u8>, piece: Piece) {
        let bytes = piece.bytes();
        let mut state = body.state.lock();
        if state.error.is_some() {
            return;
        }
        state.total.bytes += octets.len() as u64;
        state.total.sum =
            crc32c::crc32c_append(state.total.sum, octets.get(..chunk::HEADER).unwrap_or_default());
        state.chunks.push_back(Chunk { octets, piece });
        body.held.fetch_add(bytes, Relaxed);
        if state.is_spilling {
            self.unwritten.fetch_add(bytes, Relaxed);
            self.schedule(body, &mut state);
        }
    }

    /// Whether a body takes more.
    pub(crate) fn room(&self, body: &Body, waker: &WakeHandle) -> Room {
        let mut state = body.state.lock();
        if state.error.is_some() {
            return Room::Failed;
        }
        let is_ahead = state.is_spilling && body.held.load(Relaxed) >= AHEAD_BYTES;
        if is_ahead && self.budget.used() > self.budget.limit() / 2 {
            state.waker = Some(waker.clone());
            return Room::Full;
        }
        Room::Free
    }

    /// Have a body written out from now on.
    pub(crate) fn spill(&self, body: &Arc<Body>) {
        self.large.lock().remove(&body.queue_id);
        let mut state = body.state.lock();
        if state.is_spilling || !matches!(state.end, End::Open) {
            return;
        }
        state.is_spilling = true;
        self.unwritten.fetch_add(body.held.load(Relaxed), Relaxed);
        self.schedule(body, &mut state);
    }

    /// If memory is short, or `is_refused` says that there was too little, have the largest bodies spill.
    pub(crate) fn relieve(&self, is_refused: bool) {
        let limit = self.budget.limit();
        if !is_refused && self.budget.used() <= limit - limit / SHORT {
            return;
        }
        while self.unwritten.load(Relaxed) <= limit / RELIEF {
            let rank = |body: &&Arc<Body>| (body.held.load(Relaxed), Reverse(body.queue_id));
            let largest = self.large.lock().values().max_by_key(rank).cloned();
            let Some(largest) = largest.filter(|body| body.held.load(Relaxed) > 0) else { return };
            self.forced.fetch_add(1, Relaxed);
            self.spill(&largest);
        }
    }

    /// Say that nobody wants a draft any more.
    pub(crate) fn abandon(&self, body: &Arc<Body>) {
        self.large.lock().remove(&body.queue_id);
        let mut state = body.state.lock();
        if !matches!(state.end, End::Open) {
            return;
        }
        if state.is_spilling {
            state.end = End::Dropped;
            self.schedule(body, &mut state);
        } else {
            state.end = End::Done;
            let forgotten = std::mem::take(&mut state.chunks);
            drop(state);
            drop(forgotten);
        }
    }

    /// Store a body, all of whose chunks are there.
    pub(crate) fn commit(&self, core: &Core, body: &Arc<Body>, waiting: Box<Waiting>) {
        self.spill(body);
        {
            let mut state = body.state.lock();
            state.end = End::Commit(waiting);
            self.waiting.lock().insert(body.queue_id, Arc::clone(body));
            self.schedule(body, &mut state);
        }
        if core.is_poisoned() {
            // Whoever refuses what waits may have come too early for this one.
            core.refuse_blobs(Outbox::default());
        }
    }

    /// Take all messages that wait for their blobs, because they will not be stored; tells tickets and messages.
    pub(crate) fn take_waiting(&self) -> Vec<(u64, QueueId)> {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        let taken =
            waiting.into_values().filter_map(|body| Some((self.take_commit(&body)?.ticket, body.queue_id)));
        taken.collect()
    }

    fn take_commit(&self, body: &Body) -> Option<Box<Waiting>> {
        self.waiting.lock().remove(&body.queue_id);
        let mut state = body.state.lock();
        match std::mem::replace(&mut state.end, End::Done) {
            End::Commit(waiting) => Some(waiting),
            end => {
                state.end = end;
                None
            }
        }
    }

    fn schedule(&self, body: &Arc<Body>, state: &mut State) {
        if !state.is_scheduled && state.has_work() {
            state.is_scheduled = true;
            self.ready.keep(Arc::clone(body));
        }
    }

    /// Do all that waits. **Blocking** on disk.
    pub(crate) fn work_off(&self, core: &Core) {
        while let Some(body) = self.ready.try_next() {
            self.work(core, &body);
        }
    }

    /// Do the next thing for a body, and have the rest done in its turn. **Blocking** on disk.
    pub(crate) fn work(&self, core: &Core, body: &Arc<Body>) {
        let (task, forgotten) = {
            let mut state = body.state.lock();
            if core.is_poisoned() {
                state.error.get_or_insert(CommitError::Poisoned);
            }
            state.next()
        };
        self.forget(body, forgotten);
        match task {
            Task::Write(chunks) => {
                let result = body.output.lock().write(&self.blobs, body.queue_id, &chunks);
                self.written(body, chunks);
                if let Err(error) = result {
                    self.fail(core, body, &error);
                }
            }
            Task::Finish(in_blob) => match self.finish(body) {
                Ok(()) => self.hand_in(core, body, in_blob),
                Err(error) => self.fail(core, body, &error),
            },
            Task::Refuse(error, waiting) => {
                self.waiting.lock().remove(&body.queue_id);
                let (ticket, queue_id) = (waiting.ticket, body.queue_id);
                core.sink.push(vec![SpoolEvent::CommitFailed { ticket, queue_id, error }]);
            }
            Task::Discard => {
                if body.output.lock().file.take().is_some() {
                    self.blobs.discard(body.queue_id);
                }
            }
            Task::Rest => {}
        }
        let mut state = body.state.lock();
        state.is_scheduled = false;
        self.schedule(body, &mut state);
        let waker = if state.error.is_some() || body.held.load(Relaxed) < AHEAD_BYTES {
            state.waker.take()
        } else {
            None
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Give the memory of chunks back.
    fn forget(&self, body: &Body, chunks: impl IntoIterator<Item = Chunk>) {
        for chunk in chunks {
            let bytes = chunk.piece.bytes();
            body.held.fetch_sub(bytes, Relaxed);
            self.unwritten.fetch_sub(bytes, Relaxed);
        }
    }

    fn written(&self, body: &Body, chunks: Vec<Chunk>) {
        body.state.lock().in_hand = 0;
        self.forget(body, chunks);
    }

    /// See the blob on the disk under its name.
    fn finish(&self, body: &Body) -> io::Result<()> {
        let mut output = body.output.lock();
        // A content without octets has no chunk that would have made the file.
        output.write(&self.blobs, body.queue_id, &[])?;
        let Some(file) = output.file.take() else { return Ok(()) };
        let finished = self.blobs.finish(body.queue_id, &*file);
        if finished.is_err() {
            output.file = Some(file);
        }
        finished
    }

    /// Hand the record of a blob that is durable to the writer.
    fn hand_in(&self, core: &Core, body: &Body, in_blob: InBlob) {
        let Some(waiting) = self.take_commit(body) else { return };
        self.blobs.note_written(in_blob.bytes);
        let Waiting { ticket, accepted, hops, prepend, cause } = *waiting;
        let content = Sealed::in_blob(body.queue_id, in_blob, Arc::clone(&self.blobs));
        let commit = Commit { ticket: Some(ticket), content, accepted, hops, prepend, cause, refused: None };
        if let Err(item) = core.inbox.push(Saying::Commit(Box::new(commit))) {
            let mut out = Outbox::default();
            out.refuse(item, CommitError::Poisoned);
            out.deliver(&*core.sink);
        }
    }

    /// Deal with a body that cannot be written.
    fn fail(&self, core: &Core, body: &Body, error: &io::Error) {
        let is_scarce = device::is_scarce(error);
        if device::is_full(error) {
            core.note_full();
        }
        if !is_scarce {
            core.poison(Failure::new("write of a blob", error));
        }
        let forgotten = {
            let mut state = body.state.lock();
            state.error = Some(if is_scarce { CommitError::Full } else { CommitError::Poisoned });
            std::mem::take(&mut state.chunks)
        };
        self.forget(body, forgotten);
        if body.output.lock().file.take().is_some() {
            self.blobs.discard(body.queue_id);
        }
    }
}
