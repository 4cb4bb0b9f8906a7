//! What a connection has to send: shared slices, never copied, each with a time before which it is held back.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};

use bytes::{Buf, Bytes};

use crate::transport::Stream;

/// Slices in one call of the system.
const SLICES_MAX: usize = 16;

/// Slots that an empty queue may keep.
const KEPT_SLOTS: usize = 8;

struct Segment {
    bytes: Bytes,
    not_before_ms: u64,
}

/// How far a flush came.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Flush {
    /// Nothing more may go now: all is sent, or the rest is held back.
    Done,
    /// The system takes no more.
    Blocked,
    /// The budget is used up.
    Spent,
}

#[derive(Default)]
pub(crate) struct Output {
    queue: VecDeque<Segment>,
    pending: usize,
    sent: u64,
    /// When the system last took something, or the queue began to fill.
    progress_ms: u64,
}

impl Output {
    /// Add octets, held back by `delay_ms` more than what is before them.
    pub(crate) fn push(&mut self, bytes: Bytes, delay_ms: u64, now_ms: u64) {
        if bytes.is_empty() {
            return;
        }
        if self.queue.is_empty() {
            self.progress_ms = now_ms;
        }
        let after_ms = self.queue.back().map_or(now_ms, |last| last.not_before_ms.max(now_ms));
        self.pending += bytes.len();
        self.queue.push_back(Segment { bytes, not_before_ms: after_ms + delay_ms });
    }

    /// Octets that have not been sent.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Octets sent since the beginning.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// The position behind the last octet.
    pub(crate) fn end(&self) -> u64 {
        self.sent + self.pending as u64
    }

    pub(crate) fn progress_ms(&self) -> u64 {
        self.progress_ms
    }

    /// Until when something is held back.
    pub(crate) fn held_until_ms(&self, now_ms: u64) -> Option<u64> {
        self.queue.back().map(|last| last.not_before_ms).filter(|&at_ms| at_ms > now_ms)
    }

    /// Before when the first segment may not go; 0 without one.
    pub(crate) fn not_before_ms(&self) -> u64 {
        self.queue.front().map_or(0, |first| first.not_before_ms)
    }

    /// When the first segment may go, if not yet.
    pub(crate) fn released_ms(&self, now_ms: u64) -> Option<u64> {
        self.queue.front().map(|first| first.not_before_ms).filter(|&at_ms| at_ms > now_ms)
    }

    /// Forget what has not been sent.
    pub(crate) fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.pending = 0;
    }

    /// Send what may go, about `budget` octets at most.
    pub(crate) fn flush(
        &mut self,
        stream: &mut impl Stream,
        now_ms: u64,
        budget: &mut usize,
    ) -> io::Result<Flush> {
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let due = self.queue.iter().take_while(|segment| segment.not_before_ms <= now_ms);
            let (mut count, mut offered) = (0, 0);
            for (slice, segment) in slices.iter_mut().zip(due) {
                *slice = IoSlice::new(&segment.bytes);
                count += 1;
                offered += segment.bytes.len();
            }
            if count == 0 {
                return Ok(Flush::Done);
            }
            if *budget == 0 {
                return Ok(Flush::Spent);
            }
            match stream.write(slices.get(..count).unwrap_or_default()) {
                Ok(octets) => {
                    *budget = budget.saturating_sub(octets);
                    self.progress_ms = now_ms;
                    self.take_sent(octets);
                    if octets < offered {
                        // The system says when there is room again, as if it had refused.
                        return Ok(Flush::Blocked);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Flush::Blocked),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Give what may go to something that takes some of it, a call's worth of slices at most.
    pub(crate) fn give(&mut self, now_ms: u64, take: impl FnOnce(&[IoSlice<'_>]) -> usize) {
        let due = self.queue.iter().take_while(|segment| segment.not_before_ms <= now_ms);
        let slices: Vec<IoSlice<'_>> = due.take(SLICES_MAX).map(|one| IoSlice::new(&one.bytes)).collect();
        let taken = take(&slices);
        self.take_sent(taken);
    }

    /// Take note that the system has taken something.
    pub(crate) fn note_progress(&mut self, now_ms: u64) {
        self.progress_ms = now_ms;
    }

    fn take_sent(&mut self, octets: usize) {
        self.sent += octets as u64;
        self.pending -= octets;
        let mut left = octets;
        while let Some(first) = self.queue.front_mut() {
            if first.bytes.len() > left {
                first.bytes.advance(left);
                return;
            }
            left -= first.bytes.len();
            self.queue.pop_front();
        }
        if self.queue.capacity() > KEPT_SLOTS {
            self.queue = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// Takes so many octets a call, and remembers how many slices each call had.
    struct Sponge {
        room: VecDeque<usize>,
        taken: Vec<u8>,
        calls: Vec<usize>,
    }

    impl Stream for Sponge {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }

        fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.calls.push(slices.len());
            let room = self.room.pop_front().ok_or(ErrorKind::WouldBlock)?;
            let before = self.taken.len();
            self.taken.extend(slices.iter().flat_map(|slice| slice.iter()).take(room));
            Ok(self.taken.len() - before)
        }

        fn shutdown_write(&mut self) {}

        fn connected(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(SocketAddr::from(([0, 0, 0, 0], 0)))
        }
    }

    fn sponge(room: &[usize]) -> Sponge {
        Sponge { room: room.iter().copied().collect(), taken: Vec::new(), calls: Vec::new() }
    }

    fn output(parts: &[(&'static [u8], u64)]) -> Output {
        let mut out = Output::default();
        for &(bytes, delay_ms) in parts {
            out.push(Bytes::from_static(bytes), delay_ms, 1_000);
        }
        out
    }

    #[test]
    fn all_that_may_go_goes_in_one_call() {
        let mut out = output(&[(b"ab", 0), (b"", 0), (b"c", 0)]);
        let mut stream = sponge(&[100]);
        assert_eq!((out.pending(), out.end()), (3, 3));
        assert_eq!(out.flush(&mut stream, 1_000, &mut 100).ok(), Some(Flush::Done));
        assert_eq!((stream.taken.as_slice(), stream.calls.as_slice()), (&b"abc"[..], &[2][..]));
        assert_eq!((out.pending(), out.sent(), out.end()), (0, 3, 3));
        let mut many = output(&[(&b"x"[..], 0); 40]);
        let mut stream = sponge(&[100; 9]);
        assert_eq!(many.flush(&mut stream, 1_000, &mut 100).ok(), Some(Flush::Done));
        assert_eq!(stream.calls, [16, 16, 8]);
        assert_eq!(many.queue.capacity(), 0, "an idle connection keeps no long queue");
    }

    #[test]
    fn a_short_write_is_as_good_as_a_refusal() {
        let mut out = output(&[(b"ab", 0), (b"cd", 0)]);
        let mut stream = sponge(&[3]);
        assert_eq!(out.flush(&mut stream, 2_000, &mut 100).ok(), Some(Flush::Blocked));
        assert_eq!((out.sent(), out.pending(), out.progress_ms(), stream.calls.len()), (3, 1, 2_000, 1));
        assert_eq!(out.flush(&mut stream, 3_000, &mut 100).ok(), Some(Flush::Blocked));
        assert_eq!(out.progress_ms(), 2_000);
    }

    #[test]
    fn a_budget_ends_a_flush_but_not_within_a_call() {
        let mut out = output(&[(&b"x"[..], 0); 40]);
        let mut budget = 20;
        assert_eq!(out.flush(&mut sponge(&[100; 9]), 1_000, &mut budget).ok(), Some(Flush::Spent));
        assert_eq!((out.sent(), budget), (32, 0));
    }

    #[test]
    fn what_is_held_back_holds_back_all_behind_it() {
        let mut out = output(&[(b"a", 0), (b"b", 500), (b"c", 0), (b"d", 100)]);
        let mut stream = sponge(&[100; 9]);
        for (now_ms, taken, released_ms) in [
            (1_000, &b"a"[..], Some(1_500)),
            (1_499, b"a", Some(1_500)),
            (1_500, b"abc", Some(1_600)),
            (1_600, b"abcd", None),
        ] {
            assert_eq!(out.flush(&mut stream, now_ms, &mut 100).ok(), Some(Flush::Done));
            assert_eq!((stream.taken.as_slice(), out.released_ms(now_ms)), (taken, released_ms));
        }
        assert_eq!(out.held_until_ms(1_600), None);
    }
}
