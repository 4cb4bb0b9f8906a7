//! What the caller is told.

use std::net::SocketAddr;

use penstock_core::flow::{Changes, ContentFlags};
use penstock_core::message::header::HeaderFacts;
use penstock_core::queue_id::QueueId;
use penstock_core::smtp::command::{Command, Malformed};
use penstock_core::smtp::reply::Reply;
use penstock_core::smtp::sasl::Response;
use penstock_net::{
    CloseReason, Conn, ContentState, ContentStatus, DialStage, NetEvent, ProxyRefusal, TlsFacts,
};
use penstock_spool::{Answer, CommitError};

/// One fact for the caller, in the order in which [`Engine::poll`](crate::Engine::poll) hands them out:
/// spool, closures, client side, server side.
#[allow(missing_docs, reason = "fields have the names and meanings of those of NetEvent and SpoolEvent")]
#[derive(Debug)]
pub enum Event {
    /// The message of this ticket is on disk and synced.
    Committed { ticket: u64, queue_id: QueueId, lsn: u64 },
    /// The message of this ticket was not stored.
    CommitFailed { ticket: u64, queue_id: QueueId, error: CommitError },
    /// Everything up to this log sequence number is in the index.
    Checkpoint { watermark: u64 },
    /// The answer to a question asked with [`Engine::request`](crate::Engine::request).
    Answer { request: u64, answer: Answer },
    /// A Maildir delivery has ended; `Err` holds the reason.
    Dropped { request: u64, result: Result<(), String> },
    /// The stored content of a message is damaged; told before whatever was reading it ends.
    Damaged { queue_id: QueueId },
    /// A sync of the log failed; nothing is accepted any more.
    Poisoned { errno: i32, text: String },
    /// A server-side connection is gone.
    Closed { conn: Conn, reason: CloseReason, draft: Option<u64> },
    /// A client-side connection is gone.
    ClientClosed { conn: Conn, reason: CloseReason, replies_seen: u32, content: ContentState },
    /// A dialled connection is up.
    Connected { conn: Conn, turn: u32, local: SocketAddr },
    /// A dialled connection did not come up.
    DialFailed { conn: Conn, stage: DialStage, errno: i32, text: String },
    /// Replies of the peer, `first` counting from the connection's first.
    Replies { conn: Conn, turn: u32, first: u32, replies: Vec<Reply> },
    /// A peer has connected.
    Opened {
        conn: Conn,
        turn: u32,
        listener: u32,
        peer: SocketAddr,
        local: SocketAddr,
        proxy: Option<SocketAddr>,
    },
    /// A proxy has not said whom it speaks for, and is gone.
    ProxyRefused { listener: u32, peer: SocketAddr, refusal: ProxyRefusal },
    /// Commands of a peer, in order.
    Commands {
        conn: Conn,
        turn: u32,
        items: Vec<Result<Command, Malformed>>,
        answered: u32,
        early: bool,
        eof: bool,
    },
    /// A TLS handshake is finished.
    TlsUp { conn: Conn, turn: u32, facts: Box<TlsFacts> },
    /// A peer has answered a challenge.
    AuthLine { conn: Conn, turn: u32, response: Response, early: bool },
    /// Content is complete in its draft, or was refused.
    Content {
        conn: Conn,
        turn: u32,
        draft: u64,
        status: ContentStatus,
        flags: ContentFlags,
        changes: Changes,
        size: u64,
        facts: HeaderFacts,
    },
}

/// The order of hand-out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Spool,
    Closure,
    Client,
    Server,
}

impl Event {
    pub(crate) fn lane(&self) -> Lane {
        match self {
            Self::Committed { .. }
            | Self::CommitFailed { .. }
            | Self::Checkpoint { .. }
            | Self::Answer { .. }
            | Self::Dropped { .. }
            | Self::Damaged { .. }
            | Self::Poisoned { .. } => Lane::Spool,
            Self::Closed { .. } | Self::ClientClosed { .. } => Lane::Closure,
            Self::Connected { .. } | Self::DialFailed { .. } | Self::Replies { .. } => Lane::Client,
            Self::Opened { .. }
            | Self::ProxyRefused { .. }
            | Self::Commands { .. }
            | Self::TlsUp { .. }
            | Self::AuthLine { .. }
            | Self::Content { .. } => Lane::Server,
        }
    }

    /// Turns a net event into ours; the sink of a finished content is handed to `keep`.
    pub(crate) fn from_net(
        event: NetEvent,
        keep: impl FnOnce(u64, Box<dyn penstock_core::flow::ContentSink>),
    ) -> Self {
        match event {
            NetEvent::Opened { conn, turn, listener, peer, local, proxy } => {
                Self::Opened { conn, turn, listener, peer, local, proxy }
            }
            NetEvent::ProxyRefused { listener, peer, refusal } => {
                Self::ProxyRefused { listener, peer, refusal }
            }
            NetEvent::Commands { conn, turn, items, answered, early, eof } => {
                Self::Commands { conn, turn, items, answered, early, eof }
            }
            NetEvent::TlsUp { conn, turn, facts } => Self::TlsUp { conn, turn, facts },
            NetEvent::AuthLine { conn, turn, response, early } => {
                Self::AuthLine { conn, turn, response, early }
            }
            NetEvent::Content { conn, turn, draft, sink, status, flags, changes, size, facts, .. } => {
                keep(draft, sink);
                Self::Content { conn, turn, draft, status, flags, changes, size, facts }
            }
            NetEvent::Closed { conn, reason, draft } => Self::Closed { conn, reason, draft },
            NetEvent::Connected { conn, turn, local } => Self::Connected { conn, turn, local },
            NetEvent::DialFailed { conn, stage, errno, text } => {
                Self::DialFailed { conn, stage, errno, text }
            }
            NetEvent::Replies { conn, turn, first, replies } => Self::Replies { conn, turn, first, replies },
            NetEvent::ClientClosed { conn, reason, replies_seen, content } => {
                Self::ClientClosed { conn, reason, replies_seen, content }
            }
        }
    }
}
