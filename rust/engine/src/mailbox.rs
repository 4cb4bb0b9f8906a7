//! The one queue through which everything reaches the caller, and its eventfd.
//!
//! Invariant: whenever the queue is not empty the eventfd is readable, so a caller that waits for
//! readability never misses an event; [`Mailbox::take`] leaves it readable when something remains.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

use crate::event::{Event, Lane};

#[derive(Default)]
struct Queues {
    spool: VecDeque<Event>,
    closures: VecDeque<Event>,
    client: VecDeque<Event>,
    server: VecDeque<Event>,
    signalled: bool,
}

impl Queues {
    fn is_empty(&self) -> bool {
        self.spool.is_empty() && self.closures.is_empty() && self.client.is_empty() && self.server.is_empty()
    }

    fn push(&mut self, event: Event) {
        match event.lane() {
            Lane::Spool => self.spool.push_back(event),
            Lane::Closure => self.closures.push_back(event),
            Lane::Client => self.client.push_back(event),
            Lane::Server => self.server.push_back(event),
        }
    }
}

/// Events for the caller, with quotas so that no kind starves another.
pub(crate) struct Mailbox {
    queues: Mutex<Queues>,
    eventfd: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> std::io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { queues: Mutex::new(Queues::default()), eventfd })
    }

    pub(crate) fn fileno(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// Adds events and makes the eventfd readable if it is not yet.
    pub(crate) fn push(&self, events: impl IntoIterator<Item = Event>) {
        let mut queues = self.queues.lock();
        for event in events {
            queues.push(event);
        }
        if !queues.signalled && !queues.is_empty() {
            queues.signalled = true;
            drop(queues);
            self.signal();
        }
    }

    fn signal(&self) {
        // A full counter (EAGAIN) is readable already.
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }

    /// Hands out up to `limit` events: spool first, then closures, then at least a quarter of what is
    /// left for each side, so that neither accepting nor delivering starves the other.
    pub(crate) fn take(&self, limit: usize) -> Vec<Event> {
        let mut queues = self.queues.lock();
        let mut taken = Vec::with_capacity(limit.min(256));
        drain(&mut queues.spool, limit, &mut taken);
        drain(&mut queues.closures, limit - taken.len(), &mut taken);
        let left = limit - taken.len();
        let for_server = queues.server.len().min(left / 4);
        drain(&mut queues.client, left - for_server, &mut taken);
        drain(&mut queues.server, limit - taken.len(), &mut taken);
        if queues.signalled && queues.is_empty() {
            queues.signalled = false;
            let mut count = [0u8; 8];
            // Nothing to read (EAGAIN) cannot be: `signalled` says that it was written.
            let _ = rustix::io::read(&self.eventfd, &mut count);
        }
        taken
    }
}

fn drain(from: &mut VecDeque<Event>, limit: usize, into: &mut Vec<Event>) {
    let count = from.len().min(limit);
    into.extend(from.drain(..count));
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn readable(mailbox: &Mailbox) -> bool {
        let mut fds = [PollFd::new(&mailbox.eventfd, PollFlags::IN)];
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&zero)).is_ok_and(|n| n == 1)
    }

    #[test]
    fn eventfd_is_readable_exactly_while_something_waits() {
        let mailbox = Mailbox::new().expect("eventfd");
        assert!(!readable(&mailbox));
        mailbox.push((0..5).map(|watermark| Event::Checkpoint { watermark }));
        assert!(readable(&mailbox));
        assert_eq!(mailbox.take(3).len(), 3);
        assert!(readable(&mailbox));
        assert_eq!(mailbox.take(3).len(), 2);
        assert!(!readable(&mailbox));
        mailbox.push([Event::Checkpoint { watermark: 9 }]);
        assert!(readable(&mailbox));
    }

    #[test]
    fn servers_get_a_share_when_client_events_abound() {
        let mailbox = Mailbox::new().expect("eventfd");
        mailbox.push((0..100).map(|_| Event::Replies { conn: 1, turn: 1, first: 0, replies: Vec::new() }));
        mailbox.push((0..100).map(|_| Event::Commands {
            conn: 2,
            turn: 1,
            items: Vec::new(),
            early: false,
            eof: false,
        }));
        let taken = mailbox.take(40);
        assert_eq!(taken.len(), 40);
        assert_eq!(taken.iter().filter(|e| e.lane() == Lane::Server).count(), 10);
    }
}
