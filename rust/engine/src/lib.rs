//! Joins the wire engine (`penstock-net`) and the spool (`penstock-spool`) for one caller.
//!
//! Everything that happens below (connections, commits, answers to questions) reaches the caller
//! through one [`Mailbox`](mailbox::Mailbox) with one eventfd; everything that the caller decides goes
//! down through [`Engine::apply`]. No decision about mail is taken here: this crate only knows which
//! ticket belongs to which connection, which draft a connection is filling, and how a Maildir is written.
//!
//! Locks: each table has its own short lock, none is held while calling into `net` or `spool`.

#![forbid(unsafe_code)]

mod counters;
mod engine;
mod event;
mod hops;
mod journal;
mod mailbox;
mod maildir;
mod tickets;

pub use counters::Sample;
pub use engine::{Action, DraftReader, Engine, EngineConfig, EngineError, STAGES, Settlement};
pub use event::Event;
pub use hops::Hop;
/// The wire engine: what its caller says and hears passes through here.
pub use penstock_net as net;
/// The spool: as above.
pub use penstock_spool as spool;
