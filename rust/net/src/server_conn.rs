//! A connection whose far end is a client.
//!
//! # Theory of operation
//!
//! | phase | turn | goes on by |
//! |---|---|---|
//! | `Proxied` | net's | the header of the PROXY protocol → `Asked`; anything else → `Over`, unreported |
//! | `Asked` | the caller's | an action with this turn |
//! | `Reading` | net's | complete commands → `Asked`, or what was granted; the peer's end → `Ending` |
//! | `Receiving` | net's | the end of the content → `Asked` |
//! | `Securing` | net's | the 220 is sent, then the handshake is finished → `Asked` |
//! | `Reading` after a challenge | net's | the response → `Asked` |
//! | `Durable` | the spool's | `complete` → `Reading` |
//! | `Ending` | – | flushed, shut, lingered → `Over` |
//! | `Over` | – | withheld while an event is unanswered, else reported → gone |
//!
//! Nothing is read while it is not net's turn: a FIN or further commands wait in the kernel. An event that is
//! outstanding is answered before the connection's end is reported, so the caller never hears of the end first.
//! A caller that needs longer says so with an empty reply to nothing, or answers in part: the turn is kept for as long
//! again, and an end of the connection is reported at once.
//!
//! A MAIL that is answered under a grant stays in `Reading`, a DATA goes to `Receiving`; the turn is the one before. So a
//! farewell of that turn still reaches a peer whose MAIL nobody has been told of.
//!
//! A content that comes in chunks is in `Receiving` while one of them does, and in `chunks` between them, where commands
//! are read as ever. Whatever ends the transaction otherwise forgets it, and so does the end of the connection.
//!
//! STARTTLS: until the 220 is in the kernel the socket is looked at before each attempt to send it. Octets found there
//! came before they could have been asked for, and end the connection; so nothing that was sent in plain text is ever
//! read after the handshake. A new wire begins with it.
//!
//! If you add a phase, give it a deadline in `deadline_ms` and its end in `expire`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::LazyLock;

use bytes::Bytes;
use penstock_core::flow::ContentSink;
use penstock_core::proxy::{ProxyHeader, ProxyReader};
use penstock_core::smtp::command::{Command, Malformed};
use penstock_core::smtp::server_wire::{Batch, Intake, ServerWire};
use zeroize::Zeroize;

use crate::context::{Context, Next, PASS_OCTETS};
use crate::link::{Ending, Link, Read};
use crate::output::Flush;
use crate::receiving::{Chunk, Received, Receiving, Then};
use crate::tls::Handshaking;
use crate::tls::layer::Shaken;
use crate::transport::{Readiness, Stream};
use crate::{
    BeginChunks, CloseReason, Conn, Grant, NetAction, NetEvent, ProxyRefusal, ServerLimits, ServerTls, grant,
};

/// Octets of commands read at a time.
const COMMANDS_READ: usize = 16 * 1024;

/// Unsent octets of replies at which no more commands are read.
const OUTPUT_PAUSE: usize = 16 * 1024;

/// The turn of a connection of which the caller has not been told.
const UNREPORTED: u32 = 0;

/// What a connection is allowed before the caller has said.
static UNGREETED: LazyLock<Arc<ServerLimits>> = LazyLock::new(Arc::default);

/// What the caller has been asked.
enum Question {
    Banner,
    /// The banner, or nothing, after a handshake.
    Secured,
    Commands {
        unanswered: u32,
        last: Last,
    },
    /// What is said to a response of an authentication exchange.
    Response,
    /// The verdict on content; the spool may have spoken before the caller has said that it will.
    Content {
        durable: Option<bool>,
    },
}

/// What commands end with, where that allows an answer of its own.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Last {
    Data,
    Bdat(Chunk),
    StartTls,
    Auth,
    Xclient,
    Other,
}

impl Last {
    fn of(items: &[Result<Command, Malformed>]) -> Self {
        match items.last() {
            Some(Ok(Command::Data)) => Self::Data,
            Some(&Ok(Command::Bdat { size, is_last })) => Self::Bdat(Chunk { size, is_last }),
            Some(Ok(Command::StartTls)) => Self::StartTls,
            Some(Ok(Command::Auth { .. })) => Self::Auth,
            Some(Ok(Command::Xclient { .. })) => Self::Xclient,
            _ => Self::Other,
        }
    }
}

/// What a peer is about to hear, after which it is net's turn.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Saying {
    Nothing,
    /// The replies to all that was asked.
    Replies,
    /// A challenge.
    Challenge,
}

/// The replies of which the spool's completion picks one.
struct Verdicts {
    ok: Bytes,
    failed: Bytes,
    grant: Grant,
    since_ms: u64,
}

/// A handshake, or the way to it.
struct Securing {
    tls: Arc<ServerTls>,
    /// Whether the client asked for it, rather than began with it.
    is_asked_for: bool,
    since_ms: u64,
    _under_way: Handshaking,
}

/// Where a connection has come in, and the ends of its socket.
#[derive(Copy, Clone)]
pub(crate) struct Met {
    pub(crate) listener: u32,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// A proxy that has not said whom it speaks for. Nobody has been told of its connection.
struct Proxied {
    met: Met,
    reader: ProxyReader,
    header_ms: u64,
    since_ms: u64,
}

enum Phase {
    Proxied(Box<Proxied>),
    Asked { question: Question, since_ms: u64 },
    Reading,
    Receiving(Box<Receiving>),
    Securing(Box<Securing>),
    Durable(Box<Verdicts>),
    Ending { reason: CloseReason, ending: Ending },
    Over { reason: CloseReason },
}

pub(crate) struct Server<S> {
    conn: Conn,
    turn: u32,
    link: Link<S>,
    wire: ServerWire,
    limits: Arc<ServerLimits>,
    phase: Phase,
    opened_ms: u64,
    /// Since when we wait for a complete line.
    idle_from_ms: u64,
    /// Since when we have the beginning of a line.
    line_from_ms: Option<u64>,
    /// Whether the last event that hands the turn over is unanswered.
    owes_answer: bool,
    /// What is on its way, held back perhaps.
    saying: Saying,
    /// Whether it has not read although it could have, since the thread may not.
    is_paused: bool,
    /// The draft of a content that was cut off.
    lost_draft: Option<u64>,
    /// A content between two of its chunks.
    chunks: Option<Box<Receiving>>,
    /// What we may answer to the next command.
    grant: Grant,
    /// What we have answered and not reported.
    answered: Vec<Result<Command, Malformed>>,
    /// The SIZE of the last MAIL, or zero.
    size_hint: u64,
}

impl<S: Stream> Server<S> {
    /// Take over an accepted connection and ask the caller for the banner; a proxy's, if its header may take some time,
    /// when that has come.
    pub(crate) fn open(conn: Conn, stream: S, met: Met, header_ms: Option<u64>, cx: &mut Context) -> Self {
        let since_ms = cx.now_ms;
        let (turn, phase) = match header_ms {
            None => {
                let Met { listener, peer, local } = met;
                cx.events.push(NetEvent::Opened { conn, turn: 1, listener, peer, local, proxy: None });
                (1, Phase::Asked { question: Question::Banner, since_ms })
            }
            Some(header_ms) => {
                let proxied = Proxied { met, reader: ProxyReader::default(), header_ms, since_ms };
                (UNREPORTED, Phase::Proxied(Box::new(proxied)))
            }
        };
        Self {
            conn,
            turn,
            link: Link::accepted(stream),
            wire: ServerWire::new(),
            limits: Arc::clone(&UNGREETED),
            phase,
            opened_ms: cx.now_ms,
            idle_from_ms: cx.now_ms,
            line_from_ms: None,
            owes_answer: turn != UNREPORTED,
            saying: Saying::Nothing,
            is_paused: false,
            lost_draft: None,
            chunks: None,
            grant: Grant::None,
            answered: Vec::new(),
            size_hint: 0,
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
        if turn != self.turn {
            return false;
        }
        if matches!((&self.phase, &action), (Phase::Asked { .. }, NetAction::Forget { .. })) {
            self.chunks = None;
            return true;
        }
        self.owes_answer = false;
        let Phase::Asked { question, .. } = &mut self.phase else { return self.farewell(action, cx) };
        let is_followed = match action {
            NetAction::Begin { limits, tls, banner, delay_ms, .. }
                if matches!(question, Question::Banner) =>
            {
                self.limits = limits;
                self.wire.set_grammar(self.limits.grammar);
                if let Some(tls) = tls {
                    self.secure(tls, None, cx);
                } else {
                    self.reply(banner, delay_ms, cx);
                    self.go_on(cx);
                }
                true
            }
            NetAction::StartTls { tls, reply, .. }
                if matches!(question, Question::Commands { unanswered: 1, last: Last::StartTls })
                    && !self.link.is_tls() =>
            {
                self.secure(tls, Some(reply), cx);
                true
            }
            NetAction::Restart { limits, banner, .. }
                if matches!(question, Question::Commands { unanswered: 1, last: Last::Xclient }) =>
            {
                self.restart(limits, banner, cx);
                true
            }
            NetAction::Reply { bytes, answers, delay_ms, close, grant, .. } => {
                self.grant = grant;
                self.answer(bytes, answers, delay_ms, close, cx)
            }
            NetAction::Take { draft, sink, limit_bytes, reply, .. }
                if matches!(question, Question::Commands { unanswered: 1, last: Last::Data }) =>
            {
                self.receive_into(draft, sink, limit_bytes, reply, cx);
                true
            }
            NetAction::TakeChunk { begin, reply, .. } => self.take_chunk(begin, reply, cx),
            NetAction::Discard { reply, delay_ms, .. } => self.discard(reply, delay_ms, cx),
            NetAction::Challenge { bytes, .. }
                if matches!(
                    question,
                    Question::Commands { unanswered: 1, last: Last::Auth } | Question::Response
                ) =>
            {
                self.grant = Grant::None;
                self.reply(bytes, 0, cx);
                self.go_on(cx);
                self.saying = Saying::Challenge;
                true
            }
            NetAction::AwaitDurable { ok, failed, grant, .. } => self.await_durable(ok, failed, grant, cx),
            _ => false,
        };
        if !is_followed {
            cx.tally.misplaced_actions += 1;
            self.finish(CloseReason::Error);
        }
        true
    }

    /// Answer with what the spool has said; false if nobody waits for it.
    pub(crate) fn complete(&mut self, turn: u32, is_durable: bool, cx: &mut Context) -> bool {
        if turn != self.turn {
            return false;
        }
        match &mut self.phase {
            Phase::Durable(verdicts) => {
                let reply = std::mem::take(if is_durable { &mut verdicts.ok } else { &mut verdicts.failed });
                self.grant = verdicts.grant;
                self.reply(reply, 0, cx);
                self.go_on(cx);
                true
            }
            Phase::Asked { question: Question::Content { durable }, .. } => {
                *durable = Some(is_durable);
                true
            }
            _ => false,
        }
    }

    /// Do all that can be done now.
    pub(crate) fn run(&mut self, cx: &mut Context) -> Next {
        if !cx.may_read || std::mem::take(&mut self.is_paused) {
            self.restart_clocks(cx.now_ms);
        }
        if cx.is_stopping {
            self.shut(cx);
        }
        let mut budget = PASS_OCTETS;
        loop {
            if self.saying != Saying::Nothing && self.link.out.released_ms(cx.now_ms).is_none() {
                self.replied(cx);
            }
            if !matches!(self.phase, Phase::Ending { .. } | Phase::Over { .. } | Phase::Securing(_))
                && !self.flush(cx, &mut budget)
            {
                self.finish(CloseReason::Reset);
            }
            let next = match &mut self.phase {
                Phase::Proxied(_) => self.read_proxy(cx, &mut budget),
                Phase::Reading => self.read_commands(cx, &mut budget),
                Phase::Receiving(_) => self.receive(cx, &mut budget),
                Phase::Securing(_) => self.shake(cx, &mut budget),
                Phase::Ending { reason, ending } => {
                    let reason = *reason;
                    if !ending.step(&mut self.link, cx, &mut budget) {
                        return if self.link.can_send(cx.now_ms) { Next::Again } else { Next::Wait };
                    }
                    self.finish(reason);
                    None
                }
                Phase::Over { reason } => {
                    if self.owes_answer {
                        return Next::Wait;
                    }
                    if self.turn != UNREPORTED {
                        let (conn, reason, draft) = (self.conn, *reason, self.lost_draft);
                        cx.events.push(NetEvent::Closed { conn, reason, draft });
                    }
                    return Next::Gone;
                }
                Phase::Asked { .. } | Phase::Durable(_) if self.link.has_failed() => {
                    self.finish(CloseReason::Reset);
                    None
                }
                Phase::Asked { .. } | Phase::Durable(_) => Some(Next::Wait),
            };
            // Only now: what came in time is not late because we are.
            match next {
                Some(_) if cx.now_ms >= self.deadline_ms(cx) => self.expire(cx),
                Some(Next::Wait) if self.link.can_send(cx.now_ms) => return Next::Again,
                Some(next) => return next,
                None => {}
            }
        }
    }

    /// When something must have happened; never, if that is far away.
    pub(crate) fn deadline_ms(&self, cx: &Context) -> u64 {
        let (limits, out) = (&self.limits, &self.link.out);
        let mut at_ms = out.released_ms(cx.now_ms).unwrap_or(u64::MAX);
        let is_nets_turn = match &self.phase {
            Phase::Proxied(proxied) => return proxied.since_ms.saturating_add(proxied.header_ms),
            Phase::Asked { since_ms, .. } => {
                at_ms = at_ms.min(since_ms.saturating_add(cx.held_ms));
                false
            }
            Phase::Durable(verdicts) => {
                at_ms = at_ms.min(verdicts.since_ms.saturating_add(limits.durable_ms));
                false
            }
            Phase::Reading => {
                if !self.has_backlog(cx) {
                    at_ms = at_ms.min(self.idle_from_ms.saturating_add(limits.idle_ms));
                    let line_ms =
                        self.line_from_ms.map_or(u64::MAX, |at| at.saturating_add(limits.command_ms));
                    at_ms = at_ms.min(line_ms);
                }
                true
            }
            Phase::Receiving(receiving) => {
                at_ms = at_ms.min(receiving.deadline_ms(limits, self.idle_from_ms));
                true
            }
            Phase::Securing(securing) => return securing.since_ms.saturating_add(limits.handshake_ms),
            Phase::Ending { ending, .. } => return ending.deadline_ms(out, cx.now_ms),
            Phase::Over { .. } => return u64::MAX,
        };
        if is_nets_turn && limits.total_ms > 0 {
            at_ms = at_ms.min(self.opened_ms.saturating_add(limits.total_ms));
        }
        if matches!(self.phase, Phase::Reading)
            && !self.link.is_flushed()
            && out.released_ms(cx.now_ms).is_none()
        {
            at_ms = at_ms.min(out.progress_ms().saturating_add(limits.idle_ms));
        }
        at_ms
    }

    /// Break off because of a fault of ours.
    pub(crate) fn finish(&mut self, reason: CloseReason) {
        let reason = match &self.phase {
            Phase::Ending { reason, .. } | Phase::Over { reason } => *reason,
            _ => reason,
        };
        self.lose_draft();
        self.link.drop_stream();
        self.wire = ServerWire::new();
        // Last, since it releases what is not ours, and may panic.
        let chunks = self.chunks.take();
        self.phase = Phase::Over { reason };
        drop(chunks);
    }

    /// Remember the draft of a content that will not come whole.
    fn lose_draft(&mut self) {
        let receiving = match &self.phase {
            Phase::Receiving(receiving) => Some(receiving),
            _ => self.chunks.as_ref(),
        };
        if let Some(receiving) = receiving {
            self.lost_draft = receiving.draft();
        }
    }

    fn answer(&mut self, bytes: Bytes, answers: u32, delay_ms: u64, close: bool, cx: &mut Context) -> bool {
        let Phase::Asked { question, since_ms } = &mut self.phase else { return false };
        // Whoever answers in part, or says that he will, has not forgotten it.
        *since_ms = cx.now_ms;
        let reason =
            if matches!(question, Question::Banner) { CloseReason::Refused } else { CloseReason::Local };
        let is_answered = match question {
            Question::Commands { unanswered, .. } => {
                let Some(left) = unanswered.checked_sub(answers) else { return false };
                *unanswered = left;
                left == 0
            }
            Question::Content { .. } | Question::Secured | Question::Response if answers <= 1 => {
                if matches!(question, Question::Secured) && bytes.is_empty() {
                    // After STARTTLS there is no banner to wait for (RFC 3207 4.2).
                    let _ = self.wire.replied();
                }
                answers == 1
            }
            Question::Banner if close => true,
            Question::Banner if bytes.is_empty() && answers == 0 => false,
            _ => return false,
        };
        self.reply(bytes, delay_ms, cx);
        if close {
            self.end(reason, cx);
        } else if is_answered {
            self.go_on(cx);
        }
        true
    }

    fn await_durable(&mut self, ok: Bytes, failed: Bytes, grant: Grant, cx: &mut Context) -> bool {
        let Phase::Asked { question: Question::Content { durable }, .. } = &self.phase else { return false };
        match durable {
            Some(is_durable) => {
                let reply = if *is_durable { ok } else { failed };
                self.grant = grant;
                self.reply(reply, 0, cx);
                self.go_on(cx);
            }
            None => {
                self.phase = Phase::Durable(Box::new(Verdicts { ok, failed, grant, since_ms: cx.now_ms }));
            }
        }
        true
    }

    /// Say goodbye to a peer that has been silent since it was answered; anything else is stale.
    fn farewell(&mut self, action: NetAction, cx: &mut Context) -> bool {
        match (&self.phase, action) {
            (Phase::Reading, NetAction::Reply { bytes, answers: 0, delay_ms, close: true, .. }) => {
                self.reply(bytes, delay_ms, cx);
                self.end(CloseReason::Local, cx);
                true
            }
            _ => false,
        }
    }

    fn reply(&mut self, bytes: Bytes, delay_ms: u64, cx: &mut Context) {
        self.link.out.push(bytes, delay_ms, cx.now_ms);
    }

    /// Everything is answered: it is net's turn.
    fn go_on(&mut self, cx: &mut Context) {
        self.phase = Phase::Reading;
        self.idle_from_ms = cx.now_ms;
        self.saying = Saying::Replies;
        if self.link.out.pending() > self.limits.output_bytes {
            self.finish(CloseReason::Protocol);
        }
    }

    /// The replies to everything go now. What has come before a reply that had to be waited for is early.
    fn replied(&mut self, cx: &mut Context) {
        let said = std::mem::replace(&mut self.saying, Saying::Nothing);
        if self.wire.is_awaited()
            && self.wire.rest().len() < COMMANDS_READ
            && let Read::Data(octets) = self.link.read(cx, COMMANDS_READ)
        {
            self.wire.push(cx.buffer.get(..octets).unwrap_or_default());
        }
        let can_go_on = if said == Saying::Challenge { self.wire.challenged() } else { self.wire.replied() };
        if !can_go_on && matches!(self.phase, Phase::Reading) {
            self.end(CloseReason::Protocol, cx);
        }
    }

    /// Close in an orderly way: what is left is sent.
    fn end(&mut self, reason: CloseReason, cx: &mut Context) {
        self.lose_draft();
        self.chunks = None;
        self.wire = ServerWire::new();
        self.phase = Phase::Ending { reason, ending: Ending::begin(cx.now_ms) };
    }

    /// Send what may go; false if the connection is broken.
    fn flush(&mut self, cx: &mut Context, budget: &mut usize) -> bool {
        match self.link.flush(cx, budget) {
            // Replies never exceed their cap, which is a pass's budget; the rest goes in the next pass.
            Ok(Flush::Done | Flush::Blocked | Flush::Spent) => true,
            Err(_) => false,
        }
    }

    /// Whether the peer has to take, or to wait for, replies before we read on.
    fn has_backlog(&self, cx: &Context) -> bool {
        self.link.out.pending() >= OUTPUT_PAUSE || self.link.out.held_until_ms(cx.now_ms).is_some()
    }

    /// Read nothing until the thread may.
    fn pause(&mut self) -> Next {
        self.is_paused = true;
        Next::Paused
    }

    /// Take no account of the time until now: we did not read.
    fn restart_clocks(&mut self, now_ms: u64) {
        self.idle_from_ms = now_ms;
        self.line_from_ms = self.line_from_ms.map(|_| now_ms);
        match &mut self.phase {
            Phase::Receiving(receiving) => receiving.restart_clock(now_ms),
            Phase::Proxied(proxied) => proxied.since_ms = now_ms,
            _ => {}
        }
    }

    /// End the connection if that can be done: a commit is waited for, and its reply is sent first.
    fn shut(&mut self, cx: &mut Context) {
        self.owes_answer = false;
        match &self.phase {
            Phase::Durable(_) | Phase::Ending { .. } | Phase::Over { .. } => {}
            Phase::Proxied(_) | Phase::Asked { question: Question::Content { durable: Some(_) }, .. } => {
                self.finish(CloseReason::Local);
            }
            Phase::Securing(_) => self.end(CloseReason::Local, cx),
            Phase::Asked { .. } | Phase::Reading | Phase::Receiving(_) => {
                let reply = cx.held_reply.clone();
                self.reply(reply, 0, cx);
                self.end(CloseReason::Local, cx);
            }
        }
    }

    /// Read the header of a proxy. What follows it is left for whoever speaks next: a handshake may begin with it.
    fn read_proxy(&mut self, cx: &mut Context, budget: &mut usize) -> Option<Next> {
        let Phase::Proxied(proxied) = &mut self.phase else { return None };
        if !cx.may_read {
            return Some(self.pause());
        }
        match self.link.read(cx, COMMANDS_READ) {
            Read::Data(octets) => {
                *budget = budget.saturating_sub(octets);
                let input = cx.buffer.get(..octets).unwrap_or_default();
                match proxied.reader.push(input) {
                    // At most as often as a header has octets.
                    Ok(None) => {}
                    Ok(Some((header, consumed))) => {
                        let Met { listener, peer: proxy, local } = proxied.met;
                        self.link.unread(input.get(consumed..).unwrap_or_default());
                        let (peer, local) = match header {
                            ProxyHeader::Told { client, server } => (client, server),
                            ProxyHeader::Unknown => (proxy, local),
                        };
                        let turn = self.hand_over(Question::Banner, cx);
                        let (conn, proxy) = (self.conn, Some(proxy));
                        cx.events.push(NetEvent::Opened { conn, turn, listener, peer, local, proxy });
                    }
                    Err(fault) => self.refuse_proxy(ProxyRefusal::Fault(fault), cx),
                }
            }
            Read::Blocked => return Some(Next::Wait),
            // Whoever only looks whether we are there has nothing to say.
            Read::End | Read::Failed if proxied.reader.is_empty() => self.finish(CloseReason::Peer),
            Read::End | Read::Failed => self.refuse_proxy(ProxyRefusal::Ended, cx),
        }
        None
    }

    /// Close a connection of which nobody knows who is behind it: it is told nothing.
    fn refuse_proxy(&mut self, refusal: ProxyRefusal, cx: &mut Context) {
        if let Phase::Proxied(proxied) = &self.phase {
            let Met { listener, peer, .. } = proxied.met;
            cx.events.push(NetEvent::ProxyRefused { listener, peer, refusal });
        }
        self.finish(CloseReason::Protocol);
    }

    fn hand_over(&mut self, question: Question, cx: &mut Context) -> u32 {
        self.turn = self.turn.wrapping_add(1);
        self.owes_answer = true;
        self.phase = Phase::Asked { question, since_ms: cx.now_ms };
        self.turn
    }

    fn read_commands(&mut self, cx: &mut Context, budget: &mut usize) -> Option<Next> {
        if self.has_backlog(cx) {
            return Some(Next::Wait);
        }
        if !cx.may_read {
            return Some(self.pause());
        }
        if self.wire.is_challenged() {
            if let Some((response, early)) = self.wire.next_response() {
                self.line_from_ms = None;
                let turn = self.hand_over(Question::Response, cx);
                cx.events.push(NetEvent::AuthLine { conn: self.conn, turn, response, early });
                return None;
            }
        } else if let Some(batch) = self.wire.next_batch() {
            self.line_from_ms = None;
            if let Some(hint) = grant::size_hint(&batch.items) {
                self.size_hint = hint;
            }
            if let Some(batch) = self.answer_granted(batch, cx) {
                self.ask(batch, cx);
            }
            return None;
        }
        if self.link.has_ended() {
            self.end(CloseReason::Peer, cx);
            return None;
        }
        if *budget == 0 {
            return Some(Next::Again);
        }
        match self.link.read(cx, COMMANDS_READ) {
            Read::Data(octets) => {
                *budget = budget.saturating_sub(self.link.cost(octets));
                self.line_from_ms.get_or_insert(cx.now_ms);
                self.wire.push(cx.buffer.get(..octets).unwrap_or_default());
                if self.wire.is_challenged() {
                    wipe(cx, octets);
                }
            }
            Read::Blocked => return Some(Next::Wait),
            Read::End => {}
            Read::Failed => self.fail(cx),
        }
        None
    }

    /// The connection is broken, or what came is not TLS: then the alert is still sent.
    fn fail(&mut self, cx: &mut Context) {
        if self.link.is_tls_broken() {
            cx.tally.tls_broken += 1;
            self.end(CloseReason::Tls, cx);
        } else {
            self.finish(CloseReason::Reset);
        }
    }

    /// Begin with TLS: at once, or when this answer to STARTTLS is sent.
    fn secure(&mut self, tls: Arc<ServerTls>, reply: Option<Bytes>, cx: &mut Context) {
        let Some(under_way) = cx.handshakes.enter() else {
            cx.tally.tls_refused += 1;
            if reply.is_some() {
                let busy = cx.held_reply.clone();
                self.reply(busy, 0, cx);
            }
            self.end(CloseReason::Tls, cx);
            return;
        };
        self.grant = Grant::None;
        self.chunks = None;
        let is_asked_for = reply.is_some();
        let securing = Securing { tls, is_asked_for, since_ms: cx.now_ms, _under_way: under_way };
        self.reply(reply.unwrap_or_default(), 0, cx);
        self.phase = Phase::Securing(Box::new(securing));
    }

    /// Greet the peer anew, who speaks for another now; nothing of before is known any more.
    fn restart(&mut self, limits: Arc<ServerLimits>, banner: Bytes, cx: &mut Context) {
        if self.has_octets(cx) {
            self.end(CloseReason::Protocol, cx);
            return;
        }
        self.grant = Grant::None;
        self.chunks = None;
        self.size_hint = 0;
        self.line_from_ms = None;
        self.limits = limits;
        self.wire = ServerWire::new();
        self.wire.set_grammar(self.limits.grammar);
        self.reply(banner, 0, cx);
        self.go_on(cx);
    }

    /// Go on with the way to TLS.
    fn shake(&mut self, cx: &mut Context, budget: &mut usize) -> Option<Next> {
        let Phase::Securing(securing) = &self.phase else { return None };
        if !cx.may_read {
            return Some(self.pause());
        }
        if !self.link.is_tls() {
            let (tls, is_asked_for) = (securing.tls.current(), securing.is_asked_for);
            if is_asked_for && self.has_octets(cx) {
                cx.tally.tls_early += 1;
                // Not even the 220: whoever injects commands is told nothing.
                self.link.out.clear();
                self.end(CloseReason::Protocol, cx);
                return None;
            }
            if self.link.has_ended() {
                self.end(CloseReason::Peer, cx);
                return None;
            }
            if !self.flush(cx, budget) {
                self.finish(CloseReason::Reset);
                return None;
            }
            if !self.link.is_flushed() {
                return Some(Next::Wait);
            }
            if self.link.start_tls(tls).is_err() {
                self.finish(CloseReason::Error);
                return None;
            }
        }
        if cx.handshakes_left == 0 {
            return Some(Next::Again);
        }
        let shaken = self.link.shake(cx);
        match shaken {
            Shaken::Done => self.secured(cx),
            Shaken::More => {
                cx.handshakes_left -= 1;
                if !self.flush(cx, budget) {
                    self.finish(CloseReason::Reset);
                }
            }
            Shaken::Blocked => {
                if self.flush(cx, budget) {
                    return Some(Next::Wait);
                }
                self.finish(CloseReason::Reset);
            }
            Shaken::End | Shaken::Broken => {
                cx.tally.tls_failed += 1;
                self.end(CloseReason::Tls, cx);
            }
            Shaken::Failed => {
                cx.tally.tls_failed += 1;
                self.finish(CloseReason::Reset);
            }
        }
        None
    }

    /// Whether the peer has sent something that nobody has read.
    fn has_octets(&mut self, cx: &mut Context) -> bool {
        !self.wire.rest().is_empty() || matches!(self.link.read(cx, COMMANDS_READ), Read::Data(_))
    }

    /// The handshake is finished: nothing of before is known any more.
    fn secured(&mut self, cx: &mut Context) {
        let Some(facts) = self.link.tls_facts() else { return self.finish(CloseReason::Error) };
        self.wire = ServerWire::new();
        self.wire.set_grammar(self.limits.grammar);
        self.line_from_ms = None;
        self.size_hint = 0;
        let turn = self.hand_over(Question::Secured, cx);
        cx.events.push(NetEvent::TlsUp { conn: self.conn, turn, facts: Box::new(facts) });
    }

    /// Give the answer that was granted, if the commands are what it was granted for; give them back otherwise.
    fn answer_granted(&mut self, mut batch: Batch, cx: &mut Context) -> Option<Batch> {
        let granted = std::mem::take(&mut self.grant);
        if granted == Grant::None || batch.early || batch.items.len() != 1 {
            return Some(batch);
        }
        let limits = Arc::clone(&self.limits);
        match batch.items.first() {
            Some(Ok(Command::Mail { path, params }))
                if granted == Grant::Mail && path.address.is_ascii() && limits.standard.covers(params) =>
            {
                self.answered.append(&mut batch.items);
                self.reply(limits.standard.mail.clone(), 0, cx);
                self.go_on(cx);
                None
            }
            Some(Ok(Command::Data)) if granted == Grant::Data => {
                let Some((draft, sink)) = cx.open_draft(self.size_hint) else { return Some(batch) };
                let standard = &limits.standard;
                self.receive_into(draft, sink, standard.limit_bytes, standard.data.clone(), cx);
                None
            }
            _ => Some(batch),
        }
    }

    /// Ask the caller what is to be said to commands.
    fn ask(&mut self, batch: Batch, cx: &mut Context) {
        let last = Last::of(&batch.items);
        if last == Last::Auth {
            wipe(cx, COMMANDS_READ);
        }
        let question = Question::Commands { unanswered: batch.items.len() as u32, last };
        let turn = self.hand_over(question, cx);
        let mut items = std::mem::take(&mut self.answered);
        let answered = items.len() as u32;
        items.extend(batch.items);
        let eof = self.link.has_ended();
        cx.events.push(NetEvent::Commands {
            conn: self.conn,
            turn,
            items,
            answered,
            early: batch.early,
            eof,
        });
    }

    /// Answer DATA with 354 and put the content that follows into a sink.
    fn receive_into(
        &mut self,
        draft: u64,
        sink: Box<dyn ContentSink>,
        limit_bytes: u64,
        reply: Bytes,
        cx: &mut Context,
    ) {
        self.reply(reply, 0, cx);
        self.wire.begin_content();
        let waker = cx.waker(self.conn);
        let intake = Intake::new(limit_bytes, self.limits.header_bytes).changing(self.limits.changes);
        let receiving = Receiving::new(draft, sink, intake, waker, cx.now_ms);
        self.idle_from_ms = cx.now_ms;
        self.chunks = None;
        self.phase = Phase::Receiving(Box::new(receiving));
    }

    /// The chunk that the last command has announced, if that is all that is to be answered.
    fn announced(&self) -> Option<Chunk> {
        match &self.phase {
            Phase::Asked {
                question: Question::Commands { unanswered: 1, last: Last::Bdat(chunk) }, ..
            } => Some(*chunk),
            _ => None,
        }
    }

    /// Put the chunk of a BDAT into a sink: a new one, or the one that has those before.
    fn take_chunk(&mut self, begin: Option<BeginChunks>, reply: Bytes, cx: &mut Context) -> bool {
        let Some(chunk) = self.announced() else { return false };
        let held = self.chunks.take();
        let mut receiving = match begin {
            None => match held {
                Some(receiving) => receiving,
                None => return false,
            },
            Some(begin) => {
                let waker = cx.waker(self.conn);
                let intake = Intake::in_chunks(begin.is_binary, begin.limit_bytes, self.limits.header_bytes);
                let intake = intake.changing(self.limits.changes);
                Box::new(Receiving::in_chunks(begin, intake, waker, cx.now_ms))
            }
        };
        receiving.begin_chunk(chunk, Then::Reply(reply), cx.now_ms);
        self.receive_chunk(receiving, cx);
        true
    }

    /// Refuse a BDAT and pass over its chunk.
    fn discard(&mut self, reply: Bytes, delay_ms: u64, cx: &mut Context) -> bool {
        let Some(chunk) = self.announced() else { return false };
        self.reply(reply, delay_ms, cx);
        self.chunks = None;
        let receiving = Receiving::nowhere(chunk, cx.waker(self.conn), cx.now_ms);
        self.receive_chunk(Box::new(receiving), cx);
        true
    }

    fn receive_chunk(&mut self, receiving: Box<Receiving>, cx: &Context) {
        self.wire.begin_content();
        self.idle_from_ms = cx.now_ms;
        self.phase = Phase::Receiving(receiving);
    }

    fn receive(&mut self, cx: &mut Context, budget: &mut usize) -> Option<Next> {
        let Phase::Receiving(receiving) = &mut self.phase else { return None };
        if !cx.may_read {
            return Some(self.pause());
        }
        match receiving.step(&mut self.link, &mut self.wire, &mut self.idle_from_ms, cx, budget) {
            Received::More(next) => Some(next),
            Received::Complete(then) => {
                if let Phase::Receiving(receiving) = std::mem::replace(&mut self.phase, Phase::Reading) {
                    match then {
                        Then::Ask => {
                            let turn = self.hand_over(Question::Content { durable: None }, cx);
                            cx.events.push(receiving.into_event(self.conn, turn));
                        }
                        Then::Reply(reply) => {
                            self.chunks = Some(receiving);
                            self.reply(reply, 0, cx);
                            self.go_on(cx);
                        }
                        Then::GoOn => self.go_on(cx),
                    }
                }
                None
            }
            Received::End => {
                self.end(CloseReason::Peer, cx);
                None
            }
            Received::Failed => {
                self.fail(cx);
                None
            }
        }
    }

    /// A deadline has passed. What is held back is released by the clock itself.
    fn expire(&mut self, cx: &mut Context) {
        let limits = Arc::clone(&self.limits);
        let total_ms =
            if limits.total_ms > 0 { self.opened_ms.saturating_add(limits.total_ms) } else { u64::MAX };
        match &mut self.phase {
            Phase::Proxied(_) => {
                cx.tally.deadlines += 1;
                self.refuse_proxy(ProxyRefusal::TimedOut, cx);
            }
            // The message is durable or may become so at any moment, so nothing may be said about it.
            Phase::Durable(_) | Phase::Asked { question: Question::Content { durable: Some(_) }, .. } => {
                cx.tally.deadlines += 1;
                self.finish(CloseReason::Held);
            }
            Phase::Asked { .. } => {
                let held_reply = cx.held_reply.clone();
                self.give_up(held_reply, CloseReason::Held, cx);
            }
            Phase::Reading | Phase::Receiving(_) if cx.now_ms >= total_ms => {
                self.give_up(limits.timeout_reply.clone(), CloseReason::Total, cx);
            }
            Phase::Reading => self.give_up(limits.timeout_reply.clone(), CloseReason::Idle, cx),
            Phase::Receiving(receiving) => {
                if let Some(reason) = receiving.expire(&limits, self.idle_from_ms, cx.now_ms) {
                    self.give_up(limits.timeout_reply.clone(), reason, cx);
                }
            }
            Phase::Securing(_) => {
                cx.tally.deadlines += 1;
                cx.tally.tls_timed_out += 1;
                // Nothing that could be said would be understood.
                self.link.out.clear();
                self.end(CloseReason::Tls, cx);
            }
            Phase::Ending { .. } | Phase::Over { .. } => {}
        }
    }

    fn give_up(&mut self, reply: Bytes, reason: CloseReason, cx: &mut Context) {
        cx.tally.deadlines += 1;
        self.reply(reply, 0, cx);
        self.end(reason, cx);
    }
}

/// Overwrite what was read, for there may be a secret in it.
fn wipe(cx: &mut Context, octets: usize) {
    if let Some(read) = cx.buffer.get_mut(..octets) {
        read.zeroize();
    }
}
