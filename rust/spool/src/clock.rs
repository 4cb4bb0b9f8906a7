//! Wall time as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time. What happens after a wait or a deadline is decided by it in inline mode only; with threads, waits
/// go by the monotonic clock, and a step of this one delays nothing.
pub trait Clock: Send + Sync {
    /// The present, in Unix milliseconds; it may step back.
    fn now_ms(&self) -> u64;
}

/// The system's wall clock.
#[derive(Copy, Clone, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis() as u64)
    }
}
