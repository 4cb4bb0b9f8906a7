//! Queries on their way to a thread of their own, so that neither checkpoints nor refills wait for them.
//!
//! A query that begins is handed on by the checkpointer, right after a checkpoint, and so sees everything that was
//! appended before it was asked; one that goes on comes straight here. Steps are taken one at a time, in order.

use crate::index::query::{Budget, Execution};

/// Queries that may wait for the thread; beyond that they are refused.
pub(crate) const WAITING_MAX: usize = 64;

/// A step to take.
pub(crate) struct Step {
    pub(crate) request: u64,
    pub(crate) execution: Box<Execution>,
    pub(crate) budget: Budget,
}
