//! What the caller is told.
//!
//! The events of one connection are pushed in order, and its last one is [`NetEvent::Closed`],
//! [`NetEvent::ClientClosed`] or [`NetEvent::DialFailed`]. An event that hands the turn over is outstanding until it is
//! answered: nothing else is pushed for that connection meanwhile, not even that it has ended.

use std::net::SocketAddr;

use penstock_core::flow::{Changes, ContentFlags, ContentSink};
use penstock_core::message::header::HeaderFacts;
use penstock_core::proxy::ProxyFault;
use penstock_core::smtp::command::{Command, Malformed};
use penstock_core::smtp::reply::Reply;
use penstock_core::smtp::sasl::Response;

use crate::{Conn, TlsFacts};

/// Takes events; the way to the caller.
pub trait EventSink: Send + Sync {
    /// Take all of `events`. Called at most once per pass of a reactor; must not block.
    fn push(&self, events: &mut Vec<NetEvent>);

    /// Make a sink for a content whose DATA is answered under a [`Grant`](crate::Grant), and its number; nothing if
    /// there is no room. `size_hint` is what MAIL declared, or zero. Must not block.
    fn open_draft(&self, _size_hint: u64) -> Option<(u64, Box<dyn ContentSink>)> {
        None
    }

    /// How long the oldest event that nobody has taken has been waiting, in milliseconds. Must not block.
    fn oldest_waits_ms(&self) -> u64 {
        0
    }
}

/// One fact about one connection.
pub enum NetEvent {
    /// A peer has connected. Hands the turn over; answered by `Begin` or a closing `Reply`.
    Opened {
        /// The connection.
        conn: Conn,
        /// Its turn.
        turn: u32,
        /// The number under which the listener was registered.
        listener: u32,
        /// The far end: whom the proxy speaks for, if it has said so.
        peer: SocketAddr,
        /// Our end, as the far end knows it.
        local: SocketAddr,
        /// The proxy, if it comes through one.
        proxy: Option<SocketAddr>,
    },
    /// A proxy has connected and not said whom it speaks for. It is gone, nothing was said to it, and nothing else is
    /// told of it. One that says nothing at all before it leaves is not told either: so a proxy sees whether we live.
    ProxyRefused {
        /// The number under which the listener was registered.
        listener: u32,
        /// The proxy.
        peer: SocketAddr,
        /// What was wrong.
        refusal: ProxyRefusal,
    },
    /// A peer has sent commands. Hands the turn over; answered by `Reply`, or at last by `Take` for a final DATA,
    /// `TakeChunk` or `Discard` for a final BDAT, `Challenge` for a final AUTH, `StartTls` for a final STARTTLS, `Restart` for a final
    /// XCLIENT.
    Commands {
        /// The connection.
        conn: Conn,
        /// Its turn.
        turn: u32,
        /// At least one, in order; a synchronising command is the last.
        items: Vec<Result<Command, Malformed>>,
        /// How many of them, the first ones, were answered under a [`Grant`](crate::Grant). What answers the event
        /// does not count them.
        answered: u32,
        /// Whether octets came before the banner, or behind a synchronising command before its reply.
        early: bool,
        /// Whether the peer has ended its side; it may still wait for the replies.
        eof: bool,
    },
    /// A handshake is finished. Hands the turn over; answered by a `Reply` that answers one: the banner if the
    /// connection began with TLS, nothing after STARTTLS. What was known of the peer before is to be forgotten.
    TlsUp {
        /// The connection.
        conn: Conn,
        /// Its turn.
        turn: u32,
        /// What was agreed on.
        facts: Box<TlsFacts>,
    },
    /// A peer has answered a `Challenge`. Hands the turn over; answered by `Reply` or another `Challenge`.
    AuthLine {
        /// The connection.
        conn: Conn,
        /// Its turn.
        turn: u32,
        /// What it says.
        response: Response,
        /// Whether octets came behind it before its reply.
        early: bool,
    },
    /// The content after a `Take`, or after a DATA that was answered under a grant, has come to its end; or the last
    /// chunk after a `TakeChunk` has. Hands the turn over; answered by `Reply` or `AwaitDurable`.
    Content {
        /// The connection.
        conn: Conn,
        /// Its turn.
        turn: u32,
        /// The number given with `Take` or `TakeChunk`, or by [`EventSink::open_draft`].
        draft: u64,
        /// The sink given with that number; it holds the whole content only if the status is `Complete`.
        sink: Box<dyn ContentSink>,
        /// Whether it can be accepted.
        status: ContentStatus,
        /// What is unusual about it.
        flags: ContentFlags,
        /// What was changed of it.
        changes: Changes,
        /// Octets of the message (RFC 1870).
        size: u64,
        /// Octets stored: dots still stuffed if DATA brought them.
        wire_size: u64,
        /// What its header section says.
        facts: HeaderFacts,
    },
    /// A server-side connection has ended.
    Closed {
        /// The connection; its name may be given away from now on.
        conn: Conn,
        /// Why.
        reason: CloseReason,
        /// The draft whose content was only half there and is gone.
        draft: Option<u64>,
    },
    /// A dialled connection is up. The turn stays with net: the banner, which is the first reply, hands it over. A
    /// flight of no octets that answers this event sets how long the banner may take.
    Connected {
        /// The connection.
        conn: Conn,
        /// Its turn.
        turn: u32,
        /// Our end.
        local: SocketAddr,
    },
    /// A dialled connection did not come up.
    DialFailed {
        /// The connection; its name may be given away from now on.
        conn: Conn,
        /// What failed.
        stage: DialStage,
        /// The system's error number.
        errno: i32,
        /// The system's words.
        text: String,
    },
    /// Replies of the peer. They hand the turn over if they complete what was awaited; answered by `Flight`,
    /// `Content`, `Park` or `Close`. If they do not, more replies or the end of the connection will follow.
    Replies {
        /// The connection.
        conn: Conn,
        /// Its turn.
        turn: u32,
        /// The number of the first one, counting from the connection's first.
        first: u32,
        /// In order; empty if nothing was awaited.
        replies: Vec<Reply>,
    },
    /// A client-side connection that was up has ended.
    ClientClosed {
        /// The connection; its name may be given away from now on.
        conn: Conn,
        /// Why.
        reason: CloseReason,
        /// How many replies were read from it, all of them reported before.
        replies_seen: u32,
        /// How much of the last content the peer can have.
        content: ContentState,
    },
}

/// Why a proxy was turned away.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ProxyRefusal {
    /// What it sent is no header.
    Fault(ProxyFault),
    /// The header took too long.
    TimedOut,
    /// It left in the middle of the header.
    Ended,
}

impl ProxyRefusal {
    /// Return the name in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.as_str(),
            Self::TimedOut => "timed_out",
            Self::Ended => "ended",
        }
    }
}

/// Whether content can be accepted.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ContentStatus {
    /// It is in the sink, whole.
    Complete,
    /// It is larger than allowed.
    TooLarge,
    /// It has a bare CR or a bare LF.
    BadLineEnding,
    /// It has a NUL.
    Nul,
    /// The sink was full for too long.
    Starved,
}

/// Why a connection has ended.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum CloseReason {
    /// The peer ended it in an orderly way.
    Peer,
    /// The peer or the network broke it.
    Reset,
    /// Nothing came, or nothing went out, for too long.
    Idle,
    /// It lasted too long.
    Total,
    /// Content came too slowly.
    MinRate,
    /// The caller ended it.
    Local,
    /// The caller kept its turn, or the spool its answer, for too long.
    Held,
    /// Content to be sent could not be read, or an action did not fit.
    Error,
    /// A fault of ours was contained.
    Panic,
    /// It was turned away when it came.
    Refused,
    /// The peer broke the rules of SMTP.
    Protocol,
    /// A TLS handshake failed or took too long, or what came afterwards was not TLS.
    Tls,
}

/// How much of a content the peer can have.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ContentState {
    /// Not one octet.
    None,
    /// Some, but not its end.
    Partial,
    /// At least one octet of the final ".CRLF" has left: the peer may have accepted it.
    Terminated,
}

/// What failed while dialling.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum DialStage {
    /// No socket could be had.
    Socket,
    /// The source address cannot be used.
    Bind,
    /// The peer could not be reached.
    Connect,
}

impl DialStage {
    /// Return the name in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Bind => "bind",
            Self::Connect => "connect",
        }
    }
}
