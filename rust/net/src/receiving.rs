//! Content on its way from a socket into its sink.
//!
//! Octets go from the thread's read buffer straight into the sink. When that is full, what was read already waits here,
//! and nothing more is read until the sink's waker fires. Content that will be refused is read to its true end and
//! forgotten.
//!
//! What BDAT brings comes in several goes, one per chunk; between them it is kept as it is, and the connection reads
//! commands. The chunk of a BDAT that was refused is read in the same way, and goes nowhere.

use std::any::Any;

use bytes::Bytes;
use penstock_core::flow::{ContentSink, Offer, WakeHandle};
use penstock_core::smtp::content::ContentStep;
use penstock_core::smtp::limits::TEXT_LINE_MAX;
use penstock_core::smtp::server_wire::{Intake, IntakeFault, ServerWire};

use crate::context::{Context, Next, PASS_OCTETS};
use crate::link::{Link, Read};
use crate::transport::Stream;
use crate::{BeginChunks, CloseReason, Conn, ContentStatus, NetEvent, ServerLimits};

/// A BDAT as it was said.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) size: u64,
    pub(crate) is_last: bool,
}

/// What follows when the octets have come.
pub(crate) enum Then {
    /// The caller is asked for the verdict on the content.
    Ask,
    /// This is the reply, and the content goes on.
    Reply(Bytes),
    /// All has been said.
    GoOn,
}

/// Takes octets and forgets them.
struct Nowhere;

impl ContentSink for Nowhere {
    fn offer(&mut self, _chunk: &[u8], _waker: &WakeHandle) -> Offer {
        Offer::Taken
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

/// How far a content has come.
pub(crate) enum Received {
    More(Next),
    Complete(Then),
    /// The peer has ended its side before the content.
    End,
    Failed,
}

pub(crate) struct Receiving {
    /// None if the octets go nowhere.
    draft: Option<u64>,
    then: Then,
    sink: Box<dyn ContentSink>,
    waker: WakeHandle,
    intake: Intake,
    /// Content that the full sink has not taken yet.
    waiting: Vec<u8>,
    full_since_ms: Option<u64>,
    is_starved: bool,
    has_ended: bool,
    /// Octets without the end of a line.
    unlined_octets: usize,
    window_from_ms: u64,
    window_octets: u64,
}

impl Receiving {
    pub(crate) fn new(
        draft: u64,
        sink: Box<dyn ContentSink>,
        intake: Intake,
        waker: WakeHandle,
        now_ms: u64,
    ) -> Self {
        Self::with(Some(draft), Then::Ask, sink, waker, intake, now_ms)
    }

    /// Begin a content that comes in chunks, before the first of them.
    pub(crate) fn in_chunks(begin: BeginChunks, intake: Intake, waker: WakeHandle, now_ms: u64) -> Self {
        Self::with(Some(begin.draft), Then::GoOn, begin.sink, waker, intake, now_ms)
    }

    /// Begin with a chunk that goes nowhere.
    pub(crate) fn nowhere(chunk: Chunk, waker: WakeHandle, now_ms: u64) -> Self {
        // Nothing is over the limit, and nothing a fault: nobody will ask.
        let intake = Intake::in_chunks(true, u64::MAX, 0);
        let mut receiving = Self::with(None, Then::GoOn, Box::new(Nowhere), waker, intake, now_ms);
        receiving.begin_chunk(Chunk { is_last: false, ..chunk }, Then::GoOn, now_ms);
        receiving
    }

    fn with(
        draft: Option<u64>,
        then: Then,
        sink: Box<dyn ContentSink>,
        waker: WakeHandle,
        intake: Intake,
        now_ms: u64,
    ) -> Self {
        Self {
            draft,
            then,
            sink,
            waker,
            intake,
            waiting: Vec::new(),
            full_since_ms: None,
            is_starved: false,
            has_ended: false,
            unlined_octets: 0,
            window_from_ms: now_ms,
            window_octets: 0,
        }
    }

    /// Go on with a chunk.
    pub(crate) fn begin_chunk(&mut self, chunk: Chunk, then: Then, now_ms: u64) {
        self.then = if chunk.is_last { Then::Ask } else { then };
        if self.intake.begin_chunk(chunk.size, chunk.is_last) {
            let step = self.intake.push(b"");
            // As when a chunk has come; its beginning counts as a sign of life in any case.
            self.keep(step, b"", &mut { now_ms }, now_ms);
        } else {
            self.has_ended = false;
        }
        self.restart_clock(now_ms);
    }

    pub(crate) fn draft(&self) -> Option<u64> {
        self.draft
    }

    /// Take no account of the time until now: we did not read.
    pub(crate) fn restart_clock(&mut self, now_ms: u64) {
        self.window_from_ms = now_ms;
        self.window_octets = 0;
    }

    pub(crate) fn deadline_ms(&self, limits: &ServerLimits, idle_from_ms: u64) -> u64 {
        match self.full_since_ms {
            Some(since_ms) => since_ms.saturating_add(limits.starved_ms),
            None => self.rate_ms(limits).min(idle_from_ms.saturating_add(limits.idle_ms)),
        }
    }

    /// Take note that a deadline has passed; return why the connection must end, if so.
    pub(crate) fn expire(
        &mut self,
        limits: &ServerLimits,
        idle_from_ms: u64,
        now_ms: u64,
    ) -> Option<CloseReason> {
        if let Some(since_ms) = self.full_since_ms {
            if now_ms >= since_ms.saturating_add(limits.starved_ms) {
                self.is_starved = true;
                self.full_since_ms = None;
                self.waiting = Vec::new();
            }
            return None;
        }
        if now_ms >= idle_from_ms.saturating_add(limits.idle_ms) {
            return Some(CloseReason::Idle);
        }
        if now_ms >= self.rate_ms(limits) {
            let wanted = limits.min_rate_bytes_s.saturating_mul(now_ms - self.window_from_ms) / 1000;
            if self.window_octets < wanted {
                return Some(CloseReason::MinRate);
            }
            self.restart_clock(now_ms);
        }
        None
    }

    fn rate_ms(&self, limits: &ServerLimits) -> u64 {
        if limits.min_rate_bytes_s == 0 {
            return u64::MAX;
        }
        self.window_from_ms.saturating_add(limits.rate_window_ms)
    }

    pub(crate) fn step<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        wire: &mut ServerWire,
        idle_from_ms: &mut u64,
        cx: &mut Context,
        budget: &mut usize,
    ) -> Received {
        loop {
            if !self.offer_waiting(idle_from_ms, cx.now_ms) {
                return Received::More(Next::Wait);
            }
            if self.has_ended {
                return Received::Complete(std::mem::replace(&mut self.then, Then::GoOn));
            }
            if !wire.rest().is_empty() {
                let step = self.intake.push(wire.rest());
                self.keep(step, wire.rest(), idle_from_ms, cx.now_ms);
                wire.consume(step.consumed);
                continue;
            }
            if *budget == 0 {
                return Received::More(Next::Again);
            }
            match link.read(cx, PASS_OCTETS) {
                Read::Data(octets) => {
                    *budget = budget.saturating_sub(link.cost(octets));
                    let input = cx.buffer.get(..octets).unwrap_or_default();
                    let step = self.intake.push(input);
                    self.keep(step, input, idle_from_ms, cx.now_ms);
                    if step.end {
                        wire.push(input.get(step.consumed..).unwrap_or_default());
                    }
                }
                Read::Blocked if link.has_ended() => return Received::End,
                Read::Blocked => return Received::More(Next::Wait),
                Read::End => return Received::End,
                Read::Failed => return Received::Failed,
            }
        }
    }

    /// Offer again what the sink had no room for; false if there is still none.
    fn offer_waiting(&mut self, idle_from_ms: &mut u64, now_ms: u64) -> bool {
        if self.waiting.is_empty() {
            return true;
        }
        if self.sink.offer(&self.waiting, &self.waker) == Offer::Full {
            return false;
        }
        self.waiting = Vec::new();
        self.full_since_ms = None;
        *idle_from_ms = now_ms;
        self.restart_clock(now_ms);
        true
    }

    /// Give a step's content to the sink.
    fn keep(&mut self, step: ContentStep, input: &[u8], idle_from_ms: &mut u64, now_ms: u64) {
        self.has_ended = step.end;
        self.window_octets += step.consumed as u64;
        let content = input.get(..step.content).unwrap_or_default();
        // Only lines count, or as many octets: a peer that sends an octet now and then sends nothing.
        self.unlined_octets += content.len();
        if step.end || content.contains(&b'\n') || self.unlined_octets >= TEXT_LINE_MAX {
            self.unlined_octets = 0;
            *idle_from_ms = now_ms;
        }
        let rewritten = self.intake.rewritten();
        if self.is_starved || self.intake.fault().is_some() {
            return;
        }
        let parts = rewritten.as_deref().map_or([step.prefix, content], |octets| [octets, b""]);
        for part in parts {
            if part.is_empty() {
                continue;
            }
            if !self.waiting.is_empty() || self.sink.offer(part, &self.waker) == Offer::Full {
                self.waiting.extend_from_slice(part);
                self.full_since_ms.get_or_insert(now_ms);
            }
        }
    }

    pub(crate) fn into_event(self, conn: Conn, turn: u32) -> NetEvent {
        let status = match self.intake.fault() {
            Some(IntakeFault::BadLineEnding) => ContentStatus::BadLineEnding,
            Some(IntakeFault::Nul) => ContentStatus::Nul,
            Some(IntakeFault::TooLarge) => ContentStatus::TooLarge,
            None if self.is_starved => ContentStatus::Starved,
            None => ContentStatus::Complete,
        };
        NetEvent::Content {
            conn,
            turn,
            draft: self.draft.unwrap_or_default(),
            sink: self.sink,
            status,
            flags: self.intake.flags(),
            changes: self.intake.changes(),
            size: self.intake.size(),
            wire_size: self.intake.wire_size(),
            facts: self.intake.finish(),
        }
    }
}
