//! Lines from octets, strict: a line ends with CRLF and with nothing else.
//!
//! A bare LF or CR never ends a line, or a peer and we could disagree on where a command begins (smuggling). Lines are
//! *pulled*, one at a time, because the reply to one decides how the octets behind it are read: what has not been
//! pulled is untouched, and [`LineBuffer::rest`] gives it to whoever reads content.

use std::fmt;

use memchr::{memchr, memchr3};
use zeroize::Zeroize;

use super::command::{Malformed, MalformedKind, Verb};
use super::limits::AUTH_LINE_MAX;

/// The receive buffer of a connection.
///
/// It is bounded by what the owner pushes before it has pulled all lines; a line that is too long is dropped as it
/// comes. When everything has been pulled it owns no memory.
#[derive(Debug)]
pub struct LineBuffer {
    cutter: LineCutter,
}

impl LineBuffer {
    /// Make an empty buffer whose lines are at most `line_max` octets long, CRLF included; a line that begins with
    /// AUTH may have [`AUTH_LINE_MAX`] (RFC 4954 4), so `line_max` has to leave room for that word.
    pub const fn new(line_max: usize) -> Self {
        Self { cutter: LineCutter::growing(line_max, Grows::Auth) }
    }

    /// Let each line have [`AUTH_LINE_MAX`], or no longer so. To be said between lines.
    pub fn expect_responses(&mut self, are_expected: bool) {
        self.cutter.grows = if are_expected { Grows::Always } else { Grows::Auth };
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> &[u8] {
        &self.cutter.bytes
    }

    /// Overwrite what has been pulled.
    pub fn wipe_taken(&mut self) {
        self.cutter.wipe_taken();
    }

    /// Add octets that have arrived.
    pub fn push(&mut self, input: &[u8]) {
        self.cutter.push(input);
    }

    /// Take the next complete line, without its CRLF; `None` when there is none yet.
    ///
    /// A line that is too long, or has a bare CR, bare LF or NUL, is reported once, when its CRLF has come.
    pub fn next_line(&mut self) -> Option<Result<&[u8], Malformed>> {
        let line = self.cutter.next_line()?;
        let fault = if line.is_over_long {
            Some((MalformedKind::LineTooLong, line.head.len()))
        } else {
            memchr3(b'\r', b'\n', 0, line.head)
                .and_then(|at| Some((MalformedKind::of_octet(*line.head.get(at)?), at)))
        };
        Some(match fault {
            None => Ok(line.head),
            Some((kind, at)) => Err(Malformed { kind, offset: at as u32, verb: Verb::of_line(line.head) }),
        })
    }

    /// Whether nothing is buffered, not even part of a line.
    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Return the octets that have not been pulled. Only at the beginning of a line are they what the peer sent.
    pub fn rest(&self) -> &[u8] {
        self.cutter.rest()
    }

    /// Drop the first `octets` of [`LineBuffer::rest`], which were read as something else than lines.
    pub fn consume(&mut self, octets: usize) {
        self.cutter.consume(octets);
    }
}

/// A line as far as it was kept.
pub(super) struct CutLine<'a> {
    /// The line without its CRLF, cut at the limit.
    pub(super) head: &'a [u8],
    /// Octets of the whole line, CRLF included.
    pub(super) octets: usize,
    /// Whether the line was longer than the limit.
    pub(super) is_over_long: bool,
}

/// Which lines may have [`AUTH_LINE_MAX`].
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Grows {
    Never,
    /// One that begins with AUTH.
    Auth,
    Always,
}

/// Cuts octets into lines and drops what exceeds the longest one.
pub(super) struct LineCutter {
    bytes: Vec<u8>,
    /// Where the current line begins in `bytes`.
    start: usize,
    /// Up to where `bytes` has been searched for the end of the line.
    searched: usize,
    /// Octets of the current line that were dropped; they stood at `start + head_max`.
    dropped: usize,
    /// Octets of a usual line that are kept.
    usual_head_max: usize,
    grows: Grows,
}

/// What waits may be somebody's password, so it is not printed.
impl fmt::Debug for LineCutter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineCutter").field("octets", &self.rest().len()).finish_non_exhaustive()
    }
}

impl LineCutter {
    pub(super) const fn new(line_max: usize) -> Self {
        Self::growing(line_max, Grows::Never)
    }

    const fn growing(line_max: usize, grows: Grows) -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            searched: 0,
            dropped: 0,
            usual_head_max: line_max.saturating_sub(2),
            grows,
        }
    }

    /// Octets of the current line that are kept. What a line begins with stays, so this does not change while it comes.
    fn head_max(&self) -> usize {
        let grows = match self.grows {
            Grows::Never => false,
            Grows::Auth => self.rest().get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH ")),
            Grows::Always => true,
        };
        if grows { AUTH_LINE_MAX - 2 } else { self.usual_head_max }
    }

    pub(super) fn push(&mut self, input: &[u8]) {
        self.forget_taken();
        self.bytes.extend_from_slice(input);
    }

    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub(super) fn consume(&mut self, octets: usize) {
        debug_assert_eq!(self.dropped, 0, "consumed in the middle of a line");
        self.start = self.bytes.len().min(self.start + octets);
        self.searched = self.start;
        self.release();
    }

    /// Octets of the line whose end has not come yet. Exact after [`LineCutter::next_line`] has returned `None`.
    pub(super) fn unfinished_octets(&self) -> usize {
        self.rest().len() + self.dropped
    }

    pub(super) fn next_line(&mut self) -> Option<CutLine<'_>> {
        let Some(end) = self.find_crlf() else {
            self.drop_surplus();
            self.release();
            return None;
        };
        let head_max = self.head_max();
        let kept = end - self.start;
        let octets = kept + self.dropped + 2;
        let head = self.start..self.start + kept.min(head_max);
        self.start = end + 2;
        self.searched = self.start;
        self.dropped = 0;
        Some(CutLine {
            head: self.bytes.get(head).unwrap_or_default(),
            octets,
            is_over_long: octets > head_max + 2,
        })
    }

    /// Find the CR of the next CRLF.
    fn find_crlf(&mut self) -> Option<usize> {
        // With octets dropped at the seam, what stands on its two sides was not adjacent.
        let seam = if self.dropped > 0 { self.start + self.head_max() } else { self.start };
        while let Some(at) = memchr(b'\n', self.bytes.get(self.searched..)?) {
            let lf = self.searched + at;
            self.searched = lf + 1;
            if lf > seam && self.bytes.get(lf - 1) == Some(&b'\r') {
                return Some(lf - 1);
            }
        }
        self.searched = self.bytes.len();
        None
    }

    /// Forget what an unfinished line has beyond the limit, but for a CR that may be half of its end.
    fn drop_surplus(&mut self) {
        let seam = self.start + self.head_max();
        if self.bytes.len() > seam {
            let ends_with_cr = self.bytes.last() == Some(&b'\r');
            self.dropped += self.bytes.len() - seam - usize::from(ends_with_cr);
            self.bytes.truncate(seam);
            if ends_with_cr {
                self.bytes.push(b'\r');
            }
            self.searched = self.bytes.len();
        }
    }

    fn wipe_taken(&mut self) {
        if let Some(taken) = self.bytes.get_mut(..self.start) {
            taken.zeroize();
        }
    }

    fn forget_taken(&mut self) {
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
    }

    /// Give back the memory that what is left does not need: thousands of connections wait in the middle of a line.
    fn release(&mut self) {
        self.forget_taken();
        let needed = if self.bytes.is_empty() { 0 } else { self.head_max() };
        self.bytes.shrink_to(needed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use crate::pieces::pieces;
    use proptest::prelude::*;

    type Item = Result<Vec<u8>, Malformed>;

    fn pull(buffer: &mut LineBuffer) -> Vec<Item> {
        std::iter::from_fn(|| Some(buffer.next_line()?.map(<[u8]>::to_vec))).collect()
    }

    fn lines<'a>(line_max: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Item> {
        let mut buffer = LineBuffer::new(line_max);
        let mut items = Vec::new();
        for piece in pieces {
            buffer.push(piece);
            items.extend(pull(&mut buffer));
        }
        items
    }

    fn bad(kind: MalformedKind, offset: u32, verb: Option<Verb>) -> Item {
        Err(Malformed { kind, offset, verb })
    }

    #[test]
    fn a_line_ends_with_crlf_only() {
        use MalformedKind::{BareCr, BareLf, Nul};
        for (input, expected) in [
            (&b"NOOP\r\nRSET\r\n"[..], vec![Ok(b"NOOP".to_vec()), Ok(b"RSET".to_vec())]),
            (b"\r\n", vec![Ok(vec![])]),
            (b"NOOP", vec![]),
            (b"NOOP\n", vec![]),
            (b"NOOP\r", vec![]),
            (b"NOOP\nRSET\r\n", vec![bad(BareLf, 4, None)]),
            (b"NOOP \nRSET\r\n", vec![bad(BareLf, 5, Some(Verb::Noop))]),
            (b"DATA \rx\r\n", vec![bad(BareCr, 5, Some(Verb::Data))]),
            (b"DATA\r\r\n", vec![bad(BareCr, 4, None)]),
            (b"\n\r\n", vec![bad(BareLf, 0, None)]),
            (b"a\0b\r\nRSET\r\n", vec![bad(Nul, 1, None), Ok(b"RSET".to_vec())]),
            (b"\xff\t\r\n", vec![Ok(b"\xff\t".to_vec())]),
        ] {
            assert_eq!(lines(512, [input]), expected, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn a_line_past_its_limit_is_reported_once_at_its_end() {
        let line = |octets: usize| [&b"NOOP "[..], &vec![b'x'; octets - 7], b"\r\n"].concat();
        assert_eq!(lines(64, [&line(64)[..]]), [Ok(line(64)[..62].to_vec())]);
        let too_long = bad(MalformedKind::LineTooLong, 62, Some(Verb::Noop));
        for octets in [65, 66, 1000] {
            let input = [line(octets), b"RSET\r\n".to_vec()].concat();
            let expected = [too_long.clone(), Ok(b"RSET".to_vec())];
            assert_eq!(lines(64, [&input[..]]), expected);
            assert_eq!(lines(64, input.chunks(1)), expected);
        }
    }

    #[test]
    fn a_line_without_end_takes_no_memory_beyond_its_limit() {
        let mut buffer = LineBuffer::new(512);
        for octets in [100, 1000, 10_000, 1] {
            buffer.push(&vec![b'x'; octets]);
            assert!(buffer.next_line().is_none());
            assert!(buffer.cutter.bytes.capacity() <= 512);
        }
    }

    #[test]
    fn what_was_not_pulled_can_be_read_otherwise() {
        let mut buffer = LineBuffer::new(512);
        buffer.push(b"DATA\r\ncontent\r\n.\r\nQUIT\r\n");
        assert_eq!(buffer.next_line(), Some(Ok(&b"DATA"[..])));
        assert_eq!(buffer.rest(), b"content\r\n.\r\nQUIT\r\n");
        buffer.consume(12);
        assert_eq!(buffer.next_line(), Some(Ok(&b"QUIT"[..])));
        assert_eq!(buffer.next_line(), None);
        assert!(buffer.is_empty());
        assert_eq!(buffer.cutter.bytes.capacity(), 0);
    }

    #[test]
    fn what_has_been_pulled_is_overwritten_on_demand() {
        let mut buffer = LineBuffer::new(512);
        buffer.push(b"AUTH PLAIN AHgAeQ==\r\nNOOP\r\n");
        assert!(buffer.next_line().is_some());
        buffer.wipe_taken();
        assert_eq!(buffer.memory(), [&[0; 21][..], b"NOOP\r\n"].concat());
        assert_eq!(buffer.next_line(), Some(Ok(&b"NOOP"[..])));
    }

    #[test]
    fn a_line_that_begins_with_auth_may_be_longer() {
        for (line, octets, is_read) in [
            ("AUTH PLAIN ", 12_286, true),
            ("auth x ", 12_286, true),
            ("AUTH PLAIN ", 12_287, false),
            ("AUTHX ", 20, false),
            ("AUT", 20, false),
            ("XAUTH ", 20, false),
        ] {
            let line = format!("{line}{}\r\n", "A".repeat(octets - line.len())).into_bytes();
            for size in [1, 7, 5_000, line.len()] {
                let found = lines(16, line.chunks(size));
                assert_eq!(found.len(), 1);
                assert_eq!(found[0].is_ok(), is_read, "{octets} {size}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_same_lines(
            parts in prop::collection::vec(
                prop::sample::select(vec!["\r\n", "\r", "\n", "NOOP ", "x", "\0", "0123456789", "AUTH "]), 0..40),
            sizes in prop::collection::vec(1_usize..20, 1..6),
            line_max in 7_usize..40,
        ) {
            let input = parts.concat().into_bytes();
            let whole = lines(line_max, [&input[..]]);
            prop_assert_eq!(&lines(line_max, pieces(&input, &sizes)), &whole);
            let ends = parts.concat().matches("\r\n").count();
            prop_assert_eq!(whole.len(), ends);
        }
    }
}
