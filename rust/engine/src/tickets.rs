//! Which commit belongs to which connection, and what is to be written when it is durable.
//!
//! A commit can be finished before the caller has said who waits for it: the spool's threads do not
//! wait for the caller. A ticket therefore remembers what has already happened. It is forgotten when the
//! caller has been told (see [`Tickets::forget`]): by then every `await_durable` for it has been applied,
//! because commits and actions come from the thread that polls.

use std::collections::HashMap;

use parking_lot::Mutex;
use penstock_net::Conn;

#[derive(Default)]
struct Ticket {
    line: Option<Receipt>,
    waiter: Option<(Conn, u32)>,
    done: Option<bool>,
}

/// What the journal and the counters need once the message is durable.
pub(crate) struct Receipt {
    pub(crate) line: String,
    pub(crate) connector: String,
    pub(crate) size: u64,
}

/// What a finished ticket sets off.
#[derive(Default)]
pub(crate) struct Finished {
    pub(crate) receipt: Option<Receipt>,
    pub(crate) waiter: Option<(Conn, u32)>,
}

#[derive(Default)]
pub(crate) struct Tickets {
    open: Mutex<HashMap<u64, Ticket>>,
}

impl Tickets {
    /// Adds what is to be noted for a ticket; gives it back at once if the commit is already done.
    pub(crate) fn expect(&self, ticket: u64, receipt: Receipt) -> Option<(bool, Receipt)> {
        let mut open = self.open.lock();
        let entry = open.entry(ticket).or_default();
        if let Some(ok) = entry.done {
            return Some((ok, receipt));
        }
        entry.line = Some(receipt);
        None
    }

    /// Says who waits; `Some(ok)` if the commit is already done.
    pub(crate) fn wait(&self, ticket: u64, conn: Conn, turn: u32) -> Option<bool> {
        let mut open = self.open.lock();
        let entry = open.entry(ticket).or_default();
        if entry.done.is_none() {
            entry.waiter = Some((conn, turn));
        }
        entry.done
    }

    /// Takes note of finished commits.
    pub(crate) fn finish(&self, done: &[(u64, bool)]) -> Vec<Finished> {
        let mut open = self.open.lock();
        done.iter()
            .map(|&(ticket, ok)| {
                let entry = open.entry(ticket).or_default();
                entry.done = Some(ok);
                Finished { receipt: entry.line.take(), waiter: entry.waiter.take() }
            })
            .collect()
    }

    /// The caller has been told of these tickets.
    pub(crate) fn forget(&self, tickets: &[u64]) {
        let mut open = self.open.lock();
        for ticket in tickets {
            open.remove(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    fn receipt() -> Receipt {
        Receipt { line: "x".into(), connector: "c".into(), size: 1 }
    }

    #[test]
    fn a_commit_that_ends_first_answers_the_waiter_at_once() {
        let tickets = Tickets::default();
        assert!(tickets.finish(&[(7, true)])[0].receipt.is_none());
        assert!(matches!(tickets.expect(7, receipt()), Some((true, _))));
        assert_eq!(tickets.wait(7, 1, 2), Some(true));
        tickets.forget(&[7]);
        assert!(tickets.open.lock().is_empty());
    }

    #[test]
    fn a_waiter_that_comes_first_is_called_once() {
        let tickets = Tickets::default();
        assert!(tickets.expect(7, receipt()).is_none());
        assert_eq!(tickets.wait(7, 1, 2), None);
        let finished = tickets.finish(&[(7, false)]);
        assert_eq!(finished[0].waiter, Some((1, 2)));
        assert!(finished[0].receipt.is_some());
    }
}
