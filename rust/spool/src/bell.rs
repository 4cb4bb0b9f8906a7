//! Wakes a thread that waits for something or for a time.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

#[derive(Default)]
pub(crate) struct Bell {
    is_rung: Mutex<bool>,
    ring: Condvar,
}

impl Bell {
    /// Wake the thread, or have it not wait the next time.
    pub(crate) fn ring(&self) {
        let mut is_rung = self.is_rung.lock();
        if !*is_rung {
            *is_rung = true;
            self.ring.notify_one();
        }
    }

    /// Wait for the bell, at most so long.
    pub(crate) fn wait(&self, patience: Duration) {
        let mut is_rung = self.is_rung.lock();
        if !*is_rung {
            self.ring.wait_for(&mut is_rung, patience);
        }
        *is_rung = false;
    }
}
