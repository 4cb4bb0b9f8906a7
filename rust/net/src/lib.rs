//! The wire engine of Penstock: sockets, deadlines and buffers, and no decision about mail.
//!
//! Reactor threads own the connections. What happens on them is told as [`NetEvent`]s through an [`EventSink`], a whole
//! pass of a reactor at a time; what is to be done is said as [`NetAction`]s through [`Net::apply`]. Content goes from
//! a connection into a sink, and out of a source into a connection, without ever being an event (the traits are those
//! of `penstock_core::flow`).
//!
//! At any moment one party speaks for a connection: net, the caller, or the spool. An event that hands the *turn* over
//! carries its number, and the action that answers it carries it back, so that a late action finds that its turn has
//! passed, and is dropped. See [`NetEvent`] for what hands it over, [`NetAction`] for what takes it.
//!
//! Deadlines, rates and sizes are given with each connection ([`ServerLimits`], [`ClientLimits`]) and watched here, to a
//! quarter of a second. When the caller falls behind, nothing more is accepted or read until it has caught up.
//!
//! The map: `reactor` steps the connections of one thread, each an `entry` in its slot; `server_conn` and `client_conn`
//! are the two kinds, `receiving` and `sending` their content, `grant` what is answered without asking; `link` is a
//! socket with its output, and `tls` what may stand between the two; `acceptor` takes connections in; `hub` is what the threads share; `transport` is the system's
//! sockets, or connections in memory with which the same reactor is stepped by hand, in tests ([`NetConfig::inline`]).
//!
//! Not here: policy, the disk.

#![forbid(unsafe_code)]

mod acceptor;
mod action;
mod client_conn;
mod config;
mod conn;
mod context;
mod entry;
mod event;
mod grant;
mod hub;
mod inbox;
mod link;
mod net;
mod output;
mod reactor;
mod receiving;
mod sending;
mod server_conn;
mod statistics;
mod tls;
mod transport;
mod wheel;

pub use action::{BeginChunks, FlightPart, NetAction};
pub use config::{ClientLimits, NetConfig, Proxies, ServerLimits};
pub use conn::Conn;
pub use event::{CloseReason, ContentState, ContentStatus, DialStage, EventSink, NetEvent, ProxyRefusal};
pub use grant::{Grant, StandardReplies};
pub use net::Net;
pub use statistics::NetStatistics;
pub use tls::{
    Certificate, ClientCertificate, ClientCertificates, ServerTls, TlsError, TlsFacts, TlsPart, TlsSettings,
    TlsVersion,
};
pub use transport::memory::MemoryPeer;
