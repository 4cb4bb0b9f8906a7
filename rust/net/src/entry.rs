//! A connection in its slot, whichever side of it we are.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::client_conn::Client;
use crate::context::{Context, Next};
use crate::server_conn::Server;
use crate::transport::{Readiness, Stream};
use crate::{CloseReason, Conn, NetAction};

pub(crate) enum Side<S> {
    Server(Server<S>),
    Client(Client<S>),
}

pub(crate) struct Entry<S> {
    pub(crate) conn: Conn,
    pub(crate) side: Side<S>,
    /// Whether it is in the ring.
    pub(crate) is_queued: bool,
    /// Whether it waits until its thread may read again.
    pub(crate) is_paused: bool,
    /// The tick at which the wheel calls it.
    pub(crate) tick: Option<u64>,
}

impl<S: Stream> Entry<S> {
    pub(crate) fn new(conn: Conn, side: Side<S>) -> Self {
        Self { conn, side, is_queued: false, is_paused: false, tick: None }
    }

    pub(crate) fn is_server(&self) -> bool {
        matches!(self.side, Side::Server(_))
    }

    pub(crate) fn note(&mut self, readiness: Readiness) {
        match &mut self.side {
            Side::Server(server) => server.note(readiness),
            Side::Client(client) => client.note(readiness),
        }
    }

    /// Follow an action; false if its turn has passed.
    pub(crate) fn act(&mut self, action: NetAction, cx: &mut Context) -> bool {
        match &mut self.side {
            Side::Server(server) => server.act(action, cx),
            Side::Client(client) => client.act(action, cx),
        }
    }

    /// Hear what the spool says; false if nobody waits for it.
    pub(crate) fn complete(&mut self, turn: u32, is_durable: bool, cx: &mut Context) -> bool {
        match &mut self.side {
            Side::Server(server) => server.complete(turn, is_durable, cx),
            Side::Client(_) => false,
        }
    }

    pub(crate) fn run(&mut self, cx: &mut Context) -> Next {
        match &mut self.side {
            Side::Server(server) => server.run(cx),
            Side::Client(client) => client.run(cx),
        }
    }

    pub(crate) fn deadline_ms(&self, cx: &Context) -> u64 {
        match &self.side {
            Side::Server(server) => server.deadline_ms(cx),
            Side::Client(client) => client.deadline_ms(cx),
        }
    }

    /// End at once, without a word.
    pub(crate) fn finish(&mut self, reason: CloseReason) {
        match &mut self.side {
            Side::Server(server) => server.finish(reason),
            Side::Client(client) => client.finish(reason),
        }
    }

    /// End at once and report it, answered or not.
    pub(crate) fn abort(&mut self, cx: &mut Context) {
        self.act(NetAction::Abort { conn: self.conn }, cx);
        self.run(cx);
    }
}

/// Do something that may panic; if it does, count that.
pub(crate) fn guarded<R>(cx: &mut Context, step: impl FnOnce(&mut Context) -> R) -> Option<R> {
    // Whoever calls ends what the step was about, so nobody sees it half changed.
    let result = catch_unwind(AssertUnwindSafe(|| step(cx)));
    if result.is_err() {
        cx.tally.panics += 1;
    }
    result.ok()
}
