//! Stand-ins for clock, sink and disk, for tests of this crate and of those that use it.
//!
//! [`FaultyDevice`] is a file system in memory that fails when told to, and knows what a power loss would leave of it.
//! The index is not in it: LMDB does its own I/O, so that a spool on such a device still needs a directory on disk.

mod device;
mod disk;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::{Condvar, Mutex};

use crate::{Clock, SpoolEvent, SpoolSink};

pub use device::{Call, FaultyDevice, Moment};
pub use disk::{Fate, Fault, Unsynced};

/// A clock that stands still until it is set.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows this time, in Unix milliseconds.
    pub fn new(now_ms: u64) -> Self {
        Self(AtomicU64::new(now_ms))
    }

    /// Have it show another time.
    pub fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Relaxed);
    }

    /// Move it on.
    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Keeps events until they are asked for.
#[derive(Default)]
pub struct EventLog {
    events: Mutex<Vec<SpoolEvent>>,
    more: Condvar,
}

impl EventLog {
    /// All events since the last call.
    pub fn take(&self) -> Vec<SpoolEvent> {
        std::mem::take(&mut self.events.lock())
    }

    /// Wait until one event is as wanted, and take all up to now.
    ///
    /// # Panics
    ///
    /// If there is none within ten seconds.
    pub fn wait_for(&self, is_wanted: impl Fn(&SpoolEvent) -> bool) -> Vec<SpoolEvent> {
        let mut events = self.events.lock();
        while !events.iter().any(&is_wanted) {
            let waited = self.more.wait_for(&mut events, std::time::Duration::from_secs(10));
            assert!(!waited.timed_out(), "no such event in {events:?}");
        }
        std::mem::take(&mut events)
    }
}

impl SpoolSink for EventLog {
    fn push(&self, events: Vec<SpoolEvent>) {
        self.events.lock().extend(events);
        self.more.notify_all();
    }
}
