//! What the connections of a thread share while one of them is stepped.

use std::sync::Arc;

use bytes::Bytes;
use penstock_core::flow::{ContentSink, Wake, WakeHandle};

use crate::statistics::Tally;
use crate::tls::{HANDSHAKES_PER_PASS, Handshakes};
use crate::{Conn, EventSink, NetConfig, NetEvent};

/// The read buffer, and what one connection may read or send in a pass.
pub(crate) const PASS_OCTETS: usize = 64 * 1024;

pub(crate) struct Context {
    pub(crate) now_ms: u64,
    /// Everything is read into it; an idle connection owns no buffer.
    pub(crate) buffer: Box<[u8]>,
    /// As `buffer`, for what comes from a socket sealed; none before the first connection with TLS.
    cipher: Vec<u8>,
    /// How many handshakes are under way.
    pub(crate) handshakes: Handshakes,
    /// How many steps of handshakes this pass may still take.
    pub(crate) handshakes_left: usize,
    /// What the caller will be told at the end of the pass.
    pub(crate) events: Vec<NetEvent>,
    pub(crate) tally: Tally,
    /// Whether there is any sense in reading: not while the caller is far behind.
    pub(crate) may_read: bool,
    /// Whether the wire engine is being stopped: every connection ends as soon as it may.
    pub(crate) is_stopping: bool,
    pub(crate) held_ms: u64,
    pub(crate) held_reply: Bytes,
    sink: Arc<dyn EventSink>,
    wake: Arc<dyn Wake>,
}

impl Context {
    pub(crate) fn new(
        config: &NetConfig,
        handshakes: Handshakes,
        sink: Arc<dyn EventSink>,
        wake: Arc<dyn Wake>,
    ) -> Self {
        Self {
            now_ms: 0,
            buffer: vec![0; PASS_OCTETS].into_boxed_slice(),
            cipher: Vec::new(),
            handshakes,
            handshakes_left: HANDSHAKES_PER_PASS,
            events: Vec::new(),
            tally: Tally::default(),
            may_read: true,
            is_stopping: false,
            held_ms: config.held_ms,
            held_reply: config.held_reply.clone(),
            sink,
            wake,
        }
    }

    /// Where to read what is sealed.
    pub(crate) fn cipher(&mut self) -> &mut [u8] {
        if self.cipher.is_empty() {
            self.cipher = vec![0; PASS_OCTETS];
        }
        &mut self.cipher
    }

    /// Up to `most` octets of the buffer, and as many for what is sealed.
    pub(crate) fn buffers(&mut self, most: usize) -> (&mut [u8], &mut [u8]) {
        let most = most.min(self.buffer.len());
        self.cipher();
        let buffer = self.buffer.get_mut(..most).unwrap_or_default();
        (buffer, self.cipher.get_mut(..most).unwrap_or_default())
    }

    /// A place for content that the caller was not asked about.
    pub(crate) fn open_draft(&self, size_hint: u64) -> Option<(u64, Box<dyn ContentSink>)> {
        self.sink.open_draft(size_hint)
    }

    /// How a sink, source or gate lets a connection know.
    pub(crate) fn waker(&self, conn: Conn) -> WakeHandle {
        WakeHandle { wake: Arc::clone(&self.wake), token: conn }
    }
}

/// What is to become of a connection after a step.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Next {
    /// It waits for something to happen.
    Wait,
    /// It has more to do.
    Again,
    /// It would read if it might.
    Paused,
    /// It has ended, and its last event is pushed.
    Gone,
}
