//! What the caller asks for.
//!
//! Every action but `Abort` names the turn of the event that it answers. One whose connection has ended or whose turn
//! has passed is dropped and counted, and what it carries is released. One that its connection cannot follow (a `Take`
//! without a DATA) is a fault of the caller: it ends the connection, because nobody knows what was meant.

use std::sync::Arc;

use bytes::Bytes;
use penstock_core::flow::{ContentFlags, ContentSink, ContentSource, Form, Gate};

use crate::{Conn, Grant, ServerLimits, ServerTls};

/// One decision about one connection.
pub enum NetAction {
    /// Greet a peer.
    Begin {
        /// The connection.
        conn: Conn,
        /// The turn of `Opened`.
        turn: u32,
        /// What the peer may do, from now on.
        limits: Arc<ServerLimits>,
        /// Begins with TLS (RFC 8314 3.3): `TlsUp` follows, and the banner in answer to that.
        tls: Option<Arc<ServerTls>>,
        /// The first reply; empty with TLS.
        banner: Bytes,
        /// How long it is held back; who speaks meanwhile is early.
        delay_ms: u64,
    },
    /// Answer commands or content.
    Reply {
        /// The connection.
        conn: Conn,
        /// The turn of the event. A closing reply that answers nothing may also name the turn of the last event after
        /// that has been answered: it reaches a peer that has been idle since.
        turn: u32,
        /// Whole replies, in order.
        bytes: Bytes,
        /// How many commands of the event they finish; the turn ends with the last one.
        answers: u32,
        /// How long they, and all that follows, are held back.
        delay_ms: u64,
        /// Whether the connection ends behind them.
        close: bool,
        /// What the next command may be answered by net, if they end the turn.
        grant: Grant,
    },
    /// Answer STARTTLS with 220 and begin the handshake (RFC 3207). `TlsUp` follows, or the end of the connection: so
    /// ends one on which octets came behind the STARTTLS, unanswered.
    StartTls {
        /// The connection.
        conn: Conn,
        /// The turn of the commands, all of them answered but the STARTTLS at the end.
        turn: u32,
        /// What the peer is shown and asked.
        tls: Arc<ServerTls>,
        /// The 220.
        reply: Bytes,
    },
    /// Answer a final XCLIENT with a banner: the peer speaks for another from now on. Nothing that was granted holds any
    /// more; what has come already ends the connection, unanswered.
    Restart {
        /// The connection.
        conn: Conn,
        /// The turn of the commands, all of them answered but the XCLIENT at the end.
        turn: u32,
        /// What the peer may do, from now on.
        limits: Arc<ServerLimits>,
        /// The first reply.
        banner: Bytes,
    },
    /// Answer DATA with 354 and put the content into a sink.
    Take {
        /// The connection.
        conn: Conn,
        /// The turn of the commands, all of them answered but the DATA at the end.
        turn: u32,
        /// The caller's number for it.
        draft: u64,
        /// Where it goes.
        sink: Box<dyn ContentSink>,
        /// The largest size (RFC 1870) that is kept; what is larger is drained and reported.
        limit_bytes: u64,
        /// The 354.
        reply: Bytes,
    },
    /// Put the chunk of a final BDAT into a sink; how long it is, the command has said.
    ///
    /// The content goes on with the next chunk, until the last one is reported as [`Content`](crate::NetEvent::Content)
    /// in plain form. Until then the turn is net's; the sink is kept, and gone with the connection.
    TakeChunk {
        /// The connection.
        conn: Conn,
        /// The turn of the commands, all of them answered but the BDAT at the end.
        turn: u32,
        /// Where it goes; none if the content goes on.
        begin: Option<BeginChunks>,
        /// The reply when the chunk has come, unless it is the last.
        reply: Bytes,
    },
    /// Refuse a final BDAT: its chunk is passed over. The content that it belongs to is forgotten.
    Discard {
        /// The connection.
        conn: Conn,
        /// The turn of the commands, all of them answered but the BDAT at the end.
        turn: u32,
        /// The refusal, which does not wait for the chunk.
        reply: Bytes,
        /// How long it is held back.
        delay_ms: u64,
    },
    /// Forget a content whose chunks have come so far.
    Forget {
        /// The connection.
        conn: Conn,
        /// The turn of the commands, which it does not end.
        turn: u32,
    },
    /// Go on with an authentication exchange (RFC 4954): the peer's next line is a response.
    Challenge {
        /// The connection.
        conn: Conn,
        /// The turn of the commands, all of them answered but the AUTH at the end, or of the `AuthLine`.
        turn: u32,
        /// The 334.
        bytes: Bytes,
    },
    /// Let [`Net::complete`](crate::Net::complete) answer the content.
    AwaitDurable {
        /// The connection.
        conn: Conn,
        /// The turn of the content.
        turn: u32,
        /// The reply if it is durable.
        ok: Bytes,
        /// The reply if it is not.
        failed: Bytes,
        /// What the command after it may be answered by net.
        grant: Grant,
    },
    /// End a connection at once, whosever turn it is.
    Abort {
        /// The connection.
        conn: Conn,
    },
    /// Send commands and await their replies, which are reported together.
    Flight {
        /// The connection.
        conn: Conn,
        /// The turn of the replies before, or of the `Park`.
        turn: u32,
        /// In order.
        parts: Vec<FlightPart>,
    },
    /// Send content and its end after a 354. Its reply is reported at once, alone.
    Content {
        /// The connection.
        conn: Conn,
        /// The turn of the 354.
        turn: u32,
        /// Where it comes from.
        source: Box<dyn ContentSource>,
        /// How the source encodes it.
        form: Form,
        /// What is unusual about it.
        flags: ContentFlags,
        /// Opens when the last octets may go.
        gate: Box<dyn Gate>,
        /// Commands that follow in the same flight; needs PIPELINING.
        then: Vec<FlightPart>,
    },
    /// Keep the connection for later. It stays addressable by this turn; if the peer speaks or leaves it ends.
    Park {
        /// The connection.
        conn: Conn,
        /// The turn of the last replies.
        turn: u32,
        /// How long it is kept.
        idle_ms: u64,
    },
    /// End a connection.
    Close {
        /// The connection.
        conn: Conn,
        /// The turn of the last replies, or of the `Park`.
        turn: u32,
        /// Whether to say QUIT first.
        quit: bool,
    },
}

impl NetAction {
    /// The connection that it is about.
    pub const fn conn(&self) -> Conn {
        match self {
            Self::Begin { conn, .. }
            | Self::Reply { conn, .. }
            | Self::StartTls { conn, .. }
            | Self::Restart { conn, .. }
            | Self::Take { conn, .. }
            | Self::TakeChunk { conn, .. }
            | Self::Discard { conn, .. }
            | Self::Forget { conn, .. }
            | Self::Challenge { conn, .. }
            | Self::AwaitDurable { conn, .. }
            | Self::Abort { conn }
            | Self::Flight { conn, .. }
            | Self::Content { conn, .. }
            | Self::Park { conn, .. }
            | Self::Close { conn, .. } => *conn,
        }
    }

    /// The turn that it needs; none for `Abort`.
    pub const fn turn(&self) -> Option<u32> {
        match self {
            Self::Begin { turn, .. }
            | Self::Reply { turn, .. }
            | Self::StartTls { turn, .. }
            | Self::Restart { turn, .. }
            | Self::Take { turn, .. }
            | Self::TakeChunk { turn, .. }
            | Self::Discard { turn, .. }
            | Self::Forget { turn, .. }
            | Self::Challenge { turn, .. }
            | Self::AwaitDurable { turn, .. }
            | Self::Flight { turn, .. }
            | Self::Content { turn, .. }
            | Self::Park { turn, .. }
            | Self::Close { turn, .. } => Some(*turn),
            Self::Abort { .. } => None,
        }
    }
}

/// Where a content goes that comes in chunks.
pub struct BeginChunks {
    /// The caller's number for it.
    pub draft: u64,
    /// Where its octets go.
    pub sink: Box<dyn ContentSink>,
    /// The largest size (RFC 1870) that is kept; what is larger is passed over and reported.
    pub limit_bytes: u64,
    /// Whether a bare CR or LF is no fault (RFC 3030 3).
    pub is_binary: bool,
}

/// Commands that go together, and the replies that they draw.
#[derive(Clone, Debug)]
pub struct FlightPart {
    /// Whole commands, each with its CRLF. None at all: the next replies come by themselves.
    pub bytes: Bytes,
    /// How many replies they draw.
    pub replies: u32,
    /// How long each may take.
    pub deadline_ms: u64,
}
