//! Brings the index up to date, answers questions from it, makes edits, and gives up segments that nobody needs.

use std::sync::atomic::Ordering::Relaxed;

use crate::core::Core;
use crate::edits;
use crate::events::SpoolEvent;
use crate::fold::fold;
use crate::index::query::{Budget, Execution};
use crate::index::{Index, Kept, LetGo};
use crate::pending::Batch;
use crate::queries::Step;
use crate::requests::Asked;
use crate::rows::{Answer, Request};

/// How soon a checkpoint that failed is tried again; twice as long after each further failure...
const RETRY_MS: u64 = 1_000;
/// ... but no longer than this: room that is found again is to be used without anybody's help.
const RETRY_MAX_MS: u64 = 8_000;
/// How often it is looked whether finished messages are to be let go of, and how many at a time at most.
const LET_GO_MS: u64 = 1_000;
const LET_GO_MAX: usize = 20_000;
/// How many at a time if the disk is full, before their time: the room that they give comes a little later.
const LET_GO_FULL: usize = 2_000;
/// What waits for an index that fails is folded when it has become so many times as much.
const FOLD_FACTOR: usize = 2;
/// Less than this is not worth folding.
const FOLD_MIN: usize = 1_000;
/// How often readers of the index that have died are looked for: a snapshot of theirs keeps pages from being reused.
const REAP_MS: u64 = 10_000;

/// What becomes of a question.
enum Reply {
    Now(Answer),
    /// It is for the thread of queries.
    Later {
        execution: Box<Execution>,
        budget: Budget,
    },
}

/// The side of the index.
pub(crate) struct Checkpointer {
    /// What is being applied; kept until it is.
    batch: Batch,
    asked: Vec<Asked>,
    edits: Vec<edits::Asked>,
    /// When the last checkpoint was, or the last look that found nothing to do.
    last_ms: u64,
    failure: Option<IndexFailure>,
    /// Parts of records that were left when the batch was folded last.
    folded: usize,
    /// When readers of the index that have died were looked for.
    reaped_ms: u64,
    /// When it was looked whether finished messages are to be let go of.
    let_go_ms: u64,
}

/// Why the index does not follow.
struct IndexFailure {
    text: String,
    wait_ms: u64,
    /// When it is tried again.
    retry_ms: u64,
}

impl Checkpointer {
    /// One for an index that is up to date.
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            batch: Batch::default(),
            asked: Vec::new(),
            edits: Vec::new(),
            last_ms: now_ms,
            failure: None,
            folded: 0,
            reaped_ms: now_ms,
            let_go_ms: now_ms,
        }
    }

    /// Do what is due; with `force`, bring the index up to date now. **Blocking** on disk.
    pub(crate) fn step(&mut self, core: &Core, force: bool) {
        core.requests.take(&mut self.asked);
        core.edits.take(&mut self.edits);
        // The log is not asked: even if it has failed, what an operator says is kept.
        tell(core, core.edits.take_words().into_iter().map(|word| word.keep(core)).collect());
        if core.is_poisoned() {
            let text = "the log has failed";
            self.answer(core, Vec::new(), u64::MAX, |_| Reply::Now(Answer::Failed { text: text.into() }));
            // What was said of an edit may be found when the spool is opened again, or not.
            let failed = |asked: edits::Asked| SpoolEvent::Answer {
                request: asked.number,
                answer: Answer::Failed { text: text.into() },
            };
            let failed: Vec<_> = self.edits.drain(..).map(failed).collect();
            tell(core, failed);
            return;
        }
        let (now_ms, durable) = (core.now_ms(), core.durable());
        let is_wanted = |asked: &Asked| asked.lsn <= durable && asked.request != Request::Sync;
        let is_due = core.lags(1) || now_ms >= self.last_ms + core.config.checkpoint_ms;
        let is_asked = self.asked.iter().any(is_wanted);
        let has_edits = self.edits.iter().any(|asked| asked.lsn <= durable && asked.is_open());
        if !(force || has_edits || is_asked || is_due) {
            self.answer(core, Vec::new(), durable, |_| Reply::Now(Answer::Done { lsn: durable }));
            self.tell_edits(core, durable);
            return;
        }
        if let Some(failure) = self.failure.as_ref().filter(|failure| !force && now_ms < failure.retry_ms) {
            // Whoever asks does not make it try more often: each try costs as much as all that waits.
            let text = failure.text.clone();
            self.answer_without_index(core, durable, &text);
            self.give_up_edits(core, durable);
            self.tell_edits(core, durable);
            return;
        }
        self.last_ms = now_ms;
        if now_ms >= self.reaped_ms + REAP_MS {
            self.reaped_ms = now_ms;
            // What stays is looked for again.
            let _ = core.index.with(Index::clear_stale_readers);
        }
        match self.apply(core, durable) {
            Ok(events) => {
                self.failure = None;
                self.let_go(core, now_ms);
                self.answer(core, events, durable, |request| match request {
                    Request::Sync | Request::Checkpoint => Reply::Now(Answer::Done { lsn: durable }),
                    Request::Query { execution, budget } => Reply::Later { execution, budget },
                    request => Reply::Now(
                        core.index
                            .answer(&request)
                            .unwrap_or_else(|error| Answer::Failed { text: error.to_string() }),
                    ),
                });
                self.make_edits(core, durable);
            }
            Err(text) => {
                core.counters.checkpoints_failed.fetch_add(1, Relaxed);
                self.fold(core);
                let waited = self.failure.take().map(|failure| 2 * failure.wait_ms);
                let wait_ms = waited.unwrap_or(RETRY_MS).min(RETRY_MAX_MS);
                self.answer_without_index(core, durable, &text);
                self.failure = Some(IndexFailure { text, wait_ms, retry_ms: now_ms + wait_ms });
                self.give_up_edits(core, durable);
            }
        }
        self.tell_edits(core, durable);
    }

    /// Make edits of an index that has all up to `durable`.
    fn make_edits(&mut self, core: &Core, durable: u64) {
        let mut has_made = false;
        for asked in self.edits.iter_mut().filter(|asked| asked.lsn <= durable && asked.is_open()) {
            asked.make(core, durable);
            has_made = true;
        }
        if has_made {
            core.inbox.want_sync();
        }
    }

    /// Give up what was asked to be edited up to here: the index cannot be asked.
    fn give_up_edits(&mut self, core: &Core, durable: u64) {
        self.edits.iter_mut().filter(|asked| asked.lsn <= durable).for_each(|asked| asked.give_up(core));
    }

    /// Tell of edits that are made and durable, or over.
    fn tell_edits(&mut self, core: &Core, durable: u64) {
        let is_over = |asked: &mut edits::Asked| asked.lsn <= durable && !asked.is_open();
        let told: Vec<_> = self.edits.extract_if(.., is_over).map(edits::Asked::tell).collect();
        tell(core, told);
    }

    /// Answer what can be answered while the index does not follow.
    fn answer_without_index(&mut self, core: &Core, durable: u64, text: &str) {
        self.answer(core, Vec::new(), durable, |request| {
            Reply::Now(match request {
                Request::Sync => Answer::Done { lsn: durable },
                _ => Answer::Failed { text: text.into() },
            })
        });
    }

    /// Keep what waits for the index small.
    fn fold(&mut self, core: &Core) {
        if self.batch.redo.len() > (FOLD_FACTOR * self.folded).max(FOLD_MIN) {
            fold(&mut self.batch.redo);
            self.folded = self.batch.redo.len();
        }
        core.counters.held_parts.store(self.batch.redo.len() as u64, Relaxed);
    }

    /// When something is due next without anybody asking.
    pub(crate) fn next_ms(&self, core: &Core) -> Option<u64> {
        let is_behind = core.lag_records.load(Relaxed) > 0 && !core.is_poisoned();
        let at = self.last_ms + core.config.checkpoint_ms;
        is_behind.then(|| self.failure.as_ref().map_or(at, |failure| failure.retry_ms.max(at)))
    }

    /// Apply what is durable.
    fn apply(&mut self, core: &Core, durable: u64) -> Result<Vec<SpoolEvent>, String> {
        core.pending.lock().take(durable, &mut self.batch);
        let Some(to) = self.batch.to else { return Ok(Vec::new()) };
        let keep_until_ms = core.config.keep_until_ms(core.clock.now_ms());
        let left =
            core.index.apply(&self.batch.redo, to, keep_until_ms).map_err(|error| error.to_string())?;
        // Only now: until the index had it, a replay could have brought their messages back.
        core.blobs.leave(left);
        let (records, bytes) = {
            let mut pending = core.pending.lock();
            pending.applied(&mut self.batch);
            pending.extent()
        };
        core.note_lag(records, bytes);
        self.folded = 0;
        core.counters.held_parts.store(0, Relaxed);
        core.counters.checkpoints.fetch_add(1, Relaxed);
        give_up(core, to.segment);
        if let Ok(bytes) = core.index.with(|index| Ok(index.size_bytes())) {
            core.counters.index_bytes.store(bytes, Relaxed);
        }
        Ok(vec![SpoolEvent::Checkpoint { watermark: to.lsn }])
    }

    /// Let go of finished messages whose time is over, or that are too many; and of the oldest before new mail is refused.
    fn let_go(&mut self, core: &Core, now_ms: u64) {
        if now_ms < self.let_go_ms + LET_GO_MS {
            return;
        }
        self.let_go_ms = now_ms;
        let bytes_max = if core.config.kept_ms == 0 { 0 } else { core.config.kept_max_bytes };
        let (bytes_max, limit) = if core.is_full() { (0, LET_GO_FULL) } else { (bytes_max, LET_GO_MAX) };
        // What fails is tried again with the next look.
        let Ok(LetGo { messages, left }) = core.index.let_go(core.clock.now_ms(), bytes_max, limit) else {
            return;
        };
        // Not before: until the index had let go of them, their messages could be asked for.
        core.blobs.leave(left);
        if messages > 0
            && let Ok(watermark) = core.index.with(|index| Ok(index.watermark()))
        {
            give_up(core, watermark.segment);
        }
    }

    /// Answer all that ask for a state up to `durable`.
    fn answer(
        &mut self,
        core: &Core,
        mut events: Vec<SpoolEvent>,
        durable: u64,
        mut answer: impl FnMut(Request) -> Reply,
    ) {
        let ready: Vec<Asked> = self.asked.extract_if(.., |asked| asked.lsn <= durable).collect();
        let count = ready.len();
        events.extend(ready.into_iter().filter_map(|Asked { number, request, .. }| match answer(request) {
            Reply::Now(answer) => Some(SpoolEvent::Answer { request: number, answer }),
            Reply::Later { execution, budget } => {
                core.query_later(Step { request: number, execution, budget })
            }
        }));
        if !events.is_empty() {
            core.sink.push(events);
        }
        core.requests.answered(count);
    }
}

fn tell(core: &Core, events: Vec<SpoolEvent>) {
    if !events.is_empty() {
        core.edits.told(events.len());
        core.sink.push(events);
    }
}

/// Give up the segments before `end` in which nothing is needed any more.
fn give_up(core: &Core, end: u64) {
    // What is not known to be dead stays.
    let Ok(live) = core.index.segments() else { return };
    core.counters.live_bytes.store(live.iter().map(|one| one.live_bytes).sum(), Relaxed);
    if let Ok(Kept { messages, bytes, blob_bytes }) = core.index.with(Index::kept) {
        core.counters.kept_messages.store(messages, Relaxed);
        core.counters.kept_bytes.store(bytes, Relaxed);
        core.counters.kept_blob_bytes.store(blob_bytes, Relaxed);
    }
    let live: Vec<u64> = live.iter().map(|one| one.segment).collect();
    core.segments.give_up(end, &live);
    core.segments.close_idle();
    core.want_space();
}
