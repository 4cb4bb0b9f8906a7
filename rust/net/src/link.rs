//! A socket with what is known of its readiness, its output, and how it is closed.
//!
//! Readiness is edge-triggered: a flag stays set until the system says that there is nothing more. A short read says so
//! too, which saves a call per command; only the end of the stream could be behind it, and is announced beforehand.
//!
//! Closing: what is left is sent, then our side is shut, then what still comes is discarded for a while. A socket that
//! is closed with unread octets resets the connection, and the reset overtakes our last reply.

use std::io::{self, ErrorKind};

use crate::context::Context;
use crate::output::{Flush, Output};
use crate::transport::{Readiness, Stream};

/// How long a closing connection may take none of what is left.
const FLUSH_MS: u64 = 10_000;

/// How long a closed connection is listened to.
const LINGER_MS: u64 = 2_000;

/// How much a closed connection is listened to, in octets.
const LINGER_OCTETS: usize = 256 * 1024;

/// What a read brought.
pub(crate) enum Read {
    /// So many octets, at the beginning of the context's buffer.
    Data(usize),
    /// Nothing now.
    Blocked,
    /// The peer has ended its side.
    End,
    /// The connection is broken.
    Failed,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the socket")]
pub(crate) struct Link<S> {
    /// Gone as soon as the connection has ended.
    stream: Option<S>,
    pub(crate) out: Output,
    is_readable: bool,
    is_writable: bool,
    hang_up: bool,
    has_failed: bool,
    has_ended: bool,
}

impl<S: Stream> Link<S> {
    /// Take a socket; nothing is known of it before the first report.
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream: Some(stream),
            out: Output::default(),
            is_readable: false,
            is_writable: false,
            hang_up: false,
            has_failed: false,
            has_ended: false,
        }
    }

    /// A connection that has just been accepted can be written to.
    pub(crate) fn accepted(stream: S) -> Self {
        Self { is_writable: true, ..Self::new(stream) }
    }

    pub(crate) fn note(&mut self, readiness: Readiness) {
        self.is_readable |= readiness.readable || readiness.hang_up || readiness.failed;
        self.is_writable |= readiness.writable;
        self.hang_up |= readiness.hang_up;
        self.has_failed |= readiness.failed;
    }

    /// Whether a read may bring something.
    pub(crate) fn is_readable(&self) -> bool {
        self.is_readable && !self.has_ended
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.is_writable
    }

    /// Whether a flush would send something.
    pub(crate) fn can_send(&self, now_ms: u64) -> bool {
        self.is_writable && self.out.pending() > 0 && self.out.released_ms(now_ms).is_none()
    }

    /// Whether the system has reported that the connection is broken.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Whether the peer's end was read.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub(crate) fn stream(&mut self) -> Option<&mut S> {
        self.stream.as_mut()
    }

    /// Close the socket.
    pub(crate) fn drop_stream(&mut self) {
        self.stream = None;
        self.out.clear();
    }

    /// Read up to `most` octets into the context's buffer.
    pub(crate) fn read(&mut self, cx: &mut Context, most: usize) -> Read {
        let Some(stream) = self.stream.as_mut().filter(|_| self.is_readable && !self.has_ended) else {
            return Read::Blocked;
        };
        let most = most.min(cx.buffer.len());
        let buffer = cx.buffer.get_mut(..most).unwrap_or_default();
        loop {
            match stream.read(buffer) {
                Ok(0) => {
                    self.has_ended = true;
                    self.is_readable = false;
                    return Read::End;
                }
                Ok(octets) => {
                    cx.tally.octets_in += octets as u64;
                    self.is_readable = octets == buffer.len() || self.hang_up;
                    return Read::Data(octets);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_readable = false;
                    return Read::Blocked;
                }
                Err(_) => {
                    self.is_readable = false;
                    self.has_failed = true;
                    return Read::Failed;
                }
            }
        }
    }

    /// Send what may go.
    pub(crate) fn flush(&mut self, cx: &mut Context, budget: &mut usize) -> io::Result<Flush> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.is_writable) else {
            return Ok(Flush::Blocked);
        };
        if self.out.pending() == 0 {
            return Ok(Flush::Done);
        }
        let before = self.out.sent();
        let flushed = self.out.flush(stream, cx.now_ms, budget);
        cx.tally.octets_out += self.out.sent() - before;
        match &flushed {
            Ok(Flush::Blocked) => self.is_writable = false,
            Ok(_) => {}
            Err(_) => {
                self.out.clear();
                self.is_writable = false;
                // What the peer said before it broke the connection may be there.
                self.is_readable = true;
            }
        }
        flushed
    }
}

/// How far closing has come.
pub(crate) enum Ending {
    Flushing { since_ms: u64 },
    Lingering { until_ms: u64, left: usize },
}

impl Ending {
    pub(crate) fn begin(now_ms: u64) -> Self {
        Self::Flushing { since_ms: now_ms }
    }

    /// When there is something to do: what is held back may go, or the time is over.
    pub(crate) fn deadline_ms(&self, out: &Output, now_ms: u64) -> u64 {
        out.released_ms(now_ms).unwrap_or(u64::MAX).min(self.gives_up_ms(out))
    }

    /// When the time is over. It runs from when something was taken last, or could have been: a reply that is held back
    /// has it from its release.
    fn gives_up_ms(&self, out: &Output) -> u64 {
        match self {
            Self::Flushing { since_ms } => {
                out.progress_ms().max(*since_ms).max(out.not_before_ms()) + FLUSH_MS
            }
            Self::Lingering { until_ms, .. } => *until_ms,
        }
    }

    /// Go on; return whether the socket can be closed.
    pub(crate) fn step<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        cx: &mut Context,
        budget: &mut usize,
    ) -> bool {
        if cx.now_ms >= self.gives_up_ms(&link.out) {
            return true;
        }
        if let Self::Flushing { .. } = self {
            if link.flush(cx, budget).is_err() || link.has_failed() {
                return true;
            }
            if link.out.pending() > 0 {
                return false;
            }
            if let Some(stream) = link.stream() {
                stream.shutdown_write();
            }
            *self = Self::Lingering { until_ms: cx.now_ms + LINGER_MS, left: LINGER_OCTETS };
        }
        if let Self::Lingering { left, .. } = self {
            while *left > 0 {
                match link.read(cx, usize::MAX) {
                    Read::Data(octets) => *left = left.saturating_sub(octets),
                    Read::Blocked => return link.has_ended(),
                    Read::End | Read::Failed => return true,
                }
            }
        }
        true
    }
}
