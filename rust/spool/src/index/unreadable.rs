//! Rows that cannot be read: passed over, so that one of them holds up neither a page nor a checkpoint, and counted.
//!
//! What an index says without them is less than the truth, never something else: a message of which a row cannot be read
//! is not shown, not tried, and above all not changed, so that nothing of it is taken for gone. The log still has it; an
//! index made anew from there has all of it.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::error::IndexError;

/// Rows that are told apart; beyond that they are not counted.
const ROWS_MAX: usize = 1_000;

/// The rows that could not be read since the index was opened.
#[derive(Default)]
pub(super) struct Unreadable {
    rows: Mutex<BTreeSet<String>>,
}

impl Unreadable {
    /// Pass over what one row says, if it cannot be read. Other errors stay errors.
    pub(super) fn skip<T>(&self, read: Result<T, IndexError>) -> Result<Option<T>, IndexError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error @ IndexError::Damaged { .. }) => {
                self.note(&error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn note(&self, error: &IndexError) {
        let mut rows = self.rows.lock();
        if rows.len() < ROWS_MAX {
            rows.insert(error.to_string());
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.rows.lock().len() as u64
    }
}
