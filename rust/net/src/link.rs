//! A socket with what is known of its readiness, its output, and how it is closed.
//!
//! Readiness is edge-triggered: a flag stays set until the system says that there is nothing more. A short read says so
//! too, which saves a call per command; only the end of the stream could be behind it, and is announced beforehand.
//!
//! Closing: what is left is sent, then our side is shut, then what still comes is discarded for a while. A socket that
//! is closed with unread octets resets the connection, and the reset overtakes our last reply.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use rustls::ServerConfig;

use crate::context::Context;
use crate::output::{Flush, Output};
use crate::tls::TlsFacts;
use crate::tls::layer::{Opened, Shaken, TlsLayer};
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

/// What a read of a socket brought.
pub(crate) enum Raw {
    /// So many octets.
    Data(usize),
    /// Nothing now.
    Blocked,
    /// The peer has sent a FIN.
    End,
    /// The connection is broken.
    Failed,
}

/// What is known of a socket's readable side.
#[derive(Default)]
pub(crate) struct Edge {
    is_readable: bool,
    hang_up: bool,
    /// What was read and given back; it comes before what the socket has.
    unread: Vec<u8>,
}

impl Edge {
    /// Read if that may bring something, and note whether there may be more.
    pub(crate) fn read(&mut self, stream: &mut impl Stream, into: &mut [u8]) -> Raw {
        while self.is_readable {
            if !self.unread.is_empty() {
                return Raw::Data(self.read_again(into));
            }
            match stream.read(into) {
                Ok(0) => {
                    self.is_readable = false;
                    return Raw::End;
                }
                Ok(octets) => {
                    self.is_readable = octets == into.len() || self.hang_up;
                    return Raw::Data(octets);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_readable = false,
                Err(_) => {
                    self.is_readable = false;
                    return Raw::Failed;
                }
            }
        }
        Raw::Blocked
    }

    fn read_again(&mut self, into: &mut [u8]) -> usize {
        let octets = self.unread.len().min(into.len());
        let rest = self.unread.split_off(octets);
        into.iter_mut().zip(&self.unread).for_each(|(place, octet)| *place = *octet);
        self.unread = rest;
        octets
    }
}

pub(crate) struct Link<S> {
    /// Gone as soon as the connection has ended.
    stream: Option<S>,
    pub(crate) out: Output,
    /// What stands between the two, if anything does.
    tls: Option<Box<TlsLayer>>,
    edge: Edge,
    is_writable: bool,
    has_failed: bool,
    has_ended: bool,
}

impl<S: Stream> Link<S> {
    /// Take a socket; nothing is known of it before the first report.
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream: Some(stream),
            out: Output::default(),
            tls: None,
            edge: Edge::default(),
            is_writable: false,
            has_failed: false,
            has_ended: false,
        }
    }

    /// A connection that has just been accepted can be written to.
    pub(crate) fn accepted(stream: S) -> Self {
        Self { is_writable: true, ..Self::new(stream) }
    }

    pub(crate) fn note(&mut self, readiness: Readiness) {
        self.edge.is_readable |= readiness.readable || readiness.hang_up || readiness.failed;
        self.is_writable |= readiness.writable;
        self.edge.hang_up |= readiness.hang_up;
        self.has_failed |= readiness.failed;
    }

    /// Whether a read may bring something.
    pub(crate) fn is_readable(&self) -> bool {
        (self.edge.is_readable || self.tls.as_ref().is_some_and(|tls| tls.has_unread())) && !self.has_ended
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.is_writable
    }

    /// Whether a flush would send something.
    pub(crate) fn can_send(&self, now_ms: u64) -> bool {
        let has_sealed = self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        let has_more = self.out.pending() > 0 && self.out.released_ms(now_ms).is_none();
        self.is_writable && (has_more || has_sealed)
    }

    /// Whether the socket has taken all there is.
    pub(crate) fn is_flushed(&self) -> bool {
        self.out.pending() == 0 && !self.tls.as_ref().is_some_and(|tls| tls.wants_write())
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

    /// Give back the last octets that were read: they were for whoever reads next, under TLS or not.
    pub(crate) fn unread(&mut self, octets: &[u8]) {
        self.edge.unread = octets.to_vec();
        self.edge.is_readable |= !octets.is_empty();
    }

    /// Close the socket.
    pub(crate) fn drop_stream(&mut self) {
        self.stream = None;
        self.tls = None;
        self.out.clear();
    }

    /// Put TLS between this and the socket, as the server; all that was to be sent in plain text is sent.
    pub(crate) fn start_tls(&mut self, config: Arc<ServerConfig>) -> Result<(), rustls::Error> {
        debug_assert!(self.is_flushed() && self.tls.is_none(), "plain text would be sealed");
        self.tls = Some(Box::new(TlsLayer::server(config)?));
        Ok(())
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the peer broke TLS.
    pub(crate) fn is_tls_broken(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_broken())
    }

    /// What the handshake has come to.
    pub(crate) fn tls_facts(&self) -> Option<TlsFacts> {
        self.tls.as_ref().map(|tls| tls.facts())
    }

    /// What a read that brought so many octets has cost, in octets.
    pub(crate) fn cost(&self, octets: usize) -> usize {
        self.tls.as_ref().map_or(octets, |tls| tls.cost().max(octets))
    }

    /// Go on with a handshake.
    pub(crate) fn shake(&mut self, cx: &mut Context) -> Shaken {
        let (Some(stream), Some(tls)) = (self.stream.as_mut(), self.tls.as_mut()) else {
            return Shaken::Failed;
        };
        let shaken = tls.shake(stream, cx.cipher(), &mut self.edge);
        if matches!(shaken, Shaken::More | Shaken::Done) {
            cx.tally.octets_in += tls.cost() as u64;
        }
        shaken
    }

    /// Read up to `most` octets into the context's buffer.
    pub(crate) fn read(&mut self, cx: &mut Context, most: usize) -> Read {
        let Some(stream) = self.stream.as_mut().filter(|_| !self.has_ended) else { return Read::Blocked };
        if let Some(tls) = &mut self.tls {
            let opened = {
                let (buffer, cipher) = cx.buffers(most);
                tls.read(stream, cipher, buffer, &mut self.edge)
            };
            cx.tally.octets_in += tls.cost() as u64;
            return match opened {
                Opened::Data(octets) => Read::Data(octets),
                Opened::Blocked => Read::Blocked,
                Opened::End => {
                    self.has_ended = true;
                    Read::End
                }
                Opened::Failed => {
                    self.has_failed = true;
                    Read::Failed
                }
                Opened::Broken => {
                    // What was to be said is not said any more: only the alert is.
                    self.out.clear();
                    Read::Failed
                }
            };
        }
        let most = most.min(cx.buffer.len());
        let buffer = cx.buffer.get_mut(..most).unwrap_or_default();
        match self.edge.read(stream, buffer) {
            Raw::Data(octets) => {
                cx.tally.octets_in += octets as u64;
                Read::Data(octets)
            }
            Raw::Blocked => Read::Blocked,
            Raw::End => {
                self.has_ended = true;
                Read::End
            }
            Raw::Failed => {
                self.has_failed = true;
                Read::Failed
            }
        }
    }

    /// Send what may go.
    pub(crate) fn flush(&mut self, cx: &mut Context, budget: &mut usize) -> io::Result<Flush> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.is_writable) else {
            return Ok(Flush::Blocked);
        };
        let flushed = if let Some(tls) = &mut self.tls {
            flush_sealed(&mut self.out, tls, stream, cx, budget)
        } else {
            if self.out.pending() == 0 {
                return Ok(Flush::Done);
            }
            let before = self.out.sent();
            let flushed = self.out.flush(stream, cx.now_ms, budget);
            cx.tally.octets_out += self.out.sent() - before;
            flushed
        };
        match &flushed {
            Ok(Flush::Blocked) => self.is_writable = false,
            Ok(_) => {}
            Err(_) => {
                self.out.clear();
                self.is_writable = false;
                // What the peer said before it broke the connection may be there.
                self.edge.is_readable = true;
            }
        }
        flushed
    }

    /// Say in TLS that nothing more will come; false if the connection is broken.
    fn say_goodbye(&mut self, cx: &mut Context, budget: &mut usize) -> bool {
        let has_more = self.tls.as_mut().is_some_and(|tls| tls.say_goodbye());
        !has_more || self.flush(cx, budget).is_ok()
    }

    /// End our side. What still comes is only discarded, so nobody needs to be able to read it.
    fn shut(&mut self) {
        self.tls = None;
        if let Some(stream) = &mut self.stream {
            stream.shutdown_write();
        }
    }
}

/// Seal and send what may go.
fn flush_sealed(
    out: &mut Output,
    tls: &mut TlsLayer,
    stream: &mut impl Stream,
    cx: &mut Context,
    budget: &mut usize,
) -> io::Result<Flush> {
    loop {
        let (sent, takes_more) = tls.send(stream)?;
        if sent > 0 {
            cx.tally.octets_out += sent as u64;
            *budget = budget.saturating_sub(sent);
            out.note_progress(cx.now_ms);
        }
        if !takes_more {
            return Ok(Flush::Blocked);
        }
        if tls.is_broken() {
            out.clear();
        }
        if tls.is_handshaking() || out.released_ms(cx.now_ms).is_some() || out.pending() == 0 {
            return Ok(Flush::Done);
        }
        if *budget == 0 {
            return Ok(Flush::Spent);
        }
        out.give(cx.now_ms, |slices| tls.seal(slices));
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
            if !link.is_flushed() {
                return false;
            }
            if !link.say_goodbye(cx, budget) {
                return true;
            }
            if !link.is_flushed() {
                return false;
            }
            link.shut();
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
