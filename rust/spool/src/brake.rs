//! Holds back new attempts while too many outcomes are not on the disk.
//!
//! After power loss, whatever was delivered and is not known to have been is delivered once more. How much that can be
//! is bounded here: an attempt whose start is written may not send its last octets while more than [`OUTCOMES_MAX`]
//! outcomes, or outcomes older than [`AGE_MAX_MS`], are not covered by a sync that has ended. A start that is held back
//! has been written like any other, because the order of the log is the order in which things were handed in; should
//! the process end now, it is named in doubt although nothing was sent. As a start that waits is itself to be synced, a
//! sync is always on its way while anything is held.

use parking_lot::Mutex;

use crate::facts::Fact;
use crate::gate::GateKey;

/// Outcomes that may be not synced while attempts begin.
const OUTCOMES_MAX: u64 = 1_000;
/// How old they may be.
const AGE_MAX_MS: u64 = 2_000;

/// Outcomes that no sync has covered.
#[derive(Copy, Clone, Default)]
struct Unsynced {
    count: u64,
    /// When the first of them was written.
    since_ms: u64,
}

impl Unsynced {
    fn add(&mut self, other: Self) {
        self.since_ms = match (self.count, other.count) {
            (0, _) => other.since_ms,
            (_, 0) => self.since_ms,
            _ => self.since_ms.min(other.since_ms),
        };
        self.count += other.count;
    }
}

#[derive(Default)]
struct Inner {
    /// Written since the last sync began.
    written: Unsynced,
    /// Those that the present sync is to cover.
    syncing: Unsynced,
    held: Vec<GateKey>,
}

impl Inner {
    fn is_on(&self, now_ms: u64) -> bool {
        let mut all = self.syncing;
        all.add(self.written);
        all.count > OUTCOMES_MAX || all.count > 0 && now_ms >= all.since_ms + AGE_MAX_MS
    }
}

/// The brake. Its lock stands alone.
#[derive(Default)]
pub(crate) struct Brake {
    inner: Mutex<Inner>,
}

impl Brake {
    /// Note that facts are written.
    pub(crate) fn wrote<'a>(&self, facts: impl IntoIterator<Item = &'a Fact>, now_ms: u64) {
        let count = facts.into_iter().map(outcomes).sum();
        if count > 0 {
            self.inner.lock().written.add(Unsynced { count, since_ms: now_ms });
        }
    }

    /// Give back the gate of a start that is written if it may open; else it is kept until it may.
    pub(crate) fn pass(&self, gate: GateKey, now_ms: u64) -> Option<GateKey> {
        let mut inner = self.inner.lock();
        if inner.is_on(now_ms) {
            inner.held.push(gate);
            return None;
        }
        Some(gate)
    }

    /// Note that a sync is to cover what is written.
    pub(crate) fn sync_begins(&self) {
        let mut inner = self.inner.lock();
        let written = std::mem::take(&mut inner.written);
        inner.syncing.add(written);
    }

    /// Note that the sync has succeeded; tells the gates that may open now.
    pub(crate) fn synced(&self, now_ms: u64) -> Vec<GateKey> {
        let mut inner = self.inner.lock();
        inner.syncing = Unsynced::default();
        if inner.is_on(now_ms) { Vec::new() } else { std::mem::take(&mut inner.held) }
    }

    /// Give up: tells the gates that will not open any more.
    pub(crate) fn abandon(&self) -> Vec<GateKey> {
        std::mem::take(&mut self.inner.lock().held)
    }
}

/// Deliveries that are repeated if a fact is lost.
fn outcomes(fact: &Fact) -> u64 {
    match fact {
        Fact::Settled { outcomes, .. } => outcomes.len().max(1) as u64,
        _ => 0,
    }
}
