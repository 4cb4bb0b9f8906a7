//! A connection whose far end is a server.
//!
//! # Theory of operation
//!
//! | phase | turn | goes on by |
//! |---|---|---|
//! | `Connecting` | net's | the system's answer → `Awaiting` (the banner) or `Unreached` |
//! | `Awaiting` | net's | the last awaited reply → `Asked` |
//! | `Sending` | net's | the end of the content is in the output → `Awaiting` |
//! | `Asked` | the caller's | an action with this turn |
//! | `Parked` | the caller's | an action with this turn; whatever the peer does → `Over` |
//! | `Ending` | – | flushed, shut, lingered → `Over` |
//! | `Over` | – | withheld while an event is unanswered, else reported → gone |
//! | `Unreached` | – | reported → gone |
//!
//! Nothing is read while it is the caller's turn, but for a parked connection. What the peer says unasked is therefore
//! found before the next octet is sent to it: then nothing is sent at all.
//!
//! Positions are octets sent since the connection began. The content's are kept after its reply has come, so that
//! however the connection ends it can be told how much of its last content the peer can have.
//!
//! If you add a phase, give it a deadline in `deadline_ms` and its end in `expire`.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use bytes::Bytes;
use penstock_core::smtp::client_wire::{Awaited, ClientWire, Heard};
use penstock_core::smtp::reply::Reply;

use crate::context::{Context, Next, PASS_OCTETS};
use crate::link::{Ending, Link, Read};
use crate::output::Flush;
use crate::sending::{Fill, Sending};
use crate::transport::{Readiness, Stream};
use crate::{ClientLimits, CloseReason, Conn, ContentState, DialStage, FlightPart, NetAction, NetEvent};

/// Octets of replies read at a time.
const REPLIES_READ: usize = 16 * 1024;

/// The reply that asks for content (RFC 5321 4.2.3).
const START_CONTENT: u16 = 354;

/// The turn of `Connected`.
const CONNECTED_TURN: u32 = 1;

const ETIMEDOUT: i32 = 110;
const ECANCELED: i32 = 125;

enum Phase {
    Connecting { since_ms: u64 },
    Awaiting,
    Sending(Box<Sending>),
    Asked { since_ms: u64 },
    Parked { until_ms: u64 },
    Ending { reason: CloseReason, ending: Ending },
    Over { reason: CloseReason },
    Unreached(io::Error),
}

pub(crate) struct Client<S> {
    conn: Conn,
    turn: u32,
    link: Link<S>,
    wire: ClientWire,
    limits: Arc<ClientLimits>,
    phase: Phase,
    /// Where the last content begins.
    content_at: u64,
    /// Where the ".CRLF" of the last content begins.
    content_end_at: u64,
    /// Whether the last event that hands the turn over is unanswered.
    owes_answer: bool,
    /// Whether nothing can be sent any more; what the peer has sent can still be read.
    is_broken: bool,
}

impl<S: Stream> Client<S> {
    /// Watch over a connection that is being made.
    pub(crate) fn dial(conn: Conn, stream: S, limits: Arc<ClientLimits>, cx: &Context) -> Self {
        Self {
            conn,
            turn: CONNECTED_TURN,
            link: Link::new(stream),
            wire: ClientWire::new(),
            limits,
            phase: Phase::Connecting { since_ms: cx.now_ms },
            content_at: u64::MAX,
            content_end_at: u64::MAX,
            owes_answer: false,
            is_broken: false,
        }
    }

    pub(crate) fn note(&mut self, readiness: Readiness) {
        self.link.note(readiness);
    }

    /// Follow an action; false if its turn has passed.
    pub(crate) fn act(&mut self, action: NetAction, cx: &mut Context) -> bool {
        let Some(turn) = action.turn() else {
            self.owes_answer = false;
            self.finish(CloseReason::Local);
            return true;
        };
        if let NetAction::Flight { parts, .. } = &action
            && turn == CONNECTED_TURN
            && self.set_banner_deadline(parts)
        {
            return true;
        }
        if turn != self.turn {
            return false;
        }
        self.owes_answer = false;
        match (&self.phase, action) {
            (Phase::Asked { .. } | Phase::Parked { .. }, NetAction::Flight { parts, .. }) => {
                if self.is_quiet(cx) {
                    self.send_parts(parts, cx.now_ms);
                    self.phase = Phase::Awaiting;
                }
            }
            (Phase::Asked { .. }, NetAction::Content { source, form, flags, gate, then, .. })
                if self.wire.last_code() == START_CONTENT =>
            {
                if self.is_quiet(cx) {
                    let waker = cx.waker(self.conn);
                    let sending = Sending::new(source, form, flags, gate, then, waker);
                    self.content_at = self.link.out.end();
                    self.content_end_at = u64::MAX;
                    self.phase = Phase::Sending(Box::new(sending));
                }
            }
            (Phase::Asked { .. }, NetAction::Park { idle_ms, .. }) => {
                self.phase = Phase::Parked { until_ms: cx.now_ms.saturating_add(idle_ms) };
            }
            (Phase::Asked { .. } | Phase::Parked { .. }, NetAction::Close { quit, .. }) => {
                if quit {
                    self.quit(CloseReason::Local, cx);
                } else {
                    self.finish(CloseReason::Local);
                }
            }
            (Phase::Asked { .. } | Phase::Parked { .. }, _) => {
                cx.tally.misplaced_actions += 1;
                self.finish(CloseReason::Error);
            }
            // The caller has read a 421 and draws the conclusion that is being drawn.
            (Phase::Ending { .. } | Phase::Over { .. }, NetAction::Close { .. }) => {}
            _ => return false,
        }
        true
    }

    /// Do all that can be done now.
    pub(crate) fn run(&mut self, cx: &mut Context) -> Next {
        if cx.is_stopping {
            self.shut(cx);
        }
        let mut budget = PASS_OCTETS;
        loop {
            let next = match &mut self.phase {
                Phase::Connecting { .. } => self.connect(cx),
                Phase::Awaiting => self.listen(cx, &mut budget),
                Phase::Sending(_) => self.send_content(cx, &mut budget),
                Phase::Asked { .. } if self.link.has_failed() => {
                    self.finish(CloseReason::Reset);
                    None
                }
                Phase::Asked { .. } => Some(Next::Wait),
                Phase::Parked { .. } => self.is_quiet(cx).then_some(Next::Wait),
                Phase::Ending { reason, ending } => {
                    let reason = *reason;
                    if !ending.step(&mut self.link, cx, &mut budget) {
                        return if self.link.can_send(cx.now_ms) { Next::Again } else { Next::Wait };
                    }
                    self.finish(reason);
                    None
                }
                Phase::Over { .. } if self.owes_answer => return Next::Wait,
                Phase::Over { reason } => {
                    let reason = *reason;
                    self.report_end(reason, cx);
                    return Next::Gone;
                }
                Phase::Unreached(error) => {
                    cx.events.push(dial_failed(self.conn, DialStage::Connect, error));
                    return Next::Gone;
                }
            };
            // Only now: what came in time is not late because we are.
            match next {
                Some(_) if cx.now_ms >= self.deadline_ms(cx) => self.expire(cx),
                Some(next) => return next,
                None => {}
            }
        }
    }

    /// When something must have happened.
    pub(crate) fn deadline_ms(&self, cx: &Context) -> u64 {
        let out = &self.link.out;
        let blocked_ms =
            if out.pending() > 0 { out.progress_ms().saturating_add(self.limits.block_ms) } else { u64::MAX };
        match &self.phase {
            Phase::Connecting { since_ms } => since_ms.saturating_add(self.limits.connect_ms),
            Phase::Awaiting => self.wire.deadline_ms().unwrap_or(u64::MAX).min(blocked_ms),
            Phase::Sending(sending) => match sending.waits_since_ms() {
                Some(since_ms) => since_ms.saturating_add(cx.held_ms),
                None => blocked_ms,
            },
            Phase::Asked { since_ms } => since_ms.saturating_add(cx.held_ms),
            Phase::Parked { until_ms } => *until_ms,
            Phase::Ending { ending, .. } => ending.deadline_ms(out, cx.now_ms),
            Phase::Over { .. } | Phase::Unreached(_) => u64::MAX,
        }
    }

    /// End at once, without a word.
    pub(crate) fn finish(&mut self, reason: CloseReason) {
        let after = match self.phase {
            Phase::Connecting { .. } => Phase::Unreached(io::Error::from_raw_os_error(ECANCELED)),
            Phase::Ending { reason, .. } => Phase::Over { reason },
            Phase::Over { .. } | Phase::Unreached(_) => return,
            _ => Phase::Over { reason },
        };
        self.link.drop_stream();
        // Last, since it releases what is not ours, and may panic.
        self.phase = after;
    }

    /// The answer to `Connected`: how long the banner may take.
    fn set_banner_deadline(&mut self, parts: &[FlightPart]) -> bool {
        let [FlightPart { bytes, replies: 1, deadline_ms }] = parts else { return false };
        if !bytes.is_empty() {
            return false;
        }
        // If the banner was faster its clock no longer matters.
        if self.turn == CONNECTED_TURN && self.wire.seen() == 0 {
            self.wire.set_deadline(*deadline_ms);
        }
        true
    }

    /// Take note of how connecting went.
    fn connect(&mut self, cx: &mut Context) -> Option<Next> {
        if !self.link.is_writable() && !self.link.has_failed() {
            return Some(Next::Wait);
        }
        let Some(stream) = self.link.stream() else { return Some(Next::Wait) };
        match stream.connected().and_then(|()| stream.local_addr()) {
            Ok(local) => {
                cx.events.push(NetEvent::Connected { conn: self.conn, turn: self.turn, local });
                self.wire.expect(Awaited {
                    replies: 1,
                    needs_sent: 0,
                    ends_at: 0,
                    deadline_ms: self.limits.banner_ms,
                    is_alone: false,
                });
                self.phase = Phase::Awaiting;
                None
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotConnected | ErrorKind::WouldBlock) => {
                Some(Next::Wait)
            }
            Err(error) => {
                self.link.drop_stream();
                self.phase = Phase::Unreached(error);
                None
            }
        }
    }

    /// Put commands into the output and await their replies.
    fn send_parts(&mut self, parts: Vec<FlightPart>, now_ms: u64) {
        for part in parts {
            self.send_part(part, false, now_ms);
        }
    }

    fn send_part(&mut self, part: FlightPart, is_alone: bool, now_ms: u64) {
        let begins_at = self.link.out.end();
        let needs_sent = begins_at + u64::from(!part.bytes.is_empty());
        self.link.out.push(part.bytes, 0, now_ms);
        let ends_at = self.link.out.end();
        let (replies, deadline_ms) = (part.replies, part.deadline_ms);
        self.wire.expect(Awaited { replies, needs_sent, ends_at, deadline_ms, is_alone });
    }

    /// Send what is in the output. What cannot be sent is forgotten: the peer may still have said why.
    fn flush(&mut self, cx: &mut Context, budget: &mut usize) -> Flush {
        self.link.flush(cx, budget).unwrap_or_else(|_| {
            self.is_broken = true;
            Flush::Blocked
        })
    }

    /// Send commands and hear replies.
    fn listen(&mut self, cx: &mut Context, budget: &mut usize) -> Option<Next> {
        let flushed = self.flush(cx, budget);
        let sent = self.link.out.sent();
        self.wire.sent(sent, cx.now_ms);
        match self.wire.listen(sent, cx.now_ms) {
            Heard::Nothing => {}
            Heard::Replies { first, replies, is_complete } => {
                if is_complete {
                    self.turn = self.turn.wrapping_add(1);
                    self.owes_answer = true;
                    self.phase = Phase::Asked { since_ms: cx.now_ms };
                }
                cx.events.push(NetEvent::Replies { conn: self.conn, turn: self.turn, first, replies });
                return None;
            }
            Heard::Farewell { first, replies, is_leaving } => {
                self.part(first, replies, is_leaving, cx);
                return None;
            }
            Heard::Garbage(_) => {
                self.finish(CloseReason::Protocol);
                return None;
            }
        }
        if *budget == 0 {
            return Some(Next::Again);
        }
        match self.link.read(cx, REPLIES_READ) {
            Read::Data(octets) => {
                *budget = budget.saturating_sub(octets);
                self.wire.push(cx.buffer.get(..octets).unwrap_or_default());
            }
            Read::Blocked if flushed == Flush::Spent => return Some(Next::Again),
            Read::Blocked if !self.is_broken => return Some(Next::Wait),
            Read::End if !self.is_broken => self.finish(CloseReason::Peer),
            Read::Blocked | Read::End | Read::Failed => self.finish(CloseReason::Reset),
        }
        None
    }

    /// Report what a peer said before it left, or went astray, and end.
    fn part(&mut self, first: u32, replies: Vec<Reply>, is_leaving: bool, cx: &mut Context) {
        if !replies.is_empty() {
            cx.events.push(NetEvent::Replies { conn: self.conn, turn: self.turn, first, replies });
        }
        self.finish(if is_leaving { CloseReason::Peer } else { CloseReason::Protocol });
    }

    /// Make sure that the peer has said nothing unasked and is still there; if not, end.
    fn is_quiet(&mut self, cx: &mut Context) -> bool {
        if !self.wire.has_surplus() {
            match self.link.read(cx, REPLIES_READ) {
                Read::Data(octets) => self.wire.push(cx.buffer.get(..octets).unwrap_or_default()),
                Read::Blocked if self.link.has_failed() => self.finish(CloseReason::Reset),
                Read::Blocked => return true,
                Read::End => self.finish(CloseReason::Peer),
                Read::Failed => self.finish(CloseReason::Reset),
            }
        }
        if self.wire.has_surplus() {
            match self.wire.listen_idle() {
                Heard::Farewell { first, replies, is_leaving } => self.part(first, replies, is_leaving, cx),
                _ => self.finish(CloseReason::Protocol),
            }
        }
        false
    }

    /// Send content, as far as source, gate and peer allow.
    fn send_content(&mut self, cx: &mut Context, budget: &mut usize) -> Option<Next> {
        if self.link.is_readable() && self.is_interrupted(cx) {
            return None;
        }
        let Phase::Sending(sending) = &mut self.phase else { return None };
        let fill = sending.fill(&mut self.link.out, cx.now_ms);
        match fill {
            Fill::Ended(content_end_at) => {
                let then = sending.take_then();
                self.phase = Phase::Awaiting;
                self.await_verdict(content_end_at, then, cx.now_ms);
                return None;
            }
            Fill::Failed => {
                self.finish(CloseReason::Error);
                return None;
            }
            Fill::Gated => return Some(Next::Wait),
            Fill::Enough | Fill::Dry => {}
        }
        let flushed = self.flush(cx, budget);
        if self.is_broken && self.is_interrupted(cx) {
            return None;
        }
        match flushed {
            Flush::Spent => Some(Next::Again),
            Flush::Done if fill == Fill::Enough => None,
            Flush::Done | Flush::Blocked => Some(Next::Wait),
        }
    }

    /// Await the reply to the content that is in the output, and those to what follows in the same flight.
    fn await_verdict(&mut self, content_end_at: u64, then: Vec<FlightPart>, now_ms: u64) {
        self.content_end_at = content_end_at;
        self.wire.expect(Awaited {
            replies: 1,
            needs_sent: content_end_at + 1,
            ends_at: self.link.out.end(),
            deadline_ms: self.limits.dot_ms,
            is_alone: true,
        });
        self.send_parts(then, now_ms);
    }

    /// Find out whether the peer speaks or leaves before the content has ended. Then no more of it is sent, since the
    /// reply that comes cannot be one to the whole.
    fn is_interrupted(&mut self, cx: &mut Context) -> bool {
        match self.link.read(cx, REPLIES_READ) {
            Read::Data(octets) => {
                self.wire.push(cx.buffer.get(..octets).unwrap_or_default());
                self.wire.expect(Awaited {
                    replies: 1,
                    needs_sent: u64::MAX,
                    ends_at: 0,
                    deadline_ms: self.limits.block_ms,
                    is_alone: false,
                });
                self.link.out.clear();
                self.phase = Phase::Awaiting;
            }
            Read::Blocked if !self.is_broken => return false,
            Read::End if !self.is_broken => self.finish(CloseReason::Peer),
            Read::Blocked | Read::End | Read::Failed => self.finish(CloseReason::Reset),
        }
        true
    }

    /// Say goodbye and close in an orderly way.
    fn quit(&mut self, reason: CloseReason, cx: &mut Context) {
        self.link.out.push(Bytes::from_static(b"QUIT\r\n"), 0, cx.now_ms);
        self.phase = Phase::Ending { reason, ending: Ending::begin(cx.now_ms) };
    }

    /// End the connection because everything ends.
    fn shut(&mut self, cx: &mut Context) {
        self.owes_answer = false;
        match self.phase {
            Phase::Asked { .. } | Phase::Parked { .. } => self.quit(CloseReason::Local, cx),
            Phase::Connecting { .. } | Phase::Awaiting | Phase::Sending(_) => self.finish(CloseReason::Local),
            Phase::Ending { .. } | Phase::Over { .. } | Phase::Unreached(_) => {}
        }
    }

    /// A deadline has passed.
    fn expire(&mut self, cx: &mut Context) {
        match &self.phase {
            Phase::Connecting { .. } => {
                cx.tally.deadlines += 1;
                self.link.drop_stream();
                self.phase = Phase::Unreached(io::Error::from_raw_os_error(ETIMEDOUT));
            }
            Phase::Parked { .. } => self.quit(CloseReason::Idle, cx),
            Phase::Awaiting => self.time_out(CloseReason::Idle, cx),
            Phase::Sending(sending) if sending.waits_since_ms().is_none() => {
                self.time_out(CloseReason::Idle, cx);
            }
            Phase::Sending(_) | Phase::Asked { .. } => self.time_out(CloseReason::Held, cx),
            Phase::Ending { .. } | Phase::Over { .. } | Phase::Unreached(_) => {}
        }
    }

    fn time_out(&mut self, reason: CloseReason, cx: &mut Context) {
        cx.tally.deadlines += 1;
        self.finish(reason);
    }

    fn report_end(&mut self, reason: CloseReason, cx: &mut Context) {
        let conn = self.conn;
        let (first, replies) = self.wire.take_replies();
        if !replies.is_empty() {
            cx.events.push(NetEvent::Replies { conn, turn: self.turn, first, replies });
        }
        let content = self.content_state();
        cx.events.push(NetEvent::ClientClosed { conn, reason, replies_seen: self.wire.seen(), content });
    }

    fn content_state(&self) -> ContentState {
        let sent = self.link.out.sent();
        if sent > self.content_end_at {
            ContentState::Terminated
        } else if sent > self.content_at {
            ContentState::Partial
        } else {
            ContentState::None
        }
    }
}

/// Tell that a connection did not come up.
pub(crate) fn dial_failed(conn: Conn, stage: DialStage, error: &io::Error) -> NetEvent {
    NetEvent::DialFailed { conn, stage, errno: error.raw_os_error().unwrap_or(0), text: error.to_string() }
}
