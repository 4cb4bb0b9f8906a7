//! What the spool tells, and to whom.

use penstock_core::queue_id::QueueId;

use crate::errors::CommitError;
use crate::facts::Lsn;
use crate::rows::Answer;

/// Something that has happened in the spool.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum SpoolEvent {
    /// The message, and what it was committed with, survive power loss.
    Committed {
        /// As [`Spool::commit`](crate::Spool::commit) gave it.
        ticket: u64,
        /// The message.
        queue_id: QueueId,
        /// The record's log sequence number.
        lsn: Lsn,
    },
    /// The message was not stored.
    CommitFailed {
        /// As [`Spool::commit`](crate::Spool::commit) gave it.
        ticket: u64,
        /// The message.
        queue_id: QueueId,
        /// Why.
        error: CommitError,
    },
    /// Everything up to this log sequence number is in the index.
    Checkpoint {
        /// The last record that is in it.
        watermark: Lsn,
    },
    /// The answer to a question.
    Answer {
        /// As [`Spool::request`](crate::Spool::request) gave it.
        request: u64,
        /// The answer.
        answer: Answer,
    },
    /// A content was being read, and what lies there is not what was written. Told before the source fails, once for each
    /// source that finds out.
    Damaged {
        /// The message.
        queue_id: QueueId,
    },
    /// The log has failed: nothing is stored any more, and no attempt may begin. Told once.
    Poisoned {
        /// The system's number; 0 if it was not the system.
        errno: i32,
        /// What failed.
        text: String,
    },
}

/// Takes the spool's events, a batch at a time.
pub trait SpoolSink: Send + Sync {
    /// Take events, in order. Called by threads of the spool, and with failures also by the thread that commits; must
    /// neither block nor call the spool.
    fn push(&self, events: Vec<SpoolEvent>);
}
