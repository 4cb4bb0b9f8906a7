//! What the threads of a shard share, and the steps that they take.
//!
//! Each thread drives one object a step at a time; inline, the caller of `Spool::step` drives them all. Locks are taken
//! in this order: checkpointer, space or cleaner; log; inbox, pending, brake or the messages being synced. Of these only
//! the first is held while somebody outside is called; the others stand alone, but for a draft's body, which comes before
//! the queue of those that spill.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;
use penstock_core::queue_id::QueueId;

use crate::bell::Bell;
use crate::blobs::Blobs;
use crate::brake::Brake;
use crate::budget::Budget;
use crate::checkpointer::Checkpointer;
use crate::cleaner::Cleaner;
use crate::clock::Clock;
use crate::config::SpoolConfig;
use crate::device::{self, Device};
use crate::edits::Edits;
use crate::errors::CommitError;
use crate::events::{SpoolEvent, SpoolSink};
use crate::floor::Floor;
use crate::gate::GateKey;
use crate::header;
use crate::hops::HopNames;
use crate::ids::IdSource;
use crate::inbox::Inbox;
use crate::index_slot::IndexSlot;
use crate::jobs::Jobs;
use crate::log_writer::{Ack, Failure, LogWriter, Outbox, SyncTarget, refuse_acks};
use crate::pending::Pending;
use crate::queries::{self, Step};
use crate::queues::Queues;
use crate::reader::{Job, Reader};
use crate::redo::Stored;
use crate::requests::Requests;
use crate::rows::Answer;
use crate::segments::{Segment, Segments};
use crate::space::Space;
use crate::spill::Spills;
use crate::statistics::Counters;

/// How long a sync that nobody waits for may be put off.
pub(crate) const SYNC_WITHIN_MS: u64 = 10;

/// A shard.
pub(crate) struct Core {
    pub(crate) config: SpoolConfig,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sink: Arc<dyn SpoolSink>,
    pub(crate) inbox: Inbox,
    pub(crate) log: Mutex<LogWriter>,
    pub(crate) pending: Mutex<Pending>,
    /// Messages that are being synced.
    syncing: Mutex<Vec<Ack>>,
    pub(crate) segments: Segments,
    pub(crate) floor: Floor,
    pub(crate) index: IndexSlot,
    pub(crate) requests: Requests,
    pub(crate) queries: Jobs<Step>,
    pub(crate) edits: Edits,
    pub(crate) queues: Mutex<Queues>,
    pub(crate) checkpointer: Mutex<Checkpointer>,
    pub(crate) space: Mutex<Space>,
    pub(crate) cleaner: Mutex<Cleaner>,
    pub(crate) reader: Arc<Reader>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) brake: Brake,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) spills: Arc<Spills>,
    pub(crate) hops: HopNames,
    pub(crate) ids: Mutex<IdSource>,
    pub(crate) counters: Counters,
    /// Everything handed in up to here is durable, or was refused.
    pub(crate) durable: AtomicU64,
    /// The last record that is durable.
    pub(crate) durable_record: AtomicU64,
    /// Where in its segment the log ends.
    pub(crate) log_position: AtomicU64,
    /// When that segment was begun.
    pub(crate) log_began_ms: AtomicU64,
    /// Whether that segment is a reserve, in which there is no room for mail.
    pub(crate) is_on_reserve: AtomicBool,
    pub(crate) checkpoint_bell: Bell,
    pub(crate) space_bell: Bell,
    pub(crate) clean_bell: Bell,
    pub(crate) lag_records: AtomicU64,
    pub(crate) lag_bytes: AtomicU64,
    is_full: AtomicBool,
    failure: OnceLock<Failure>,
    epoch: Instant,
}

/// How the log stands after a write.
pub(crate) struct AfterWrite {
    /// When a sync of what was written has to begin at the latest.
    pub(crate) sync_by_ms: Option<u64>,
    /// Whether outcomes wait for room.
    pub(crate) is_stalled: bool,
}

/// The parts of a shard that recovery makes.
pub(crate) struct Parts {
    pub(crate) config: SpoolConfig,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sink: Arc<dyn SpoolSink>,
    pub(crate) log: LogWriter,
    pub(crate) segments: Segments,
    pub(crate) floor: Floor,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) index: IndexSlot,
    pub(crate) queues: Queues,
    pub(crate) last_lsn: u64,
    pub(crate) durable_record: u64,
    pub(crate) last_id: Option<QueueId>,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Self {
        let config = parts.config;
        let budget = Arc::new(Budget::new(config.draft_budget_bytes));
        let spills = Spills::new(Arc::clone(&parts.blobs), Arc::clone(&budget), config.blob_bytes);
        let now_ms = if config.inline { parts.clock.now_ms() } else { 0 };
        Self {
            inbox: Inbox::new(parts.last_lsn),
            is_on_reserve: AtomicBool::new(parts.log.is_reserve()),
            log: Mutex::new(parts.log),
            pending: Mutex::default(),
            syncing: Mutex::default(),
            segments: parts.segments,
            floor: parts.floor,
            index: parts.index,
            requests: Requests::default(),
            queries: Jobs::new(queries::WAITING_MAX),
            edits: Edits::default(),
            queues: Mutex::new(parts.queues),
            checkpointer: Mutex::new(Checkpointer::new(now_ms)),
            space: Mutex::default(),
            cleaner: Mutex::default(),
            reader: Arc::new(Reader::new(
                Arc::clone(&parts.device),
                Arc::clone(&parts.blobs),
                Arc::clone(&parts.sink),
                &config.path,
                config.inline,
            )),
            budget,
            blobs: parts.blobs,
            spills: Arc::new(spills),
            brake: Brake::default(),
            hops: HopNames::default(),
            ids: Mutex::new(IdSource::new(config.node, parts.last_id)),
            counters: Counters::new(),
            durable: AtomicU64::new(parts.last_lsn),
            durable_record: AtomicU64::new(parts.durable_record),
            log_position: AtomicU64::new(0),
            log_began_ms: AtomicU64::new(now_ms),
            checkpoint_bell: Bell::default(),
            space_bell: Bell::default(),
            clean_bell: Bell::default(),
            lag_records: AtomicU64::new(0),
            lag_bytes: AtomicU64::new(0),
            is_full: AtomicBool::new(false),
            failure: OnceLock::new(),
            epoch: Instant::now(),
            device: parts.device,
            clock: parts.clock,
            sink: parts.sink,
            config,
        }
    }

    /// The time by which waits are measured: monotonic with threads, the caller's clock inline.
    pub(crate) fn now_ms(&self) -> u64 {
        if self.config.inline { self.clock.now_ms() } else { self.epoch.elapsed().as_millis() as u64 }
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.failure.get().is_some()
    }

    /// Whether the disk is too full for new mail.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Relaxed)
    }

    /// Take no new mail until there is room again.
    pub(crate) fn note_full(&self) {
        self.is_full.store(true, Relaxed);
        self.want_space();
    }

    /// Note how much room there is.
    pub(crate) fn note_free(&self, bytes: u64) {
        self.counters.free_bytes.store(bytes, Relaxed);
        let can_grow = bytes >= self.segments.segment_bytes() && !self.is_on_reserve.load(Relaxed);
        let has_room = self.segments.has_spare() || can_grow;
        self.is_full.store(bytes < self.config.free_min_bytes || !has_room, Relaxed);
    }

    /// See how much room there is, on the disk and in the index.
    pub(crate) fn look_around(&self) {
        // What cannot be seen now is looked at again.
        if let Ok(bytes) = self.device.free_bytes(&self.config.path) {
            self.note_free(bytes);
        }
        if let Ok(bytes) = self.index.with(|index| Ok(index.size_bytes())) {
            self.counters.index_bytes.store(bytes, Relaxed);
        }
    }

    /// Note how far the index is behind.
    pub(crate) fn note_lag(&self, records: u64, bytes: u64) {
        self.lag_records.store(records, Relaxed);
        self.lag_bytes.store(bytes, Relaxed);
        if self.lags(1) {
            self.checkpoint_bell.ring();
        }
    }

    /// Whether the index is behind by so many times what a checkpoint should take.
    pub(crate) fn lags(&self, times: u64) -> bool {
        self.lag_records.load(Relaxed) >= times * self.config.checkpoint_records
            || self.lag_bytes.load(Relaxed) >= times * self.config.checkpoint_bytes
    }

    /// Have the state of the disk looked at.
    pub(crate) fn want_space(&self) {
        self.space_bell.ring();
    }

    /// Write what waits.
    pub(crate) fn write_step(&self) -> AfterWrite {
        let mut out = Outbox::default();
        let (result, after) = {
            let mut log = self.log.lock();
            let result = log.write_waiting(self, &mut out);
            let sync_by_ms = log.dirty_since_ms().map(|since| since + SYNC_WITHIN_MS);
            (result, AfterWrite { sync_by_ms, is_stalled: log.is_stalled() })
        };
        out.deliver(&*self.sink);
        if let Err(failure) = result {
            self.poison(failure);
        }
        after
    }

    /// Write what waits, and make durable what was written.
    pub(crate) fn sync_step(&self) {
        self.inbox.sync_begins();
        let mut out = Outbox::default();
        let (result, target) = {
            let mut log = self.log.lock();
            let result = log.write_waiting(self, &mut out);
            let mut target = log.begin_sync();
            self.brake.sync_begins();
            // Here they are found, whatever becomes of this thread.
            self.syncing.lock().append(&mut target.acks);
            (result, target)
        };
        out.deliver(&*self.sink);
        if let Err(failure) = result {
            self.poison(failure);
        } else if self.is_poisoned() {
            self.refuse_all(Outbox::default());
        } else if target.segments.is_empty() {
            self.durable.store(target.handled, Release);
        } else {
            self.sync(&target);
        }
        self.inbox.sync_ends();
        if self.requests.is_waiting() || self.edits.is_waiting() {
            self.checkpoint_bell.ring();
        }
    }

    fn sync(&self, target: &SyncTarget) {
        let began = Instant::now();
        for segment in &target.segments {
            let synced = segment.file(&*self.device).and_then(|file| device::sync(&*file));
            if let Err(error) = synced {
                return self.poison(Failure::new("sync of the log", &error));
            }
        }
        let acks = std::mem::take(&mut *self.syncing.lock());
        self.counters.synced(began.elapsed(), acks.len());
        let committed = |Ack { lsn, ticket, queue_id }| SpoolEvent::Committed { ticket, queue_id, lsn };
        let events: Vec<_> = acks.into_iter().map(committed).collect();
        // Told before it is published: no page of the index may show what its owner has not been told of.
        if !events.is_empty() {
            self.sink.push(events);
        }
        self.durable_record.store(target.record, Release);
        self.durable.store(target.handled, Release);
        self.brake.synced(self.now_ms()).iter().for_each(GateKey::open);
    }

    /// Everything up to here is durable, or was refused.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Acquire)
    }

    /// End the shard's work for good: nothing is acknowledged, started or applied to the index any more.
    ///
    /// No lock may be held.
    pub(crate) fn poison(&self, failure: Failure) {
        let mut out = Outbox::default();
        let Failure { errno, text } = failure.clone();
        if self.failure.set(failure).is_ok() {
            out.events.push(SpoolEvent::Poisoned { errno, text });
        }
        self.refuse_all(out);
        self.checkpoint_bell.ring();
    }

    /// Refuse all that was handed in and not told to be committed.
    fn refuse_all(&self, mut out: Outbox) {
        for item in self.inbox.shut() {
            out.refuse(item, CommitError::Poisoned);
        }
        self.log.lock().abandon(&mut out);
        out.failed.extend(self.brake.abandon());
        refuse_acks(std::mem::take(&mut *self.syncing.lock()), &mut out);
        self.refuse_blobs(out);
    }

    /// Refuse all that waits for its blob, and tell it with the rest.
    pub(crate) fn refuse_blobs(&self, mut out: Outbox) {
        let error = CommitError::Poisoned;
        let refused = self.spills.take_waiting().into_iter();
        out.events.extend(refused.map(|(ticket, queue_id)| SpoolEvent::CommitFailed {
            ticket,
            queue_id,
            error,
        }));
        out.deliver(&*self.sink);
    }

    /// Do the work that waits for the reader. **Blocking.**
    pub(crate) fn read_step(&self, job: Job) {
        match job {
            Job::Content(reading) => self.reader.read_on(&reading),
            Job::Header { request, content, form, limit } => {
                let octets = content.and_then(|content| self.reader.beginning(&content, limit).ok());
                let bytes = octets.map(|octets| header::section(&octets, form, limit));
                self.sink.push(vec![SpoolEvent::Answer { request, answer: Answer::Header { bytes } }]);
            }
        }
    }

    /// Leave a query's step for its thread, or tell that too many wait.
    pub(crate) fn query_later(&self, step: Step) -> Option<SpoolEvent> {
        let Step { request, execution, .. } = self.queries.push(step).err()?;
        Some(SpoolEvent::Answer { request, answer: Answer::Busy { execution } })
    }

    /// Take a query's step. **Blocking**: reads the index, within the step's budget.
    pub(crate) fn query_step(&self, step: Step) {
        let Step { request, mut execution, budget } = step;
        execution.note_suspended(self.queues.lock().hops());
        // The threads of delivery, which work in batches, do not break in on this one when they are woken.
        let now_ms = || {
            std::thread::yield_now();
            self.now_ms()
        };
        // What a query dies of is its own affair: it must not take the shard with it.
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            self.index.query(&mut execution, budget, &now_ms).map_err(|error| error.to_string())
        }));
        let answer = match stepped.unwrap_or_else(|_| Err("the query has died".into())) {
            Ok(()) => Answer::Query { execution },
            Err(text) => Answer::Failed { text },
        };
        self.sink.push(vec![SpoolEvent::Answer { request, answer }]);
    }

    /// Where a message's content is, and the segment that has it, or the beginning of it. Looks into the index, which is
    /// mapped into memory and was just asked about the message as a rule.
    pub(crate) fn find(&self, queue_id: QueueId) -> Option<(Stored, Arc<Segment>)> {
        let pending = self.pending.lock().stored(queue_id);
        let stored = pending.or_else(|| self.index.stored(queue_id).ok()?)?;
        Some((stored, self.segments.get(stored.location.segment)?))
    }
}
