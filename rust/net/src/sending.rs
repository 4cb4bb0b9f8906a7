//! Content on its way from a source into a connection's output.
//!
//! The last chunk is withheld together with the end of the content until the gate opens: before that the record that
//! they are being sent is not written, and a peer that has the end may have accepted the message. Since any chunk can be
//! the last one, each is withheld until the next one, or the end, is known. So a small message leaves in one send, with
//! whatever follows it in the same flight.

use bytes::Bytes;
use penstock_core::flow::{ContentFlags, ContentSource, Form, Gate, GateState, SourcePoll, WakeHandle};
use penstock_core::smtp::content::{END_OF_DATA, Stuffer};

use crate::FlightPart;
use crate::output::Output;

/// Unsent octets of content at which the source is not asked for more.
const AHEAD: usize = 64 * 1024;

/// How far the output was filled.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Fill {
    /// There is as much in it as should be.
    Enough,
    /// The source has nothing now.
    Dry,
    /// The gate is closed. What is in the output can wait for the rest.
    Gated,
    /// All is in it; the ".CRLF" begins at this position.
    Ended(u64),
    /// The content cannot be read, or must not be sent.
    Failed,
}

pub(crate) struct Sending {
    source: Box<dyn ContentSource>,
    gate: Box<dyn Gate>,
    waker: WakeHandle,
    stuffer: Option<Stuffer>,
    /// The last chunk that the source has given.
    withheld: Bytes,
    has_ended: bool,
    /// What follows in the same flight.
    then: Vec<FlightPart>,
    /// Since when the source or the gate is waited for.
    waits_since_ms: Option<u64>,
}

impl Sending {
    pub(crate) fn new(
        source: Box<dyn ContentSource>,
        form: Form,
        flags: ContentFlags,
        gate: Box<dyn Gate>,
        then: Vec<FlightPart>,
        waker: WakeHandle,
    ) -> Self {
        let is_sendable = form == Form::Wire || flags == ContentFlags::default();
        Self {
            source,
            gate,
            waker,
            stuffer: (!is_sendable).then(Stuffer::default),
            withheld: Bytes::new(),
            has_ended: false,
            then,
            waits_since_ms: None,
        }
    }

    /// Since when the source or the gate is waited for.
    pub(crate) fn waits_since_ms(&self) -> Option<u64> {
        self.waits_since_ms
    }

    /// Take what follows in the same flight.
    pub(crate) fn take_then(&mut self) -> Vec<FlightPart> {
        std::mem::take(&mut self.then)
    }

    /// Put into the output what may go and has room.
    pub(crate) fn fill(&mut self, out: &mut Output, now_ms: u64) -> Fill {
        while !self.has_ended {
            if out.pending() >= AHEAD {
                self.waits_since_ms = None;
                return Fill::Enough;
            }
            match self.source.poll(&self.waker) {
                SourcePoll::Chunk(chunk) => {
                    self.waits_since_ms = None;
                    self.withhold(chunk, out, now_ms);
                }
                SourcePoll::Pending => {
                    self.waits_since_ms.get_or_insert(now_ms);
                    return Fill::Dry;
                }
                SourcePoll::End => self.has_ended = true,
                SourcePoll::Failed => return Fill::Failed,
            }
        }
        match self.gate.state(&self.waker) {
            GateState::Open => Fill::Ended(self.end(out, now_ms)),
            GateState::Closed => {
                self.waits_since_ms.get_or_insert(now_ms);
                Fill::Gated
            }
            GateState::Failed => Fill::Failed,
        }
    }

    /// Let go of the chunk before.
    fn withhold(&mut self, chunk: Bytes, out: &mut Output, now_ms: u64) {
        let chunk = match &mut self.stuffer {
            None => chunk,
            Some(stuffer) => {
                let mut wire = Vec::with_capacity(chunk.len() + chunk.len() / 64 + 4);
                stuffer.push(&chunk, &mut wire);
                Bytes::from(wire)
            }
        };
        // The stuffer may hold back all that it was given.
        if !chunk.is_empty() {
            out.push(std::mem::replace(&mut self.withheld, chunk), 0, now_ms);
        }
    }

    fn end(&mut self, out: &mut Output, now_ms: u64) -> u64 {
        out.push(std::mem::take(&mut self.withheld), 0, now_ms);
        if let Some(stuffer) = self.stuffer.take() {
            let mut tail = Vec::new();
            stuffer.finish(&mut tail);
            out.push(Bytes::from(tail), 0, now_ms);
        }
        let ends_at = out.end();
        out.push(Bytes::from_static(END_OF_DATA), 0, now_ms);
        ends_at
    }
}
