//! Queries on their way to a thread of their own, so that neither checkpoints nor refills wait for them.
//!
//! A query that begins is handed on by the checkpointer, right after a checkpoint, and so sees everything that was
//! appended before it was asked; one that goes on comes straight here. Steps are taken one at a time, in order.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

use crate::index::query::{Budget, Execution};

/// Queries that may wait for the thread; beyond that they are refused.
pub(crate) const WAITING_MAX: usize = 64;

/// A step to take.
pub(crate) struct Step {
    pub(crate) request: u64,
    pub(crate) execution: Box<Execution>,
    pub(crate) budget: Budget,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Step>,
    is_stopping: bool,
}

/// Steps that wait.
#[derive(Default)]
pub(crate) struct Queries {
    state: Mutex<State>,
    more: Condvar,
}

impl Queries {
    /// Leave a step for the thread; give it back if too many wait, or the thread has ended.
    pub(crate) fn push(&self, step: Step) -> Result<(), Step> {
        let mut state = self.state.lock();
        if state.is_stopping || state.waiting.len() >= WAITING_MAX {
            return Err(step);
        }
        state.waiting.push_back(step);
        self.more.notify_one();
        Ok(())
    }

    /// The next step, if there is any.
    pub(crate) fn try_next(&self) -> Option<Step> {
        self.state.lock().waiting.pop_front()
    }

    /// Wait for a step; `None` when the thread is to end.
    pub(crate) fn wait_next(&self) -> Option<Step> {
        let mut state = self.state.lock();
        loop {
            if state.is_stopping {
                return None;
            }
            if let Some(step) = state.waiting.pop_front() {
                return Some(step);
            }
            self.more.wait(&mut state);
        }
    }

    /// Have the thread end.
    pub(crate) fn stop(&self) {
        self.state.lock().is_stopping = true;
        self.more.notify_all();
    }
}
