//! Work that waits for threads, which take it in order, one piece each.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

struct State<T> {
    waiting: VecDeque<T>,
    is_stopping: bool,
}

/// Work that waits.
pub(crate) struct Jobs<T> {
    state: Mutex<State<T>>,
    more: Condvar,
    /// How much may wait.
    max: usize,
}

impl<T> Jobs<T> {
    /// A queue in which so much may wait.
    pub(crate) const fn new(max: usize) -> Self {
        let state = State { waiting: VecDeque::new(), is_stopping: false };
        Self { state: Mutex::new(state), more: Condvar::new(), max }
    }

    /// Leave work for the threads; give it back if too much waits, or they have ended.
    pub(crate) fn push(&self, job: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.is_stopping || state.waiting.len() >= self.max {
            return Err(job);
        }
        state.waiting.push_back(job);
        self.more.notify_one();
        Ok(())
    }

    /// Leave work that somebody does even when the threads have ended.
    pub(crate) fn keep(&self, job: T) {
        self.state.lock().waiting.push_back(job);
        self.more.notify_one();
    }

    /// The next work, if there is any.
    pub(crate) fn try_next(&self) -> Option<T> {
        self.state.lock().waiting.pop_front()
    }

    /// Wait for work; `None` when the thread is to end.
    pub(crate) fn wait_next(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if state.is_stopping {
                return None;
            }
            if let Some(job) = state.waiting.pop_front() {
                return Some(job);
            }
            self.more.wait(&mut state);
        }
    }

    /// Have the threads end; what waits stays, for [`Jobs::try_next`].
    pub(crate) fn stop(&self) {
        self.state.lock().is_stopping = true;
        self.more.notify_all();
    }
}
