//! Content as DATA carries it: where it ends, what is unusual about it, and its dots (RFC 5321 4.1.1.4, 4.5.2).
//!
//! # Theory of operation
//!
//! Content ends at a line that is a dot alone: CRLF "." CRLF, or "." CRLF as the very first octets. Nothing else ends
//! it. A CR or LF that is not half of a CRLF is an octet like others that also sets a flag: were it taken for the end
//! of a line, a sender could hide a second message in what other servers pass on as one (smuggling). The reader always
//! goes on to the true end, so that whoever refuses such content answers at the right place.
//!
//! The state is what the octets before the input leave open:
//!
//! | state | before the input | held back |
//! |---|---|---|
//! | `LineStart` | nothing, or CRLF | – |
//! | `Text` | something inside a line | – |
//! | `Cr` | a CR inside a line | – |
//! | `Dot` | a dot at the start of a line | "." |
//! | `DotCr` | a dot at the start of a line, then CR | ".CR" |
//! | `End` | the end | – |
//!
//! Held-back octets are either the beginning of the end, and vanish, or content, and are given as the prefix of a later
//! step. The final ".CRLF" is no content; the CRLF before it is.
//!
//! Speed: one search per line for its LF, and three wide passes over the whole input for what can stand anywhere. If
//! you change the states, check the table of cuts in the tests; if you change the counting, check the naive model.

use memchr::{memchr, memchr_iter, memchr2};

use super::limits::TEXT_LINE_MAX;
use crate::flow::ContentFlags;

/// What ends content on the wire, after the CRLF of its last line.
pub const END_OF_DATA: &[u8] = b".\r\n";

/// What a push has found.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct ContentStep {
    /// Octets of earlier input that were held back and are content after all; they stand before `content`.
    pub prefix: &'static [u8],
    /// How many octets at the beginning of the input are content, dots still stuffed.
    pub content: usize,
    /// How many octets of the input were read; less than all of it only at the end.
    pub consumed: usize,
    /// Whether the end was read; what follows is no content.
    pub end: bool,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum State {
    LineStart,
    Text,
    Cr,
    Dot,
    DotCr,
    End,
}

/// Reads the content that follows a 354 reply.
#[derive(Clone, Debug)]
pub struct ContentReader {
    state: State,
    /// What has been seen, but for bare CRs, which only the two counters below tell.
    flags: ContentFlags,
    wire_size: u64,
    dot_lines: u64,
    lines: u64,
    crs: u64,
    /// Octets of the current line in earlier input, without a stuffed dot.
    line_octets: usize,
}

impl Default for ContentReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ContentReader {
    /// Make a reader that stands at the first octet.
    pub const fn new() -> Self {
        Self {
            state: State::LineStart,
            flags: ContentFlags(0),
            wire_size: 0,
            dot_lines: 0,
            lines: 0,
            crs: 0,
            line_octets: 0,
        }
    }

    /// Read on. After the end nothing more is read.
    pub fn push(&mut self, input: &[u8]) -> ContentStep {
        let step = self.find_end(input);
        let content = input.get(..step.content).unwrap_or_default();
        self.wire_size += (step.prefix.len() + step.content) as u64;
        self.crs += (memchr_iter(b'\r', step.prefix).count() + memchr_iter(b'\r', content).count()) as u64;
        if !self.flags.contains(ContentFlags::NUL) && memchr(0, content).is_some() {
            self.flags |= ContentFlags::NUL;
        }
        if !self.flags.contains(ContentFlags::EIGHT_BIT) && !content.is_ascii() {
            self.flags |= ContentFlags::EIGHT_BIT;
        }
        step
    }

    /// Return what is unusual about the content so far.
    pub fn flags(&self) -> ContentFlags {
        // Every CR but the last was followed by something; those that end no line are bare.
        let paired = self.lines + u64::from(self.state == State::Cr);
        if self.crs > paired { self.flags | ContentFlags::BARE_CR } else { self.flags }
    }

    /// Return how many octets of content were found, dots still stuffed.
    pub fn wire_size(&self) -> u64 {
        self.wire_size
    }

    /// Return the size of the message so far as RFC 1870 counts it: without stuffed dots.
    pub fn size(&self) -> u64 {
        self.wire_size - self.dot_lines
    }

    /// Take up the state that earlier input has left, then go through the input.
    fn find_end(&mut self, input: &[u8]) -> ContentStep {
        let (prefix, line_start): (&'static [u8], usize) = match self.state {
            State::LineStart => match self.begin_line(input, 0) {
                Ok(line_start) => (b"", line_start),
                Err(step) => return step,
            },
            State::Text | State::Cr => (b"", 0),
            State::Dot => match after_dot(input) {
                AfterDot::Line => {
                    self.note_dot_line();
                    self.state = State::Text;
                    (b".", 0)
                }
                AfterDot::Held(state) => return self.hold(state, 0, input),
                AfterDot::End => return self.end(0, END_OF_DATA.len() - 1),
            },
            State::DotCr => match input {
                [] => return self.hold(State::DotCr, 0, input),
                [b'\n', ..] => return self.end(0, END_OF_DATA.len() - 2),
                _ => {
                    self.note_dot_line();
                    self.line_octets = 1;
                    self.state = State::Cr;
                    (b".\r", 0)
                }
            },
            State::End => return self.end(0, 0),
        };
        ContentStep { prefix, ..self.go_through(input, line_start) }
    }

    /// Go through the rest of a line and the lines behind it.
    ///
    /// `line_start` is where the octets of the current line begin in the input, its stuffed dot left out.
    fn go_through(&mut self, input: &[u8], mut line_start: usize) -> ContentStep {
        let follows_cr = self.state == State::Cr;
        for lf in memchr_iter(b'\n', input) {
            let ends_line = lf.checked_sub(1).map_or(follows_cr, |before| input.get(before) == Some(&b'\r'));
            if !ends_line {
                self.flags |= ContentFlags::BARE_LF;
                continue;
            }
            if self.line_octets + (lf + 1 - line_start) > TEXT_LINE_MAX {
                self.flags |= ContentFlags::OVER_LONG;
            }
            self.lines += 1;
            self.line_octets = 0;
            self.state = State::LineStart;
            match self.begin_line(input, lf + 1) {
                Ok(next_start) => line_start = next_start,
                Err(step) => return step,
            }
        }
        if let Some(last) = input.last().filter(|_| line_start < input.len()) {
            self.line_octets += input.len() - line_start;
            self.state = if *last == b'\r' { State::Cr } else { State::Text };
        }
        ContentStep { prefix: b"", content: input.len(), consumed: input.len(), end: false }
    }

    /// Pass over a stuffed dot at the start of a line; or stop, when no more of the input is known to be content.
    fn begin_line(&mut self, input: &[u8], at: usize) -> Result<usize, ContentStep> {
        let Some([b'.', tail @ ..]) = input.get(at..) else { return Ok(at) };
        match after_dot(tail) {
            AfterDot::Line => {
                self.note_dot_line();
                Ok(at + 1)
            }
            AfterDot::Held(state) => Err(self.hold(state, at, input)),
            AfterDot::End => Err(self.end(at, at + END_OF_DATA.len())),
        }
    }

    fn note_dot_line(&mut self) {
        self.flags |= ContentFlags::DOT_LINES;
        self.dot_lines += 1;
    }

    fn hold(&mut self, state: State, content: usize, input: &[u8]) -> ContentStep {
        self.state = state;
        ContentStep { prefix: b"", content, consumed: input.len(), end: false }
    }

    fn end(&mut self, content: usize, consumed: usize) -> ContentStep {
        self.state = State::End;
        ContentStep { prefix: b"", content, consumed, end: true }
    }
}

/// What follows a dot at the start of a line.
enum AfterDot {
    /// A line that begins with a dot.
    Line,
    /// Too little to tell.
    Held(State),
    /// CRLF: the end.
    End,
}

fn after_dot(tail: &[u8]) -> AfterDot {
    match tail {
        [] => AfterDot::Held(State::Dot),
        [b'\r'] => AfterDot::Held(State::DotCr),
        [b'\r', b'\n', ..] => AfterDot::End,
        _ => AfterDot::Line,
    }
}

/// Where a plain content or a stuffed one stands between two pushes.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
enum Place {
    #[default]
    LineStart,
    Text,
    /// After a CR that may be half of a CRLF.
    Cr,
}

/// Turns content of the wire form into the plain one: takes a dot from the start of every line that begins with one.
#[derive(Clone, Debug, Default)]
pub struct Unstuffer {
    place: Place,
}

impl Unstuffer {
    /// Append the plain form of `input` to `out`. Nothing is held back.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        out.reserve(input.len());
        let mut rest = input;
        while let Some(&first) = rest.first() {
            if self.place == Place::LineStart && first == b'.' {
                self.place = Place::Text;
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let follows_cr = self.place == Place::Cr;
            let line = memchr(b'\n', rest).map_or(rest.len(), |lf| lf + 1);
            let (line, behind) = rest.split_at(line);
            out.extend_from_slice(line);
            self.place = match line {
                [.., b'\r', b'\n'] => Place::LineStart,
                [b'\n'] if follows_cr => Place::LineStart,
                [.., b'\r'] => Place::Cr,
                _ => Place::Text,
            };
            rest = behind;
        }
    }
}

/// Turns plain content into the wire form: stuffs dots, and makes CRLF of every bare CR and bare LF.
///
/// Its output is safe to send as DATA whatever the input is: only [`END_OF_DATA`] written behind it ends it.
#[derive(Clone, Debug, Default)]
pub struct Stuffer {
    place: Place,
}

impl Stuffer {
    /// Append the wire form of `input` to `out`. A CR at the end is held back until it is known what follows it.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        out.reserve(input.len());
        let mut rest = input;
        while let Some((&first, behind)) = rest.split_first() {
            if self.place == Place::Cr {
                out.extend_from_slice(b"\r\n");
                self.place = Place::LineStart;
                if first == b'\n' {
                    rest = behind;
                    continue;
                }
            }
            if self.place == Place::LineStart && first == b'.' {
                out.push(b'.');
            }
            let text = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            let (text, ending) = rest.split_at(text);
            out.extend_from_slice(text);
            let (place, ending_octets) = match ending {
                [] => (Place::Text, 0),
                [b'\r', b'\n', ..] => (Place::LineStart, 2),
                [b'\r', ..] => (Place::Cr, 1),
                _ => (Place::LineStart, 1),
            };
            if place == Place::LineStart {
                out.extend_from_slice(b"\r\n");
            }
            self.place = place;
            rest = ending.get(ending_octets..).unwrap_or_default();
        }
    }

    /// Append the CRLF that ends the last line, if it lacks one. [`END_OF_DATA`] is left to the caller.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.place != Place::LineStart {
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests;
