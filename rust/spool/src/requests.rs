//! Questions on their way to the index.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;

use crate::facts::Lsn;
use crate::rows::Request;

/// A question, and up to where the state that answers it must go.
pub(crate) struct Asked {
    pub(crate) number: u64,
    pub(crate) request: Request,
    pub(crate) lsn: Lsn,
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    last: u64,
}

/// Questions that wait.
#[derive(Default)]
pub(crate) struct Requests {
    state: Mutex<State>,
    /// Questions that have no answer yet.
    waiting: AtomicUsize,
}

impl Requests {
    /// A number for a question that is answered elsewhere.
    pub(crate) fn number(&self) -> u64 {
        let mut state = self.state.lock();
        state.last += 1;
        state.last
    }

    /// Ask for a state that has all up to `lsn`; tells the question's number.
    pub(crate) fn push(&self, request: Request, lsn: Lsn) -> u64 {
        let mut state = self.state.lock();
        state.last += 1;
        let number = state.last;
        state.asked.push(Asked { number, request, lsn });
        self.waiting.fetch_add(1, Relaxed);
        number
    }

    /// Take what was asked; it counts as waiting until [`Requests::answered`].
    pub(crate) fn take(&self, into: &mut Vec<Asked>) {
        into.append(&mut self.state.lock().asked);
    }

    pub(crate) fn answered(&self, count: usize) {
        self.waiting.fetch_sub(count, Relaxed);
    }

    /// Whether a question waits for its answer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }
}
