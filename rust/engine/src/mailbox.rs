//! The one queue through which everything reaches the caller, and its eventfd.
//!
//! Invariant: whenever the queue is not empty the eventfd is readable, so a caller that waits for
//! readability never misses an event; [`Mailbox::take`] leaves it readable when something remains.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

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
    /// Since when the caller could have taken something and has not come; `None` while nothing is here.
    waits_from: Option<Instant>,
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
        if queues.waits_from.is_none() && !queues.is_empty() {
            queues.waits_from = Some(Instant::now());
        }
        if !queues.signalled && !queues.is_empty() {
            queues.signalled = true;
            drop(queues);
            self.signal();
        }
    }

    /// Makes the eventfd readable although nothing has happened: the next `take` comes back empty.
    pub(crate) fn ring(&self) {
        let mut queues = self.queues.lock();
        if !std::mem::replace(&mut queues.signalled, true) {
            drop(queues);
            self.signal();
        }
    }

    /// For how long the caller has not come although something is here, in milliseconds.
    pub(crate) fn waits_ms(&self) -> u64 {
        self.queues.lock().waits_from.map_or(0, |since| since.elapsed().as_millis() as u64)
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
        // A caller that comes is not stuck, even if it leaves something for the next time.
        queues.waits_from = None;
        drain(&mut queues.spool, limit, &mut taken);
        drain(&mut queues.closures, limit - taken.len(), &mut taken);
        let left = limit - taken.len();
        let for_server = queues.server.len().min(left / 4);
        drain(&mut queues.client, left - for_server, &mut taken);
        drain(&mut queues.server, limit - taken.len(), &mut taken);
        if !queues.is_empty() {
            queues.waits_from = Some(Instant::now());
        }
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
    fn a_ring_wakes_the_caller_once() {
        let mailbox = Mailbox::new().expect("eventfd");
        mailbox.ring();
        mailbox.ring();
        assert!(readable(&mailbox));
        assert!(mailbox.take(3).is_empty());
        assert!(!readable(&mailbox));
        mailbox.push([Event::Checkpoint { watermark: 9 }]);
        mailbox.ring();
        assert_eq!(mailbox.take(3).len(), 1);
        assert!(!readable(&mailbox));
    }

    #[test]
    fn a_caller_that_comes_is_not_waited_for() {
        let mailbox = Mailbox::new().expect("eventfd");
        assert!(mailbox.queues.lock().waits_from.is_none());
        mailbox.push((0..2).map(|watermark| Event::Checkpoint { watermark }));
        let first = mailbox.queues.lock().waits_from.expect("something waits");
        mailbox.push([Event::Checkpoint { watermark: 9 }]);
        assert_eq!(mailbox.queues.lock().waits_from, Some(first));
        mailbox.take(1);
        assert!(mailbox.queues.lock().waits_from.is_some_and(|since| since >= first));
        mailbox.take(2);
        assert_eq!(mailbox.waits_ms(), 0);
    }

    #[test]
    fn servers_get_a_share_when_client_events_abound() {
        let mailbox = Mailbox::new().expect("eventfd");
        mailbox.push((0..100).map(|_| Event::Replies { conn: 1, turn: 1, first: 0, replies: Vec::new() }));
        mailbox.push((0..100).map(|_| Event::Commands {
            conn: 2,
            turn: 1,
            items: Vec::new(),
            answered: 0,
            early: false,
            eof: false,
        }));
        let taken = mailbox.take(40);
        assert_eq!(taken.len(), 40);
        assert_eq!(taken.iter().filter(|e| e.lane() == Lane::Server).count(), 10);
    }
}
