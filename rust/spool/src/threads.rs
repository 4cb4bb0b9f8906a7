//! The threads of a shard. Each does its steps until it is told to end; one that dies takes the shard with it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::core::Core;
use crate::log_writer::Failure;

/// How often room is looked for while outcomes wait for it.
const STALLED_MS: u64 = 250;
/// How often the space thread looks around by itself.
const SPACE_MS: u64 = 1_000;
/// How nice the thread of queries is (Linux counts each thread by itself): it gets a tenth of what another one gets.
const QUERY_NICE: i32 = 10;

/// Threads that run.
pub(crate) struct Threads {
    core: Arc<Core>,
    stop: Arc<AtomicBool>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Start them.
    pub(crate) fn start(core: &Arc<Core>) -> io::Result<Self> {
        let mut threads =
            Self { core: Arc::clone(core), stop: Arc::new(AtomicBool::new(false)), handles: Vec::new() };
        let stop = Arc::clone(&threads.stop);
        threads.spawn("spool-writer", write)?;
        threads.spawn("spool-syncer", sync)?;
        threads.spawn("spool-reader", read)?;
        threads.spawn("spool-query", query)?;
        threads.spawn("spool-blob-0", write_blobs)?;
        threads.spawn("spool-blob-1", write_blobs)?;
        let stopped = Arc::clone(&stop);
        threads.spawn("spool-index", move |core| checkpoint(core, &stopped))?;
        let stopped = Arc::clone(&stop);
        threads.spawn("spool-space", move |core| keep_space(core, &stopped))?;
        threads.spawn("spool-cleaner", move |core| clean(core, &stop))?;
        Ok(threads)
    }

    fn spawn(&mut self, name: &'static str, run: impl FnOnce(&Core) + Send + 'static) -> io::Result<()> {
        let core = Arc::clone(&self.core);
        let guarded = move || {
            if catch_unwind(AssertUnwindSafe(|| run(&core))).is_err() {
                core.poison(Failure { errno: 0, text: format!("thread {name} has died") });
            }
        };
        self.handles.push(Builder::new().name(name.into()).spawn(guarded)?);
        Ok(())
    }

    /// End them after what they are doing.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Relaxed);
        self.core.inbox.stop();
        self.core.reader.stop();
        self.core.queries.stop();
        self.core.spills.ready.stop();
        self.core.checkpoint_bell.ring();
        self.core.space_bell.ring();
        self.core.clean_bell.ring();
        for handle in self.handles.drain(..) {
            // What it died of was told when it died.
            let _ = handle.join();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}

fn write(core: &Core) {
    let mut patience = None;
    while core.inbox.wait_to_write(patience) {
        let after = core.write_step();
        let now_ms = core.now_ms();
        let mut wait_ms = after.sync_by_ms.map(|by_ms| by_ms.saturating_sub(now_ms));
        if wait_ms == Some(0) {
            core.inbox.want_sync();
            wait_ms = None;
        }
        if after.is_stalled {
            wait_ms = Some(wait_ms.unwrap_or(STALLED_MS).min(STALLED_MS));
        }
        patience = wait_ms.map(Duration::from_millis);
    }
}

fn sync(core: &Core) {
    while core.inbox.wait_to_sync() {
        core.sync_step();
    }
}

fn read(core: &Core) {
    while let Some(job) = core.reader.jobs.wait_next() {
        core.read_step(job);
    }
}

fn query(core: &Core) {
    // Where the processor is short, delivery comes first. Without the right to it, a query is like everybody else.
    let _ = rustix::process::setpriority_process(None, QUERY_NICE);
    while let Some(step) = core.queries.wait_next() {
        core.query_step(step);
    }
}

fn write_blobs(core: &Core) {
    while let Some(body) = core.spills.ready.wait_next() {
        core.spills.work(core, &body);
    }
}

fn checkpoint(core: &Core, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        core.checkpoint_bell.wait(Duration::from_millis(core.config.checkpoint_ms.max(1)));
        core.checkpointer.lock().step(core, false);
    }
}

fn keep_space(core: &Core, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        core.space.lock().step(core, &|| stop.load(Relaxed));
        core.space_bell.wait(Duration::from_millis(SPACE_MS));
    }
}

fn clean(core: &Core, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        let wait_ms = core.cleaner.lock().step(core);
        core.clean_bell.wait(Duration::from_millis(wait_ms));
    }
}
