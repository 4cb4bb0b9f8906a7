//! Where records wait for the writer, and how its threads are woken.
//!
//! Log sequence numbers are given here, under the lock, so that their order is the order of the log. Who is woken
//! follows from what is asked for. Outcomes and starts are to be written at once: the writer is woken. A commit is to
//! be synced: the syncer is woken, and writes what waits on its way; while a sync is under way nobody is woken for a
//! commit, because the syncer looks again when it is done. A lone commit thus costs one change of threads, and while
//! the disk is busy a group costs none. Whoever hands in several things in a row can hold the waking back until the
//! last of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use penstock_core::queue_id::QueueId;

use crate::draft::Sealed;
use crate::facts::{Accepted, Fact, HopId, HopName, Lsn};
use crate::gate::GateKey;
use crate::redo::InBlob;

/// A fact with the names that its record needs.
pub(crate) struct Named {
    pub(crate) fact: Fact,
    pub(crate) hops: Vec<Arc<HopName>>,
}

/// A message on its way into the log.
pub(crate) struct Commit {
    /// What it is called where it was handed in, if that is not its number in the log.
    pub(crate) ticket: Option<u64>,
    pub(crate) content: Sealed,
    pub(crate) accepted: Arc<Accepted>,
    pub(crate) hops: Vec<Arc<HopName>>,
    pub(crate) prepend: Bytes,
    pub(crate) cause: Vec<Named>,
    /// Where it is noted that there was no room for it, if nobody is to be told of its end.
    pub(crate) refused: Option<Arc<AtomicBool>>,
}

/// A message that is to lie elsewhere in the log.
pub(crate) struct Move {
    pub(crate) queue_id: QueueId,
    /// As it was in the index, with the entries that were left.
    pub(crate) accepted: Arc<Accepted>,
    pub(crate) hops: Vec<Arc<HopName>>,
    /// The last record that was in the index.
    pub(crate) as_of: Lsn,
    /// Of each entry the last attempt whose end was known.
    pub(crate) attempts: Vec<u32>,
    /// Attempts whose end was not known: the hop, which, with whom.
    pub(crate) begun: Vec<(HopId, u32, String)>,
    /// What follows that in a file of its own.
    pub(crate) blob: Option<InBlob>,
    /// Its content as it lies in the log.
    pub(crate) chunks: Vec<Vec<u8>>,
}

/// What a record is made of.
pub(crate) enum Saying {
    Commit(Box<Commit>),
    Move(Box<Move>),
    Facts(Vec<Named>),
    Started { queue_id: QueueId, hop: HopId, attempt: u32, peer: String, gate: GateKey },
}

impl Saying {
    /// The messages that it is about, but for one that it accepts.
    fn subjects(&self) -> impl Iterator<Item = QueueId> {
        let facts = match self {
            Self::Commit(commit) => commit.cause.as_slice(),
            Self::Facts(facts) => facts,
            // Moving a message says nothing new of it.
            Self::Started { .. } | Self::Move(_) => &[],
        };
        let started = match self {
            Self::Started { queue_id, .. } => Some(*queue_id),
            _ => None,
        };
        facts.iter().filter_map(|named| named.fact.subject()).chain(started)
    }
}

/// Why something was not handed to the writer.
pub(crate) enum Unsaid {
    /// More was said of its message than was seen.
    MoreWasSaid(Saying),
    /// Nothing is taken any more.
    Shut,
}

/// A message of which it is noted when something is said of it.
#[derive(Default)]
struct Watch {
    /// How many watch it.
    watchers: usize,
    /// The last record about it since it is watched; 0 for none.
    last: Lsn,
}

/// A record to be written.
pub(crate) struct Item {
    pub(crate) lsn: Lsn,
    pub(crate) saying: Saying,
}

impl Item {
    pub(crate) fn is_commit(&self) -> bool {
        matches!(self.saying, Saying::Commit(_))
    }

    pub(crate) fn is_move(&self) -> bool {
        matches!(self.saying, Saying::Move(_))
    }
}

#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each told by somebody else")]
struct State {
    items: Vec<Item>,
    last_lsn: Lsn,
    watches: HashMap<QueueId, Watch>,
    /// Something waits that is to be written at once.
    is_prompt: bool,
    /// Something waits, or was written, that is to be synced at once.
    is_urgent: bool,
    is_syncing: bool,
    is_stopping: bool,
    /// Nothing is taken any more.
    is_shut: bool,
    /// Nobody is woken for what comes in.
    is_held: bool,
}

impl State {
    fn has_news(&self, queue_id: QueueId, seen: Lsn) -> bool {
        self.watches.get(&queue_id).is_none_or(|watch| watch.last > seen)
    }
}

/// The place where records wait.
pub(crate) struct Inbox {
    state: Mutex<State>,
    writer: Condvar,
    syncer: Condvar,
}

impl Inbox {
    /// Give numbers above `last_lsn`.
    pub(crate) fn new(last_lsn: Lsn) -> Self {
        let state = State { last_lsn, ..State::default() };
        Self { state: Mutex::new(state), writer: Condvar::new(), syncer: Condvar::new() }
    }

    /// Hand a record to the writer; gives it back when nothing is taken any more. The number is used up either way.
    pub(crate) fn push(&self, saying: Saying) -> Result<Lsn, Item> {
        self.put(&mut self.state.lock(), saying)
    }

    /// Hand in a record about a message that is watched, unless something was said of it after `seen`.
    pub(crate) fn push_unless(&self, queue_id: QueueId, seen: Lsn, saying: Saying) -> Result<Lsn, Unsaid> {
        let mut state = self.state.lock();
        if state.has_news(queue_id, seen) {
            return Err(Unsaid::MoreWasSaid(saying));
        }
        self.put(&mut state, saying).map_err(|_| Unsaid::Shut)
    }

    /// Whether something was said of a message that is watched after `seen`.
    pub(crate) fn has_news(&self, queue_id: QueueId, seen: Lsn) -> bool {
        self.state.lock().has_news(queue_id, seen)
    }

    /// Note from now on what is said of messages, once for each time that one is named; tells the last number given.
    pub(crate) fn watch(&self, messages: impl Iterator<Item = QueueId>) -> Lsn {
        let mut state = self.state.lock();
        for queue_id in messages {
            state.watches.entry(queue_id).or_default().watchers += 1;
        }
        state.last_lsn
    }

    /// Watch a message once less.
    pub(crate) fn unwatch(&self, queue_id: QueueId) {
        let mut state = self.state.lock();
        if let Some(watch) = state.watches.get_mut(&queue_id) {
            watch.watchers -= 1;
            if watch.watchers == 0 {
                state.watches.remove(&queue_id);
            }
        }
    }

    fn put(&self, state: &mut State, saying: Saying) -> Result<Lsn, Item> {
        state.last_lsn += 1;
        let lsn = state.last_lsn;
        let item = Item { lsn, saying };
        if state.is_shut {
            return Err(item);
        }
        if !state.watches.is_empty() {
            for queue_id in item.saying.subjects() {
                if let Some(watch) = state.watches.get_mut(&queue_id) {
                    watch.last = lsn;
                }
            }
        }
        let is_commit = item.is_commit();
        state.is_urgent |= is_commit;
        state.is_prompt |= !is_commit;
        state.items.push(item);
        if !state.is_held {
            self.wake(state, is_commit, !is_commit);
        }
        Ok(lsn)
    }

    /// Wake nobody for what comes in, until it is let go.
    pub(crate) fn hold(&self) {
        self.state.lock().is_held = true;
    }

    /// Wake whoever is needed for what came in since it was held.
    pub(crate) fn let_go(&self) {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.is_held) {
            self.wake(&state, state.is_urgent, state.is_prompt);
        }
    }

    fn wake(&self, state: &State, for_sync: bool, for_write: bool) {
        // The syncer writes what waits on its way, outcomes and starts too.
        if for_sync && !state.is_syncing {
            self.syncer.notify_one();
        } else if for_write {
            self.writer.notify_one();
        }
    }

    /// The last number given.
    pub(crate) fn last_lsn(&self) -> Lsn {
        self.state.lock().last_lsn
    }

    /// Take all that waits; tells the last number given.
    pub(crate) fn take(&self, into: &mut impl Extend<Item>) -> Lsn {
        let mut state = self.state.lock();
        state.is_prompt = false;
        into.extend(state.items.drain(..));
        state.last_lsn
    }

    /// Take nothing any more.
    pub(crate) fn shut(&self) -> Vec<Item> {
        let mut state = self.state.lock();
        state.is_shut = true;
        // Nothing waits any more: whoever looks for work would otherwise find some for ever.
        (state.is_prompt, state.is_urgent) = (false, false);
        std::mem::take(&mut state.items)
    }

    /// Have what was written synced at once.
    pub(crate) fn want_sync(&self) {
        let mut state = self.state.lock();
        state.is_urgent = true;
        if !state.is_syncing {
            self.syncer.notify_one();
        }
    }

    /// Say that a sync begins: what is asked for from now on is for the next.
    pub(crate) fn sync_begins(&self) {
        let mut state = self.state.lock();
        state.is_urgent = false;
        state.is_syncing = true;
    }

    /// Say that a sync has ended.
    pub(crate) fn sync_ends(&self) {
        self.state.lock().is_syncing = false;
    }

    /// Whether something waits to be written at once.
    pub(crate) fn is_prompt(&self) -> bool {
        self.state.lock().is_prompt
    }

    /// Whether something waits to be synced at once.
    pub(crate) fn is_urgent(&self) -> bool {
        self.state.lock().is_urgent
    }

    /// Have the threads end.
    pub(crate) fn stop(&self) {
        self.state.lock().is_stopping = true;
        self.writer.notify_all();
        self.syncer.notify_all();
    }

    /// Wait until something is to be written at once, or the time is up; false when the threads are to end.
    pub(crate) fn wait_to_write(&self, patience: Option<Duration>) -> bool {
        let mut state = self.state.lock();
        while !state.is_prompt && !state.is_stopping {
            match patience {
                None => self.writer.wait(&mut state),
                Some(patience) => {
                    if self.writer.wait_for(&mut state, patience).timed_out() {
                        break;
                    }
                }
            }
        }
        !state.is_stopping
    }

    /// Wait until something is to be synced at once; false when the threads are to end.
    pub(crate) fn wait_to_sync(&self) -> bool {
        let mut state = self.state.lock();
        while !state.is_urgent && !state.is_stopping {
            self.syncer.wait(&mut state);
        }
        !state.is_stopping
    }
}
