//! The spool as its owner sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::Thread;
use std::time::Duration;

use bytes::Bytes;
use penstock_core::flow::{ContentSink, Form, Gate, Offer, Wake, WakeHandle};
use penstock_core::queue_id::QueueId;

use crate::clock::Clock;
use crate::config::SpoolConfig;
use crate::core::{Core, SYNC_WITHIN_MS};
use crate::device::Device;
use crate::draft::{self, Draft, Drafts, Ended};
use crate::edit::{Author, Edit, Report, Target};
use crate::edits::{Asked, Item, SealedReport, Word};
use crate::errors::{CommitError, CopyError, DraftRefused, OpenError};
use crate::events::SpoolSink;
use crate::facts::{Accepted, Fact, HopId, HopKind, Lsn};
use crate::gate::GateKey;
use crate::inbox::{Commit, Named, Saying};
use crate::log_writer::Outbox;
use crate::meta::{self, Layout};
use crate::queries::Step;
use crate::queues::SuspendedQueue;
use crate::reader::{Job, StoredContent};
use crate::recovery::{self, Opened, Recovery};
use crate::redo::Location;
use crate::rows::Request;
use crate::spill::Waiting;
use crate::statistics::Statistics;
use crate::threads::Threads;

/// Facts in one record: a batch is written as one, but not without bound.
const FACTS_MAX: usize = 256;
/// How often and how long a copy waits for room for a chunk at most.
const COPY_WAITS: usize = 50;
const COPY_WAIT: Duration = Duration::from_millis(100);

/// An open spool.
///
/// What is handed to it is written in the order in which it was handed in, whoever did it; a message whose content is in a
/// blob comes when that is on the disk. No method waits for the disk,
/// [`Spool::close`], [`Spool::copy`], and in inline mode [`Spool::step`], apart. Dropping it without closing it leaves things as if the
/// process had been killed.
pub struct Spool {
    core: Arc<Core>,
    /// Who takes the steps; `None` if it is the caller of [`Spool::step`].
    threads: Option<Threads>,
    layout: Layout,
    /// Held for as long as anything may be written.
    _lock: Box<dyn std::any::Any + Send + Sync>,
}

impl Spool {
    /// Open the spool, making it if it is not there, and recover what the last run left.
    ///
    /// **Durability**: on return everything that was found is durable. **Blocking**: reads the log behind the index, and
    /// writes it anew.
    pub fn open(
        config: SpoolConfig,
        device: Arc<dyn Device>,
        clock: Arc<dyn Clock>,
        sink: Arc<dyn SpoolSink>,
    ) -> Result<(Self, Recovery), OpenError> {
        let path = config.path.clone();
        let Opened { core, recovery, layout, lock } = recovery::open(config, device, clock, sink)?;
        let core = Arc::new(core);
        let threads = if core.config.inline {
            None
        } else {
            Some(Threads::start(&core).map_err(OpenError::io(&path))?)
        };
        Ok((Self { core, threads, layout, _lock: lock }, recovery))
    }

    /// Remember a next hop, whose id then stands for it in everything that is handed in.
    pub fn register_hop(&self, connector: &str, kind: HopKind, destination: &str) -> HopId {
        self.core.hops.register(connector, kind, destination)
    }

    /// Open a draft for a message of about `size_hint` octets; 0 if that is not known.
    pub fn draft(&self, size_hint: u64) -> Result<Draft, DraftRefused> {
        draft::open(&self.core, size_hint)
    }

    /// Return what opens drafts for somebody who must not own the spool.
    pub fn drafts(&self) -> Drafts {
        Drafts(Arc::downgrade(&self.core))
    }

    /// Hand a message to the writer: what it is, what is put before its content, and facts that are to be as durable as
    /// it is, all or nothing. Returns the ticket of its [`Committed`](crate::SpoolEvent::Committed) or [`CommitFailed`](crate::SpoolEvent::CommitFailed),
    /// which may come before this returns. If the content is in a blob, the record takes its place among the others when
    /// the blob is on the disk.
    ///
    /// **Durability**: none on return; with `Committed` message and facts survive power loss.
    ///
    /// # Panics
    ///
    /// If a hop was never registered.
    pub fn commit(&self, draft: Draft, accepted: Accepted, prepend: Bytes, cause: Vec<Fact>) -> u64 {
        let hops = self.core.hops.of_message(&accepted);
        let cause = self.named(cause);
        let accepted = Arc::new(accepted);
        match draft.end() {
            Ended::Log(content) => {
                let commit = Commit { ticket: None, content, accepted, hops, prepend, cause, refused: None };
                self.push(Saying::Commit(Box::new(commit)))
            }
            Ended::Blob(body) => {
                let spills = &self.core.spills;
                let ticket = spills.ticket();
                let waiting = Box::new(Waiting { ticket, accepted, hops, prepend, cause });
                spills.commit(&self.core, &body, waiting);
                ticket
            }
        }
    }

    /// Append facts, in order. Returns the log sequence number of the last.
    ///
    /// **Durability**: written at once, so that they survive the process; a sync begins within 10 ms.
    ///
    /// # Panics
    ///
    /// If a hop was never registered.
    pub fn append(&self, facts: Vec<Fact>) -> Lsn {
        let mut facts = self.named(facts);
        let mut last = None;
        while !facts.is_empty() {
            let later = facts.split_off(facts.len().min(FACTS_MAX));
            last = Some(self.push(Saying::Facts(std::mem::replace(&mut facts, later))));
        }
        last.unwrap_or_else(|| self.core.inbox.last_lsn())
    }

    /// Record that the last octets of a message are about to be sent. The gate opens when that is written.
    pub fn started(&self, queue_id: QueueId, hop: HopId, attempt: u32, peer: &str) -> Box<dyn Gate> {
        let (key, gate) = GateKey::new();
        self.push(Saying::Started { queue_id, hop, attempt, peer: peer.into(), gate: key });
        gate
    }

    /// Wake no thread for what is handed in from now on, so that all of it makes one group; [`Spool::let_go`] must follow
    /// soon. What is waited for by time alone is not held up.
    pub fn hold(&self) {
        self.core.inbox.hold();
    }

    /// Have written and synced what was handed in since [`Spool::hold`].
    pub fn let_go(&self) {
        self.core.inbox.let_go();
    }

    /// A message's content, from its first octet. If the message is not there, the source fails.
    pub fn content(&self, queue_id: QueueId) -> StoredContent {
        match self.core.find(queue_id) {
            Some((stored, segment)) => self.core.reader.content(queue_id, &stored, segment),
            None => StoredContent::missing(),
        }
    }

    /// Edit entries, each by itself. Returns the number of the [`Answer::Edited`](crate::Answer::Edited) that says what
    /// became of each; [`Answer::Failed`](crate::Answer::Failed) comes if the log has failed, and nobody knows.
    ///
    /// **Durability**: none on return; what the answer says is done survives power loss.
    ///
    /// # Panics
    ///
    /// If a hop to redirect to was never registered.
    pub fn edit(&self, edit: Edit, author: Author, targets: Vec<Target>) -> u64 {
        if let Edit::Redirect { to, .. } = edit {
            self.core.hops.name(to);
        }
        self.ask_edit(edit, author, targets.into_iter().map(|target| Item::new(target, None)).collect())
    }

    /// Remove an entry's recipients, and store the report of that in the same record: both happen, or neither. The
    /// report's message is told of by the answer alone, which is as for [`Spool::edit`].
    ///
    /// # Panics
    ///
    /// If a hop of the report was never registered.
    pub fn remove(&self, author: Author, target: Target, report: Report) -> u64 {
        let Report { draft, accepted, prepend } = report;
        let hops = self.core.hops.of_message(&accepted);
        let item = match draft.end() {
            Ended::Log(content) => {
                let accepted = Arc::new(accepted);
                Item::new(target, Some(Box::new(SealedReport { content, accepted, hops, prepend })))
            }
            // Memory is so short that even a report was written out: it is not the time for edits.
            Ended::Blob(body) => {
                self.core.spills.abandon(&body);
                Item::busy(target)
            }
        };
        self.ask_edit(Edit::Remove, author, vec![item])
    }

    /// The delivery queues that operators have suspended, in the order of their hops' ids.
    pub fn suspended_queues(&self) -> Vec<SuspendedQueue> {
        self.core.queues.lock().suspended()
    }

    /// Note that an operator has suspended a delivery queue, or without an author that it is resumed. The spool keeps
    /// this, and does nothing else about it. Returns the number of the answer: [`Answer::Done`](crate::Answer::Done)
    /// when it is durable, or [`Answer::Failed`](crate::Answer::Failed), after which the next open finds the old or the
    /// new.
    ///
    /// # Panics
    ///
    /// If the hop was never registered.
    pub fn suspend_queue(&self, hop: HopId, author: Option<Author>) -> u64 {
        let core = &*self.core;
        let (number, name) = (core.requests.number(), core.hops.name(hop));
        core.edits.push_word(Word { number, name, author: author.map(Author::bounded) });
        core.checkpoint_bell.ring();
        number
    }

    fn ask_edit(&self, edit: Edit, author: Author, items: Vec<Item>) -> u64 {
        let core = &*self.core;
        let number = core.requests.number();
        let lsn = core.inbox.watch(items.iter().map(Item::queue_id));
        core.edits.push(Asked { number, edit, author: author.bounded(), items, lsn });
        if core.durable() < lsn {
            core.inbox.want_sync();
        }
        core.checkpoint_bell.ring();
        number
    }

    /// A draft with the content of a message that is in the queue or kept, to be committed as a message of its own.
    ///
    /// **Blocking** on disk: reads the whole content, and writes it if it is large; waits up to 5 s for memory.
    pub fn copy(&self, queue_id: QueueId) -> Result<Draft, CopyError> {
        let (stored, segment) = self.core.find(queue_id).ok_or(CopyError::Missing)?;
        let Location { length, blob, .. } = stored.location;
        let size_hint = match blob {
            Some(blob) => length + blob.bytes,
            // With the headers of its chunks it may be longer than what goes to a blob.
            None => length.min(self.core.config.blob_bytes),
        };
        let mut draft = draft::open(&self.core, size_hint).map_err(CopyError::Refused)?;
        let reading = self.core.reader.reading(queue_id, &stored, segment);
        while let Some(chunks) = self.core.reader.next(&reading)? {
            for chunk in chunks {
                self.copy_chunk(&mut draft, &chunk)?;
            }
        }
        Ok(draft)
    }

    /// Offer a chunk until it is taken. What waits for blobs meanwhile is written here too: without threads nobody else
    /// does it.
    fn copy_chunk(&self, draft: &mut Draft, chunk: &[u8]) -> Result<(), CopyError> {
        let waker = unpark();
        for wait in 0..=COPY_WAITS {
            if draft.offer(chunk, &waker) == Offer::Taken {
                return Ok(());
            }
            self.core.spills.work_off(&self.core);
            if wait > 0 && self.threads.is_some() {
                std::thread::park_timeout(COPY_WAIT);
            }
        }
        // Others have the room; whoever asked may ask again.
        Err(CopyError::Refused(DraftRefused::Budget))
    }

    /// Ask a question. Returns the number of its [`Answer`](crate::SpoolEvent::Answer).
    pub fn request(&self, request: Request) -> u64 {
        let core = &*self.core;
        if let Request::Header { queue_id, limit } = request {
            return self.request_header(queue_id, limit as usize);
        }
        let request = match request {
            // What goes on needs no newer state than there is.
            Request::Query { execution, budget }
                if execution.watermarks().is_some() && !core.is_poisoned() =>
            {
                let number = core.requests.number();
                if let Some(event) = core.query_later(Step { request: number, execution, budget }) {
                    core.sink.push(vec![event]);
                }
                return number;
            }
            request => request,
        };
        let lsn = core.inbox.last_lsn();
        let number = core.requests.push(request, lsn);
        if core.durable() < lsn {
            core.inbox.want_sync();
        }
        core.checkpoint_bell.ring();
        number
    }

    fn request_header(&self, queue_id: QueueId, limit: usize) -> u64 {
        let request = self.core.requests.number();
        let found = self.core.find(queue_id);
        let form = found.as_ref().map_or(Form::Wire, |(stored, _)| stored.form);
        let content = found.map(|(stored, segment)| self.core.reader.reading(queue_id, &stored, segment));
        // Refused only when the spool is being closed; then nobody waits for it.
        let _ = self.core.reader.jobs.push(Job::Header { request, content, form, limit });
        request
    }

    /// Inline mode: do everything that can be done now.
    pub fn step(&self) {
        debug_assert!(self.threads.is_none(), "only a spool without threads is stepped");
        let core = &*self.core;
        loop {
            core.spills.work_off(core);
            if core.inbox.is_prompt() || core.log.lock().is_stalled() {
                core.write_step();
            }
            let dirty_since = core.log.lock().dirty_since_ms();
            let is_late = dirty_since.is_some_and(|since| core.now_ms() >= since + SYNC_WITHIN_MS);
            if core.inbox.is_urgent() || is_late {
                core.sync_step();
            }
            core.checkpointer.lock().step(core, false);
            core.space.lock().step(core, &|| false);
            core.cleaner.lock().step(core);
            while let Some(job) = core.reader.jobs.try_next() {
                core.read_step(job);
            }
            while let Some(step) = core.queries.try_next() {
                core.query_step(step);
            }
            if !core.inbox.is_prompt() && !core.inbox.is_urgent() {
                return;
            }
        }
    }

    /// Inline mode: when a step would next do something without anything being handed in.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let sync_ms = self.core.log.lock().dirty_since_ms().map(|since| since + SYNC_WITHIN_MS);
        let checkpoint_ms = self.core.checkpointer.lock().next_ms(&self.core);
        let clean_ms = self.core.cleaner.lock().next_ms(&self.core);
        sync_ms.into_iter().chain(checkpoint_ms).chain(clean_ms).min()
    }

    /// The state of things, for metrics.
    pub fn statistics(&self) -> Statistics {
        let core = &*self.core;
        let (segments, damaged_segments) = core.segments.counts();
        Statistics {
            floor: core.floor.lsn(),
            segments,
            damaged_segments,
            log_bytes: core.segments.bytes(),
            is_full: core.is_full(),
            failed: core.is_poisoned(),
            index_unreadable: core.index.with(|index| Ok(index.unreadable())).unwrap_or(0),
            damaged: core.reader.damaged(),
            lag_records: core.lag_records.load(Relaxed),
            lag_bytes: core.lag_bytes.load(Relaxed),
            blob_bytes: core.blobs.bytes.load(Relaxed),
            blobs_written: core.blobs.written.load(Relaxed),
            blobs_written_bytes: core.blobs.written_bytes.load(Relaxed),
            blobs_removed: core.blobs.removed.load(Relaxed),
            drafts_spilled: core.spills.forced.load(Relaxed),
            ..core.counters.snapshot()
        }
    }

    /// Write and sync what was handed in, bring the index up to date, and release the spool.
    ///
    /// Contents that are still being read, and gates, may fail from now on. **Durability**: on return everything that
    /// was handed in survives power loss, unless the log has failed or the disk has no room at all for outcomes.
    /// **Blocking** on disk.
    pub fn close(mut self) {
        let core = Arc::clone(&self.core);
        if let Some(threads) = &mut self.threads {
            threads.stop();
        }
        core.reader.stop();
        core.queries.stop();
        core.spills.work_off(&core);
        core.sync_step();
        core.checkpointer.lock().step(&core, true);
        core.space.lock().step(&core, &|| false);
        core.index.close();
        let mut log = core.log.lock();
        if !core.is_poisoned() && !log.is_stalled() {
            log.cut_off(&core);
            meta::end_run(&*core.device, &self.layout);
        }
    }

    /// Put the names to facts that their record needs.
    fn named(&self, facts: Vec<Fact>) -> Vec<Named> {
        let named = |fact| Named { hops: self.core.hops.of_fact(&fact), fact };
        facts.into_iter().map(named).collect()
    }

    /// Hand a record to the writer; when the log has failed, tell so.
    fn push(&self, saying: Saying) -> Lsn {
        match self.core.inbox.push(saying) {
            Ok(lsn) => lsn,
            Err(item) => {
                let lsn = item.lsn;
                let mut out = Outbox::default();
                out.refuse(item, CommitError::Poisoned);
                out.deliver(&*self.core.sink);
                lsn
            }
        }
    }
}

/// A waker for the thread that calls this.
fn unpark() -> WakeHandle {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(&self, _token: u64) {
            self.0.unpark();
        }
    }
    WakeHandle { wake: Arc::new(Unpark(std::thread::current())), token: 0 }
}
